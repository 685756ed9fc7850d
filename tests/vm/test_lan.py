# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What of LANs takes a kernel with ipvlan and 802.1Q: the links by themselves, and networks of two hosts by site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import Fleet, snapshot
from host import becomes, compare, converge, on_a_host, sh
from host import snapshot as host_snapshot
from lab import Lab
from lans import BENEATH, IPVLAN, MACVLAN, OVER_VLAN, a_lan
from test_kinds import DRIFTS, operations_for
from test_modules import TestTheDocumentedExamples as Examples
from test_modules import examples, fleet, ok
from test_modules import test_set_again_the_same_in_other_words_changed_and_gone as _cycle

from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Parent

__all__ = ["fleet"]
"""A fixture of the suite in tests/lab."""

pytestmark = pytest.mark.vm


@pytest.mark.whole
@on_a_host
def test_what_may_happen_to_links_on_a_parent_is_seen_and_repaired() -> None:
    """The part of ``test_kinds`` that outside is left out, and what the kernel changes in place."""
    wanted = a_lan(IPVLAN, vlan=7)
    converge(wanted)
    whole = host_snapshot()
    drifts = {name: DRIFTS["link"][name].harm for name in ("parent.flag", "parent.vlan")}
    drifts["parent.mode"] = "ip -n m1 link set eth0 type ipvlan mode l3"
    for attribute, harm in drifts.items():
        sh(harm)
        found = [item.attribute for operation in operations_for(wanted) for item in operation.differences]
        assert attribute in found, attribute
        assert converge(wanted)
        assert compare(wanted) == []
        becomes(whole)


@pytest.mark.whole
@pytest.mark.parametrize("module", ["ipvlan", "vlan"])
def test_the_modules_as_the_others_in_the_lab(fleet: Fleet, module: str) -> None:
    Examples().test_each_does_something_once_and_a_check_foretells_it(fleet, module)
    _cycle(fleet, module)
    assert ok(fleet, {**examples(module)[0], "check_mode": True})[0]["changed"]


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
@on_a_host
def test_ipvlans_of_each_mode_come_change_and_go(mode: str) -> None:
    before = host_snapshot()
    converge(a_lan(MACVLAN, vlan=7))
    wanted = a_lan(Parent(BENEATH, mode, "bridge"), vlan=7)
    converge(wanted)
    assert compare(wanted) == []
    assert f"mode {mode}" in sh("ip -n m1 -d link show eth0").replace("  ", " ")
    assert "vlan protocol 802.1Q id 7" in sh(f"ip -d link show {OVER_VLAN}")
    sh("ip netns exec m1 ping -c1 -W2 10.7.0.3; ping -c1 -W2 10.7.0.2; ip netns exec m2 ping -c1 -W2 10.7.0.99")
    converge(())
    becomes(before)


@on_a_host
def test_a_sandbox_s_link_may_be_called_as_one_of_the_host_s() -> None:
    sh("ip link add eth0 type dummy; ip link add eth1 type dummy")
    before = host_snapshot()
    wanted = a_lan(MACVLAN, vlan=7)
    converge(wanted)
    assert compare(wanted) == []
    converge(())
    becomes(before)


def on(parent: str, driver: str, subnet: str, **options: Any) -> dict[str, Any]:
    return {"driver": driver, "subnet": subnet, "driver_opts": {"parent": parent, **options}}


NETWORKS = {
    "trunk10": on("eth0.10", "macvlan", "10.10.0.0/24"),
    "also10": on("eth0.10", "macvlan", "10.110.0.0/24"),
    "two": on("eth0.20", "ipvlan", "10.20.0.0/24", host_access=True),
    "three": on("eth0.30", "ipvlan", "10.30.0.0/24", ipvlan_mode="l3"),
    "threes": on("eth0.40", "ipvlan", "10.40.0.0/24", ipvlan_mode="l3s"),
    "whole": on("eth0.50", "macvlan", "10.50.0.0/24", macvlan_mode="passthru"),
    "theirs": on("eth0.60", "macvlan", "10.60.0.0/24"),
    "apart": on("eth0.70", "ipvlan", "10.70.0.0/24", ipvlan_flag="private"),
    "inner": {"driver": "ipvlan", "subnet": "10.80.0.0/24", "internal": True},
}
BOXES: dict[str, dict[str, Any]] = {
    "node1": {
        "a1": {"networks": ["trunk10"]},
        "b1": {"networks": ["also10"]},
        "c1": {"networks": ["two"]},
        "d1": {"networks": ["three"]},
        "d2": {"networks": ["three"]},
        "e1": {"networks": ["threes"]},
        "e2": {"networks": ["threes"]},
        "f1": {"networks": ["whole"]},
        "g1": {"networks": ["theirs"]},
        "h1": {"networks": ["apart"]},
        "h2": {"networks": ["apart"]},
        "i1": {"networks": ["inner"]},
        "i2": {"networks": ["inner"]},
    },
    "node2": {
        "a2": {"networks": ["trunk10"]},
        "c2": {"networks": ["two"]},
        "f2": {"networks": ["whole"]},
        "h3": {"networks": ["apart"]},
    },
}


