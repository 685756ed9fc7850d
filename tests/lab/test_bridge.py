# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Bridge networks with all they can be told: who reaches what, over IPv4 and IPv6 alike."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, snapshot
from lab import Lab
from traffic import answers, serving

_BRIDGE = "com.docker.network.bridge."
_MODES = (_BRIDGE + "gateway_mode_ipv4", _BRIDGE + "gateway_mode_ipv6")


def _dual(number: int, **more: Any) -> dict[str, Any]:
    return {"subnet": [f"10.9.{number}.0/24", f"fd09:{number}::/64"], **more}


NETWORKS: dict[str, Any] = {
    "front": _dual(1),
    "back": _dual(2),
    "routed": _dual(3, driver_opts=dict.fromkeys(_MODES, "routed")),
    "open": _dual(4, driver_opts=dict.fromkeys(_MODES, "nat-unprotected")),
    "inner": _dual(5, internal=True),
    "apart": _dual(6, driver_opts={_BRIDGE + "enable_icc": "false"}),
    "alone": _dual(7, internal=True, driver_opts=dict.fromkeys(_MODES, "isolated")),
    "six": {"subnet": "fd09:8::/64", "enable_ipv4": False},
    "free": _dual(9, firewall="none"),
}
SANDBOXES: dict[str, Any] = {
    **{f"{name}1": {"networks": [name]} for name in NETWORKS},
    **{f"{name}2": {"networks": [name]} for name in NETWORKS},
    "front1": {
        "networks": ["front"],
        "ports": [
            "8080:80",
            "5300:53/udp",
            "127.0.0.1:8081:80",
            "9000-9004:9000-9004",
            "7000-7002:80-82",
            "{node1}:8082:80",
            "[{node1v6}]:8083:80",
        ],
    },
    "routed1": {"networks": ["routed"], "ports": ["8084:80", "8084:80/udp"]},
    "six1": {"networks": ["six"], "ports": ["8085:80"]},
    "apart1": {"networks": ["apart"], "ports": ["8086:80"]},
}
FORCE = ("-e", "cnm_force=true")
"""The servers of other tests may still run in sandboxes that are no longer declared."""
SERVED = ("tcp/80", "tcp/81", "tcp/9003", "udp/53", "udp/80")


def _in_words(value: Any, node: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _in_words(item, node) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_words(item, node) for item in value]
    return value.format(**node) if isinstance(value, str) else value


def at(sandbox: str, family: int) -> str:
    """A sandbox's address: the first of a network has .2, the second .3."""
    number, place = list(NETWORKS).index(sandbox[:-1]) + 1, int(sandbox[-1]) + 1
    return f"10.9.{number}.{place}" if family == 4 else f"fd09:{number}::{place}"


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All networks on node1, a server in each sandbox, and node2 as a neighbour with a route to all of them."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("world"))
    before = {node: snapshot(fleet, node) for node in ("node1", "node2")}
    node = {"node1": lab.address("node1"), "node1v6": lab.address("node1", 6)}
    fleet.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": _in_words(SANDBOXES, node)})
    fleet.site()
    routes = f"ip route add 10.9.0.0/16 via {node['node1']}; ip -6 route add fd09::/16 via {node['node1v6']}"
    fleet.sh("node2", routes)
    with ExitStack() as stack:
        for name in SANDBOXES:
            stack.enter_context(serving(fleet, "node1", name, *SERVED))
        yield fleet
    fleet.sh("node2", "ip route del 10.9.0.0/16; ip -6 route del fd09::/16")
    fleet.teardown()
    assert {node: snapshot(fleet, node) for node in ("node1", "node2")} == before


