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
from ..drivers.base import PlannedEndpoint, PlannedNetwork, by_network
from ..facts import Facts

_ENOUGH = 512
"""The kernel's default of 1024 neighbours is for all namespaces together (arp(7)); the host has others too."""
_SMALLEST, _LARGEST = 1 << 16, 1 << 18
"""Sizes of neighbour tables: Docker's, and 262144, which take some 100 MB if they are ever full."""


def neighbours_of(endpoints: Iterable[PlannedEndpoint]) -> dict[int, int]:
    """By family, how many entries of neighbour tables the sandboxes of a host can come to need.

    Each has one for each other sandbox that it can talk to on a network, on whatever host, and one for its gateway; the
    host has one for each of them.
    """
    result: dict[int, int] = {}
    for group in by_network(endpoints).values():
        network = group[0].network
        members = len(network.spanning.sandboxes) if network.spanning is not None else len(group)
        if network.network.traits.isolates:
            members = 1
        for family in (4, 6):
            if network.of(family):
                result[family] = result.get(family, 0) + len(group) * (members + 1)
    return result


def _neighbour_table(neighbours: int) -> dict[str, int]:
    """In Docker's proportions: below the first the kernel forgets nothing, beyond the last nothing has a place."""
    size = _SMALLEST
    while size < _LARGEST and neighbours > size * 3 // 4:
        size *= 2
    return {"gc_thresh1": size // 8, "gc_thresh2": size * 3 // 4, "gc_thresh3": size}


def _readable(links: Sequence[str]) -> tuple[str, ...]:
    """The links that a sysctl can name."""
    return tuple(filter(link_name.fits, links))


def host_sysctls(facts: Facts, families: Sequence[int], neighbours: Mapping[int, int]) -> list[Resource]:
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
    result += [
        Sysctl("", f"net.ipv{family}.neigh.default.{name}", str(size))
        for family, needed in neighbours.items()
        if needed > _ENOUGH
        for name, size in _neighbour_table(needed).items()
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
