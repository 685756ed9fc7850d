# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Virtual IPs by IPVS: packets to a VIP are marked, and a virtual server of that mark sends them to a task.  Pure.

A virtual server matches the mark, not the address, so it serves all ports of a VIP, TCP and UDP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from ...module_utils.plan.balancing import Ipvs, IpvsTimeouts, RealServer
from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE
from ...module_utils.plan.nftables import Chain, NftSet
from ...module_utils.plan.settings import Sysctl
from .balancing import Balancing, VirtualService, of_family

_ECHO = {4: "icmp type echo-request", 6: "icmpv6 type echo-request"}

_HAIRPIN = 'meta mark != 0 oifname != "lo" fib daddr type local meta mark set 0'
"""For a task that calls itself: IPVS keeps the route to the VIP; a changed mark makes the kernel look it up again."""

_BY_WEIGHT = {"rr": "wrr", "lc": "wlc"}
"""The scheduler that uses weights, for those that ignore them."""

_FLAGS = {"sh": ("fallback",), "mh": ("fallback",)}
"""Flags by scheduler; without them, clients whose task is drained would be refused."""

_SETTINGS = {
    # Conntrack sees translated connections, so that a sandbox's own firewall works.
    "conntrack": "1",
    # A reused client port is a new connection, which a drained task must not get.
    "conn_reuse_mode": "1",
    # Clients whose task is gone, by a connection or by persistence, get another task.
    "expire_nodest_conn": "1",
    "expire_quiescent_template": "1",
}
_NOT_EVERYWHERE = {
    # Turn off rate estimation, which would run every two seconds for each task in each sandbox.
    "run_estimation": "0",
}
_LIKE_CONNTRACK = {"tcp": 432000, "udp": 120}
"""Conntrack's own timeouts, in seconds: by default IPVS would forget idle connections after 15 minutes."""


def by_ipvs(sandbox: str, services: Iterable[VirtualService]) -> Balancing:
    """The rules that mark packets in a sandbox's table, the virtual servers, and IPVS settings of its namespace."""
    every = list(services)
    if not every:
        return Balancing()
    sets: list[NftSet] = []
    resources: list[Resource] = [*_settings(sandbox)]
    marking, output = [], []
    for family, ip in NFT_PROTOCOL.items():
        own = of_family(every, family)
        if not own:
            continue
        marks = _marks([item.vip for item in own])
        resources += [_server(sandbox, item, marks[item.vip]) for item in own]
        sets += _maps(own, marks, family)
        marking.append(f"meta mark set {ip} daddr map @vips{family}")
        # IPVS does not balance pings.
        output.append(f"{_ECHO[family]} dnat {ip} to {ip} daddr map @vip_echo{family}")
    chains = (
        Chain("services", "type filter hook output priority -150; policy accept", tuple(marking)),
        Chain("vip_hairpin", "type route hook output priority -50; policy accept", (_HAIRPIN,)),
    )
    return Balancing(tuple(sets), tuple(output), chains, tuple(resources))


def _settings(sandbox: str) -> list[Resource]:
    return [
        *(Sysctl(sandbox, f"net.ipv4.vs.{name}", value) for name, value in _SETTINGS.items()),
        *(Sysctl(sandbox, f"net.ipv4.vs.{name}", value, optional=True) for name, value in _NOT_EVERYWHERE.items()),
        IpvsTimeouts(sandbox, **_LIKE_CONNTRACK),
    ]


def _server(sandbox: str, service: VirtualService, mark: int) -> Ipvs:
    servers = tuple(RealServer(address, weight) for address, weight in sorted(service.tasks))
    scheduler = service.scheduler
    if len({weight for _task, weight in service.tasks if weight}) > 1:
        scheduler = _BY_WEIGHT.get(scheduler, scheduler)
    flags = _FLAGS.get(scheduler, ())
    return Ipvs(sandbox, service.family, mark, scheduler=scheduler, flags=flags, servers=servers)


def _maps(services: Sequence[VirtualService], marks: Mapping[str, int], family: int) -> Iterable[NftSet]:
    address = NFT_TYPE[family]
    numbers = tuple(f"{item.vip} : {marks[item.vip]:#010x}" for item in services)
    yield NftSet(f"vips{family}", f"type {address} : mark;", numbers)
    first = ((item.vip, next((task for task, weight in item.tasks if weight), None)) for item in services)
    answering = tuple(f"{vip} : {task}" for vip, task in first if task is not None)
    yield NftSet(f"vip_echo{family}", f"type {address} : {address};", answering)


_LAST_MARK = 0x7FFFFFFF
"""The largest mark: ipvsadm shows greater ones as negative numbers, which it does not accept as input."""


def _marks(vips: Sequence[str]) -> dict[str, int]:
    """A mark for each VIP, independent of the others unless two collide: for IPv4 the bits of the address."""
    result: dict[str, int] = {}
    for vip in vips:
        mark = _mark(vip)
        while mark in result.values():
            mark = mark % _LAST_MARK + 1
        result[vip] = mark
    return result


def _mark(vip: str) -> int:
    packed = ip_address(vip).packed
    digest = packed if len(packed) == 4 else hashlib.sha256(packed).digest()[:4]
    return int.from_bytes(digest, "big") & _LAST_MARK or 1
