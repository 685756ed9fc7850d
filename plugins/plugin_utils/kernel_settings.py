# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Kernel parameters of the host that networks need.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..module_utils.plan import Resource, Sysctl
from .facts import Facts

FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}

NEIGHBOUR_TABLE = {"gc_thresh1": 8192, "gc_thresh2": 49152, "gc_thresh3": 65536}
"""What Docker sets.  The kernel's own 1024 entries are for all namespaces together (arp(7))."""
_MANY = 100


def host_sysctls(facts: Facts, families: Sequence[int], endpoints: int) -> list[Resource]:
    """Forwarding, and what keeps a host its own: routes it learned, and room for the neighbours of many sandboxes."""
    result: list[Resource] = [
        Sysctl("", FORWARDING[family], "1", former="0", links=facts.forwarding_links.get(family, ()))
        if not facts.forwarded_before(family)
        else Sysctl("", FORWARDING[family], "1")
        for family in families
    ]
    if 6 in families:
        # A router takes no router advertisements, unless told so (ip-sysctl, accept_ra).
        result += [Sysctl("", f"net.ipv6.conf.{link.replace('.', '/')}.accept_ra", "2") for link in facts.ra_links]
    if endpoints > _MANY:
        result += [
            Sysctl("", f"net.ipv{family}.neigh.default.{name}", str(size))
            for family in families
            for name, size in NEIGHBOUR_TABLE.items()
            if 0 < facts.neighbour_tables.get(f"ipv{family}.{name}", 0) <= size
        ]
    return result
