# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Bridges, their ports, and adopted bridges, which the project did not create."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ...kernel import netlink
from ...kernel.host import Host
from ...plan.links import BridgePort, Link
from ...plan.marks import ADOPTED
from ..base import by_namespace
from .common import write_settings

PORT_FLAGS = ("neigh_suppress", "learning", "flood", "mcast_flood", "bcast_flood")


def port_flags(port: BridgePort) -> dict[str, bool]:
    return {name: getattr(port, name) for name in PORT_FLAGS}


def join_bridge(
    port: Optional[BridgePort], index: int, links: Mapping[str, Mapping[str, Any]]
) -> list[netlink.Message]:
    """Messages that make a link a bridge port; a port gets no IPv6 link-local address."""
    if port is None:
        return []
    join = netlink.set_link(index, master=links[port.master]["index"], addr_gen_mode="none")
    return [join, netlink.set_link(index, port=port_flags(port))]


def port_of(host: Host, namespace: str, link: Mapping[str, Any]) -> Optional[BridgePort]:
    bridge = host.snapshot(namespace).link_by_index(link["master"])
    if link["kind"] == "veth" or bridge is None or bridge["kind"] != "bridge":
        return None
    return BridgePort(bridge["name"], **{name: bool(link["port"].get(name)) for name in PORT_FLAGS})


def learns_from_reserved(link: Mapping[str, Any]) -> Optional[bool]:
    """Whether a bridge learns from reserved addresses; None for other links and for kernels without the option."""
    silent = link["data"].get("no_linklocal_learn") if link["kind"] == "bridge" else None
    return None if silent is None else not silent


def is_adoptable(want: Optional[Link], link: dict[str, Any]) -> bool:
    """Whether the plan may adopt the link: an unmarked bridge, so that it can be restored when released."""
    marked = link["alias"] or link["group"]
    return want is not None and want.adopts_existing and link["kind"] == want.type and not marked


def as_adopted(wanted: Link) -> Link:
    """A wanted bridge reduced to what is set on an adopted one; a found adopted bridge is returned as it is."""
    role, answers = wanted.role, wanted.route_localnet
    if role and not wanted.foreign:
        role, answers = ADOPTED + role, answers or None
    return Link(
        wanted.namespace, wanted.name, wanted.type, role, up=wanted.up, group=wanted.group, route_localnet=answers
    )


def release_adopted(host: Host, resources: Sequence[Link]) -> None:
    """Remove from adopted bridges what adopting added; their addresses are not ours."""
    for namespace, group in by_namespace(resources).items():
        links = host.links(namespace)
        there = [item for item in group if item.name in links]
        for item in there:
            if item.route_localnet:
                host.run_in(namespace, write_settings, Link(namespace, item.name, item.type, route_localnet=False))
        host.remove(namespace, [netlink.set_link(links[item.name]["index"], alias="", group=0) for item in there])
