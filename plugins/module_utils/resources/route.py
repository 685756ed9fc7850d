# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Routes in the main table; ours carry our route protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..kernel import netlink
from ..kernel.host import Host
from ..plan import ROUTE_PROTOCOL, Key, Route
from .base import Found, Kind, Operation, by_namespace

_MAIN_TABLE = 254


class RouteKind(Kind[Route]):
    """What ``ip route`` shows.  In a namespace of ours a wanted route is ours to repair, whoever put another there."""

    name = "route"
    stages = (60,)

    def observe(self, host: Host, wanted: Sequence[Route]) -> dict[Key, Found[Route]]:
        wanted_keys = {item.key for item in wanted}
        result: dict[Key, Found[Route]] = {}
        for namespace in ["", *sorted(host.own_namespaces)]:
            snapshot = host.snapshot(namespace)
            for entry in snapshot.routes:
                if entry["table"] != _MAIN_TABLE:
                    continue
                link = snapshot.link_by_index(entry["dev"] or 0)
                found = Route(
                    namespace,
                    entry["destination"],
                    entry["family"],
                    entry["via"],
                    link["name"] if link else "",
                )
                ours = entry["protocol"] == ROUTE_PROTOCOL
                if ours or found.key in wanted_keys:
                    result.setdefault(found.key, Found(found, ours=ours or bool(namespace), stale=ours))
        return result

    def create(self, host: Host, resources: Sequence[Route]) -> None:
        self._send(host, resources, netlink.new_route)

    def change(self, host: Host, operations: Sequence[Operation[Route]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Route]) -> None:
        self._send(host, resources, netlink.del_route)

    @staticmethod
    def _send(host: Host, resources: Sequence[Route], message: Callable[..., netlink.Message]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace)
            host.send(
                namespace,
                [
                    message(
                        item.destination,
                        via=item.via,
                        dev=links[item.link]["index"],
                        protocol=ROUTE_PROTOCOL,
                        family=item.family,
                    )
                    for item in group
                    if item.link in links
                ],
            )
