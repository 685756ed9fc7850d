# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whoever is root in a sandbox, or a neighbour of the host, forges packets: none gets where it is not let.

Each forgery has its control: the same packet in the sender's own name arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, snapshot
from forging import ADVERTISED, FORGE, FORGED, heard, python
from lab import Lab
from traffic import serving

_BRIDGE = "com.docker.network.bridge."
_NUMBERS = {"front": 1, "back": 2, "routed": 3, "inner": 5, "apart": 6, "alone": 7}
_OPTIONS: dict[str, dict[str, Any]] = {
    "routed": {"driver_opts": {f"{_BRIDGE}gateway_mode_ipv{family}": "routed" for family in (4, 6)}},
    "inner": {"internal": True},
    "apart": {"driver_opts": {_BRIDGE + "enable_icc": "false"}},
    "alone": {
        "internal": True,
        "driver_opts": {f"{_BRIDGE}gateway_mode_ipv{family}": "isolated" for family in (4, 6)},
    },
}


def _network(name: str, number: int) -> dict[str, Any]:
    options = _OPTIONS.get(name, {})
    named = {**options.get("driver_opts", {}), _BRIDGE + "name": f"br-{name}"}
    return {"subnet": [f"10.9.{number}.0/24", f"fd09:{number}::/64"], **options, "driver_opts": named}


def at(name: str, family: int) -> str:
    """A sandbox's address, or with 0 for its number the gateway's."""
    number, place = _NUMBERS[name[:-1]], int(name[-1]) + 1
    return f"10.9.{number}.{place}" if family == 4 else f"fd09:{number}::{place}"


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Networks of all kinds on node1, and node2 as a neighbour with a route to all of them."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("attacks"))
    before = {node: snapshot(fleet, node) for node in ("node1", "node2")}
    boxes: dict[str, Any] = {f"{name}{number}": {"networks": [name]} for name in _NUMBERS for number in (1, 2)}
    boxes["front1"]["ports"] = ["8080:80"]
    networks = {name: _network(name, number) for name, number in _NUMBERS.items()}
    fleet.declare({"cnm_networks": networks}, node1={"cnm_sandboxes": boxes})
    fleet.site()
    routes = {
        f: f"ip -{f} route {{}} {p} via {lab.address('node1', f)}" for f, p in ((4, "10.9.0.0/16"), (6, "fd09::/16"))
    }
    for route in routes.values():
        fleet.sh("node2", route.format("add"))
    yield fleet
    for route in routes.values():
        fleet.sh("node2", route.format("delete"))
    fleet.teardown()
    assert {node: snapshot(fleet, node) for node in ("node1", "node2")} == before


# In the victim's name to ourselves; then as if that had been an answer to ours.
_HIJACKED = (
    FORGE
    + r"""
mac, victim, own, tags = sys.argv[1:]
with socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM) as opened:
    opened.bind((own, 6000))
    opened.settimeout(0.4)
    frame(mac, victim, own, udp(81, 6000), tags=int(tags))
    try:
        opened.recvfrom(100)
    except OSError:
        pass
    try:
        opened.sendto(b"who", (victim, 81))
        print(opened.recv(100).decode())
    except OSError:
        print("nobody")
"""
)


def mac_of(world: Fleet, link: str, sandbox: str = "") -> str:
    inside = f"ip netns exec {sandbox} " if sandbox else ""
    return world.sh("node1", f"{inside}cat /sys/class/net/{link}/address").strip()


def forged(world: Fleet, sandbox: str, mac: str, source: str, target: str, tags: int = 0) -> Callable[[int], object]:
    """What sends a packet from a sandbox of node1, or from node2."""
    node = "node1" if sandbox else "node2"
    return lambda port: world.lab.run(node, python(sandbox, FORGED, mac, source, target, port, tags, ""))