def declare(fleet: Fleet, *without: str) -> None:
    hosts = {
        node: {
            "cnm_sandboxes": {
                name: box for name, box in boxes.items() if not set(box["networks"]).intersection(without)
            }
        }
        for node, boxes in BOXES.items()
    }
    fleet.declare({"cnm_networks": NETWORKS}, **hosts)


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Networks on VLANs of two hosts; one of the VLAN links is the host's own."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("lan"))
    fleet.sh("node1", "ip link add link eth0 name eth0.60 type vlan id 60; ip link set eth0.60 up")
    before = {node: snapshot(fleet, node) for node in fleet.hosts}
    declare(fleet)
    fleet.site()
    yield fleet
    fleet.teardown()
    assert {node: snapshot(fleet, node) for node in fleet.hosts} == before
    fleet.sh("node1", "ip link delete eth0.60")


def pings(world: Fleet, node: str, box: str, address: str) -> bool:
    inside = f"ip netns exec {box} " if box else ""
    return "1 received" in world.sh(node, f"{inside}ping -n -c1 -W4 {address}", check=False)


def vlans(world: Fleet, node: str) -> list[str]:
    return sorted(
        line.split()[1].partition("@")[0] for line in world.sh(node, "ip -o link show type vlan").splitlines()
    )


@pytest.mark.whole
def test_a_second_run_changes_nothing_and_verify_holds(world: Fleet) -> None:
    assert world.site().changed == []
    checked = world.play("verify")
    assert checked.code == 0, checked.output


@pytest.mark.whole
def test_vlans_lead_from_host_to_host_and_not_to_each_other(world: Fleet) -> None:
    assert pings(world, "node1", "a1", "10.10.0.3")
    assert pings(world, "node1", "f1", "10.50.0.3")
    assert pings(world, "node1", "h1", "10.70.0.4")
    assert not pings(world, "node1", "h1", "10.70.0.3")
    assert "10.10.0.3" in world.sh("node1", "ip netns exec a1 getent ahostsv4 a2")


@pytest.mark.whole
def test_ipvlan_modes_and_the_host_s_own_access(world: Fleet) -> None:
    assert pings(world, "node1", "c1", "10.20.0.5")
    assert pings(world, "node1", "", "10.20.0.4")
    assert pings(world, "node1", "d1", "10.30.0.3")
    assert pings(world, "node1", "e1", "10.40.0.3")
    assert pings(world, "node1", "i1", "10.80.0.3")
    assert world.sh("node1", "ip -n d1 route show default").split()[:4] == ["default", "dev", "eth0", "proto"]
    macs = {world.sh("node1", f"cat /sys/class/net/{link}/address") for link in ("eth0", "eth0.20")}
    assert macs == {world.sh("node1", "ip netns exec c1 cat /sys/class/net/eth0/address")}


@pytest.mark.whole
def test_a_vlan_link_goes_with_its_last_user_and_one_of_the_host_s_own_stays(world: Fleet) -> None:
    assert vlans(world, "node1") == [f"eth0.{number}" for number in (10, 20, 30, 40, 50, 60, 70)]
    declare(world, "trunk10", "theirs", "two")
    world.site()
    assert vlans(world, "node1") == [f"eth0.{number}" for number in (10, 30, 40, 50, 60, 70)]
    assert vlans(world, "node2") == ["eth0.50", "eth0.70"]
    world.sh("node1", "ip link delete eth0.30")
    declare(world)
    run = world.site()
    assert "create link eth0.30" in run.operations("node1")
    assert "create link d1/eth0" in run.operations("node1")
    assert world.site().changed == []
    assert pings(world, "node1", "d1", "10.30.0.3")


@pytest.mark.whole
def test_the_example_of_a_trunk(world: Fleet) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "vlan-trunk"
    variables = {path.stem: yaml.safe_load(path.read_text()) for path in example.glob("*_vars/*.yml")}
    everyone = variables.pop("all")
    world.declare(everyone, **variables)
    world.site()
    assert vlans(world, "node1") == ["eth0.10", "eth0.20", "eth0.60"]
    assert "10.10.0.2" in world.sh("node1", "ip netns exec tester1 getent ahostsv4 builder1")
    assert pings(world, "node1", "tester1", "10.10.0.3")
