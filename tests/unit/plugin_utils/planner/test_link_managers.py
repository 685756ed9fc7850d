# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the programs that configure a host's links are told of ours."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, LinkManager
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam import identifiers
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

FRONT = {"front": {"subnet": "10.0.0.0/24"}}
NAMED = {"named": {"subnet": "10.0.2.0/24", "driver_opts": {"com.docker.network.bridge.name": "br-lan"}}}
VLAN = {"vlan": {"driver": "macvlan", "subnet": "203.0.113.0/24", "driver_opts": {"parent": "eth0.10"}}}
WIDE = {"wide": {"driver": "overlay", "subnet": "10.10.0.0/24"}}
BACK = {"back": {"subnet": "10.0.1.0/24", "internal": True}}


def planned(
    networks: dict[str, Any],
    managers: tuple[str, ...] = ("networkd", "udev"),
    bridge: LinkFacts | None = None,
    **variables: Any,
) -> Planned:
    facts = Facts(
        addresses=(("192.0.2.1", "eth0", 1500),),
        routes=(("192.0.2.0/24", "eth0", None), ("default", "eth0", "192.0.2.254")),
        links={"eth0": LinkFacts(), **({"br-lan": bridge} if bridge else {})},
        link_managers=managers,
    )
    sandboxes = {"c1": {"networks": list(networks)}} if networks else {"c1": {}}
    declared = {"cnm_networks": networks, "cnm_sandboxes": sandboxes, **variables}
    return plan(read_topology({"node1": declared}), {"node1": facts}, empty(), "now")


def told(made: Planned) -> list[LinkManager]:
    assert not made.refusals
    return [item for item in made.plans["node1"].resources if isinstance(item, LinkManager)]


def test_all_that_the_host_has_are_told() -> None:
    assert told(planned(FRONT)) == [LinkManager("networkd"), LinkManager("udev")]
    assert told(planned(FRONT, ("NetworkManager",))) == [LinkManager("NetworkManager")]
    assert told(planned(FRONT, ())) == []


def test_whether_the_host_brings_its_networks_back_or_not() -> None:
    assert told(planned(FRONT, cnm_boot=False)) == told(planned(FRONT))


def test_only_where_there_is_a_link_of_ours() -> None:
    assert told(planned({}, cnm_sandboxes={"c1": {"network_mode": "none"}})) == []


def test_links_of_other_names_that_are_made_are_named() -> None:
    (manager,) = told(planned({**FRONT, **NAMED, **VLAN}, ("udev",)))
    assert manager.links == ("br-lan", "eth0.10")
    (manager,) = told(planned(WIDE, ("udev",)))
    assert manager.links == ("cnm_gwbridge",)
    (manager,) = told(planned({}, ("udev",)))
    assert manager.links == ("cnm0",)


def test_a_bridge_of_others_stays_with_whoever_configures_it() -> None:
    (manager,) = told(planned(NAMED, ("udev",), LinkFacts("bridge")))
    assert manager.links == ()
    (manager,) = told(planned(NAMED, ("udev",), LinkFacts("bridge", ours="network/named")))
    assert manager.links == ("br-lan",)


def test_networkd_alone_is_told_of_policy_rules_where_there_are_some() -> None:
    assert [item.rules for item in told(planned(BACK))] == [True, False]
    assert [item.rules for item in told(planned(FRONT))] == [False, False]


def test_each_link_of_the_host_that_we_name_has_a_name_that_it_may_have() -> None:
    networks = {**FRONT, "dark": {"driver": "macvlan", "internal": True, "subnet": "198.51.100.0/24"}}
    resources = planned(networks).plans["node1"].resources
    links = [item for item in resources if isinstance(item, Link)]
    names = [item.name for item in links if not item.namespace] + [item.peer.name for item in links if item.peer]
    assert sorted(name[:5] for name in names) == ["cnm-b", "cnm-l", "cnm-p"]
    assert {len(name) for name in names} == {15}


def test_two_links_that_would_have_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identifiers, "_own_link", lambda what, whose: f"cnm-{what}{whose[:0]}")
    made = planned(FRONT, cnm_sandboxes={name: {"networks": ["front"]} for name in ("c1", "c2")})
    assert made.refusals["node1"] == [
        "Two links of the host would have the name cnm-p, endpoint/front/c1 and endpoint/front/c2: rename one."
    ]
