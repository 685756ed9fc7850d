# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The changes of all hosts as lines."""

from __future__ import annotations

from typing import Any

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.change_lines import MOST_LINES, change_lines
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import FULL, QUIET, Shown


def change(action: str, kind: str, name: str, text: str, *about: str) -> dict[str, Any]:
    return {"action": action, "kind": kind, "name": name or None, "text": text, "about": list(about)}


FRONT = change("add", "network", "front", "network front (bridge)")
WEB = change("add", "sandbox", "web", "sandbox web on front (10.0.0.2)", "front")
TASK = change("add", "sandbox", "db.2", "task db.2 on front (10.0.0.5)", "front")
REPAIR = change("repair", "sandbox", "web", "default route of web (missing)")


def lines(changes: dict[str, list[dict[str, Any]]], shown: Shown = Shown(), **more: Any) -> list[str]:  # noqa: B008
    return [line.text for line in change_lines(changes, more.pop("failures", {}), shown, **more)]


def test_what_hosts_have_in_common_is_one_line() -> None:
    assert lines({"node1": [FRONT, WEB], "node2": [FRONT], "node3": []}) == [
        "node1, node2: + network front (bridge)",
        "node1: + sandbox web on front (10.0.0.2)",
        "2 hosts changed: 2 added; 1 host as declared.",
    ]


def test_many_hosts_are_counted() -> None:
    hosts = [f"n{number}" for number in range(10, 60)]
    assert lines({host: [FRONT] for host in hosts})[0] == "all 50 hosts: + network front (bridge)"
    assert lines({**{host: [FRONT] for host in hosts}, "n9": []}) == [
        "n10, n11, n12 and 47 more: + network front (bridge)",
        "50 hosts changed: 1 added; 1 host as declared.",
    ]


def test_what_a_host_says_often_counts_for_it_alone() -> None:
    others: dict[str, list[dict[str, Any]]] = {f"n{number}": [] for number in range(4)}
    assert lines({"bad": [FRONT] * 5, **others})[0] == "bad: + network front (bridge)"


def test_unchanged_fleet_is_one_line() -> None:
    assert lines({f"n{number}": [] for number in range(50)}) == ["50 hosts are as declared: nothing to change."]
    assert lines({"n1": []}) == ["1 host is as declared: nothing to change."]
    assert lines({"n1": []}, absent=True) == ["1 host has nothing of the project to remove."]
    assert lines({}) == ["Nothing was changed."]


def test_hosts_and_sandboxes_are_in_natural_order() -> None:
    changes = {
        f"n{host}": [FRONT, *(change("add", "sandbox", f"c{host}-{n}", f"sandbox c{host}-{n}") for n in (10, 2))]
        for host in (10, 9)
    }
    assert [line.partition(" ")[0] + line.rpartition(" ")[2] for line in lines(changes)[:-1]] == [
        "n9,(bridge)",
        "n9:c9-2",
        "n9:c9-10",
        "n10:c10-2",
        "n10:c10-10",
    ]


def test_what_others_hear_of_a_sandbox_is_told_if_its_own_host_does_not() -> None:
    heard = change("change", "network", "front", "front reaches web on node1 (10.0.0.2)", "web")
    assert lines({"node1": [WEB], "node2": [heard], "node3": [heard]}) == [
        "node1: + sandbox web on front (10.0.0.2)",
        "3 hosts changed: 1 added.",
    ]
    assert lines({"node2": [heard]})[0] == "node2: ~ front reaches web on node1 (10.0.0.2)"
    assert len(lines({"node1": [WEB], "node2": [heard]}, Shown(FULL))) == 3


def test_check_says_would() -> None:
    assert lines({"node1": [FRONT]}, check=True)[-1] == "1 host would be changed: 1 added."


def test_repairs_and_waiting_come_last() -> None:
    waits = change("wait", "sandbox", "c1", "sandbox c1: the container c1 does not run")
    assert lines({"node1": [waits, REPAIR, WEB]}) == [
        "node1: + sandbox web on front (10.0.0.2)",
        "node1: ! repair: default route of web (missing)",
        "node1: … waits: sandbox c1: the container c1 does not run",
        "1 host changed: 1 added, 1 repaired, 1 waiting.",
    ]


def test_a_host_that_only_waits_is_not_changed() -> None:
    waits = change("wait", "sandbox", "c1", "sandbox c1: the container c1 does not run")
    assert lines({"node1": [waits], "node2": []})[-1] == "Nothing was changed: 1 waiting; 1 host as declared."
    assert lines({"node1": [waits]}, check=True)[-1] == "Nothing would be changed: 1 waiting."
    assert lines({"node1": [waits], "node2": [WEB]})[-1] == "1 host changed: 1 added, 1 waiting."


def test_removed_here_and_added_there_is_a_move() -> None:
    gone = change("remove", "sandbox", "db.2", "task db.2", "front")
    assert lines({"node1": [gone], "node3": [TASK]}) == [
        "node3: ~ task db.2 moves here from node1 on front (10.0.0.5)",
        "2 hosts changed: 1 changed.",
    ]
    short = [
        change(action, "sandbox", "s", "sandbox s" + where) for action, where in (("remove", ""), ("add", " on x"))
    ]
    assert lines({"node1": short[:1], "node3": short[1:]})[0] == "node3: ~ sandbox s moves here from node1 on x"
    leaves = change("remove", "sandbox", "web", "web leaves front", "front")
    assert lines({"node1": [leaves], "node3": [WEB]})[:2] == [
        "node1: - web leaves front",
        "node3: + sandbox web on front (10.0.0.2)",
    ]


def test_two_sandboxes_of_one_name_on_two_hosts_do_not_move() -> None:
    changes = {"node1": [WEB], "node2": [WEB]}
    assert lines(changes)[0] == "node1, node2: + sandbox web on front (10.0.0.2)"


def test_failed_hosts_are_named_beside_the_others() -> None:
    found = lines({"node1": [FRONT]}, failures={"node2": "the kernel refused: no such device"})
    assert found[1] == "node2: failed: the kernel refused: no such device"


def test_quiet_has_failures_and_counts() -> None:
    found = lines({"node1": [FRONT]}, Shown(QUIET), failures={"node2": "it was not reached"})
    assert found == ["node2: failed: it was not reached", "1 host changed: 1 added."]


def test_long_summaries_say_how_to_see_all() -> None:
    many = [change("add", "sandbox", f"s{number}", f"sandbox s{number}") for number in range(100)]
    found = lines({"node1": many})
    assert len(found) == MOST_LINES + 2
    assert found[-2:] == [
        "and 40 more changes: -e cnm_show=full prints them all",
        "1 host changed: 100 added.",
    ]
    assert len(lines({"node1": many}, Shown(FULL))) == 101


def test_only_what_was_asked_for_is_told() -> None:
    changes = {"node1": [FRONT, WEB, REPAIR], "node2": [TASK]}
    assert lines(changes, Shown(only=frozenset({"web"})))[:2] == [
        "node1: + sandbox web on front (10.0.0.2)",
        "node1: ! repair: default route of web (missing)",
    ]
    assert len(lines(changes, Shown(only=frozenset({"front"})))) == 4
    assert lines(changes, Shown(only=frozenset({"node2"})))[0] == "node2: + task db.2 on front (10.0.0.5)"
