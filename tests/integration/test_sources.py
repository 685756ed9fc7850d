# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who may send what, from the side of whoever is root in a sandbox; and what stays shut without nftables.

Each forgery has its control: the same packet in the sender's own name arrives.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Optional

import pytest
from forging import ADVERTISED, FORGE, FORGED, python
from host import an_uplink, compare, converge, on_a_host, sh

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.sources import link_local
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

_B = "com.docker.network.bridge."
FAMILIES = pytest.mark.parametrize("family", [4, 6])
HOST = {4: "192.0.2.1", 6: "2001:db8::1"}
NEIGHBOUR = {4: "192.0.2.9", 6: "2001:db8::9"}
_NUMBERS = {"front": 1, "back": 2, "open": 3}
_WITH_ROUTER = [
    {"destination": "10.8.0.0/16", "gateway": "10.9.1.10"},
    {"destination": "fd08::/32", "gateway": "fd09:1::a"},
]


def _networks() -> dict[str, Any]:
    networks: dict[str, Any] = {
        name: {
            "subnet": [f"10.9.{number}.0/24", f"fd09:{number}::/64"],
            "driver_opts": {_B + "name": f"br-{name}"},
        }
        for name, number in _NUMBERS.items()
    }
    networks["front"]["routes"] = _WITH_ROUTER
    networks["back"]["internal"] = True
    networks["open"]["driver_opts"].update({f"{_B}gateway_mode_ipv{family}": "routed" for family in (4, 6)})
    return networks


def _at(number: int) -> dict[str, str]:
    """Addresses on front."""
    return {"ipv4_address": f"10.9.1.{number}", "ipv6_address": f"fd09:1::{number:x}"}


BOXES: dict[str, Any] = {
    "f1": {"networks": {"front": _at(10)}},
    "f2": {"networks": {"front": _at(11)}},
    "f3": {"networks": {"front": _at(12)}},
    "b1": {"networks": ["back"]},
    "both": {"networks": {"front": _at(13), "back": None}},
    "two": {"networks": {"front": {**_at(14), "gw_priority": 1}, "open": None}, "ports": ["7000:7000/udp"]},
}


def at(number: int, family: int) -> str:
    return f"10.9.1.{number}" if family == 4 else f"fd09:1::{number:x}"


def planned(boxes: dict[str, Any], **more: Any) -> tuple[Resource, ...]:
    variables = {"cnm_networks": _networks(), "cnm_sandboxes": boxes, **more}
    made = plan(read_topology({"node1": variables}), {"node1": Facts(resolvers=("192.0.2.9",))}, empty(), "now")
    assert not made.refusals
    return made.plans["node1"].resources


@contextmanager
def a_world(boxes: Optional[dict[str, Any]] = None, **more: Any) -> Iterator[tuple[Resource, ...]]:
    """The host with a neighbour on its uplink, who has routes to its networks."""
    an_uplink("neighbour", HOST, NEIGHBOUR)
    sh("sysctl -qw net.ipv4.ip_forward=1")
    for address in HOST.values():
        sh(f"ip -n neighbour route add default via {address}")
    wanted = planned(BOXES if boxes is None else boxes, **more)
    converge(wanted)
    assert compare(wanted) == []
    yield wanted


def mac_of(link: str, sandbox: str = "") -> str:
    inside = f"ip netns exec {sandbox} " if sandbox else ""
    return sh(f"{inside}cat /sys/class/net/{link}/address").strip()


def run(sandbox: str, script: str, *arguments: object) -> None:
    subprocess.run(python(sandbox, script, *arguments), check=True)


def _listening(address: str, port: int, connected: tuple[str, int]) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((address, port))
    if connected[0]:
        listener.connect(connected)
        listener.send(b"ask")
    listener.settimeout(0.3)
    return listener


