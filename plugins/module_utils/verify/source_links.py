# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Finds macvlan links of mode ``source`` on the parents of LAN networks.

Root in a sandbox on a macvlan network can create one on its own link, and thereby on the parent.  It receives, or with
the flag ``nodst`` diverts, what chosen MAC addresses send to anyone on that parent, the host included
(``macvlan_forward_source`` in the kernel).  The parent does not show it, and it can be in any network namespace.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from ..kernel import namespaces
from ..kernel.host import Host
from ..kernel.netlink import Netlink

_OWN = "/proc/thread-self/ns/net"


def source_links(host: Host, parents: Iterable[str]) -> list[tuple[str, str, str]]:
    """Each as (parent, link, location), in all namespaces that have a name or a process."""
    links = host.snapshot("").links
    indexes = {links[name]["index"]: name for name in parents if name in links}
    found: list[tuple[str, str, str]] = []
    if not indexes:
        return found
    home = os.open(_OWN, os.O_RDONLY)
    try:
        for path, where in _namespaces():
            with contextlib.suppress(OSError):
                there = host.run_in(path, _links_of_mode_source, home)
                found += [(indexes[index], name, where) for name, index in there if index in indexes]
    finally:
        os.close(home)
    return sorted(found)


def _links_of_mode_source(home: int) -> list[tuple[str, int]]:
    """Name and parent's index of those in the thread's namespace with a parent in the descriptor's namespace."""
    with Netlink() as netlink:
        number = netlink.namespace_id(home)
        return [
            (link["name"], link["link"])
            for link in netlink.links()
            if link["data"].get("mode") == "source" and number is not None and link["link_netnsid"] == number
        ]


def _namespaces() -> Iterator[tuple[str, str]]:
    """A path of each network namespace, and its name or a process in it for messages."""
    seen: set[int] = set()
    for name in namespaces.names():
        with contextlib.suppress(OSError):
            seen.add(namespaces.inode(name))
            yield f"{namespaces.DIRECTORY}/{name}", f"namespace {name}"
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        path = f"/proc/{pid}/ns/net"
        with contextlib.suppress(OSError):
            number = os.stat(path).st_ino
            if number not in seen:
                seen.add(number)
                yield path, f"the namespace of process {pid}"
