# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Addresses of global scope on links of ours."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from typing import Any

from ..kernel import netlink
from ..kernel.host import Host
from ..plan.addresses import Address
from ..plan.base import Key
from ..plan.marks import role_of
from .base import Found, Kind, Operation, by_namespace

_SCOPE_GLOBAL, _SCOPE_LINK = 0, 253
_KERNEL_PROTOCOL = 2


def prefix_of(address: str) -> str:
    """The prefix an address with its length lies in: ``10.0.0.0/24``."""
    return str(ip_interface(address).network)


def _index_of(item: Address, links: Mapping[str, Any]) -> int:
    if item.link not in links:
        raise netlink.NetlinkError(errno.ENODEV, "there is no such link", f"address {item.address} on link {item.link}")
    return int(links[item.link]["index"])


class AddressKind(Kind[Address]):
    """What ``ip address`` shows."""

    name = "address"
    stages = (40,)

    def observe(self, host: Host, wanted: Sequence[Address]) -> dict[Key, Found[Address]]:
        wanted_links = {(item.namespace, item.link) for item in wanted}
        result: dict[Key, Found[Address]] = {}
        for namespace in host.observed_namespaces:
            snapshot = host.snapshot(namespace)
            routes = {(route["dev"], route["destination"]) for route in snapshot.routes if route["via"] is None}
            for entry in snapshot.addresses:
                link = snapshot.link_by_index(entry["index"])
                if link is None or entry["scope"] != _SCOPE_GLOBAL:
                    continue
                if link["loopback"] and (namespace, link["name"]) not in wanted_links:
                    continue
                on_adopted_bridge = (namespace, link["name"]) in host.adopted_bridges
                # An adopted bridge's addresses are not ours.
                role = None if on_adopted_bridge else role_of(link["alias"], host.project)
                marked, adopted = role is not None, (namespace, link["name"]) in wanted_links
                if marked or adopted:
                    is_apart = link["loopback"] or not link["up"]
                    connected = is_apart or (entry["index"], prefix_of(entry["address"])) in routes
                    found = Address(namespace, link["name"], entry["address"], connected)
                    ours = marked or on_adopted_bridge or namespace in host.own_namespaces
                    result[found.key] = Found(found, ours, stale=host.prunes(role) or (marked and adopted))
        return result

    def check_conflicts(self, host: Host, wanted: Sequence[Address]) -> list[str]:
        """An adopted bridge keeps its addresses and gets no others."""
        result = []
        for item in wanted:
            if (item.namespace, item.link) in host.adopted_bridges:
                snapshot = host.snapshot(item.namespace)
                index = snapshot.links[item.link]["index"]
                if (index, item.address) not in {(entry["index"], entry["address"]) for entry in snapshot.addresses}:
                    result.append(
                        f"the adopted bridge {item.link} does not have the gateway's address {item.address}: add it "
                        "there, or set `gateway` to an address that it has"
                    )
        return result

    def create(self, host: Host, resources: Sequence[Address]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace, {item.link for item in group})
            host.send(namespace, [netlink.new_address(_index_of(item, links), item.address) for item in group])

    def change(self, host: Host, operations: Sequence[Operation[Address]]) -> None:
        """Restore the on-link route that the kernel creates with the address."""
        for namespace, group in by_namespace(operation.resource for operation in operations).items():
            links = host.links(namespace, {item.link for item in group})
            host.send(
                namespace,
                [
                    netlink.new_route(
                        prefix_of(item.address),
                        dev=_index_of(item, links),
                        protocol=_KERNEL_PROTOCOL,
                        scope=_SCOPE_LINK,
                        source=item.address.partition("/")[0],
                    )
                    for item in group
                ],
            )

    def delete(self, host: Host, resources: Sequence[Address]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace, {item.link for item in group})
            present = [item for item in group if item.link in links]
            host.send(namespace, [netlink.del_address(links[item.link]["index"], item.address) for item in present])
