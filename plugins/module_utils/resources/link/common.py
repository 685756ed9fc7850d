# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What links of all types share: their parameters in /proc/sys, and the message that creates them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ...kernel import netlink
from ...kernel.host import Host
from ...plan.links import Link, Parent

OPEN_AT_ONCE = 200
THIS_NETNS = "/proc/thread-self/ns/net"

SETTINGS = {"accept_ra": "ipv6", "disable_ipv6": "ipv6", "route_localnet": "ipv4"}
"""A link's parameters: attribute and directory in /proc/sys/net, in the order they are written."""

KINDS_ON_PARENT = ("vlan", "macvlan", "ipvlan")
"""Link kinds that need a parent; those that can be the parent of another come first."""


def write_settings(link: Link) -> None:
    for name, family in SETTINGS.items():
        value = getattr(link, name)
        directory = Path("/proc/sys/net") / family / "conf" / link.name
        if value is not None and directory.is_dir():
            (directory / name).write_text(f"{int(value)}\n", encoding="ascii")
    detection = Path("/proc/sys/net/ipv6/conf") / link.name / "accept_dad"
    if link.disable_ipv6 is False and detection.exists():
        # The plan guarantees unique addresses; duplicate address detection would delay the first packets by 1 to 2 s.
        detection.write_text("0\n", encoding="ascii")


def chunks(items: Sequence[Link], size: int) -> Iterator[Sequence[Link]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def new_link(
    item: Link, netns_fd: Optional[int] = None, parent: Optional[int] = None, index: Optional[int] = None
) -> netlink.Message:
    """The message that creates a link.

    A VXLAN with a local IPv6 address accepts IPv6 remote ends without a group (tried on Linux 6.1 and 6.18).
    """
    data: dict[str, Any] = {}
    if item.vxlan is not None:
        vxlan = item.vxlan
        data = {"id": vxlan.id, "local": vxlan.local, "port": vxlan.port, "learning": vxlan.learning}
        if vxlan.proxy:
            data["proxy"] = True
        if vxlan.source_port:
            data["source_ports"] = (vxlan.source_port, vxlan.source_port + 1)
    elif item.geneve is not None:
        data = {"id": item.geneve.id, "remote": item.geneve.remote, "port": item.geneve.port}
    elif item.parent is not None:
        data = parent_options(item.parent, item.type)
    elif item.type == "bridge" and item.namespace:
        # With a default VLAN, each static forwarding entry would be stored twice, once for VLAN 1.
        data = {"vlan_default_pvid": 0}
    if item.learns_from_reserved is False:
        data = {**data, "no_linklocal_learn": True}
    values: dict[str, Any] = {"mac": item.mac, "mtu": item.mtu, "group": item.group}
    return netlink.new_link(item.name, item.type, **values, link=parent, netns_fd=netns_fd, data=data, index=index)


def parent_options(parent: Parent, kind: str) -> dict[str, Any]:
    if kind == "vlan":
        return {"id": parent.vlan}
    return {"mode": parent.mode, "flags": parent.flag} if kind == "ipvlan" else {"mode": parent.mode}


def is_outside(host: Host, namespace: str, link: Mapping[str, Any]) -> bool:
    """Whether a tunnel's underlay or a link's parent is in the host's own namespace."""
    number = link["link_netnsid"]
    if link["kind"] not in ("vxlan", "geneve", *KINDS_ON_PARENT) or not namespace or number is None:
        return not namespace and number is None
    with open(THIS_NETNS, "rb") as here:
        return bool(host.run_in(namespace, namespace_number, here.fileno()) == number)


def namespace_number(descriptor: int) -> Optional[int]:
    with netlink.Netlink() as socket:
        return socket.namespace_id(descriptor)
