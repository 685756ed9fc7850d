# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What links of all types share: their parameters in /proc/sys, and the message that creates them."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ...kernel import namespaces, netlink
from ...kernel.host import Host
from ...plan.links import Link, Parent

OPEN_AT_ONCE = 200
_VNI_WAIT_S = 5.0
_VNI_PAUSE_S = 0.02
THIS_NETNS = "/proc/thread-self/ns/net"

SETTINGS = {"accept_ra": "ipv6", "disable_ipv6": "ipv6", "route_localnet": "ipv4", "rp_filter": "ipv4"}
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


def create_tunnel(
    host: Host, item: Link, outside: bool, words: tuple[str, str], holder: Callable[[], str] = lambda: ""
) -> None:
    """Create a tunnel in its namespace; if it is ``outside``, its outer packets use the host's own.

    ``words`` are a noun for the link, and the VNI that it needs; ``holder`` names the link of this host that has that
    VNI, "" if none is known.
    """
    asking = "" if outside else item.namespace
    path = f"{namespaces.DIRECTORY}/{item.namespace}"
    with open(path, "rb") if asking != item.namespace else contextlib.nullcontext() as file:
        message = new_link(item, file.fileno() if file is not None else None)
        deadline = time.monotonic() + _VNI_WAIT_S
        while True:
            try:
                host.send(asking, [message])
                return
            except netlink.NetlinkError as error:
                if error.errno not in (errno.EEXIST, errno.EBUSY) or item.name in host.links(item.namespace):
                    raise
                # The kernel frees a removed namespace's VNIs some time after its name is gone.
                name = holder()
                if name or time.monotonic() > deadline:
                    who = f"this host's {words[0]} {name}" if name else f"another {words[0]} of this host"
                    raise netlink.NetlinkError(errno.EEXIST, f"{who} already has {words[1]}", error.request) from error
            time.sleep(_VNI_PAUSE_S)


def parent_options(parent: Parent, kind: str) -> dict[str, Any]:
    if kind == "vlan":
        return {"id": parent.vlan}
    return {"mode": parent.mode, "flags": parent.flag} if kind == "ipvlan" else {"mode": parent.mode}


def is_outside(host: Host, namespace: str, link: Mapping[str, Any]) -> bool:
    """Whether a VXLAN's underlay or a link's parent is in the host's own namespace."""
    number = link["link_netnsid"]
    if link["kind"] not in ("vxlan", *KINDS_ON_PARENT) or not namespace or number is None:
        return not namespace and number is None
    with open(THIS_NETNS, "rb") as here:
        return bool(host.run_in(namespace, namespace_number, here.fileno()) == number)


def namespace_number(descriptor: int) -> Optional[int]:
    with netlink.Netlink() as socket:
        return socket.namespace_id(descriptor)
