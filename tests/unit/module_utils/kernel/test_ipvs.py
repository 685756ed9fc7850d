# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""IPVS without a kernel: messages are those of pyroute2, byte for byte, and what a sandbox has for its virtual IPs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.generic.ipvs import ipvsmsg

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import ipvs, netlink
from ansible_collections.cnm.fabric.plugins.module_utils.plan.balancing import Ipvs, IpvsTimeouts, RealServer
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Chain, NftSet
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Sysctl
from ansible_collections.cnm.fabric.plugins.module_utils.resources.ipvs import IpvsKind, IpvsTimeoutsKind
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.balancing import Balancing, VirtualService
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.ipvs import by_ipvs

NUMBER = 33
REQUEST = 1
INET, INET6 = int(socket.AF_INET), int(socket.AF_INET6)
ALL = 0xFFFFFFFF

BY_MARK = Ipvs("c1", mark=7, scheduler="rr")
BY_ADDRESS = Ipvs(
    "c1",
    protocol="tcp",
    address="10.0.0.9",
    port=80,
    scheduler="mh",
    flags=("fallback", "port"),
    persistence=300,
    prefix=24,
)
BY_ADDRESS6 = Ipvs("c1", 6, protocol="udp", address="fd00::9", port=53, flags=("one_packet",), persistence=60)
MARK = [("IPVS_SVC_ATTR_AF", INET), ("IPVS_SVC_ATTR_FWMARK", 7)]
ADDRESS = [
    ("IPVS_SVC_ATTR_AF", INET),
    ("IPVS_SVC_ATTR_PROTOCOL", 6),
    ("IPVS_SVC_ATTR_ADDR", "10.0.0.9"),
    ("IPVS_SVC_ATTR_PORT", 80),
]
ADDRESS6 = [
    ("IPVS_SVC_ATTR_AF", INET6),
    ("IPVS_SVC_ATTR_PROTOCOL", 17),
    ("IPVS_SVC_ATTR_ADDR", "fd00::9"),
    ("IPVS_SVC_ATTR_PORT", 53),
]
SERVER = RealServer("10.0.0.3", 2, 8080, upper=9, lower=3)
SERVER6 = RealServer("fd00::3", method="tunnel")


def settings(scheduler: str, flags: int, seconds: int, netmask: str) -> list[tuple[str, Any]]:
    return [
        ("IPVS_SVC_ATTR_SCHED_NAME", scheduler),
        ("IPVS_SVC_ATTR_FLAGS", {"flags": flags, "mask": ALL}),
        ("IPVS_SVC_ATTR_TIMEOUT", seconds),
        ("IPVS_SVC_ATTR_NETMASK", netmask),
    ]


def place(family: int, address: str, port: int) -> list[tuple[str, Any]]:
    return [
        ("IPVS_DEST_ATTR_ADDR_FAMILY", family),
        ("IPVS_DEST_ATTR_ADDR", address),
        ("IPVS_DEST_ATTR_PORT", port),
    ]


def manner(*values: int) -> list[tuple[str, Any]]:
    names = ("FWD_METHOD", "WEIGHT", "U_THRESH", "L_THRESH")
    return [(f"IPVS_DEST_ATTR_{name}", value) for name, value in zip(names, values)]


def theirs(command: int, service: list[Any], server: list[Any] | None = None) -> bytes:
    """The same by pyroute2, which has one length of prefixes, IPv4's, for its masks."""
    message = ipvsmsg()
    message["cmd"], message["version"] = command, 1
    message["attrs"] = [("IPVS_CMD_ATTR_SERVICE", {"attrs": service})]
    if server is not None:
        message["attrs"].append(("IPVS_CMD_ATTR_DEST", {"attrs": server}))
    message["header"] = {"type": NUMBER, "flags": REQUEST, "sequence_number": 0, "pid": 0}
    message.encode()
    return bytes(message.data)


