# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The kernel's neighbour tables, one an address family, which all network namespaces share.

They are read by netlink, which shows them in every namespace, unlike ``/proc/sys/net/ipv4/neigh`` and
``/proc/net/stat``.  Numbers are those of neighbour.h in the kernel's uapi headers.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

from .netlink import Netlink, attributes

_GETNEIGHTBL = 66
_HEADER = struct.Struct("=BBH")  # family, padding
_FAMILIES = {2: 4, 10: 6}
_THRESH3, _STATS = 4, 7
_FULLS = struct.Struct("=Q")
_FULLS_AT = 10 * 8
"""Where ``struct ndt_stats`` has ``ndts_table_fulls``."""


class NeighbourTable(NamedTuple):
    """A table: its family (4 or 6), how many entries it may have, and how often one found no place since the boot."""

    family: int
    size: int
    refused: int


class _Tables(Netlink):
    """A socket to read them."""

    def tables(self) -> list[NeighbourTable]:
        return self._dump(_GETNEIGHTBL, _HEADER.pack(0, 0, 0), "list of neighbour tables", _decode)


def _decode(data: bytes, at: int, end: int) -> Optional[NeighbourTable]:
    """None for the other messages of the answer, which are about single links."""
    family, found = data[at], attributes(data, at + _HEADER.size, end)
    stats = found.get(_STATS, b"")
    if family not in _FAMILIES or _THRESH3 not in found or len(stats) < _FULLS_AT + _FULLS.size:
        return None
    (size,) = struct.unpack_from("=I", found[_THRESH3])
    return NeighbourTable(_FAMILIES[family], size, _FULLS.unpack_from(stats, _FULLS_AT)[0])


def neighbour_tables() -> list[NeighbourTable]:
    """The tables; none if the kernel does not show them."""
    try:
        with _Tables() as netlink:
            return netlink.tables()
    except OSError:
        return []
