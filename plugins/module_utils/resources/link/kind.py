# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The resource kind for links of every type; each other file here covers one type.

Links are created in their namespace with their final names, marked, and brought up in a later stage.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...kernel import netlink
from ...kernel.host import Host, try_send
from ...plan.base import Key
from ...plan.links import Link
from ...plan.marks import LAN_GROUP, PORT, mark, role_of
from ..base import Difference, Found, Kind, Operation, by_namespace
from .bridge import as_adopted, is_adoptable, join_bridge, learns_from_reserved, port_flags, port_of, release_adopted
from .common import (
    KINDS_ON_PARENT,
    OPEN_AT_ONCE,
    SETTINGS,
    chunks,
    is_outside,
    new_link,
    parent_options,
    write_settings,
)
from .geneve import create_geneve, geneve_of
from .parent import PASSTHRU, create_on_parents, parent_of
from .veth import (
    FAR_END_SETTINGS,
    FarEnd,
    change_peer,
    create_pairs,
    ends_by_namespace,
    find_occupied_names,
    marked_far_ends,
    peer_flags,
    take_peer,
)
from .vxlan import create_vxlan, vxlan_of

_DELETE_GROUP = 0x636E6D


class LinkKind(Kind[Link]):
    """What ``ip link`` shows."""

    name = "link"
    stages = (30, 50)
    recreated_by = frozenset(
        {"type", "peer", "peer.name", "peer.namespace", "parent", "parent.link", "parent.vlan"}
        # The kernel accepts a new local address, but keeps using the old one for remote ends it has sent to before.
        | {f"vxlan.{name}" for name in ("id", "local", "port", "outside", "source_port", "proxy")}
        | {f"geneve.{name}" for name in ("id", "remote", "port")}
    )

    def recreates(self, difference: Difference) -> bool:
        if difference.attribute == "parent.mode":
            return PASSTHRU in (difference.wanted, difference.found)
        return super().recreates(difference)

    def observe(self, host: Host, wanted: Sequence[Link]) -> dict[Key, Found[Link]]:
        ports = marked_far_ends(host)
        wanted_keys = {item.key: item for item in wanted}
        result: dict[Key, Found[Link]] = {}
        for namespace in host.observed_namespaces:
            for link in host.snapshot(namespace).links.values():
                role = role_of(link["alias"], host.project)
                want = wanted_keys.get(("link", namespace, link["name"]))
                if link["loopback"] or (role or "").startswith(PORT) or (role is None and want is None):
                    continue
                known = role or (want.role if want is not None else "")
                found = self._read_link(host, namespace, link, role or "", ports.get(PORT + known, []))
                if found.foreign or (role is None and is_adoptable(want, link)):
                    host.adopted_bridges.add((namespace, link["name"]))
                    found = replace(found, adopts_existing=True)
                ours = (role is not None or found.adopts_existing) or (
                    want is not None and (host.repairs(namespace, want.role) or is_unfinished(want, link))
                )
                result[found.key] = Found(found, ours=ours, stale=host.prunes(role))
        for role, ends in ports.items():
            for namespace, link in ends:
                orphan = Link(namespace, link["name"], link["kind"], role, up=link["up"])
                result[orphan.key] = Found(orphan, stale=host.prunes(role))
        find_occupied_names(host, wanted, result)
        return result

    @staticmethod
    def _read_link(host: Host, namespace: str, link: dict[str, Any], role: str, ends: list[FarEnd]) -> Link:
        """The link as a resource; the far end it is paired with is removed from ``ends``."""
        disable_ipv6 = link["disable_ipv6"]
        outside = is_outside(host, namespace, link)
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
            take_peer(host, namespace, link, ends),
            link["group"],
            bool(link["route_localnet"]),
            port=port_of(host, namespace, link),
            vxlan=vxlan_of(namespace, link, outside),
            geneve=geneve_of(link),
            parent=parent_of(host, link, outside),
            rp_filter=link["rp_filter"],
            addr_gen_mode=link["addr_gen_mode"],
            learns_from_reserved=learns_from_reserved(link),
        )

    def differences(self, wanted: Link, found: Link) -> list[Difference]:
        if found.adopts_existing:
            wanted = as_adopted(wanted)
        # Options of how this collection acts, not kernel state: never compared.
        ignored = {"announcements", "announcement_ms", "adopts_existing"}
        # A kernel without IPv6 lacks these.
        ignored |= {"disable_ipv6", "accept_ra", "addr_gen_mode"} if found.disable_ipv6 is None else set()
        ignored |= {"learns_from_reserved"} if found.learns_from_reserved is None else set()  # Linux 5.0
        return [item for item in super().differences(wanted, found) if item.attribute not in ignored]

    def create(self, host: Host, resources: Sequence[Link]) -> None:
        single = [item for item in resources if not (item.peer or item.vxlan or item.geneve or item.parent)]
        for namespace, group in by_namespace(single).items():
            host.send(namespace, [new_link(item) for item in group])
        for kind in KINDS_ON_PARENT:
            for chunk in chunks([item for item in resources if item.type == kind], OPEN_AT_ONCE):
                create_on_parents(host, chunk)
        for item in resources:
            if item.vxlan is not None:
                create_vxlan(host, item, item.vxlan)
            if item.geneve is not None:
                create_geneve(host, item, item.geneve)
        pairs = [item for item in resources if item.peer is not None]
        for namespace in sorted({item.peer.namespace for item in pairs if item.peer is not None}):
            group = [item for item in pairs if item.peer is not None and item.peer.namespace == namespace]
            for chunk in chunks(group, OPEN_AT_ONCE):
                create_pairs(host, namespace, chunk)
        self._configure_and_mark(host, resources)

    def _configure_and_mark(self, host: Host, resources: Sequence[Link]) -> None:
        """Set what the kernel accepts only for an existing link: its parameters while it is down, then the mark."""
        by_end = ends_by_namespace(resources)
        for namespace, ends in sorted(by_end.items()):
            masters = {item.port.master for _name, item, _is_peer in ends if item.port is not None}
            links = host.links(namespace, {name for name, _item, _is_peer in ends} | masters)
            messages = []
            for name, item, is_peer in ends:
                index = links[name]["index"]
                if is_peer:
                    port = peer_flags(item.peer) if item.peer is not None and item.peer.master else None
                    alias = mark(host.project, PORT + item.role)
                    if port is None:
                        host.run_in(namespace, write_settings, replace(item, name=name, **FAR_END_SETTINGS))
                    group = item.peer.group if item.peer is not None else None
                    messages.append(netlink.set_link(index, alias=alias, addr_gen_mode="none", port=port, group=group))
                else:
                    host.run_in(namespace, write_settings, item)
                    # Firewall rules match the link-local address made from the MAC; only endpoints get IPv6 this way.
                    mode = "eui64" if item.peer is not None and item.disable_ipv6 is False else item.addr_gen_mode
                    messages.append(netlink.set_link(index, alias=mark(host.project, item.role), addr_gen_mode=mode))
                    messages += join_bridge(item.port, index, links)
            host.send(namespace, messages)

    def change(self, host: Host, operations: Sequence[Operation[Link]]) -> None:
        for operation in operations:
            wanted = operation.resource
            names = {difference.attribute for difference in operation.differences}
            own: dict[str, Any] = {}
            if operation.found is not None and operation.found.adopts_existing:
                wanted = as_adopted(wanted)
            if "role" in names:
                own["alias"] = mark(host.project, wanted.role) if wanted.role else ""
            own.update(
                {name: getattr(wanted, name) for name in ("mac", "mtu", "group", "addr_gen_mode") if name in names}
            )
            if "up" in names and not wanted.up:
                own["up"] = False
            if names & set(SETTINGS):
                host.run_in(wanted.namespace, write_settings, wanted)
            if own:
                index = host.links(wanted.namespace, (wanted.name,))[wanted.name]["index"]
                host.send(wanted.namespace, [netlink.set_link(index, **own)])
            if any(name.startswith(("port", "vxlan.", "parent.", "learns_")) for name in names):
                self._change_single(host, wanted, names)
            if wanted.peer is not None:
                change_peer(host, wanted.peer, wanted.mtu if "mtu" in names else None, names)

    @staticmethod
    def _change_single(host: Host, wanted: Link, names: set[str]) -> None:
        """Change the attributes that can be changed in place, for all links but veth pairs."""
        links = host.links(wanted.namespace)
        index = links[wanted.name]["index"]
        messages = []
        if "learns_from_reserved" in names:
            silent = {"no_linklocal_learn": not wanted.learns_from_reserved}
            messages.append(netlink.set_link(index, kind="bridge", data=silent))
        if wanted.vxlan is not None and "vxlan.learning" in names:
            changes = {"local": wanted.vxlan.local, "learning": wanted.vxlan.learning}
            messages.append(netlink.set_link(index, kind="vxlan", data=changes))
        if wanted.parent is not None and names & {"parent.mode", "parent.flag"}:
            messages.append(netlink.set_link(index, kind=wanted.type, data=parent_options(wanted.parent, wanted.type)))
        if names & {"port", "port.master"}:
            messages += join_bridge(wanted.port, index, links)
        elif wanted.port is not None and any(name.startswith("port.") for name in names):
            messages.append(netlink.set_link(index, port=port_flags(wanted.port)))
        host.send(wanted.namespace, messages)

    def bring_up(self, host: Host, resources: Sequence[Link]) -> None:
        by_end = ends_by_namespace([item for item in resources if item.up])
        for namespace, ends in sorted(by_end.items()):
            links = host.links(namespace, {name for name, _item, _is_peer in ends})
            down = [name for name, _item, _is_peer in ends if not links[name]["up"]]
            host.send(namespace, [netlink.set_link(links[name]["index"], up=True) for name in down])

    def delete(self, host: Host, resources: Sequence[Link]) -> None:
        """Remove links as one device group: the kernel waits one grace period for it, not one for each link."""
        release_adopted(host, [item for item in resources if item.foreign])
        resources = [item for item in resources if not item.foreign]
        doomed: dict[str, set[str]] = {}
        for item in resources:
            end = item.peer if item.peer is not None else item
            doomed.setdefault(end.namespace, set()).add(end.name)
        for namespace, names in sorted(doomed.items()):
            links = host.links(namespace)
            indexes = [links[name]["index"] for name in sorted(names) if name in links]
            group_taken = any(link["group"] == _DELETE_GROUP for name, link in links.items() if name not in names)
            if group_taken:
                host.remove(namespace, [netlink.del_link(index) for index in indexes])
            elif indexes:
                messages = [netlink.set_link(index, group=_DELETE_GROUP) for index in indexes]
                try:
                    host.remove(namespace, [*messages, netlink.del_group(_DELETE_GROUP)])
                except netlink.NetlinkError as error:
                    if error.errno != errno.EOPNOTSUPP or not namespace:
                        raise
                    self._remove_marks(host, namespace, indexes)

    @staticmethod
    def _remove_marks(host: Host, namespace: str, indexes: Sequence[int]) -> None:
        """Clear marks that root in the namespace forged on links which cannot be removed, such as tunl0."""
        host.run_in(namespace, try_send, [netlink.del_link(index) for index in indexes])
        host.remove(namespace, [netlink.set_link(index, alias="", group=0) for index in indexes])


def is_unfinished(want: Link, link: dict[str, Any]) -> bool:
    """Whether a killed run created the link and did not mark it: our name, our MAC or group, down and without alias."""
    same = link["kind"] == want.type and want.mac is not None and link["mac"] == want.mac
    same = same or (link["kind"] == want.type and link["group"] == want.group == LAN_GROUP)
    return same and not link["alias"] and not link["up"]
