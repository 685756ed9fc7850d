# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Policy routing rules; ours carry our route protocol and one of the project's priorities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..kernel import netlink
from ..kernel.host import Host
from ..plan.addresses import Rule
from ..plan.base import Key
from ..plan.marks import ROUTE_PROTOCOL, rule_priority
from .base import Found, Kind, Operation, by_namespace


def _read() -> list[dict[str, Any]]:
    with netlink.Netlink() as socket:
        return socket.rules()


class RuleKind(Kind[Rule]):
    """Rules, as ``ip rule`` lists them.  Added before any link, like firewall drops."""

    name = "rule"
    recreated_by = frozenset({"table"})

    def observe(self, host: Host, wanted: Sequence[Rule]) -> dict[Key, Found[Rule]]:
        first = rule_priority(host.project)
        keys = {item.key for item in wanted}
        result: dict[Key, Found[Rule]] = {}
        for namespace in sorted({"", *(item.namespace for item in wanted)}):
            for entry in host.run_in(namespace, _read):
                fields = (entry["family"], entry["priority"], entry["iif"], entry["destination"], entry["table"])
                found = Rule(namespace, *fields)
                ours = entry["protocol"] == ROUTE_PROTOCOL and first <= found.priority <= first + 1
                if ours or found.key in keys:
                    result.setdefault(found.key, Found(found, ours, stale=ours))
        return result

    def create(self, host: Host, resources: Sequence[Rule]) -> None:
        self._send(resources, netlink.new_rule, host.send)

    def change(self, host: Host, operations: Sequence[Operation[Rule]]) -> None:
        """Rules cannot be changed in place."""

    def delete(self, host: Host, resources: Sequence[Rule]) -> None:
        self._send(resources, netlink.del_rule, host.remove)

    @staticmethod
    def _send(
        resources: Sequence[Rule],
        message: Callable[..., netlink.Message],
        send: Callable[[str, Sequence[netlink.Message]], None],
    ) -> None:
        for namespace, group in by_namespace(resources).items():
            send(
                namespace,
                [
                    message(
                        item.family,
                        priority=item.priority,
                        protocol=ROUTE_PROTOCOL,
                        iif=item.incoming,
                        destination=item.destination,
                        table=item.table,
                    )
                    for item in group
                ],
            )
