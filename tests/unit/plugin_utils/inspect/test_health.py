# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How a host and its sandboxes are, and what of them is not as planned, in words."""

from __future__ import annotations

from typing import Any

import pytest
from viewing import Answer, differs, lost, together, views_of, waits, without_sandboxes

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.health import HostView, counted, few, natural
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.model import NOTHING

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}, "back": {"subnet": "10.0.1.0/24"}},
    "cnm_sandboxes": {
        "c1": {"networks": ["front", "back"]},
        "c2": {"networks": ["back"]},
        "h": {"network_mode": "host"},
        "n": {"network_mode": "none"},
    },
}
BACK = lost("network", "back", "link br-back", "address br-back/10.0.1.1/24")
ROUTE = differs("sandbox", "c2", "default route of c2 (missing)", "create route c2/default")
RULES = differs("host", "", "table inet cnm (missing)", "create nftables inet cnm", "create nftables bridge cnm")
FORWARDING = differs("host", "", "setting net.ipv4.ip_forward (value 0 → 1)", "change sysctl net.ipv4.ip_forward")
LOST = together(without_sandboxes(["c1", "c2", "n"]), BACK, RULES, FORWARDING)


def view(*answers: Answer) -> HostView:
    return views_of({"node1": VARIABLES}, {"node1": together(*answers)})["node1"]


class TestProblems:
    def test_a_part_is_a_clause(self) -> None:
        assert view(ROUTE, BACK, FORWARDING).problems() == [
            "default route of c2 (missing)",
            "network back (missing)",
            "setting net.ipv4.ip_forward (value 0 → 1)",
        ]

    def test_a_sandbox_that_waits_is_said_with_the_reason(self) -> None:
        assert view(waits("c2", "no container c2")).problems() == ["waits: sandbox c2: no container c2"]

    def test_missing_sandboxes_share_a_clause(self) -> None:
        seen = view(without_sandboxes(["c2", "c1"]), ROUTE)
        assert seen.problems() == ["sandboxes c1, c2 (missing)", "default route of c2 (missing)"]
        assert seen.problems(1)[0] == "sandboxes c1 and 1 more (missing)"

    def test_only_what_is_asked_for_is_said(self) -> None:
        seen = view(without_sandboxes(["c1"]), BACK, FORWARDING)
        assert seen.problems(only=frozenset({"back"})) == ["network back (missing)"]
        assert seen.problems(only=frozenset({"front"})) == []


class TestAHostThatLostEverything:
    def test_it_is_one_sentence(self) -> None:
        assert view(LOST).problems() == ["nothing of what was planned is left (3 sandboxes): did the host reboot?"]
        assert view(LOST).state == "nothing left"

    def test_ends_of_links_that_stayed_behind_do_not_matter(self) -> None:
        assert view(LOST, differs("sandbox", "c1", "link veth1 of c1 (left over)", "delete link veth1")).gone

    def test_sandboxes_that_wait_do_not_matter(self) -> None:
        answer = together(without_sandboxes(["c1", "c2"]), waits("n", "no container n"), RULES)
        assert view(answer).gone

    @pytest.mark.parametrize("left", ["namespace c2", "nftables inet cnm"])
    def test_it_did_not_if_anything_is_left(self, left: str) -> None:
        out = (left, "nftables bridge cnm")
        seen = view({**LOST, "drift": [each for each in LOST["drift"] if f"{each['kind']} {each['name']}" not in out]})
        assert not seen.gone
        assert len(seen.problems()) > 1

    def test_a_changed_link_is_left(self) -> None:
        assert not view(LOST, differs("network", "back", "link br-back (mtu 1 → 2)", "change link br-back")).gone


class TestStates:
    def test_of_hosts(self) -> None:
        assert (view().state, view().fine) == ("as planned", True)
        seen = view(without_sandboxes(["c1"]), BACK)
        assert (seen.state, seen.fine) == ("2 differences", False)
        assert (HostView(NOTHING).state, HostView(NOTHING).fine) == ("no sandboxes", True)
        silent = HostView(NOTHING, answered=False)
        assert (silent.state, silent.fine) == ("no answer", False)

    def test_a_host_is_not_fine_if_it_says_only_half_of_it(self) -> None:
        assert view({"drift": BACK["drift"], "repairs": []}).state == "2 differences"
        assert view({"drift": [], "repairs": BACK["repairs"]}).state == "1 difference"

    def test_of_sandboxes(self) -> None:
        link = differs("network", "back", "network back (missing)", "create namespace ov-1", "create link c1/eth1")
        seen = view(link, without_sandboxes(["c2"]), waits("n", "no container"))
        assert [seen.state_of(name) for name in ("c1", "c2", "n", "h")] == ["differs", "missing", "waits", "up"]
        assert [seen.has_endpoint("c1", link) for link in ("eth0", "eth1")] == [True, False]
        assert not seen.has_endpoint("c2", "eth0")
        assert view(ROUTE).state_of("c2") == "differs"
        assert [seen.is_there(name) for name in ("c1", "c2", "n")] == [True, False, False]


def test_counts_and_lists_are_written_as_people_do() -> None:
    assert [counted(1, "sandbox"), counted(2, "sandbox"), counted(0, "host")] == ["1 sandbox", "2 sandboxes", "0 hosts"]
    assert [few(["a"]), few(list("abc")), few(list("abcde")), few(list("abcde"), None)] == [
        *("a", "a, b, c", "a, b, c and 2 more", "a, b, c, d, e"),
    ]


def test_numbers_in_names_are_sorted_as_numbers() -> None:
    assert sorted(["n10", "n2", "9", "n", "n2b1"], key=natural) == ["9", "n", "n2", "n2b1", "n10"]