SIXTY = ".".join(str(octet) for octet in struct.pack("=I", 128))
CASES: dict[str, tuple[Callable[[], netlink.Message], tuple[Any, ...]]] = {
    "new, by a mark": (
        lambda: ipvs.new_service(NUMBER, BY_MARK),
        (1, [*MARK, *settings("rr", 0, 0, "255.255.255.255")]),
    ),
    "new, by an address": (
        lambda: ipvs.new_service(NUMBER, BY_ADDRESS),
        (1, [*ADDRESS, *settings("mh", 0x19, 300, "255.255.255.0")]),
    ),
    "changed, IPv6": (
        lambda: ipvs.set_service(NUMBER, BY_ADDRESS6),
        (2, [*ADDRESS6, *settings("rr", 0x5, 60, SIXTY)]),
    ),
    "gone": (lambda: ipvs.del_service(NUMBER, BY_ADDRESS), (3, ADDRESS)),
    "a new real server": (
        lambda: ipvs.new_server(NUMBER, BY_MARK, SERVER),
        (5, MARK, [*place(INET, "10.0.0.3", 8080), *manner(0, 2, 9, 3)]),
    ),
    "a real server behind a tunnel": (
        lambda: ipvs.set_server(NUMBER, BY_ADDRESS, SERVER6),
        (6, ADDRESS, [*place(INET6, "fd00::3", 0), *manner(2, 1, 0, 0)]),
    ),
    "a real server gone": (
        lambda: ipvs.del_server(NUMBER, BY_MARK, SERVER),
        (7, MARK, place(INET, "10.0.0.3", 8080)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_message_is_the_one_pyroute2_makes(case: str) -> None:
    ours, words = CASES[case]
    assert ours().payload.hex(" ") == theirs(*words).hex(" ")


@pytest.mark.parametrize("item", [BY_MARK, BY_ADDRESS, BY_ADDRESS6], ids=["mark", "address", "address6"])
def test_a_virtual_server_is_read_as_it_is_written(item: Ipvs) -> None:
    """But that the kernel says IPv4 addresses with sixteen bytes, too."""
    payload = ipvs.new_service(NUMBER, item).payload
    assert ipvs._decode_service(payload, 16, len(payload)) == replace(item, namespace="")


@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=["ipv4", "ipv6"])
def test_a_real_server_is_read_as_it_is_written(server: RealServer) -> None:
    payload = ipvs.new_server(NUMBER, BY_MARK, server).payload
    assert ipvs._decode_server(payload, 16, len(payload)) == server


def test_timeouts_are_read_as_they_are_written() -> None:
    payload = ipvs.set_timeouts(NUMBER, IpvsTimeouts("", 1, 2, 3)).payload
    assert ipvs._decode_timeouts(payload, 16, len(payload)) == IpvsTimeouts("", 1, 2, 3)


def test_a_virtual_server_s_name_has_its_identity() -> None:
    assert BY_MARK.label == "c1/mark 0x00000007 ipv4"
    assert BY_ADDRESS.key == ("ipvs", "c1", "tcp 10.0.0.9:80")
    assert BY_ADDRESS6.name == "udp [fd00::9]:53"
    assert replace(BY_ADDRESS, namespace="").parents == ()


@pytest.mark.parametrize(
    ("index", "has"),
    [
        ("kernel/net/netfilter/ipvs/ip_vs.ko: kernel/net/netfilter/nf_conntrack.ko\n", True),
        ("kernel/net/netfilter/ipvs/ip_vs.ko.xz:\n", True),
        ("kernel/net/netfilter/ipvs/ip_vs_rr.ko: kernel/net/netfilter/ipvs/ip_vs.ko\n", False),
        ("", False),
        (None, False),
    ],
)
def test_a_loadable_ipvs_is_found_in_the_list_of_modules(tmp_path: Path, index: str, has: bool) -> None:
    if index is not None:
        (tmp_path / "modules.dep").write_text(index)
    assert ipvs._has_module(tmp_path / "modules.dep") is has


class TestDifferences:
    def test_servers_are_named_in_words(self) -> None:
        wanted = replace(BY_MARK, servers=(RealServer("10.0.0.3"), RealServer("10.0.0.4", 0)))
        found = replace(BY_MARK, scheduler="wlc", servers=(RealServer("10.0.0.3"), RealServer("10.0.0.4", 2), SERVER6))
        scheduler, servers = IpvsKind().differences(wanted, found)
        assert (scheduler.attribute, scheduler.wanted, scheduler.found) == ("scheduler", "rr", "wlc")
        assert (servers.attribute, servers.wanted) == ("servers", ["10.0.0.4 weight 0"])
        assert servers.found == ["10.0.0.4 weight 2", "fd00::3 weight 1 tunnel"]

    def test_the_order_of_servers_does_not_matter(self) -> None:
        one, other = RealServer("10.0.0.3"), RealServer("10.0.0.4")
        kind = IpvsKind()
        assert kind.differences(replace(BY_MARK, servers=(one, other)), replace(BY_MARK, servers=(other, one))) == []

    def test_only_a_few_of_many_servers_are_shown(self) -> None:
        many = tuple(RealServer(f"10.0.0.{number}") for number in range(100, 200))
        (difference,) = IpvsKind().differences(replace(BY_MARK, servers=many), BY_MARK)
        assert difference.wanted[-1] == "and 95 more"

    def test_timeouts(self) -> None:
        differences = IpvsTimeoutsKind().differences(IpvsTimeouts("c1", 1, 2, 3), IpvsTimeouts("c1", 1, 5, 6))
        assert [(item.attribute, item.wanted, item.found) for item in differences] == [("tcp_fin", 2, 5), ("udp", 3, 6)]


# --- what a sandbox has ---

REDIS = VirtualService("10.0.0.99", "rr", (("10.0.0.3", 1), ("10.0.0.2", 1)))
REDIS6 = VirtualService("fd00::99", "rr", (("fd00::3", 1),))


def virtual(*services: VirtualService) -> list[Ipvs]:
    return [item for item in by_ipvs("c1", services).resources if isinstance(item, Ipvs)]


class TestBalancing:
    def test_without_services_there_is_nothing(self) -> None:
        assert by_ipvs("c1", []) == Balancing()

    def test_a_vip_has_a_mark_and_a_virtual_server_of_it(self) -> None:
        made = by_ipvs("c1", [REDIS6, REDIS])
        assert made.sets[:2] == (
            NftSet("vips4", "type ipv4_addr : mark;", ("10.0.0.99 : 0x0a000063",)),
            NftSet("vip_echo4", "type ipv4_addr : ipv4_addr;", ("10.0.0.99 : 10.0.0.3",)),
        )
        assert [item.name for item in made.sets] == ["vips4", "vip_echo4", "vips6", "vip_echo6"]
        assert made.chains[0] == Chain(
            "services",
            "type filter hook output priority -150; policy accept",
            ("meta mark set ip daddr map @vips4", "meta mark set ip6 daddr map @vips6"),
        )
        servers = [item for item in made.resources if isinstance(item, Ipvs)]
        assert servers[0] == Ipvs("c1", 4, 0x0A000063, servers=(RealServer("10.0.0.2"), RealServer("10.0.0.3")))
        assert (servers[1].family, servers[1].servers) == (6, (RealServer("fd00::3"),))

    def test_marks_do_not_depend_on_other_services(self) -> None:
        others = [replace(REDIS, vip=f"10.0.0.{number}") for number in range(1, 99)]
        others += [replace(REDIS6, vip=f"fd00::{number}") for number in range(1, 99)]
        alone = {item.mark for item in virtual(REDIS, REDIS6)}
        marks = [(item.family, item.mark) for item in virtual(*others, REDIS, REDIS6)]
        assert len(set(marks)) == len(marks) == 198
        assert alone <= {mark for _family, mark in marks}

    @pytest.mark.parametrize("vip", ["192.168.7.9", "255.255.255.254", "128.0.0.0", *(f"fd00::{n}" for n in range(16))])
    def test_ipvsadm_accepts_the_marks(self, vip: str) -> None:
        (server,) = virtual(replace(REDIS if "." in vip else REDIS6, vip=vip))
        assert 0 < server.mark < 2**31

    def test_a_drained_task_stays_with_weight_0_and_is_not_pinged(self) -> None:
        drained = replace(REDIS, tasks=(("10.0.0.2", 0), ("10.0.0.3", 1)))
        (server,) = virtual(drained)
        assert server.servers == (RealServer("10.0.0.2", 0), RealServer("10.0.0.3"))
        assert server.scheduler == "rr"
        assert by_ipvs("c1", [drained]).sets[1].elements == ("10.0.0.99 : 10.0.0.3",)

    def test_a_service_without_tasks_refuses(self) -> None:
        made = by_ipvs("c1", [replace(REDIS, tasks=())])
        assert [item.servers for item in made.resources if isinstance(item, Ipvs)] == [()]
        assert made.sets[1].elements == ()

    @pytest.mark.parametrize(
        ("scheduler", "weights", "chosen", "flags"),
        [
            ("rr", (1, 1), "rr", ()),
            ("rr", (1, 3), "wrr", ()),
            ("lc", (2, 3), "wlc", ()),
            ("rr", (0, 3), "rr", ()),
            ("wlc", (1, 1), "wlc", ()),
            ("sh", (1, 3), "sh", ("fallback",)),
            ("mh", (1, 1), "mh", ("fallback",)),
        ],
    )
    def test_schedulers(self, scheduler: str, weights: tuple[int, ...], chosen: str, flags: tuple[str, ...]) -> None:
        tasks = tuple((f"10.0.0.{number}", weight) for number, weight in enumerate(weights, 2))
        (server,) = virtual(VirtualService("10.0.0.99", scheduler, tasks))
        assert (server.scheduler, server.flags) == (chosen, flags)

    def test_ipvs_settings_for_drained_and_removed_tasks(self) -> None:
        resources = by_ipvs("c1", [REDIS]).resources
        assert {item.name: item.value for item in resources if isinstance(item, Sysctl)} == {
            "net.ipv4.vs.conntrack": "1",
            "net.ipv4.vs.conn_reuse_mode": "1",
            "net.ipv4.vs.expire_nodest_conn": "1",
            "net.ipv4.vs.expire_quiescent_template": "1",
            "net.ipv4.vs.run_estimation": "0",
        }
        assert [item.name for item in resources if isinstance(item, Sysctl) and item.optional] == [
            "net.ipv4.vs.run_estimation"
        ]
        assert [item for item in resources if isinstance(item, IpvsTimeouts)] == [IpvsTimeouts("c1", 432000, 120, 120)]
