# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Links: bridges and veth pairs.  Made in place with their final names, marked, and brought up in a later stage.

Both ends of a veth pair carry a mark: the sandbox's end that of its role, the other that of ``port:<role>``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from ..kernel import namespaces, netlink
from ..kernel.host import Host
from ..plan import Key, Link, Peer, mark, role_of
from .base import Difference, Found, Kind, Operation

_DELETE_GROUP = 0x636E6D
_OPEN_AT_ONCE = 200
_PORT = "port:"


def _write_ipv6_settings(name: str, disable_ipv6: Optional[bool], accept_ra: Optional[int]) -> None:
    directory = Path("/proc/sys/net/ipv6/conf") / name
    if not directory.is_dir():
        return
    if accept_ra is not None:
        (directory / "accept_ra").write_text(f"{accept_ra}\n")
    if disable_ipv6 is not None:
        (directory / "disable_ipv6").write_text(f"{int(disable_ipv6)}\n")


def _chunks(items: Sequence[Link], size: int) -> Iterator[Sequence[Link]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class LinkKind(Kind[Link]):
    """What ``ip link`` shows."""

    name = "link"
    stages = (30, 50)
    recreated_by = frozenset({"type", "peer", "peer.name", "peer.namespace"})

    def observe(self, host: Host, wanted: Sequence[Link]) -> dict[Key, Found[Link]]:
        namespaces_here = ["", *sorted(host.own_namespaces)]
        ports = self._ports(host, namespaces_here)
        wanted_keys = {item.key: item for item in wanted}
        result: dict[Key, Found[Link]] = {}
        for namespace in namespaces_here:
            for link in host.snapshot(namespace).links.values():
                role = role_of(link["alias"], host.project)
                want = wanted_keys.get(("link", namespace, link["name"]))
                if link["loopback"] or (role or "").startswith(_PORT) or (role is None and want is None):
                    continue
                found = self._found(host, namespace, link, role or "", ports)
                half_made = want is not None and _is_half_made(want, link)
                ours = role is not None or bool(namespace) or half_made
                result[found.key] = Found(found, ours=ours, stale=role is not None)
        for (namespace, _index), (link, role) in ports.items():
            orphan = Link(namespace, link["name"], link["kind"], role, up=link["up"])
            result[orphan.key] = Found(orphan)
        self._find_names_taken(host, wanted, result)
        return result

    @staticmethod
    def _ports(host: Host, names: Iterable[str]) -> dict[tuple[str, int], tuple[dict[str, Any], str]]:
        """The marked far ends of veth pairs by (namespace, index); those left after pairing have lost their sandbox."""
        result = {}
        for namespace in names:
            for link in host.snapshot(namespace).links.values():
                role = role_of(link["alias"], host.project) or ""
                if role.startswith(_PORT):
                    result[(namespace, link["index"])] = (link, role)
        return result

    @staticmethod
    def _found(
        host: Host,
        namespace: str,
        link: dict[str, Any],
        role: str,
        ports: dict[tuple[str, int], tuple[dict[str, Any], str]],
    ) -> Link:
        peer = None
        if link["kind"] == "veth":
            for place, (port, port_role) in ports.items():
                paired = place[1] == link["link"] and port["link"] == link["index"]
                if paired and place[0] != namespace and (not role or port_role == _PORT + role):
                    master = host.snapshot(place[0]).link_by_index(port["master"]) or {}
                    isolated = bool(port["port"].get("isolated"))
                    peer = Peer(place[0], port["name"], master.get("name", ""), isolated, port["up"])
                    del ports[place]
                    break
        disable_ipv6 = link["disable_ipv6"]
        return Link(
            namespace,
            link["name"],
            link["kind"],
            role,
            link["mac"],
            link["mtu"],
            link["up"],
            None if disable_ipv6 is None else bool(disable_ipv6),
            link["accept_ra"],
            peer,
            link["group"],
        )

    @staticmethod
    def _find_names_taken(host: Host, wanted: Sequence[Link], result: dict[Key, Found[Link]]) -> None:
        """A link of somebody else where the far end of a new pair would be: in the way, though its key differs."""
        for item in wanted:
            if item.peer is None or item.key in result:
                continue
            link = host.snapshot(item.peer.namespace).links.get(item.peer.name)
            if link is not None and role_of(link["alias"], host.project) is None:
                result[item.key] = Found(
                    Link(item.peer.namespace, item.peer.name, link["kind"]), ours=False, stale=False
                )

    def differences(self, wanted: Link, found: Link) -> list[Difference]:
        # A kernel without IPv6 has nothing to guard against.
        ignored = {"disable_ipv6", "accept_ra"} if found.disable_ipv6 is None else set()
        return [item for item in super().differences(wanted, found) if item.attribute not in ignored]

    def create(self, host: Host, resources: Sequence[Link]) -> None:
        single = [item for item in resources if item.peer is None]
        for namespace in sorted({item.namespace for item in single}):
            group = [item for item in single if item.namespace == namespace]
            present = host.snapshot(namespace).links
            host.send(
                namespace,
                [
                    netlink.new_link(i.name, i.type, mac=i.mac, mtu=i.mtu, group=i.group)
                    for i in group
                    if i.name not in present
                ],
            )
        pairs = [item for item in resources if item.peer is not None]
        for namespace in sorted({item.peer.namespace for item in pairs if item.peer is not None}):
            group = [item for item in pairs if item.peer is not None and item.peer.namespace == namespace]
            for chunk in _chunks(group, _OPEN_AT_ONCE):
                self._create_pairs(host, namespace, chunk)
        self._settle(host, resources)

    @staticmethod
    def _create_pairs(host: Host, namespace: str, pairs: Sequence[Link]) -> None:
        links = host.links(namespace)
        opened: dict[str, int] = {}
        try:
            messages = []
            for item in pairs:
                peer = item.peer or Peer()
                fd = opened.setdefault(item.namespace, -1)
                if fd < 0:
                    fd = opened[item.namespace] = os.open(f"{namespaces.DIRECTORY}/{item.namespace}", os.O_RDONLY)
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

    def _settle(self, host: Host, resources: Sequence[Link]) -> None:
        """What only an existing link takes: IPv6 settings while it is down, then the mark."""
        by_end = _ends(resources)
        for namespace, ends in sorted(by_end.items()):
            links = host.links(namespace)
            messages = []
            for name, item, is_peer in ends:
                index = links[name]["index"]
                if is_peer:
                    port = {"isolated": item.peer.isolated} if item.peer is not None and item.peer.master else None
                    alias = mark(host.project, _PORT + item.role)
                    messages.append(netlink.set_link(index, alias=alias, addr_gen_mode="none", port=port))
                else:
                    host.run_in(namespace, _write_ipv6_settings, name, item.disable_ipv6, item.accept_ra)
                    messages.append(netlink.set_link(index, alias=mark(host.project, item.role)))
            host.send(namespace, messages)

    def change(self, host: Host, operations: Sequence[Operation[Link]]) -> None:
        for operation in operations:
            wanted = operation.resource
            names = {difference.attribute for difference in operation.differences}
            own: dict[str, Any] = {}
            if "role" in names:
                own["alias"] = mark(host.project, wanted.role)
            own.update({name: getattr(wanted, name) for name in ("mac", "mtu", "group") if name in names})
            if "up" in names and not wanted.up:
                own["up"] = False
            if names & {"disable_ipv6", "accept_ra"}:
                host.run_in(wanted.namespace, _write_ipv6_settings, wanted.name, wanted.disable_ipv6, wanted.accept_ra)
            if own:
                index = host.links(wanted.namespace)[wanted.name]["index"]
                host.send(wanted.namespace, [netlink.set_link(index, **own)])
            if wanted.peer is not None:
                self._change_peer(host, wanted.peer, wanted.mtu if "mtu" in names else None, names)

    @staticmethod
    def _change_peer(host: Host, peer: Peer, mtu: Optional[int], names: set[str]) -> None:
        links = host.links(peer.namespace)
        index = links[peer.name]["index"]
        messages = []
        if mtu is not None:
            messages.append(netlink.set_link(index, mtu=mtu))
        if "peer.master" in names:
            messages.append(netlink.set_link(index, master=links[peer.master]["index"] if peer.master else 0))
        if names & {"peer.master", "peer.isolated"} and peer.master:
            messages.append(netlink.set_link(index, port={"isolated": peer.isolated}))
        host.send(peer.namespace, messages)

    def finish(self, host: Host, resources: Sequence[Link]) -> None:
        by_end = _ends([item for item in resources if item.up])
        for namespace, ends in sorted(by_end.items()):
            links = host.links(namespace)
            down = [name for name, _item, _is_peer in ends if not links[name]["up"]]
            host.send(namespace, [netlink.set_link(links[name]["index"], up=True) for name in down])

    def delete(self, host: Host, resources: Sequence[Link]) -> None:
        """One by one each link costs a grace period of the kernel; a whole group costs one."""
        doomed: dict[str, set[str]] = {}
        for item in resources:
            end = item.peer if item.peer is not None else item
            doomed.setdefault(end.namespace, set()).add(end.name)
        for namespace, names in sorted(doomed.items()):
            links = host.links(namespace)
            indexes = [links[name]["index"] for name in sorted(names) if name in links]
            group_taken = any(link["group"] == _DELETE_GROUP for name, link in links.items() if name not in names)
            if group_taken:
                host.send(namespace, [netlink.del_link(index) for index in indexes])
            elif indexes:
                messages = [netlink.set_link(index, group=_DELETE_GROUP) for index in indexes]
                host.send(namespace, [*messages, netlink.del_group(_DELETE_GROUP)])


def _is_half_made(want: Link, link: dict[str, Any]) -> bool:
    """A bridge a killed run made and had no time to mark: our derived name and MAC, down, nothing said of it."""
    same = link["kind"] == want.type and want.mac is not None and link["mac"] == want.mac
    return same and not link["alias"] and not link["up"]


def _ends(resources: Iterable[Link]) -> dict[str, list[tuple[str, Link, bool]]]:
    """The ends of links by namespace: (name, the link, whether it is the far end)."""
    result: dict[str, list[tuple[str, Link, bool]]] = {}
    for item in resources:
        result.setdefault(item.namespace, []).append((item.name, item, False))
        if item.peer is not None:
            result.setdefault(item.peer.namespace, []).append((item.peer.name, item, True))
    return result