def heard(
    sandbox: str, address: str, forge: Callable[[], object], port: int = 6000, connected: tuple[str, int] = ("", 0)
) -> str:
    """In whose name what is forged gets to a port of a sandbox, "" for the host itself; "nobody" if it does not."""
    with namespaces.run(sandbox, _listening, address, port, connected) as listener:
        forge()
        for _attempt in range(2):  # the first may be told that nobody has that port
            try:
                return str(listener.recvfrom(2000)[1][0])
            except ConnectionRefusedError:
                continue
            except OSError:
                break
        return "nobody"


def forging(sandbox: str, mac: str, source: str, target: str, port: int = 6000, **more: Any) -> Callable[[], None]:
    return lambda: run(sandbox, FORGED, mac, source, target, port, more.get("tags", 0), more.get("own", ""))


class TestFromABridge:
    @FAMILIES
    @on_a_host
    def test_only_a_sandbox_s_own_addresses_pass_to_the_host_and_out(self, family: int) -> None:
        foreign = ["203.0.113.7", HOST[4], "10.9.3.2"] if family == 4 else ["2001:db8:9::7", HOST[6], "fd09:3::2"]
        with a_world():
            gateway = mac_of("br-front")
            for source in (*foreign, at(12, family), at(77, family)):
                for to, target in (("neighbour", NEIGHBOUR[family]), ("", HOST[family])):
                    assert heard(to, target, forging("f1", gateway, source, target)) == "nobody", (source, to)
            own = at(10, family)
            assert heard("", HOST[family], forging("f1", gateway, own, HOST[family])) == own
            out = forging("f1", gateway, own, NEIGHBOUR[family])
            assert heard("neighbour", NEIGHBOUR[family], out) == HOST[family]

    @FAMILIES
    @on_a_host
    def test_forged_answers_are_dropped_without_the_bridge_s_rules(self, family: int) -> None:
        with a_world():
            sh("nft flush chain bridge cnm prerouting")
            gateway, theirs = mac_of("br-front"), (NEIGHBOUR[family], 9)
            forge = forging("f1", gateway, NEIGHBOUR[family], HOST[family])
            assert heard("", HOST[family], forge, connected=theirs) == "nobody"
            sh("nft flush chain inet cnm from_bridge")
            assert heard("", HOST[family], forge, connected=theirs) == NEIGHBOUR[family]

    @FAMILIES
    @on_a_host
    def test_a_neighbour_cannot_answer_with_a_sandbox_s_address(self, family: int) -> None:
        with a_world():
            forge = forging("neighbour", mac_of("up0"), at(10, family), HOST[family])
            assert heard("", HOST[family], forge, connected=(at(10, family), 9)) == "nobody"
            sh("nft flush chain inet cnm sources")
            assert heard("", HOST[family], forge, connected=(at(10, family), 9)) == at(10, family)

    @FAMILIES
    @on_a_host
    def test_a_sandbox_answers_from_the_called_address_and_a_router_forwards(self, family: int) -> None:
        with a_world():
            called = "10.9.3.2" if family == 4 else "fd09:3::2"
            asking = f"ip netns exec neighbour ping -c 1 -W 2 {called}"
            assert " 0% packet loss" in sh(asking)
            behind, apart = ("10.8.0.5", "10.7.0.5") if family == 4 else ("fd08::5", "fd07::5")
            for source, expected in ((behind, behind), (apart, "nobody")):
                forge = forging("f1", mac_of("eth0", "f2"), source, at(11, family))
                assert heard("f2", at(11, family), forge) == expected
            forge = forging("f3", mac_of("eth0", "f2"), behind, at(11, family))
            assert heard("f2", at(11, family), forge) == "nobody"

    @FAMILIES
    @on_a_host
    def test_no_vxlan_passes_not_even_in_fragments(self, family: int) -> None:
        with a_world(cnm_data_path_port=4790):
            sh("ip -n f1 link set eth0 mtu 1300")
            for size in (50, 3000):
                for port, expected in ((4789, HOST[family]), (4790, "nobody")):
                    out = _udp(NEIGHBOUR[family], port, size)
                    assert heard("neighbour", NEIGHBOUR[family], out, port) == expected, (port, size)
                assert heard("", HOST[family], _udp(HOST[family], 4790, size), 4790) == "nobody", size


