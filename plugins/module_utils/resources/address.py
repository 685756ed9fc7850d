# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Addresses of global scope on links of ours."""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel import netlink
from ..kernel.host import Host
from ..plan import Address, Key, role_of
from .base import Found, Kind, Operation, by_namespace

_SCOPE_GLOBAL = 0


class AddressKind(Kind[Address]):
    """What ``ip address`` shows."""

    name = "address"
    stages = (40,)

    def observe(self, host: Host, wanted: Sequence[Address]) -> dict[Key, Found[Address]]:
        wanted_links = {(item.namespace, item.link) for item in wanted}
        result: dict[Key, Found[Address]] = {}
        for namespace in ["", *sorted(host.own_namespaces)]:
            snapshot = host.snapshot(namespace)
            for entry in snapshot.addresses:
                link = snapshot.link_by_index(entry["index"])
                if link is None or entry["scope"] != _SCOPE_GLOBAL or link["loopback"]:
                    continue
                marked = role_of(link["alias"], host.project) is not None
                if marked or (namespace, link["name"]) in wanted_links:
                    found = Address(namespace, link["name"], entry["address"])
                    result[found.key] = Found(found, ours=marked or bool(namespace), stale=marked)
        return result

    def create(self, host: Host, resources: Sequence[Address]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace)
            host.send(namespace, [netlink.new_address(links[item.link]["index"], item.address) for item in group])

    def change(self, host: Host, operations: Sequence[Operation[Address]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Address]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace)
            present = [item for item in group if item.link in links]
            host.send(namespace, [netlink.del_address(links[item.link]["index"], item.address) for item in present])
