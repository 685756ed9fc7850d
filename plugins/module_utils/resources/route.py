# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Routes in the main table; ours carry one of our route protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

from ..kernel import netlink
from ..kernel.host import Host
from ..plan.addresses import Route
from ..plan.base import Key
from ..plan.marks import ROUTE_PROTOCOL, ROUTE_PROTOCOL_SINGLE_OBJECT, project_of
from .base import Difference, Found, Kind, Operation, by_namespace

_MAIN_TABLE = 254


def _is_marked(host: Host, namespace: str, protocol: int, link: Optional[dict[str, Any]]) -> bool:
    """Whether the route is this project's.  A route cannot carry a project's name: the project is that of its namespace
    or its link, or else ``default``.
    """
    if protocol not in (ROUTE_PROTOCOL, ROUTE_PROTOCOL_SINGLE_OBJECT):
        return False
    owner = project_of(link["alias"]) if link else None
    return namespace in host.own_namespaces or (owner or "default") == host.project


class RouteKind(Kind[Route]):
    """Routes, as ``ip route`` lists them.  In our namespaces a wanted route replaces any other of its destination."""

    name = "route"
    stages = (60,)

    def observe(self, host: Host, wanted: Sequence[Route]) -> dict[Key, Found[Route]]:
        wanted_by = {item.key: item for item in wanted}
        result: dict[Key, Found[Route]] = {}
        for namespace in host.observed_namespaces:
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
                    entry["protocol"] == ROUTE_PROTOCOL_SINGLE_OBJECT,
                )
                marked = _is_marked(host, namespace, entry["protocol"], link)
                want = wanted_by.get(found.key)
                if marked or want is not None:
                    ours = marked or (namespace in host.own_namespaces and want is not None and not want.single_object)
                    stale = marked and (host.include_module_objects or not found.single_object)
                    result.setdefault(found.key, Found(found, ours, stale))
        return result

    def differences(self, wanted: Route, found: Route) -> list[Difference]:
        on_link = [Difference("via", None, found.via)] if wanted.via is None and found.via is not None else []
        return [*on_link, *super().differences(wanted, found)]

    def create(self, host: Host, resources: Sequence[Route]) -> None:
        self._send(host, resources, netlink.new_route)

    def change(self, host: Host, operations: Sequence[Operation[Route]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Route]) -> None:
        self._send(host, resources, netlink.del_route)

    @staticmethod
    def _send(host: Host, resources: Sequence[Route], message: Callable[..., netlink.Message]) -> None:
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace, {item.link for item in group})
            host.send(
                namespace,
                [
                    message(
                        item.destination,
                        via=item.via,
                        dev=links[item.link]["index"],
                        protocol=ROUTE_PROTOCOL_SINGLE_OBJECT if item.single_object else ROUTE_PROTOCOL,
                        family=item.family,
                    )
                    for item in group
                    if item.link in links
                ],
            )
