# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Links that are created on another link: macvlan, ipvlan and VLAN links."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ...kernel import namespaces, netlink
from ...kernel.host import Host
from ...plan.links import Link, Parent
from .common import KINDS_ON_PARENT, new_link

PASSTHRU = "passthru"


def create_on_parents(host: Host, items: Sequence[Link]) -> None:
    """Create each in its own namespace, by a request made in the parent's.

    Older kernels (such as 6.1) refuse a name that is in use in the parent's namespace, such as eth0, unless the request
    gives the new link's index (rtnl_newlink).
    """
    links = host.links("")
    number = highest_index(links) + len(items)  # the host's own new links take the next indexes
    highest = {name: highest_index(host.links(name)) for name in {item.namespace for item in items if item.namespace}}
    with contextlib.ExitStack() as stack:
        messages = []
        for item in items:
            parent = item.parent or Parent("")
            if parent.link not in links:
                problem = f"its parent {parent.link} does not exist on this host"
                raise netlink.NetlinkError(errno.ENODEV, problem, f"new link {item.name}")
            path = f"{namespaces.DIRECTORY}/{item.namespace}"
            file = stack.enter_context(open(path, "rb")) if item.namespace else None
            number = max(number, highest[item.namespace]) + 1 if file else number
            given = {"index": number} if file else {}
            below = links[parent.link]["index"]
            messages.append(new_link(item, file.fileno() if file else None, below, **given))
        host.send("", messages)


def highest_index(links: Mapping[str, Mapping[str, Any]]) -> int:
    return max(int(link["index"]) for link in links.values())


def parent_of(host: Host, link: Mapping[str, Any], outside: bool) -> Optional[Parent]:
    """The parent of a link; one outside the host's own namespace has no name."""
    if link["kind"] not in KINDS_ON_PARENT:
        return None
    below = host.snapshot("").link_by_index(link["link"]) if outside else None
    data = link["data"]
    return Parent(below["name"] if below else "", data.get("mode", ""), data.get("flags", ""), data.get("id", 0))
