# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Sets of addresses as ranges: whether a prefix is free, and the next one that is, without trying each.  Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Optional, Union

AnyNetwork = Union[IPv4Network, IPv6Network]


class Ranges:
    """Addresses of both families: ranges that are apart, ascending, so that a look-up is a bisection."""

    def __init__(self, prefixes: Iterable[AnyNetwork] = ()) -> None:
        self._firsts: dict[int, list[int]] = {4: [], 6: []}
        self._lasts: dict[int, list[int]] = {4: [], 6: []}
        for prefix in prefixes:
            self.add(prefix)

    def add(self, prefix: AnyNetwork) -> None:
        """Add a prefix; what it overlaps or touches becomes one range with it."""
        firsts, lasts = self._firsts[prefix.version], self._lasts[prefix.version]
        first, last = _ends(prefix)
        begin, end = bisect_left(lasts, first - 1), bisect_right(firsts, last + 1)
        if begin < end:
            first, last = min(first, firsts[begin]), max(last, lasts[end - 1])
        firsts[begin:end], lasts[begin:end] = [first], [last]

    def last_of(self, version: int, first: int, last: int) -> Optional[int]:
        """The end of the first range that has any of these addresses; None if none has."""
        firsts, lasts = self._firsts[version], self._lasts[version]
        index = bisect_left(lasts, first)
        return lasts[index] if index < len(lasts) and firsts[index] <= last else None

    def overlaps(self, prefix: AnyNetwork) -> bool:
        """Whether any address of the prefix is in the set."""
        return self.last_of(prefix.version, *_ends(prefix)) is not None


def _ends(prefix: AnyNetwork) -> tuple[int, int]:
    """The first and the last address; `broadcast_address` would take ten times as long."""
    first = int(prefix.network_address)
    return first, first | ((1 << (prefix.max_prefixlen - prefix.prefixlen)) - 1)


def first_free(pool: AnyNetwork, length: int, used: Sequence[Ranges]) -> Optional[AnyNetwork]:
    """The first prefix of that length in the pool that overlaps none of the sets, or None."""
    size = 1 << (pool.max_prefixlen - length)
    first, end = _ends(pool)
    while first <= end:
        ends = [last for each in used if (last := each.last_of(pool.version, first, first + size - 1)) is not None]
        if not ends:
            return type(pool)((first, length))
        first = (max(ends) // size + 1) * size
    return None