def _udp(target: str, port: int, size: int) -> Callable[[], None]:
    """What sends so many bytes from f1 to a port, as VXLAN of a VNI that nobody has would begin."""

    def send() -> None:
        with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.sendto(b"\x08\0\0\0\0\x12\x34\0" + bytes(size), (target, port))

    return lambda: namespaces.run("f1", send)


_FLOODING = r"""
import os
target, = sys.argv[1:]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
    opened.bind(("eth0", 0))
    for number in range(2000):
        opened.send(octets(target) + b"\x02" + os.urandom(5) + b"\x88\xb5" + bytes(50))
"""

_FROM_NOBODY = r"""
mac, claimed, kind = sys.argv[1:]
body = struct.pack("!BBHI", int(kind), 0, 0, 0) + socket.inet_pton(socket.AF_INET6, claimed)
frame(mac, "::", "ff02::1:ff00:1", body, 58, 2)
"""

_ROUTER = r"""
mac, source = sys.argv[1:]
body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\1\1" + octets(mac_of("eth0"))
frame(mac, source, "ff02::1", body, 58, 2)
"""

_PROBED = r"""
mac, asked = sys.argv[1:]
own = octets(mac_of("eth0"))
body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + bytes(10) + socket.inet_aton(asked)
send(octets(mac) + own + b"\x08\x06" + body, "eth0")
"""


def seen(sandbox: str, kind: int, needle: bytes, forge: Callable[[], object]) -> int:
    """How many frames of an EtherType with some bytes in them come to a sandbox's link while something is forged."""

    def listen() -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
        opened.bind(("eth0", kind))
        opened.settimeout(0.3)
        return opened

    found = 0
    with namespaces.run(sandbox, listen) as opened:
        forge()
        try:
            while True:
                found += needle in opened.recv(2000)
        except OSError:
            return found


def _from_nobody(mac: str, claimed: str, kind: int) -> tuple[bytes, Callable[[], None]]:
    """What a frame of neighbour discovery from :: has in it, and what sends it."""
    needle = bytes(16) + socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:1")
    return needle, lambda: run("f1", FORGE + _FROM_NOBODY, mac, claimed, kind)


_TAGGED = r"""
mac, source, target, tags = sys.argv[1:]
plain = made(mac, mac_of("eth0"), source, target, struct.pack("!HHHH", 9, 7, 14, 0) + b"tagged")
send(plain[:12] + bytes.fromhex(tags) + plain[12:], "eth0")
"""


