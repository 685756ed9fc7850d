# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""VXLAN links."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ...kernel.host import Host
from ...plan.families import family_of
from ...plan.links import Link, Vxlan
from .common import create_tunnel, is_outside

_SEVERAL = -1
"""The source port of a VXLAN that uses a range."""


def create_vxlan(host: Host, item: Link, vxlan: Vxlan) -> None:
    words = ("VXLAN", f"VNI {vxlan.id} on port {vxlan.port}")
    create_tunnel(host, item, vxlan.outside, words, lambda: vni_holder(host, vxlan, host.observed_namespaces))


def vxlan_of(namespace: str, link: Mapping[str, Any], outside: bool) -> Optional[Vxlan]:
    if link["kind"] != "vxlan":
        return None
    data = link["data"]
    first, end = data.get("source_ports", (0, 0))
    source_port = _SEVERAL if end > first + 1 else first
    learning, proxy = bool(data.get("learning")), bool(data.get("proxy"))
    return Vxlan(data.get("id", 0), data.get("local", ""), data.get("port", 0), learning, outside, source_port, proxy)


def vni_holder(host: Host, vxlan: Vxlan, namespaces: Iterable[str]) -> str:
    """The VXLAN in these namespaces that uses the VNI and port, as ``namespace/name``; "" if there is none."""
    wanted = (vxlan.id, vxlan.port, family_of(vxlan.local), vxlan.outside)
    for namespace in namespaces:
        with contextlib.suppress(FileNotFoundError):
            for name, link in host.links(namespace).items():
                found = vxlan_of(namespace, link, is_outside(host, namespace, link))
                if found is not None and (found.id, found.port, family_of(found.local), found.outside) == wanted:
                    return "/".join(part for part in (namespace, name) if part)
    return ""
