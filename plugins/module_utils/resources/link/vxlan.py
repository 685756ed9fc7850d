# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""VXLAN links."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ...kernel import namespaces, netlink
from ...kernel.host import Host
from ...plan.families import family_of
from ...plan.links import Link, Vxlan
from .common import is_outside, new_link

_SEVERAL = -1
"""The source port of a VXLAN that uses a range."""

_VNI_WAIT_S = 5.0
_VNI_PAUSE_S = 0.02


def create_vxlan(host: Host, item: Link, vxlan: Vxlan) -> None:
    """Create it in its namespace; its outer packets use the namespace in which the request is made."""
    asking = "" if vxlan.outside else item.namespace
    elsewhere = asking != item.namespace
    path = f"{namespaces.DIRECTORY}/{item.namespace}"
    with open(path, "rb") if elsewhere else contextlib.nullcontext() as place:
        message = new_link(item, place.fileno() if place is not None else None)
        deadline = time.monotonic() + _VNI_WAIT_S
        while True:
            try:
                host.send(asking, [message])
                return
            except netlink.NetlinkError as error:
                if error.errno != errno.EEXIST or item.name in host.links(item.namespace):
                    raise
                # The kernel frees a removed namespace's VNIs some time after its name is gone.
                if vni_holder(host, vxlan, host.observed_namespaces) or time.monotonic() > deadline:
                    raise vni_taken(host, vxlan, error) from error
            time.sleep(_VNI_PAUSE_S)


def vxlan_of(namespace: str, link: Mapping[str, Any], outside: bool) -> Optional[Vxlan]:
    if link["kind"] != "vxlan":
        return None
    data = link["data"]
    first, end = data.get("source_ports", (0, 0))
    source_port = _SEVERAL if end > first + 1 else first
    learning, proxy = bool(data.get("learning")), bool(data.get("proxy"))
    return Vxlan(data.get("id", 0), data.get("local", ""), data.get("port", 0), learning, outside, source_port, proxy)


def vni_holder(host: Host, vxlan: Vxlan, places: Iterable[str]) -> str:
    """The VXLAN in these namespaces that uses the VNI and port, as ``namespace/name``; "" if there is none."""
    wanted = (vxlan.id, vxlan.port, family_of(vxlan.local), vxlan.outside)
    for namespace in places:
        with contextlib.suppress(FileNotFoundError):
            for name, link in host.links(namespace).items():
                found = vxlan_of(namespace, link, is_outside(host, namespace, link))
                if found is not None and (found.id, found.port, family_of(found.local), found.outside) == wanted:
                    return "/".join(part for part in (namespace, name) if part)
    return ""


def vni_taken(host: Host, vxlan: Vxlan, error: netlink.NetlinkError) -> netlink.NetlinkError:
    name = vni_holder(host, vxlan, host.observed_namespaces)
    who = f"this host's VXLAN {name}" if name else "another VXLAN of this host"
    return netlink.NetlinkError(errno.EEXIST, f"{who} already has VNI {vxlan.id} on port {vxlan.port}", error.request)
