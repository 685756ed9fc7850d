# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What it costs to find subnets for 2,000 networks that name none, in one run by several ways.

1. The search alone, beside 100 prefixes that the host has: prefix by prefix, by netaddr's `IPSet` of what is free, and
   by `ipam.ranges`; as a floor, the prefixes cut one after the other with nothing to avoid.  All choose the same ones.
   Prefix by prefix grows with the third power, so it is tried with 200.
2. All that `ipam` does for 200 and for 2,000 networks of one sandbox each.  Aim: at most 12 times as long.
3. One object: a prefix and an address by `ipaddress` and netaddr, a MAC address by us and by netaddr.

Reported, not asserted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Network, ip_address, ip_network
from itertools import islice
from typing import Any

import netaddr

from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.addresses import allocate
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.identifiers import mac_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.ranges import Ranges, first_free
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology

FEW, MANY, ROUNDS = 200, 2000, 3
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


def nothing_to_avoid(number: int) -> list[str]:
    return [str(one) for one in islice(POOL.subnets(new_prefix=LENGTH), number)]


def _ms(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The fastest of some rounds, in milliseconds of CPU."""
    taken = []
    for _round in range(rounds):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return 1000 * min(taken)


def test_free_prefixes_are_found_without_trying_each() -> None:
    assert one_by_one(FEW) == by_netaddr(FEW) == by_ranges(FEW)
    slow, quick = _ms(lambda: one_by_one(FEW), 1), _ms(lambda: by_ranges(FEW))
    own, other, floor = (_ms(lambda way=way: way(MANY)) for way in (by_ranges, by_netaddr, nothing_to_avoid))  # type: ignore[misc]
    print(
        f"\n{FEW} free prefixes: one by one {slow:.0f} ms, by ranges {quick:.1f} ms ({slow / quick:.0f} x); of {MANY}: "
        f"by ranges {own:.1f} ms, by netaddr {other:.0f} ms ({other / own:.0f} x), nothing to avoid {floor:.1f} ms "
        f"({own / floor:.1f} x that)"
    )


def test_two_thousand_networks_without_a_subnet_get_theirs() -> None:
    def allocated(number: int) -> float:
        names = [f"n{one:04d}" for one in range(number)]
        variables = {
            "cnm_default_address_pools": [{"base": str(POOL), "size": LENGTH}],
            "cnm_networks": {name: {} for name in names},
            "cnm_sandboxes": {f"on-{name}": {"networks": [name]} for name in names},
        }
        host = read_topology({"node1": variables}).host("node1")
        assert len(allocate(host, Facts(), empty(), "now").ipv4) == number
        return _ms(lambda: allocate(host, Facts(), empty(), "now"))

    few, many = allocated(FEW), allocated(MANY)
    print(f"\nipam of {FEW} networks: {few:.0f} ms; of {MANY}: {many:.0f} ms, {many / few:.1f} x (aim 12)")


def test_what_one_object_costs() -> None:
    number = 20000

    def microseconds(make: Callable[[int], Any]) -> float:
        return _ms(lambda: [make(one) for one in range(number)]) * 1000 / number

    def prefix(one: int) -> str:
        return f"10.{one >> 8}.{one & 255}.0/24"

    def address(one: int) -> str:
        return f"10.0.{one >> 8}.{one & 255}"

    costs = {
        "a prefix by ipaddress": microseconds(lambda one: ip_network(prefix(one))),
        "by netaddr": microseconds(lambda one: netaddr.IPNetwork(prefix(one))),
        "an address by ipaddress": microseconds(lambda one: ip_address(address(one))),
        "also by netaddr": microseconds(lambda one: netaddr.IPAddress(address(one))),
        "a MAC address by mac_of": microseconds(lambda one: mac_of.__wrapped__(address(one))),
        "by netaddr's EUI": microseconds(
            lambda one: str(netaddr.EUI(0x024200000000 + netaddr.IPAddress(address(one)).value, 48, _UNIX))
        ),
    }
    print("\n" + ", ".join(f"{what} {cost:.1f} µs" for what, cost in costs.items()))


_UNIX = netaddr.mac_unix_expanded
