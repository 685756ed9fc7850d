# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What inspect prints: it fits a screen, whatever is wrong, and can be narrowed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from viewing import Answer, differs, together, view_of, views_of, without_sandboxes

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.health import HostView
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.model import NOTHING
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.summary import (
    UnknownName,
    counts,
    problems,
    select,
    tables,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.tables import Views
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import Shown

UNIT = Path(__file__).parents[2]
GOLDEN = UNIT / "golden" / "inspect"
EXAMPLE = UNIT.parents[1] / "examples" / "voting" / "group_vars" / "all.yml"
SCREEN = {"3 hosts": 40, "50 hosts": 60}
"""Lines."""
WIDE = 140


def printed(views: Views, *only: str, level: str = "summary") -> list[str]:
    """The lines, without the JSON of ``full``."""
    shown = Shown(level, frozenset(only))
    selection = select(views, shown.only)
    made = tables(selection, shown) if level != "quiet" else []
    return [counts(selection), *made, "", *problems(selection, shown)]


def voting(answers: Any = None) -> dict[str, HostView]:
    """The example, and sandboxes on networks of a host and of the LAN."""
    common = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    office = {"driver": "macvlan", "subnet": "198.51.100.0/24", "driver_opts": {"parent": "eth0"}}
    common["cnm_networks"].update({"ps-bridge": {"subnet": "10.0.0.0/24"}, "office": office})
    common["cnm_load_balancer"] = "nftables"
    boxes = {
        "c1": {"networks": {"ps-bridge": {"aliases": ["www"]}, "vote": None}, "ports": ["8080:80"]},
        "c2": {"networks": ["ps-bridge", "office"]},
        "n": {"network_mode": "none"},
    }
    own = {"node1": {"cnm_sandboxes": boxes}, "node3": {"cnm_sandboxes": {"c3": {"networks": ["ps-bridge"]}}}}
    return views_of({host: {**common, **own.get(host, {})} for host in ("node1", "node2", "node3")}, answers)


def recorded() -> dict[str, Any]:
    """What probes said of the same hosts after node2 had lost everything, and the others something."""
    found: dict[str, Any] = json.loads((UNIT / "answers" / "drift.json").read_text(encoding="utf-8"))
    return found


def fleet(hosts: int = 50) -> dict[str, HostView]:
    """Hosts with ten sandboxes each, of which three are tasks."""
    common = {
        "cnm_networks": {
            "front": {"driver": "overlay", "subnet": "10.1.0.0/20"},
            "back": {"driver": "overlay", "subnet": "10.2.0.0/20", "internal": True},
            "local": {"subnet": "10.0.0.0/24"},
        },
        "cnm_load_balancer": "nftables",
        "cnm_services": {
            "redis": {"networks": {"front": {"aliases": ["cache"]}}, "deploy": {"replicas": 2 * hosts}},
            "each": {"networks": ["back"], "deploy": {"mode": "global"}, "ports": ["3000:80"]},
        },
    }
    boxes = {
        n: {f"s{n}-{m}": {"networks": ["front", "back"] if m % 2 else ["local"]} for m in range(1, 8)}
        for n in range(1, hosts + 1)
    }
    return views_of({f"node{n}": {**common, "cnm_sandboxes": box} for n, box in boxes.items()})


@pytest.fixture(scope="module")
def fifty() -> dict[str, HostView]:
    return fleet()


def troubled(views: Views) -> dict[str, HostView]:
    """A host that lost everything, one that did not answer, one without sandboxes, and some that lost something."""
    rules = differs("host", "", "table inet cnm (missing)", "create nftables inet cnm")
    docker = differs(
        "host", "", "rule in Docker's chain DOCKER-USER (IPv4) (missing)", "create docker_user DOCKER-USER"
    )
    answers: dict[str, Answer] = {
        "node7": together(without_sandboxes(list(views["node7"].planned["sandboxes"])), rules),
        **{f"node{n}": without_sandboxes([f"s{n}-1"]) for n in (12, 13, 14)},
        **{f"node{n}": docker for n in (20, 21, 22, 23, 24)},
    }
    result = {host: view_of(view.planned, answers.get(host, {})) for host, view in views.items()}
    return {**result, "node30": HostView(NOTHING, answered=False), "node31": HostView(NOTHING)}


class TestGolden:
    def golden(self, name: str, lines: Iterable[str]) -> None:
        assert [*lines] == (GOLDEN / name).read_text(encoding="utf-8").splitlines()

    def test_three_hosts_as_planned(self) -> None:
        self.golden("three-hosts.txt", printed(voting()))

    def test_three_hosts_of_which_one_lost_everything(self) -> None:
        lines = printed(voting(recorded()))
        self.golden("three-hosts-drift.txt", lines)
        assert "\n".join(lines) in (UNIT.parents[1] / "docs" / "inspect.md").read_text(encoding="utf-8")

    def test_fifty_hosts_with_troubles(self, fifty: dict[str, HostView]) -> None:
        self.golden("fifty-hosts.txt", printed(troubled(fifty)))

    def test_one_host_of_fifty(self, fifty: dict[str, HostView]) -> None:
        self.golden("one-host-of-fifty.txt", printed(troubled(fifty), "node12"))

    def test_three_hosts_in_full(self) -> None:
        self.golden("three-hosts-full.txt", printed(voting(recorded()), level="full"))


class TestAScreen:
    def test_three_hosts_fit(self) -> None:
        views = voting(recorded())
        lines = printed({host: replace(view, drift=(), repairs=()) for host, view in views.items()})
        assert len(lines) <= SCREEN["3 hosts"]
        assert max(map(len, lines)) <= WIDE

    def test_fifty_hosts_fit(self, fifty: dict[str, HostView]) -> None:
        for views in (fifty, troubled(fifty)):
            assert len(printed(views)) <= SCREEN["50 hosts"]
            assert max(map(len, printed(views))) <= WIDE

    def test_fifty_hosts_fit_if_nothing_is_as_planned(self, fifty: dict[str, HostView]) -> None:
        views = {host: view_of(view.planned, broken(view)) for host, view in fifty.items()}
        assert len(printed(views)) <= SCREEN["50 hosts"] + 20
        assert len(printed(views, level="quiet")) <= 15


def broken(view: HostView) -> Answer:
    """Every sandbox has lost its resolver."""
    names = view.planned["sandboxes"]
    return together(*(differs("sandbox", name, f"resolver of {name} (not running)", "change x y") for name in names))


class TestNarrowed:
    def test_by_host_network_sandbox_and_service(self, fifty: dict[str, HostView]) -> None:
        for name, first in (
            ("node7", "1 host, 5 networks, 10 sandboxes (3 tasks of 2 services); all as planned"),
            ("local", "50 hosts, 1 network, 150 sandboxes; all as planned"),
            ("s7-1", "1 host, 3 networks, 1 sandbox; all as planned"),
            ("redis.3", "1 host, 2 networks, 1 sandbox (1 task of 1 service); all as planned"),
            ("each", "50 hosts, 3 networks, 50 sandboxes (50 tasks of 1 service); all as planned"),
        ):
            assert printed(fifty, name)[0] == f"{name}: {first}"

    def test_names_are_added_up(self) -> None:
        lines = printed(voting(), "c1", "c3")
        assert lines[0] == "c1, c3: 2 hosts, 2 networks, 2 sandboxes; all as planned"
        assert [line.split()[0] for line in lines if " up " in line] == ["c1", "c3"]

    def test_a_network_that_nobody_uses_can_be_asked_for(self) -> None:
        assert any(line.startswith("bridge ") for line in printed(voting(), "bridge"))

    def test_other_parts_problems_are_left_out(self) -> None:
        views = voting({"node1": without_sandboxes(["c2", "n"])})
        assert "  node1: sandbox n (missing)" in printed(views, "n")
        assert not any("c2" in line for line in printed(views, "n"))
        assert "  node1: sandboxes c2, n (missing)" in printed(views, "node1")
        assert "  node1: sandbox c2 (missing)" in printed(views, "ps-bridge")
        assert not any("missing" in line for line in printed(views, "node2"))

    def test_a_host_s_state_is_that_of_the_whole_host(self) -> None:
        lines = printed(voting(recorded()), "vote")
        assert [line.split("   ")[1].strip() for line in lines if line.startswith("node")] == [
            *("6 differences", "nothing left", "3 differences"),
        ]
        assert "  node2: nothing of what was planned is left (3 sandboxes): did the host reboot?" in lines

    def test_an_unknown_name_is_an_error_with_the_closest(self) -> None:
        with pytest.raises(UnknownName, match=r"nothing here is named `vot`\. Did you mean `vote`\?$"):
            select(voting(), frozenset({"vot"}))
        with pytest.raises(UnknownName, match="Names of hosts, networks, sandboxes and services"):
            select(voting(), frozenset({"c1", "xyzzy"}))

    def test_hosts_that_did_not_answer_may_have_had_it(self) -> None:
        views = {**voting(), "node2": HostView(NOTHING, answered=False)}
        with pytest.raises(UnknownName, match="node2 did not answer"):
            select(views, frozenset({"db.3"}))
        assert printed(views, "c1")[-1] == "No usable answer from node2."


class TestLevels:
    def test_quiet_prints_counts_and_problems_alone(self) -> None:
        views = voting({"node1": without_sandboxes(["c2"])})
        assert printed(views, level="quiet") == [
            "3 hosts, 7 networks, 13 sandboxes (9 tasks of 5 services); 1 host is not as planned",
            "",
            "Not as planned (cnm.fabric.site repairs it):",
            "  node1: sandbox c2 (missing)",
        ]

    def test_full_leaves_nothing_out(self, fifty: dict[str, HostView]) -> None:
        text = "\n".join(printed(troubled(fifty), level="full"))
        names = {name for host, view in fifty.items() for name in view.model["sandboxes"] if host not in GONE_HOSTS}
        assert all(name in text for name in names)
        assert " more" not in text

    def test_a_hint_says_how_to_see_what_is_left_out(self, fifty: dict[str, HostView]) -> None:
        assert any(line.startswith("-e cnm_only=NAME") for line in printed(fifty))
        assert not any("cnm_only" in line for line in printed(voting()))


GONE_HOSTS = ("node30", "node31")


def test_a_hostile_host_s_texts_are_printable_and_its_tables_stay_short() -> None:
    evil = "\x1b]0;x\x07\u202e"
    views = voting()
    model = dict(views["node3"].model)
    model["sandboxes"] = {**model["sandboxes"], **{f"x{n}" + "y" * 250: model["sandboxes"]["c3"] for n in range(4000)}}
    model["networks"] = [
        *model["networks"],
        *({**model["networks"][-1], "Name": f"n{n}", "Driver": "d" * 255} for n in range(4000)),
    ]
    operations = [
        *({"action": "delete", "kind": "link", "name": "l" * 1000} for n in range(3000)),
        {
            "action": "change",
            "kind": "x",
            "name": "y",
            "differences": [{"attribute": "z", "found": evil, "wanted": evil}],
        },
        {"action": "wait for", "kind": "sandbox", "name": "c3", "reason": evil},
    ]
    texts = [
        {"action": "wait", "kind": "sandbox", "name": "c3", "text": evil * 400},
        *({"action": "repair", "kind": "host", "name": None, "text": f"p{n}" + "q" * 1900} for n in range(3000)),
    ]
    views["node3"] = view_of(model, {"drift": operations, "repairs": texts})
    lines = printed(views)
    assert all(line.isprintable() for line in lines)
    assert len(lines) <= SCREEN["50 hosts"] + 10
    assert any(line.startswith("node1 ") for line in lines)


def test_what_a_host_says_often_counts_for_it_alone() -> None:
    views = voting()
    twice = {"action": "repair", "kind": "host", "name": None, "text": "setting x (value 0 → 1)"}
    views["node3"] = view_of(views["node3"].model, {"repairs": [twice] * 3})
    assert printed(views)[-1] == "  node3: setting x (value 0 → 1)"