def reach(world: Fleet, caller: str, sandboxes: list[str], family: int) -> set[str]:
    """Whose port 80 a caller reaches at the sandbox's own address, over tcp and udp alike."""
    node, inside = (caller, "") if caller.startswith("node") else ("node1", caller)
    found = {}
    for protocol in ("tcp", "udp"):
        calls = [(protocol, at(name, family), 80) for name in sandboxes]
        found[protocol] = {n for n, a in zip(sandboxes, answers(world, node, inside, calls)) if a is not None}
    assert found["tcp"] == found["udp"]
    return found["tcp"]


@pytest.mark.parametrize("family", [4, 6])
class TestWhoReachesWhat:
    """The isolation matrix; IPv6 as strict as IPv4."""

    def everyone(self, family: int) -> list[str]:
        return [name for name in SANDBOXES if family == 6 or not name.startswith("six")]

    def test_from_a_sandbox_of_another_network(self, world: Fleet, family: int) -> None:
        found = reach(world, "back2", self.everyone(family), family)
        assert found == {"back1", "back2", "open1", "open2", "routed1", "free1", "free2"}

    def test_on_the_same_network(self, world: Fleet, family: int) -> None:
        for name in ("front", "routed", "open", "inner", "free", "alone"):
            mine = [f"{name}1", f"{name}2"]
            assert reach(world, f"{name}2", mine, family) == set(mine), name

    def test_not_even_on_the_same_network_without_icc(self, world: Fleet, family: int) -> None:
        assert reach(world, "apart2", ["apart1", "apart2"], family) == {"apart2"}

    def test_an_internal_network_has_no_way_out_and_none_in(self, world: Fleet, family: int) -> None:
        for name in ("inner", "alone"):
            assert reach(world, f"{name}1", self.everyone(family), family) == {f"{name}1", f"{name}2"}

    def test_from_the_host(self, world: Fleet, family: int) -> None:
        found = reach(world, "node1", self.everyone(family), family)
        assert found == set(self.everyone(family)) - {"alone1", "alone2"}

    def test_a_neighbour_with_a_route_reaches_what_is_meant_to_be(self, world: Fleet, family: int) -> None:
        found = reach(world, "node2", self.everyone(family), family)
        assert found == {"open1", "open2", "routed1", "free1", "free2"}

    def test_a_closed_port_of_a_routed_sandbox_stays_closed_and_it_answers_echo_requests(
        self, world: Fleet, family: int
    ) -> None:
        assert answers(world, "node2", "", [("tcp", at("routed1", family), 81)]) == [None]
        world.sh("node2", f"ping -c 1 -W 2 {at('routed2', family)}")
        assert world.lab.run("node2", ["ping", "-c", "1", "-W", "1", at("front1", family)], check=False).returncode

    def test_a_neighbour_does_not_reach_the_host_through_a_gateway_s_address(self, world: Fleet, family: int) -> None:
        gateway = "10.9.1.1" if family == 4 else "fd09:1::1"
        with serving(world, "node1", "", "tcp/6000"):
            assert answers(world, "node2", "", [("tcp", gateway, 6000)]) == [None]
            assert answers(world, "node1", "front2", [("tcp", gateway, 6000)]) != [None]

    def test_the_way_out_is_behind_the_host_s_address_unless_routed(self, world: Fleet, family: int) -> None:
        node1, node2 = world.lab.address("node1", family), world.lab.address("node2", family)
        with serving(world, "node2", "", "tcp/6000"):
            seen = {
                name: answers(world, "node1", name, [("tcp", node2, 6000)])[0]
                for name in ("front2", "open2", "routed2", "inner2", "alone2", "free2")
            }
        assert seen == {
            "front2": node1,
            "open2": node1,
            "routed2": at("routed2", family),
            "inner2": None,
            "alone2": None,
            "free2": at("free2", family),
        }


