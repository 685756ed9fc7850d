# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The base of kinds that are tables of a link: forwarding entries and neighbours.

A table may have ten thousand entries and is therefore one resource: it is read in one dump and compared as a dict, and
only entries that differ are written.
"""

from __future__ import annotations

import errno
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from heapq import nsmallest
from typing import Any, TypeVar, Union

from ..kernel import netlink
from ..kernel.host import Host
from ..plan.addresses import Fdb, Neighbours
from .base import Difference, Kind, Operation, by_namespace

T = TypeVar("T", Fdb, Neighbours)
Links = Mapping[str, Mapping[str, Any]]
_SHOWN_AT_MOST = 5


class TableKind(Kind[T]):
    """Run after links are up, as the kernel drops neighbours when their link goes down."""

    stages = (55,)

    def differences(self, wanted: T, found: T) -> list[Difference]:
        return compare_entries("entries", wanted.entries, found.entries)

    @abstractmethod
    def writing(self, index: int, link: Mapping[str, Any], wanted: T, found: T) -> list[netlink.Message]:
        """Messages that write wanted entries which are missing or differ."""

    @abstractmethod
    def removing(self, index: int, wanted: T, found: T) -> list[netlink.Message]:
        """Messages that remove found entries which are not wanted."""

    @abstractmethod
    def nothing(self, table: T) -> T:
        """The same table without entries."""

    def create(self, host: Host, resources: Sequence[T]) -> None:
        self.change(host, [Operation("create", item) for item in resources])

    def change(self, host: Host, operations: Sequence[Operation[T]]) -> None:
        found = {item.resource.key: item.found for item in operations}
        for namespace, group in by_namespace(item.resource for item in operations).items():
            links = host.links(namespace)
            for item in group:
                link = _link_of(item, links)
                before = found[item.key] or self.nothing(item)
                host.remove(namespace, self.removing(link["index"], item, before))
                host.send(namespace, self.writing(link["index"], link, item, before))

    def delete(self, host: Host, resources: Sequence[T]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace)
            for item in group:
                if item.link in links:
                    messages = self.removing(int(links[item.link]["index"]), self.nothing(item), item)
                    host.remove(namespace, messages)


def _link_of(item: Union[Fdb, Neighbours], links: Links) -> Mapping[str, Any]:
    if item.link not in links:
        raise netlink.NetlinkError(errno.ENODEV, "there is no such link", f"{item.kind} on link {item.link}")
    return links[item.link]


def compare_entries(attribute: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> list[Difference]:
    """One difference for a table: the first few entries that only one side has, and a count."""
    if wanted == found:
        return []
    want, have = wanted.items() - found.items(), found.items() - wanted.items()
    sides = ([f"{key} at {value}" for key, value in side] for side in (want, have))
    return [Difference(attribute, *(shortened(side) for side in sides))]


def shortened(texts: Collection[str]) -> list[str]:
    """The first few entries and a count of the others."""
    more = len(texts) - _SHOWN_AT_MOST
    return sorted(texts) if more <= 0 else [*nsmallest(_SHOWN_AT_MOST, texts), f"and {more:,} more"]
