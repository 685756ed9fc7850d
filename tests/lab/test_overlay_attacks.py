# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Overlays under attack: by a stranger on the underlay, and by whoever is root in a sandbox.

Each forgery has its control: the same packet by who may send it, in the sender's own name, arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fleet import Fleet
from forging import ADVERTISED, CLAIMED, FORGED, SPOOFED, TUNNELLED, heard, python
from lab import SWITCH, Lab
from overlaying import answered, ended, overlay, sandboxes, seen, unanswered

_PLACES = {"a1": 11, "a2": 12, "b1": 21, "b2": 22, "gateway": 1}
_HOSTS = {"a1": "node1", "a2": "node1", "b1": "node2", "b2": "node2"}


def at(name: str, family: int) -> str:
    """The address of a sandbox on ``net``, or of its gateway."""
    return f"10.10.2.{_PLACES[name]}" if family == 4 else f"fd10:2::{_PLACES[name]}"


@dataclass
class World:
    """``net`` on two hosts, and ``elsewhere`` on the first and the third."""

    fleet: Fleet
    underlay: int

    def vtep(self, node: str) -> str:
        return self.fleet.lab.address(node, self.underlay)

    def mac(self, name: str) -> str:
        return self.fleet.sh(_HOSTS[name], f"ip netns exec {name} cat /sys/class/net/eth0/address").strip()

    def vni(self) -> int:
        return int(seen(self.fleet, "node1").place("net")[3:9], 16)

    def run(self, node: str, sandbox: str, script: str, *arguments: object) -> None:
        self.fleet.lab.run(node, python(sandbox, script, *arguments))

    def forged(self, to: str, source: str, target: str, tags: int = 0, own: str = "") -> Callable[[int], object]:
        """What sends a packet from a2 to a sandbox."""
        return lambda port: self.run("node1", "a2", FORGED, self.mac(to), source, target, port, tags, own)

    def tunnelled(self, node: str, sandbox: str, victim: str, family: int) -> Callable[[int], object]:
        """What sends a packet in VXLAN to a sandbox's host, as if from a neighbour of the sandbox."""
        other = "a1" if victim != "a1" else "b1"
        frame = (self.mac(victim), self.mac(other), at(other, family), at(victim, family))
        where = self.vtep(_HOSTS[victim])
        return lambda port: self.run(node, sandbox, TUNNELLED, where, self.vni(), *frame, port)

    def heard(self, victim: str, family: int, forge: Callable[[int], object]) -> str:
        return heard(self.fleet, (_HOSTS[victim], victim), at(victim, family), forge)


