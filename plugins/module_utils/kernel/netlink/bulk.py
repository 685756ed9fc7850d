# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads large tables: consecutive messages that differ only in their addresses are decoded together."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from .decode import Decode
from .format import AF_INET, AF_INET6, RTATTR, Entry


class Alike(NamedTuple):
    """Consecutive neighbours or forwarding entries that differ only in their addresses."""

    first: Entry
    """The first entry, as `Netlink.neighbours` or `Netlink.fdb` return it; empty if it is neither."""
    size: int
    macs: Sequence[bytes]
    addresses: Sequence[bytes]
    """Neighbours' own addresses, or remote ends of forwarding entries; both lists are empty if there are none."""


_DESTINATION, _LINK_ADDRESS, _AGES = 1, 2, (3, 4)
_FEWEST = 8


def _columns(data: bytes, at: int, end: int) -> tuple[struct.Struct, list[int]]:
    """The layout of such a message, and the attribute in each field; 0 is a part that must be equal in all.

    Ages (when an entry was used, how often it was probed) are skipped.
    """
    form, numbers, alike = "=", [], 28
    at += 12
    while at + 4 <= end:
        length, number = RTATTR.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        size, padding = length - 4, -length & 3
        if number in (_DESTINATION, _LINK_ADDRESS):
            form += f"{alike + 4}s{size}s"
            numbers += [0, number]
            alike = padding
        elif number in _AGES:
            form += f"{alike + 4}s{size + padding}x"
            numbers.append(0)
            alike = 0
        else:
            alike += length + padding
        at += length + padding
    return struct.Struct(f"{form}{alike}s"), [*numbers, 0]


def address_texts(addresses: Sequence[bytes]) -> list[str]:
    """The addresses of an `Alike` as text; all are of one family."""
    family = AF_INET6 if addresses and len(addresses[0]) == 16 else AF_INET
    return [socket.inet_ntop(family, address) for address in addresses]


class GroupingDecoder:
    """Decodes runs of similar messages; the look-ahead grows with success, so that mixed tables stay cheap."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ahead = _FEWEST

    def __call__(self, data: bytes, at: int, end: int) -> Alike:
        form, numbers = _columns(data, at, end)
        start = at - 16
        complete = form.size == (end - start + 3) & ~3
        count = min(self._ahead, (len(data) - start) // form.size if complete else 0)
        fields = list(zip(*form.iter_unpack(memoryview(data)[start : start + count * form.size])))
        for number, field in zip(numbers, fields):
            if not number and field.count(field[0]) != len(field):
                count = min(count, next(index for index, value in enumerate(field) if value != field[0]))
        self._ahead = self._ahead * 4 if count == self._ahead else max(_FEWEST, count)
        found = {number: field[:count] for number, field in zip(numbers, fields)}
        first = self._decode(data, at, end) or {}
        return Alike(first, max(count, 1), found.get(_LINK_ADDRESS, ()), found.get(_DESTINATION, ()))