@pytest.mark.parametrize("family", [4, 6])
class TestForgedPackets:
    @pytest.mark.parametrize("victim", ["front1", "back1", "routed1", "inner1"])
    def test_none_begins_the_connection_whose_answers_would_be_let_by(
        self, world: Fleet, victim: str, family: int
    ) -> None:
        with serving(world, "node1", victim, "udp/81"):
            own, mac = at("front2", family), mac_of(world, "br-front")
            argv = python("front2", _HIJACKED, mac, at(victim, family), own, 0)
            expected = own if victim == "front1" else "nobody"
            assert world.lab.run("node1", argv).stdout.strip() == expected

    def test_nor_without_icc_not_even_behind_vlan_tags(self, world: Fleet, family: int) -> None:
        mac, mate, own = mac_of(world, "br-apart"), at("apart1", family), at("apart2", family)
        with serving(world, "node1", "apart1", "udp/81"):
            for tags in (0, 2):
                assert world.lab.run("node1", python("apart2", _HIJACKED, mac, mate, own, tags)).stdout == "nobody\n"
        for to in (mac, "ff:ff:ff:ff:ff:ff", mac_of(world, "eth0", "apart1")):
            assert heard(world, ("node1", "apart1"), mate, forged(world, "apart2", to, own, mate)) == "nobody"

    def test_an_internal_network_does_not_get_out_with_an_answer_to_what_it_forged(
        self, world: Fleet, family: int
    ) -> None:
        neighbour, gateway = world.lab.address("node2", family), at("inner0", family)
        world.sh("node1", f"ip -n inner1 -{family} route add default via {gateway}")
        try:
            argv = python("inner1", _HIJACKED, mac_of(world, "br-inner"), neighbour, at("inner1", family), 0)
            with serving(world, "node2", "", "udp/81"):
                assert world.lab.run("node1", argv).stdout.strip() == "nobody"
            to_host = forged(world, "inner1", mac_of(world, "br-inner"), at("inner1", family), gateway)
            assert heard(world, ("node1", ""), gateway, to_host) == at("inner1", family)
        finally:
            world.sh("node1", f"ip -n inner1 -{family} route delete default")

    def test_a_neighbour_does_not_speak_in_a_sandbox_s_name(self, world: Fleet, family: int) -> None:
        host, mac = world.lab.address("node1", family), mac_of(world, "eth0")
        for name in ("front1", "routed1"):
            told = forged(world, "", mac, at(name, family), host)
            assert heard(world, ("node1", ""), host, told) == "nobody", name
        own = world.lab.address("node2", family)
        assert heard(world, ("node1", ""), host, forged(world, "", mac, own, host)) == own

    def test_a_sandbox_does_not_speak_in_the_host_s_name_nor_in_that_of_another_network_s(
        self, world: Fleet, family: int
    ) -> None:
        mac, neighbour = mac_of(world, "br-front"), world.lab.address("node2", family)
        host = world.lab.address("node1", family)
        for name in (host, at("back1", family), at("front2", family)):
            # Its own is hidden behind the host's.
            expected = host if name == at("front2", family) else "nobody"
            assert heard(world, ("node2", ""), neighbour, forged(world, "front2", mac, name, neighbour)) == expected
        for name in ("127.0.0.1", "127.9.9.9") if family == 4 else ("::1", at("back0", family)):
            assert heard(world, ("node1", ""), host, forged(world, "front2", mac, name, host)) == "nobody", name

    @pytest.mark.parametrize("tags", [1, 2])
    def test_nor_at_all_behind_vlan_tags(self, world: Fleet, tags: int, family: int) -> None:
        mac, gateway, mate = mac_of(world, "br-front"), at("front0", family), mac_of(world, "eth0", "front1")
        for name in (at("front1", family), at("front2", family)):
            told = forged(world, "front2", mac, name, gateway, tags)
            assert heard(world, ("node1", ""), gateway, told) == "nobody"
        told = forged(world, "front2", mate, gateway, at("front1", family), tags)
        assert heard(world, ("node1", "front1"), at("front1", family), told) == "nobody"

    def test_an_isolated_network_is_not_heard_by_the_host_whose_mac_address_it_guessed(
        self, world: Fleet, family: int
    ) -> None:
        host, mac = world.lab.address("node1", family), mac_of(world, "br-alone")
        assert heard(world, ("node1", ""), host, forged(world, "alone1", mac, at("alone1", family), host)) == "nobody"


def test_a_neighbour_advertisement_is_read_behind_extension_headers_too(world: Fleet) -> None:
    mate, own = mac_of(world, "eth0", "front1"), mac_of(world, "eth0", "front2")
    for claimed, believed in (("fd09:1::1", False), ("fd09:1::77", False), (at("front2", 6), True)):
        world.sh("node1", f"ip -n front1 neighbour replace {claimed} lladdr 02:00:00:00:00:01 dev eth0 nud stale")
        argv = python("front2", ADVERTISED, mate, at("front2", 6), at("front1", 6), claimed)
        world.lab.run("node1", argv)
        found = world.sh(
            "node1", f"ip -n front1 neighbour show to {claimed}; ip -n front1 neighbour delete {claimed} dev eth0"
        )
        assert (own in found) is believed


def test_another_project_s_networks_are_guarded_by_it_and_those_it_does_not_guard_are_let_by(
    world: Fleet, tmp_path: Path
) -> None:
    other = Fleet(world.lab, tmp_path)
    networks = {"theirs": _network("theirs", 12), "free": {**_network("free", 13), "firewall": "none"}}
    boxes = {"x": {"networks": ["theirs"]}, "y": {"networks": ["free"]}}
    other.declare({"cnm_project": "other", "cnm_networks": networks}, node1={"cnm_sandboxes": boxes})
    other.site()
    try:
        for family in (4, 6):
            victim = "10.9.12.2" if family == 4 else "fd09:12::2"
            argv = python("front2", _HIJACKED, mac_of(world, "br-front"), victim, at("front2", family), 0)
            with serving(world, "node1", "x", "udp/81"):
                assert world.lab.run("node1", argv).stdout.strip() == "nobody"
            world.sh("node1", f"ip netns exec y ping -c 1 -W 2 {world.lab.address('node2', family)}")
    finally:
        other.teardown()


def test_a_host_that_routes_between_some_of_its_links_goes_on_doing_so(lab: Lab, tmp_path: Path) -> None:
    """As systemd-networkd's IPv4Forwarding= and IPv6Forwarding= of a link make a router, since version 256."""
    fleet = Fleet(lab, tmp_path)
    settings = "net.ipv4.conf.eth0.forwarding net.ipv6.conf.eth0.forwarding"
    fleet.sh("node2", f"sysctl -qw {settings.replace(' ', '=1 ')}=1")
    try:
        network = {"cnm_networks": {"n": _network("n", 1)}}
        fleet.declare(network, node2={"cnm_sandboxes": {"a": {"networks": ["n"]}}})
        fleet.site()
        others = fleet.sh("node2", "nft list chain inet cnm forward_unmanaged")
        fleet.teardown()
        assert 'nfproto ipv4 iifname "eth0" accept\n\t\tmeta nfproto ipv4 drop' in others
        assert fleet.sh("node2", f"sysctl -n {settings}").split() == ["1", "1"]
    finally:
        fleet.sh("node2", f"sysctl -qw {settings.replace(' ', '=0 ')}=0")
