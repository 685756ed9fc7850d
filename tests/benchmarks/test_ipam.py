# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What it costs to find subnets for 2,000 networks that name none, in processor time.

1. The search alone, beside 100 prefixes that the host has: by `ipam.ranges` and by netaddr's `IPSet` of what is free.
   Prefix by prefix, which grows with the third power, finds the same ones.
2. All that `ipam` does for networks of one sandbox each.
3. One object: a prefix and an address by `ipaddress`, a MAC address by us; each also by netaddr.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

import netaddr
from measuring import in_turns, rounds
from rows import Table

from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.addresses import allocate
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.identifiers import mac_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.ranges import Ranges, first_free
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology

FEW, SIZES = 200, (125, 500, 2000)
POOL, LENGTH = IPv4Network("10.0.0.0/8"), 24
USED = [IPv4Network((int(POOL.network_address) + (number * 7 << 8), LENGTH)) for number in range(100)]


def one_by_one(number: int) -> list[str]:
    used = list(USED)
    for _turn in range(number):
        used.append(next(one for one in POOL.subnets(new_prefix=LENGTH) if not any(map(one.overlaps, used))))
    return list(map(str, used[len(USED) :]))


def by_netaddr(number: int) -> list[str]:
    free = netaddr.IPSet([str(POOL)]) - netaddr.IPSet(map(str, USED))
    found = []
    for _turn in range(number):
        one = next(next(part.subnet(LENGTH)) for part in free.iter_cidrs() if part.prefixlen <= LENGTH)
        free.remove(one)
        found.append(str(one))
    return found


def by_ranges(number: int) -> list[str]:
    used, found = Ranges(USED), []
    for _turn in range(number):
        one = first_free(POOL, LENGTH, (used,))
        assert one is not None
        used.add(one)
        found.append(str(one))
    return found


def _ms(work: Callable[..., Any], *arguments: Any) -> float:
    """Milliseconds of the processor."""
    started = time.process_time()
    work(*arguments)
    return 1000 * (time.process_time() - started)


def _pairs(ours: Callable[[], float], peer: Callable[[], float]) -> tuple[list[float], list[float]]:
    found = [in_turns({"ours": ours, "peer": peer}) for _round in rounds(3, 9, 5)]
    return [pair["ours"] for pair in found], [pair["peer"] for pair in found]


def test_free_prefixes_are_found_without_trying_each(table: Table) -> None:
    assert one_by_one(FEW) == by_netaddr(FEW) == by_ranges(FEW)
    for size in SIZES:
        table.grew("ipam.ranges", size, *_pairs(lambda: _ms(by_ranges, size), lambda: _ms(by_netaddr, size)))  # noqa: B023


def test_two_thousand_networks_without_a_subnet_get_theirs(table: Table) -> None:
    for size in SIZES:
        names = [f"n{one:04d}" for one in range(size)]
        variables = {
            "cnm_default_address_pools": [{"base": str(POOL), "size": LENGTH}],
            "cnm_networks": {name: {} for name in names},
            "cnm_sandboxes": {f"on-{name}": {"networks": [name]} for name in names},
        }
        host = read_topology({"node1": variables}).host("node1")
        assert len(allocate(host, Facts(), empty(), "now").ipv4) == size
        table.grew("ipam.networks", size, [_ms(allocate, host, Facts(), empty(), "now") for _round in rounds(3, 5, 5)])


def test_what_one_object_costs(table: Table) -> None:
    number = 20000

    def microseconds(make: Callable[[str], Any], text: Callable[[int], str]) -> float:
        return _ms(lambda: [make(text(one)) for one in range(number)]) * 1000 / number

    def prefix(one: int) -> str:
        return f"10.{one >> 8}.{one & 255}.0/24"

    def address(one: int) -> str:
        return f"10.0.{one >> 8}.{one & 255}"

    def eui(text: str) -> str:
        return str(netaddr.EUI(0x024200000000 + netaddr.IPAddress(text).value, 48, netaddr.mac_unix_expanded))

    ways: dict[str, tuple[Callable[[str], Any], Callable[[str], Any], Callable[[int], str]]] = {
        "prefix": (ip_network, netaddr.IPNetwork, prefix),
        "address": (ip_address, netaddr.IPAddress, address),
        "mac": (mac_of.__wrapped__, eui, address),
    }
    for what, (ours, peer, text) in ways.items():
        both = _pairs(lambda: microseconds(ours, text), lambda: microseconds(peer, text))  # noqa: B023
        table.add(f"ipam.{what}", *both)