class TestPublishedPorts:
    def test_from_a_neighbour_whose_address_is_kept(self, world: Fleet) -> None:
        node1, node2 = world.lab.address("node1"), world.lab.address("node2")
        six1, six2 = world.lab.address("node1", 6), world.lab.address("node2", 6)
        calls = {
            ("tcp", node1, 8080): node2,
            ("udp", node1, 5300): node2,
            ("tcp", six1, 8080): six2,
            ("udp", six1, 5300): six2,
            ("tcp", node1, 8082): node2,
            ("tcp", six1, 8083): six2,
            ("tcp", node1, 9003): node2,
            ("tcp", node1, 7000): node2,
            ("tcp", node1, 7001): node2,
            ("tcp", six1, 8085): six2,
            ("tcp", node1, 8086): node2,
            ("tcp", node1, 8081): None,  # published on the loopback alone
            ("tcp", six1, 8082): None,
            ("tcp", node1, 8083): None,
            ("tcp", node1, 8084): None,  # routed: at its own address alone
            ("tcp", node1, 80): None,
            ("tcp", node1, 8085): None,  # a sandbox with IPv6 alone
        }
        assert dict(zip(calls, answers(world, "node2", "", list(calls)))) == calls

    def test_from_the_host_itself(self, world: Fleet) -> None:
        node1, six1 = world.lab.address("node1"), world.lab.address("node1", 6)
        calls = [
            ("tcp", node1, 8080),
            ("tcp", "127.0.0.1", 8080),
            ("tcp", "127.0.0.1", 8081),
            ("udp", "127.0.0.1", 5300),
            ("tcp", six1, 8080),
            ("tcp", "127.0.0.1", 9003),
        ]
        assert [found is not None for found in answers(world, "node1", "", calls)] == [True] * len(calls)
        assert answers(world, "node1", "", [("tcp", node1, 8081), ("tcp", "::1", 8080)]) == [None, None]

    @pytest.fixture(params=["br_netfilter on", "br_netfilter off"])
    def bridged(self, world: Fleet, request: pytest.FixtureRequest) -> Iterator[bool]:
        """Whether bridged frames come by the firewall, as Docker and Kubernetes turn it on for the whole host."""
        names = [f"net.bridge.bridge-nf-call-{program}" for program in ("iptables", "ip6tables")]
        before = world.sh("node1", f"sysctl -n {' '.join(names)}").split()
        on = request.param.endswith("on")
        world.sh("node1", f"sysctl -qw {' '.join(f'{name}={int(on)}' for name in names)}")
        yield on
        world.sh("node1", f"sysctl -qw {' '.join(f'{name}={value}' for name, value in zip(names, before))}")

    def test_from_other_sandboxes_from_the_same_network_and_from_itself(self, world: Fleet, bridged: bool) -> None:
        node1, six1 = world.lab.address("node1"), world.lab.address("node1", 6)
        calls = [("tcp", node1, 8080), ("udp", node1, 5300), ("tcp", six1, 8080)]
        assert answers(world, "node1", "back1", calls) == [at("back1", 4), at("back1", 4), at("back1", 6)]
        for name in ("front1", "front2"):
            assert None not in answers(world, "node1", name, calls), name
        for name in ("inner1", "alone1"):
            assert answers(world, "node1", name, calls) == [None] * 3, name
        # Without ICC too, unless br_netfilter makes a bridged frame of it, which isolated ports do not exchange.
        assert (answers(world, "node1", "apart2", [("tcp", node1, 8086)]) == [None]) is bridged

    def test_whoever_aims_at_the_loopback_through_the_host_reaches_nothing(self, world: Fleet) -> None:
        node1 = world.lab.address("node1")
        world.sh("node2", f"ip route add 127.9.9.9 via {node1}; sysctl -qw net.ipv4.conf.all.route_localnet=1")
        world.sh("node1", "sysctl -qw net.ipv4.conf.all.route_localnet=1")
        try:
            with serving(world, "node1", "", "tcp/6001"):
                assert answers(world, "node2", "", [("tcp", "127.9.9.9", 6001)]) == [None]
        finally:
            world.sh("node1", "sysctl -qw net.ipv4.conf.all.route_localnet=0")
            world.sh("node2", "ip route del 127.9.9.9; sysctl -qw net.ipv4.conf.all.route_localnet=0")

    def test_a_second_run_has_nothing_to_do(self, world: Fleet) -> None:
        assert world.site().changed == []
        assert world.site("--check").changed == []