class TestOnABridge:
    @on_a_host
    def test_a_sandbox_cannot_fill_the_bridge_s_table(self) -> None:
        def known() -> int:
            return len(sh("bridge fdb show br br-front").splitlines())

        with a_world():
            before = known()
            targets = [
                "ff:ff:ff:ff:ff:ff",
                mac_of("br-front"),
                *(f"01:80:c2:00:00:{end}" for end in ("00", "03", "0e")),
            ]
            for target in targets:
                run("f1", FORGE + _FLOODING, target)
                assert known() <= before + 2, target
            sh("nft flush chain bridge cnm prerouting")
            run("f1", FORGE + _FLOODING, targets[0])
            assert known() > 1000

    @FAMILIES
    @on_a_host
    def test_a_sandbox_reaches_a_neighbour_only_from_its_own_address(self, family: int) -> None:
        with a_world():
            mate, target = mac_of("eth0", "f2"), at(11, family)
            assert heard("f2", target, forging("f1", mate, at(10, family), target)) == at(10, family)
            outside = NEIGHBOUR[family]
            for source in (at(1, family), at(12, family), at(77, family), outside):
                for tags in (0, 1, 2):
                    forge = forging("f1", mate, source, target, tags=tags)
                    assert heard("f2", target, forge) == "nobody", (source, tags)
            other = forging("f1", mate, at(10, family), target, own=mac_of("eth0", "f3"))
            assert heard("f2", target, other) == "nobody"

    @on_a_host
    def test_no_tagged_frame_passes_though_its_source_is_allowed(self) -> None:
        with a_world():
            for tags in ("", "81000000", "81000005", "88a80000", "88a8000581000000"):
                sending = python("f1", FORGE + _TAGGED, mac_of("eth0", "f2"), at(10, 4), at(11, 4), tags)
                came = seen("f2", 3, b"tagged", partial(subprocess.run, sending, check=True)) > 0
                assert came == (not tags), tags

    @on_a_host
    def test_neighbour_discovery_only_for_own_addresses(self) -> None:
        with a_world():
            mate, own = mac_of("eth0", "f2"), mac_of("eth0", "f1")
            theirs = [link_local(mac) for mac in (mac_of("br-front"), mac_of("eth0", "f3"))]
            for claimed in ("fd09:1::1", "fd09:1::c", "fd09:1::77", *theirs, at(10, 6), link_local(own)):
                sh(f"ip -n f2 neighbour replace {claimed} lladdr 02:00:00:00:00:01 dev eth0 nud stale")
                run("f1", ADVERTISED, mate, at(10, 6), at(11, 6), claimed)
                found = sh(f"ip -n f2 neighbour show to {claimed}; ip -n f2 neighbour delete {claimed} dev eth0")
                assert (own in found) is (claimed in (at(10, 6), link_local(own))), claimed

    @on_a_host
    def test_forged_duplicates_and_redirects_are_dropped(self) -> None:
        with a_world():
            mate, own = mac_of("eth0", "f2"), mac_of("eth0", "f1")
            solicited = [(at(11, 6), 0), (at(77, 6), 0), (link_local(mate), 0), (at(10, 6), 1), (link_local(own), 1)]
            for claimed, expected in solicited:
                found = seen("f2", 0x86DD, *_from_nobody(mate, claimed, 135))
                assert found == expected, claimed
            assert seen("f2", 0x86DD, *_from_nobody(mate, at(10, 6), 136)) == 0
            assert seen("f2", 0x86DD, b"\x86\0", lambda: run("f1", FORGE + _ROUTER, mate, link_local(own))) == 0
            for asked, expected in ((at(11, 4), 0), (at(77, 4), 0), (at(10, 4), 1)):
                needle = bytes(10) + socket.inet_aton(asked)
                assert seen("f2", 0x0806, needle, lambda a=asked: run("f1", FORGE + _PROBED, mate, a)) == expected, (
                    asked
                )


class TestASandboxOnTwoNetworks:
    @FAMILIES
    @on_a_host
    def test_a_sandbox_does_not_forward_unless_declared(self, family: int) -> None:
        outside = "203.0.113.7" if family == 4 else "2001:db8:9::7"
        own = "10.9.2.2" if family == 4 else "fd09:2::2"
        forward = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}[family]
        said = {**BOXES, "both": {**BOXES["both"], "sysctls": {forward: "1"}}}
        with a_world() as wanted:
            through = mac_of("eth1", "both")

            def passed() -> int:
                """How many packets were to go out of the sandbox again."""
                counting = "nft 'add table inet seen; add chain inet seen f { type filter hook forward priority 0; };"
                sh(f"ip netns exec both {counting} add rule inet seen f counter'")
                forging("b1", through, own, outside)()
                found = sh(
                    "ip netns exec both nft list chain inet seen f; ip netns exec both nft delete table inet seen"
                )
                return int(found.split("packets ")[1].split()[0])

            assert passed() == 0
            # It has been turned on by hand, and a run turns it off.
            sh(f"ip netns exec both sysctl -qw {forward}=1")
            assert passed() == 1
            assert converge(wanted) == ["change namespace both (no_forwarding)"]
            assert passed() == 0
            converge(declared := planned(said))
            assert compare(declared) == []
            assert passed() == 1
            converge(wanted)
            assert compare(wanted) == []
            assert passed() == 0


