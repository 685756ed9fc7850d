# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Permanent neighbours on links of overlays; their bridge answers ARP and neighbour solicitations from them.

The kernel refuses IPv6 neighbours on a link whose IPv6 is disabled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..kernel import netlink
from ..kernel.host import Host
from ..plan.addresses import Neighbours
from ..plan.base import Key
from ..plan.marks import role_of
from .base import Found
from .entry_table import TableKind


def _read() -> list[netlink.Alike]:
    with netlink.Netlink() as socket:
        return socket.neighbours_alike()


def _tables(groups: Iterable[netlink.Alike]) -> dict[int, dict[str, str]]:
    """Permanent entries by link index."""
    result: dict[int, dict[str, str]] = {}
    for group in groups:
        if group.first.get("permanent"):
            table = result.setdefault(group.first["index"], {})
            table.update(zip(netlink.address_texts(group.addresses), [mac.hex(":") for mac in group.macs]))
    return result


class NeighbourKind(TableKind[Neighbours]):
    """Permanent entries, as ``ip neighbour show nud permanent`` lists them."""

    name = "neighbour"

    def observe(self, host: Host, wanted: Sequence[Neighbours]) -> dict[Key, Found[Neighbours]]:
        wanted_by = {item.key: item for item in wanted}
        result: dict[Key, Found[Neighbours]] = {}
        for namespace in host.observed_namespaces:
            links = host.snapshot(namespace).links.values()
            roles = {link["name"]: role_of(link["alias"], host.project) for link in links if not link["loopback"]}
            overlay = any(link["kind"] == "vxlan" and roles.get(link["name"]) is not None for link in links)
            if not overlay and not any(item.namespace == namespace for item in wanted):
                continue
            tables = _tables(host.run_in(namespace, _read))
            for link in links:
                found = Neighbours(namespace, link["name"], tables.get(link["index"], {}))
                role, want = roles.get(link["name"]), wanted_by.get(found.key)
                there = bool(found.entries) or (want is not None and not want.entries)
                if there and (role is not None or want is not None):
                    ours = role is not None or namespace in host.own_namespaces
                    result[found.key] = Found(found, ours, stale=host.prunes(role))
        return result

    def nothing(self, table: Neighbours) -> Neighbours:
        return replace(table, entries={})

    def writing(
        self, index: int, link: Mapping[str, Any], wanted: Neighbours, found: Neighbours
    ) -> list[netlink.Message]:
        del link
        have = found.entries
        return [
            netlink.new_neighbour(index, address, mac)
            for address, mac in wanted.entries.items()
            if have.get(address) != mac
        ]

    def removing(self, index: int, wanted: Neighbours, found: Neighbours) -> list[netlink.Message]:
        return [netlink.del_neighbour(index, address) for address in found.entries if address not in wanted.entries]