_SPEAK = r"""
import socket, sys
source, target, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in target else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as opened:
    opened.bind((source, 0))
    opened.settimeout(1)
    opened.sendto(b"who", (target, port))
    try:
        print(opened.recv(100).decode())
    except TimeoutError:
        print("nobody")
"""

_CLAIM = r"""
import socket, sys
link, mac, address = sys.argv[1], bytes.fromhex(sys.argv[2].replace(":", "")), socket.inet_aton(sys.argv[3])
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
    opened.bind((link, 0x0806))
    opened.send(b"\xff" * 6 + mac + bytes.fromhex("0806" "0001" "0800" "06" "04" "0002") + (mac + address) * 2)
"""


class TestSpeakingInAnothersName:
    """Nobody on a bridge takes an address that is another's there, nor one that is nobody's."""

    @pytest.mark.parametrize(
        ("net", "length", "family"), [("10.9.1.", "32", "ipv4"), ("fd09:1::", "128", "ipv6")], ids=["4", "6"]
    )
    def test_a_packet_from_another_address_gets_nowhere(self, world: Fleet, net: str, length: str, family: str) -> None:
        heard = f"ip netns exec front2 /usr/bin/python3 -c '{_SPEAK}'"
        with serving(world, "node1", "", "udp/6000"):
            for number, expected in ((3, f"{net}3"), (2, "nobody"), (77, "nobody")):
                address, taken = f"{net}{number}", f"{net}{number}/{length} dev eth0"
                if number != 3:
                    world.sh("node1", f"ip -n front2 address add {taken} {'nodad' if family == 'ipv6' else ''}")
                try:
                    assert world.sh("node1", f"{heard} {address} {net}1 6000").strip() == expected
                    flows = world.sh("node1", f"conntrack -L -f {family} -p udp --dport 6000 -s {address} 2>/dev/null")
                    assert bool(flows) is (number == 3)
                finally:
                    if number != 3:
                        world.sh("node1", f"ip -n front2 address delete {taken}")

    def test_nor_does_an_answer_that_claims_the_gateway_s(self, world: Fleet) -> None:
        mac = world.sh("node1", "ip netns exec front2 cat /sys/class/net/eth0/address").strip()
        world.sh("node1", "ip netns exec front1 ping -c 1 -W 2 10.9.1.1")
        for address, known in (("10.9.1.1", False), ("10.9.1.77", False), (at("front2", 4), True)):
            world.sh("node1", "ip netns exec front1 sysctl -qw net.ipv4.conf.eth0.arp_accept=1")
            world.sh("node1", f"ip netns exec front2 /usr/bin/python3 -c '{_CLAIM}' eth0 {mac} {address}")
            neighbours = world.sh("node1", f"ip -n front1 neighbour show to {address}")
            assert (mac in neighbours) is known
        world.sh("node1", "ip netns exec front1 sysctl -qw net.ipv4.conf.eth0.arp_accept=0")

    def test_nor_a_frame_with_the_gateway_s_mac_address(self, world: Fleet) -> None:
        own = world.sh("node1", "ip netns exec front2 cat /sys/class/net/eth0/address").strip()
        bridge = '$(ip -j route get 10.9.1.2 | sed \'s/.*"dev":"\\([^"]*\\)".*/\\1/\')'
        theirs = world.sh("node1", f"cat /sys/class/net/{bridge}/address").strip()
        for mac, reached in ((theirs, False), (own, True)):
            world.sh("node1", f"ip -n front2 link set eth0 address {mac}")
            assert (answers(world, "node1", "front2", [("udp", at("front1", 4), 80)]) != [None]) is reached