@FAMILIES
@on_a_host
def test_nftables_alone_isolates_an_internal_network(family: int) -> None:
    """Without policy routing, which holds the same: systemd-networkd may have removed it."""
    with a_world():
        inner, gateway = ("10.9.2.2", "10.9.2.1") if family == 4 else ("fd09:2::2", "fd09:2::1")
        sh(f"ip -n b1 route add default via {gateway}; ping -c 3 -i 0.2 -W 2 {NEIGHBOUR[family]}")
        for rule in sh(f"ip -{family} rule").splitlines():
            if "proto 137" in rule:
                sh(f"ip -{family} rule delete prio {rule.partition(':')[0]}")
        out = forging("b1", mac_of("br-back"), inner, NEIGHBOUR[family])
        assert heard("neighbour", NEIGHBOUR[family], out) == "nobody"
        assert heard("b1", inner, forging("neighbour", mac_of("up0"), NEIGHBOUR[family], inner)) == "nobody"
        sh("nft flush ruleset")
        assert heard("neighbour", NEIGHBOUR[family], out) == inner


class TestWithoutNftables:
    """After somebody else's ``nft flush ruleset``."""

    @FAMILIES
    @on_a_host
    def test_an_internal_network_stays_isolated_except_from_its_host(self, family: int) -> None:
        with a_world():
            inner, gateway = ("10.9.2.2", "10.9.2.1") if family == 4 else ("fd09:2::2", "fd09:2::1")
            sh(f"nft flush ruleset; ip -n b1 route add default via {gateway}")
            to = mac_of("br-back"), mac_of("up0"), mac_of("br-front")
            for target, there in ((NEIGHBOUR[family], "neighbour"), (at(11, family), "f2")):
                assert heard(there, target, forging("b1", to[0], inner, target)) == "nobody", there
            for sender, mac, source in (
                ("neighbour", to[1], NEIGHBOUR[family]),
                ("f2", to[2], at(11, family)),
            ):
                assert heard("b1", inner, forging(sender, mac, source, inner)) == "nobody", sender
            assert " 0% packet loss" in sh(f"ping -c 1 -W 2 {inner}; ip netns exec b1 ping -c 1 -W 2 {gateway}")
            # Other networks' are as they were.  A single datagram can be lost while the host looks for its neighbour.
            sh(f"ping -c 3 -i 0.2 -W 2 {NEIGHBOUR[family]}")
            out = forging("f2", to[2], at(11, family), NEIGHBOUR[family])
            assert heard("neighbour", NEIGHBOUR[family], out) == at(11, family)
            for rule in sh(f"ip -{family} rule").splitlines():
                if "proto 137" in rule:
                    sh(f"ip -{family} rule delete prio {rule.partition(':')[0]}")
            assert heard("b1", inner, forging("neighbour", to[1], NEIGHBOUR[family], inner)) == NEIGHBOUR[family]

    @on_a_host
    def test_the_host_s_loopback_stays_closed_without_a_port_published_there(self) -> None:
        boxes = {"f1": {"networks": {"front": _at(10)}, "ports": [f"{HOST[4]}:8080:80"]}}
        with a_world(boxes):
            sh("nft flush ruleset")
            forge = forging("f1", mac_of("br-front"), at(10, 4), "127.0.0.1")
            assert heard("", "127.0.0.1", forge) == "nobody"
            sh("sysctl -qw net.ipv4.conf.br-front.route_localnet=1")
            assert heard("", "127.0.0.1", forge) == at(10, 4)

    @on_a_host
    def test_routing_rules_are_repaired_and_removed_and_foreign_ones_stay(self) -> None:
        sh("ip rule add to 10.77.0.0/16 prio 1500 blackhole protocol 137; ip rule add iif lo prio 3000 table 7")
        before = sh("ip -4 rule; ip -6 rule")
        with a_world() as wanted:
            mine = [line for line in sh("ip -4 rule; ip -6 rule").splitlines() if line not in before]
            assert len(mine) == 6
            sh(f"ip rule delete prio {mine[0].partition(':')[0]}")
            assert [text.split()[:2] for text in converge(wanted)] == [["create", "rule"]]
            converge(())
            assert sh("ip -4 rule; ip -6 rule") == before
