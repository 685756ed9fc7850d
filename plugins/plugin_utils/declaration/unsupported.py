# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Refuses what is specified but not implemented yet.

Each row of `ROWS` says where to look in an entry of the variables, what of it is refused, and in which words.  When a
feature arrives, its row goes; nothing else in the declaration has to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import VarPath


@dataclass(frozen=True)
class Spot:
    """A value in an entry: the last key (or index) on the way to it, the value itself, and the whole entry."""

    key: Any
    value: Any
    entry: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """``where``: the way to the value within an entry of ``kind``, ``*`` for any key or index."""

    kind: str
    where: tuple[str, ...]
    refused: Callable[[Spot], bool]
    problem: str
    remedy: str


_NET = "cnm_networks"

# fmt: off
ROWS = (
    Row(_NET, ("ipam", "driver"), lambda spot: spot.value not in ("default", "dhcp"),
        "There is no IPAM driver but `default`.", "Leave it out: addresses come from the subnet."),
)
# fmt: on


def refuse(kind: str, entry: Mapping[str, Any], path: VarPath) -> None:
    """Note what of an entry of that kind (a declaration's name, or ``settings``) is not there yet."""
    for row in ROWS:
        if row.kind != kind:
            continue
        for key, value, where in _walk(entry, row.where, path):
            if row.refused(Spot(key, value, entry)):
                where.wrong(row.problem, row.remedy, value)


def _walk(value: Any, where: tuple[str, ...], path: VarPath, key: Any = "") -> Iterator[tuple[Any, Any, VarPath]]:
    """(last key, value, place) of whatever stands at the end of the way; what is not there or None is passed over.

    A null behind a key of the user's own counts: ``networks: {bridge: }``.
    """
    if not where:
        yield key, value, path
        return
    first, rest = where[0], where[1:]
    if isinstance(value, Mapping):
        for name in [name for name in value if first in ("*", name)]:
            if value[name] is not None or (first == "*" and not rest):
                yield from _walk(value[name], rest, path / name, name)
    elif isinstance(value, list) and first == "*":
        for index, item in enumerate(value):
            if item is not None:
                yield from _walk(item, rest, path / index, index)