def test_what_another_program_flushed_is_put_back(world: Fleet) -> None:
    tables = "for family in inet bridge; do nft -s list table $family cnm | tr -d ' \n' | tr '{},' '\n' | sort; done"
    before = world.sh("node1", tables)
    world.sh("node1", "nft flush ruleset")
    world.site()
    assert world.sh("node1", tables) == before
    assert answers(world, "node1", "back2", [("tcp", at("front1", 4), 80)]) == [None]


_HEARD = r"""
import socket, sys, time
link, seconds = sys.argv[1], float(sys.argv[2])
opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
opened.bind((link, 0))
print("ready", flush=True)
until = time.monotonic() + seconds
while (left := until - time.monotonic()) > 0:
    opened.settimeout(left)
    try:
        frame = opened.recv(2048)
    except TimeoutError:
        break
    if frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42]:
        print("arp", frame[22:28].hex(":"), socket.inet_ntoa(frame[28:32]))
    if frame[12:14] == b"\x86\xdd" and frame[54] == 136 and not frame[58] & 0x40:
        print("advertisement", frame[80:86].hex(":"), socket.inet_ntop(socket.AF_INET6, frame[62:78]))
"""


@pytest.mark.whole
def test_a_new_mac_address_is_told_to_the_neighbours_three_times(lab: Lab, tmp_path: Path) -> None:
    fleet = Fleet(lab, tmp_path)
    network, own = {"cnm_networks": {"n": _dual(1)}}, "02:00:00:00:00:07"
    fleet.declare(network, node1={"cnm_sandboxes": {"a": {"networks": ["n"]}, "b": {"networks": ["n"]}}})
    fleet.site(*FORCE)
    box = {"networks": {"n": {"mac_address": own}}}
    fleet.declare(network, node1={"cnm_sandboxes": {"a": box, "b": {"networks": ["n"]}}})
    argv = ["ip", "netns", "exec", "b", "/usr/bin/python3", "-c", _HEARD, "eth0", "15"]
    listening = lab.popen("node1", argv, stdout=subprocess.PIPE)
    assert listening.stdout is not None
    assert listening.stdout.readline() == "ready\n"
    assert fleet.site().operations("node1") == ["change link a/eth0", "change nftables bridge cnm"]
    heard = listening.communicate()[0].splitlines()
    assert heard.count(f"arp {own} 10.9.1.2") == 3
    assert heard.count(f"advertisement {own} fd09:1::2") == 3
    fleet.clear()


class TestInTheWay:
    @pytest.fixture
    def fleet(self, lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
        fleet = Fleet(lab, tmp_path)
        yield fleet
        fleet.clear()

    def test_a_port_somebody_listens_on_is_named_and_nothing_changes(self, fleet: Fleet) -> None:
        before = snapshot(fleet, "node1")
        box = {"networks": ["n"], "ports": ["6002:80"]}
        fleet.declare({"cnm_networks": {"n": {"subnet": "10.9.1.0/24"}}}, node1={"cnm_sandboxes": {"a": box}})
        with serving(fleet, "node1", "", "tcp/6002"):
            run = fleet.play("site", *FORCE)
            (said,) = run.refusals("node1")
            assert "port 6002/tcp of the host is not free: python3 (pid " in said
            assert snapshot(fleet, "node1") == before
        fleet.site(*FORCE)

    def test_a_chain_that_drops_is_named(self, fleet: Fleet) -> None:
        fleet.declare(
            {"cnm_networks": {"n": {"subnet": "10.9.1.0/24"}}}, node1={"cnm_sandboxes": {"a": {"networks": ["n"]}}}
        )
        fleet.sh(
            "node1",
            "nft 'add table ip other; add chain ip other f { type filter hook forward priority 0; policy drop; }'",
        )
        try:
            assert "the chain ip other f of the host's other firewall drops" in " ".join(fleet.site().output.split())
        finally:
            fleet.sh("node1", "nft delete table ip other")
