# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Veth pairs.  Both ends carry a mark: the sandbox's end its role, the other end ``port:<role>``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from ...kernel import namespaces, netlink
from ...kernel.host import Host
from ...plan.base import Key
from ...plan.links import Link, VethPeer
from ...plan.marks import PORT, role_of
from ..base import Found
from .common import THIS_NETNS, write_settings

FAR_END_SETTINGS: dict[str, Any] = {"accept_ra": 0, "disable_ipv6": None, "route_localnet": None}
"""Parameters of a far end that is not a bridge port."""

PEER_FLAGS = ("isolated", "hairpin", "learning")

FarEnd = tuple[str, dict[str, Any]]
"""A far end: its namespace, and the link as read from the kernel."""


def peer_flags(peer: VethPeer) -> dict[str, bool]:
    return {name: getattr(peer, name) for name in PEER_FLAGS}


def marked_far_ends(host: Host) -> dict[str, list[FarEnd]]:
    """The marked far ends of veth pairs by role; the far end of a pair whose sandbox is gone remains in the result."""
    result: dict[str, list[FarEnd]] = {}
    for namespace in host.observed_namespaces:
        for link in host.snapshot(namespace).links.values():
            role = role_of(link["alias"], host.project) or ""
            if role.startswith(PORT):
                result.setdefault(role, []).append((namespace, link))
    return result


def take_peer(host: Host, namespace: str, link: dict[str, Any], ends: list[FarEnd]) -> Optional[VethPeer]:
    """The far end that a link is paired with, which is removed from ``ends``; None if it is not among them."""
    if link["kind"] != "veth":
        return None
    same_namespace = link["link_netnsid"] is None
    for far_namespace, far in ends:
        paired = far["index"] == link["link"] and far["link"] == link["index"]
        if paired and same_namespace == (far_namespace == namespace):
            master = host.snapshot(far_namespace).link_by_index(far["master"]) or {}
            isolated, hairpin = (bool(far["port"].get(flag)) for flag in ("isolated", "hairpin"))
            ends.remove((far_namespace, far))
            return VethPeer(
                far_namespace,
                far["name"],
                master.get("name", ""),
                isolated,
                far["up"],
                far["group"],
                hairpin,
                bool(far["port"].get("learning", True)),
            )
    return None


def find_occupied_names(host: Host, wanted: Sequence[Link], result: dict[Key, Found[Link]]) -> None:
    """Report foreign links with the name that the far end of a new pair needs; their keys differ from the pair's."""
    for item in wanted:
        if item.peer is None or item.key in result:
            continue
        link = host.snapshot(item.peer.namespace).links.get(item.peer.name)
        if link is not None and role_of(link["alias"], host.project) is None:
            result[item.key] = Found(Link(item.peer.namespace, item.peer.name, link["kind"]), ours=False, stale=False)


def create_pairs(host: Host, namespace: str, pairs: Sequence[Link]) -> None:
    links = host.links(namespace, {item.peer.master for item in pairs if item.peer and item.peer.master})
    opened: dict[str, int] = {}
    try:
        messages = []
        for item in pairs:
            peer = item.peer or VethPeer()
            fd = opened.setdefault(item.namespace, -1)
            if fd < 0:
                path = f"{namespaces.DIRECTORY}/{item.namespace}" if item.namespace else THIS_NETNS
                fd = opened[item.namespace] = os.open(path, os.O_RDONLY)
            messages.append(
                netlink.new_link(
                    peer.name,
                    "veth",
                    mtu=item.mtu,
                    master=links[peer.master]["index"] if peer.master else None,
                    peer={"name": item.name, "netns_fd": fd, "mac": item.mac, "mtu": item.mtu},
                )
            )
        host.send(namespace, messages)
    finally:
        for fd in opened.values():
            if fd >= 0:
                os.close(fd)


def change_peer(host: Host, peer: VethPeer, mtu: Optional[int], names: set[str]) -> None:
    links = host.links(peer.namespace)
    index = links[peer.name]["index"]
    messages = []
    if mtu is not None:
        messages.append(netlink.set_link(index, mtu=mtu))
    if "peer.master" in names:
        if not peer.master:
            far = Link(peer.namespace, peer.name, "veth", **FAR_END_SETTINGS)
            host.run_in(peer.namespace, write_settings, far)
        messages.append(netlink.set_link(index, master=links[peer.master]["index"] if peer.master else 0))
    if "peer.group" in names:
        messages.append(netlink.set_link(index, group=peer.group))
    if names & {"peer.master", *(f"peer.{flag}" for flag in PEER_FLAGS)} and peer.master:
        messages.append(netlink.set_link(index, port=peer_flags(peer)))
    host.send(peer.namespace, messages)


def ends_by_namespace(resources: Iterable[Link]) -> dict[str, list[tuple[str, Link, bool]]]:
    """The ends of links by namespace: name, link, and whether it is the far end."""
    result: dict[str, list[tuple[str, Link, bool]]] = {}
    for item in resources:
        result.setdefault(item.namespace, []).append((item.name, item, False))
        if item.peer is not None:
            result.setdefault(item.peer.namespace, []).append((item.peer.name, item, True))
    return result
