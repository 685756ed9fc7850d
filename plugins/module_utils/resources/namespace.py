# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Network namespaces.  The mark is the alias of ``lo``: it is there before the namespace has a name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..kernel import namespaces, netlink
from ..kernel.host import Host
from ..plan import Key, Namespace, mark, project_of, role_of
from ..state import forget_inside
from .base import Found, Kind, Operation


class NamespaceKind(Kind[Namespace]):
    """Namespaces under ``/run/netns``."""

    name = "namespace"
    stages = (20,)

    def observe(self, host: Host, wanted: Sequence[Namespace]) -> dict[Key, Found[Namespace]]:
        result: dict[Key, Found[Namespace]] = {}
        wanted_names = {item.name for item in wanted}
        for name in namespaces.names():
            loopback = host.snapshot(name).links.get("lo", {})
            alias = loopback.get("alias", "")
            role = role_of(alias, host.project)
            if role is None and name not in wanted_names:
                if project_of(alias) is None:
                    host.foreign_namespaces.add(name)
                continue
            found = Namespace(name, role or "", bool(loopback.get("up")))
            if role is not None:
                host.own_namespaces.add(name)
            result[found.key] = Found(found, ours=role is not None, stale=host.prunes(role))
        return result

    def create(self, host: Host, resources: Sequence[Namespace]) -> None:
        for resource in resources:
            alias = mark(host.project, resource.role)

            def prepare(alias: str = alias) -> None:
                with netlink.Netlink() as socket:
                    socket.send([netlink.set_link(1, alias=alias, up=True)])

            namespaces.create(resource.name, prepare)
            host.own_namespaces.add(resource.name)

    def change(self, host: Host, operations: Sequence[Operation[Namespace]]) -> None:
        for operation in operations:
            wanted = operation.resource
            alias = mark(host.project, wanted.role)
            host.send(wanted.name, [netlink.set_link(1, alias=alias, up=wanted.loopback_up)])

    def delete(self, host: Host, resources: Sequence[Namespace]) -> None:
        for resource in resources:
            namespaces.delete(resource.name)
            forget_inside(resource.name)

    def clean(self, host: Host, resource: Namespace) -> None:
        """The empty file that a namespace is to be mounted on, or was."""
        path = Path(namespaces.DIRECTORY) / resource.name
        if not namespaces.exists(resource.name) and path.is_file() and path.stat().st_size == 0:
            namespaces.delete(resource.name)
