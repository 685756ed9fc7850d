# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Kernel parameters that networks need, and policy routing that isolates internal networks without nftables.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ...module_utils.plan.addresses import Rule
from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import FORWARDING
from ...module_utils.plan.forms import link_name
from ...module_utils.plan.marks import MAIN_TABLE, rule_priority
from ...module_utils.plan.settings import Sysctl
from ..declaration.topology import Endpoint, Sandbox
from ..drivers.base import PlannedNetwork
from ..facts import Facts

NEIGHBOUR_TABLE = {"gc_thresh1": 8192, "gc_thresh2": 49152, "gc_thresh3": 65536}
"""Docker's values.  The kernel's default of 1024 entries is for all namespaces together (arp(7))."""
_MANY = 100


def _readable(links: Sequence[str]) -> tuple[str, ...]:
    """The links that a sysctl can name."""
    return tuple(filter(link_name.fits, links))


def host_sysctls(facts: Facts, families: Sequence[int], endpoints: int) -> list[Resource]:
    """Forwarding; accept_ra, so that the host keeps its learned routes; and sizes of the neighbour tables."""
    result: list[Resource] = [
        Sysctl("", FORWARDING[family], "1", former="0", links=_readable(facts.forwarding_links.get(family, ())))
        if not facts.forwarded_before(family)
        else Sysctl("", FORWARDING[family], "1")
        for family in families
    ]
    if 6 in families:
        # With forwarding on, the kernel ignores router advertisements unless accept_ra is 2 (ip-sysctl).
        result += [
            Sysctl("", f"net.ipv6.conf.{link.replace('.', '/')}.accept_ra", "2") for link in _readable(facts.ra_links)
        ]
    if endpoints > _MANY:
        result += [
            Sysctl("", f"net.ipv{family}.neigh.default.{name}", str(size))
            for family in families
            for name, size in NEIGHBOUR_TABLE.items()
            if 0 < facts.neighbour_tables.get(f"ipv{family}.{name}", 0) <= size
        ]
    return result


_FORWARDS = re.compile(r"net\.ipv([46])\.(?:ip_forward|conf\.[^.]+\.(?:force_)?forwarding)")


def closed_families(sandbox: Sandbox, endpoints: Iterable[Endpoint]) -> tuple[int, ...]:
    """Families that a sandbox does not forward: neither its sysctls nor those of its links turn forwarding on."""
    declared = [*sandbox.sysctls, *(pair for endpoint in endpoints for pair in endpoint.sysctls)]
    opened = {int(match[1]) for name, _value in declared if (match := _FORWARDS.fullmatch(name))}
    return tuple(family for family in (4, 6) if family not in opened)


def closing_rules(project: str, bridges: Mapping[str, str], networks: Iterable[PlannedNetwork]) -> list[Resource]:
    """Policy routing that isolates internal networks even if somebody flushes all nftables tables.

    Packets from their bridges reach only the host itself, and only the host can send to them.  The rules precede those
    of other programs, and match no other network.
    """
    first = rule_priority(project)
    result: list[Resource] = []
    for network in networks:
        if network.closed:
            result += [Rule("", family, first, incoming=bridges[network.name]) for family in (4, 6)]
            for subnet in network.subnets:
                result.append(Rule("", subnet.family, first, "lo", subnet.subnet, MAIN_TABLE))
                result.append(Rule("", subnet.family, first + 1, destination=subnet.subnet))
    return result