@pytest.fixture(scope="module", params=[4, 6], ids=["over IPv4", "over IPv6"])
def world(trio: Lab, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    """Everybody where they belong, over an IPv4 or an IPv6 underlay."""
    underlay: int = request.param
    with ended(Fleet(trio, tmp_path_factory.mktemp("attacks"))) as fleet:
        networks = {
            "net": overlay("10.10.2.0/24", "fd10:2::/64"),
            "elsewhere": overlay("10.10.3.0/24", "fd10:3::/64"),
        }
        hosts: dict[str, Any] = {"node1": sandboxes(y1=["elsewhere"]), "node3": sandboxes(x3=["elsewhere"])}
        for name, host in _HOSTS.items():
            place = {"ipv4_address": at(name, 4), "ipv6_address": at(name, 6)}
            boxes = hosts.setdefault(host, {"cnm_sandboxes": {}})["cnm_sandboxes"]
            boxes[name] = {"networks": {"net": place}}
        for host in fleet.hosts:
            hosts[host]["cnm_underlay_address"] = trio.address(host, underlay)
        fleet.declare({"cnm_networks": networks}, **hosts)
        fleet.site()
        yield World(fleet, underlay)


def all_reach_all(world: World) -> None:
    pairs = [(one, other) for one in _HOSTS for other in _HOSTS if one != other]
    trials: dict[str, list[tuple[str, ...]]] = {}
    for one, other in pairs:
        trials.setdefault(_HOSTS[one], []).extend([(one, at(other, 4)), (one, at(other, 6))])
    assert unanswered(world.fleet, trials) == []


@pytest.mark.parametrize("family", [4, 6])
class TestAStrangerWhoSendsWellFormedVxlan:
    def test_is_heard_by_nobody_but_the_networks_own_hosts_are(self, world: World, family: int) -> None:
        assert world.heard("a1", family, world.tunnelled("node2", "", "a1", family)) == at("b1", family)
        for node in (SWITCH, "node3"):
            for victim in ("a1", "b1"):
                assert world.heard(victim, family, world.tunnelled(node, "", victim, family)) == "nobody", node

    @pytest.mark.parametrize("node", ["node1", "node3"])
    def test_nor_is_a_sandbox_behind_the_address_of_its_host(self, world: World, node: str, family: int) -> None:
        """What leaves node1 in its name would be taken for the network's own."""
        sandbox = {"node1": "y1", "node3": "x3"}[node]
        assert answered(world.fleet, node, sandbox, world.vtep("node2"))
        for victim in ("b1", "a1"):
            assert world.heard(victim, family, world.tunnelled(node, sandbox, victim, family)) == "nobody", victim

    @pytest.mark.parametrize("spoofed", ["node1", "node3"])
    def test_nor_is_a_sandbox_that_takes_a_host_s_address_for_a_network_its_own_host_is_not_on(
        self, world: World, spoofed: str, family: int
    ) -> None:
        """x3 is on node3, where nobody is on net; it can send as anybody, if nothing keeps it from that."""
        out = world.fleet.sh("node3", f"ip netns exec x3 ip route get {world.vtep('node2')}").split()
        link = out[out.index("dev") + 1]
        gateway = world.fleet.sh("node3", "cat /sys/class/net/cnm_gwbridge/address").strip()
        ends = (gateway, link, world.vtep(spoofed), world.vtep("node2"))
        frame = (world.mac("b1"), world.mac("a1"), at("a1", family), at("b1", family))

        def forge(port: int) -> None:
            world.run("node3", "x3", SPOOFED, world.vni(), *ends, *frame, port)

        assert world.heard("b1", family, forge) == "nobody"

    def test_nor_is_a_sandbox_of_the_same_network_outside_of_its_own_link(self, world: World, family: int) -> None:
        assert world.heard("b1", family, world.tunnelled("node1", "a2", "b1", family)) == "nobody"


def test_other_peoples_vxlan_is_let_by(world: World) -> None:
    fleet, ends = world.fleet, {SWITCH: "10.99.0.1", "node3": "10.99.0.3"}
    for node, other in ((SWITCH, "node3"), ("node3", SWITCH)):
        link = f"ip link add theirs type vxlan id 99 dstport 4789 remote {world.vtep(other)} local {world.vtep(node)}"
        fleet.sh(node, f"{link}; ip address add {ends[node]}/24 dev theirs; ip link set theirs up")
    try:
        assert answered(fleet, "node3", "", ends[SWITCH])
        assert answered(fleet, SWITCH, "", ends["node3"])
    finally:
        for node in ends:
            fleet.sh(node, "ip link delete theirs")


@pytest.mark.parametrize("victim", ["a1", "b1"])
class TestASandboxThatSpeaksInAnothersName:
    """a2 to a neighbour on its own host, and to one on another."""

    def others(self, victim: str) -> list[str]:
        return [name for name in _PLACES if name not in ("a2", victim)]

    @pytest.mark.parametrize("family", [4, 6])
    def test_is_heard_by_nobody(self, world: World, victim: str, family: int) -> None:
        own = at("a2", family)
        target = at(victim, family)
        assert world.heard(victim, family, world.forged(victim, own, target)) == own
        for name in self.others(victim):
            for tags in (0, 1, 2):
                told = world.forged(victim, at(name, family), target, tags)
                assert world.heard(victim, family, told) == "nobody", (name, tags)

    @pytest.mark.parametrize("family", [4, 6])
    def test_nor_with_an_address_of_the_network_that_nobody_has(self, world: World, victim: str, family: int) -> None:
        free = "10.10.2.200" if family == 4 else "fd10:2::200"
        assert world.heard(victim, family, world.forged(victim, free, at(victim, family))) == "nobody"

    @pytest.mark.parametrize("family", [4, 6])
    def test_nor_with_the_mac_address_of_another_and_that_one_stays_reachable(
        self, world: World, victim: str, family: int
    ) -> None:
        for name in ("a1", "b1", "b2"):
            told = world.forged(victim, at("a2", family), at(victim, family), own=world.mac(name))
            assert world.heard(victim, family, told) == "nobody", name
        all_reach_all(world)

    def test_nor_believed_by_arp(self, world: World, victim: str) -> None:
        own, host = world.mac("a2"), _HOSTS[victim]
        for claimed in [*self.others(victim), "a2"]:
            address = at(claimed, 4)
            for tags in (0, 2):
                old = f"ip -n {victim} neighbour replace {address} lladdr 02:00:00:00:00:01 dev eth0 nud stale"
                world.fleet.sh(host, old)
                world.run("node1", "a2", CLAIMED, world.mac(victim), at(victim, 4), address, tags)
                found = world.fleet.sh(host, f"ip -n {victim} neighbour show to {address}")
                world.fleet.sh(host, f"ip -n {victim} neighbour delete {address} dev eth0")
                if claimed == "a2" and not tags:
                    assert own in found
                elif claimed != "a2":
                    assert own not in found, (claimed, tags)
        all_reach_all(world)

    def test_nor_by_neighbour_advertisements(self, world: World, victim: str) -> None:
        own, host = world.mac("a2"), _HOSTS[victim]
        for claimed in [*self.others(victim), "a2"]:
            address = at(claimed, 6)
            old = f"ip -n {victim} neighbour replace {address} lladdr 02:00:00:00:00:01 dev eth0 nud stale"
            world.fleet.sh(host, old)
            world.run("node1", "a2", ADVERTISED, world.mac(victim), at("a2", 6), at(victim, 6), address)
            found = world.fleet.sh(host, f"ip -n {victim} neighbour show to {address}")
            world.fleet.sh(host, f"ip -n {victim} neighbour delete {address} dev eth0")
            assert (own in found) is (claimed == "a2"), claimed
        all_reach_all(world)


def test_verify_still_proves_it_and_nothing_has_changed(world: World) -> None:
    assert world.fleet.site().changed == []
    verified = world.fleet.play("verify")
    assert verified.code == 0, verified.output
