# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Ranges of addresses against the same questions asked prefix by prefix."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.ranges import AnyNetwork, Ranges, first_free

POOLS: list[AnyNetwork] = [ip_network("10.0.0.0/24"), ip_network("fd00::/120")]


@st.composite
def prefixes(draw: st.DrawFn) -> AnyNetwork:
    """A prefix in one of the pools, or around all of it."""
    pool = draw(st.sampled_from(POOLS))
    length = draw(st.integers(pool.max_prefixlen - 9, pool.max_prefixlen))
    number = int(pool.network_address) + draw(st.integers(0, 255))
    return type(pool)((number >> pool.max_prefixlen - length << pool.max_prefixlen - length, length))


def overlap(one: AnyNetwork, other: AnyNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


@given(st.lists(prefixes(), max_size=20), prefixes())
def test_a_prefix_overlaps_ranges_if_it_overlaps_one_of_their_prefixes(used: list[AnyNetwork], one: AnyNetwork) -> None:
    assert Ranges(used).overlaps(one) == any(overlap(one, each) for each in used)


@given(st.lists(prefixes(), max_size=12), st.lists(prefixes(), max_size=12), st.sampled_from(POOLS), st.integers(0, 8))
def test_the_first_free_prefix_is_the_first_that_overlaps_none(
    mine: list[AnyNetwork], others: list[AnyNetwork], pool: AnyNetwork, bits: int
) -> None:
    length = pool.max_prefixlen - bits
    wanted = next(
        (each for each in pool.subnets(new_prefix=length) if not any(overlap(each, used) for used in mine + others)),
        None,
    )
    assert first_free(pool, length, (Ranges(mine), Ranges(others))) == wanted


def test_ranges_that_touch_are_one_so_that_a_full_pool_is_passed_in_one_step() -> None:
    ranges = Ranges(IPv4Network("10.0.0.0/16").subnets(new_prefix=24))
    assert ranges.last_of(4, int(ip_network("10.0.0.0/16")[0]), int(ip_network("10.0.0.0/16")[0])) == int(
        ip_network("10.0.0.0/16")[-1]
    )
    assert first_free(ip_network("10.0.0.0/15"), 24, (ranges,)) == IPv4Network("10.1.0.0/24")
    assert not ranges.overlaps(IPv6Network("::/0"))
