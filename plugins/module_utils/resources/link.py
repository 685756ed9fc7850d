# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Links: bridges, veth pairs, VXLANs, and what is made on another link: macvlan, ipvlan, VLAN links.

They are made in place with their final names, marked, and brought up in a later stage.
Both ends of a veth pair carry a mark: the sandbox's end that of its role, the other that of ``port:<role>``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..kernel import namespaces, netlink
from ..kernel.host import Host, try_send
from ..plan.base import Key
from ..plan.links import BridgePort, Link, Parent, VethPeer, Vxlan
from ..plan.marks import LAN_GROUP, PORT, USED, mark, role_of
from .base import Difference, Found, Kind, Operation, by_namespace

_DELETE_GROUP = 0x636E6D
_OPEN_AT_ONCE = 200
_HERE = "/proc/thread-self/ns/net"


_SETTINGS = {"accept_ra": "ipv6", "disable_ipv6": "ipv6", "route_localnet": "ipv4"}
"""Parameters of a link by attribute, and their folder under /proc/sys/net; in the order they are written."""


_FAR_END: dict[str, Any] = {"accept_ra": 0, "disable_ipv6": None, "route_localnet": None}
"""What of them holds for the far end of a pair that is no bridge's port."""

_PEER_FLAGS = ("isolated", "hairpin")
_PORT_FLAGS = ("neigh_suppress", "learning", "flood", "mcast_flood", "bcast_flood")

_End = tuple[str, dict[str, Any]]
"""The far end of a pair: its namespace and the link as it was read."""

_SEVERAL = -1
"""The source port of a VXLAN that has a range of them."""

_ON_A_PARENT = ("vlan", "macvlan", "ipvlan")
"""Link kinds that are made on another link; what may be the other's parent comes first."""
_PASSTHRU = "passthru"

_VNI_WAIT_S = 5.0
_VNI_PAUSE_S = 0.02


def _peer_flags(peer: VethPeer) -> dict[str, bool]:
    return {name: getattr(peer, name) for name in _PEER_FLAGS}


def _port_flags(port: BridgePort) -> dict[str, bool]:
    return {name: getattr(port, name) for name in _PORT_FLAGS}


def _write_settings(link: Link) -> None:
    for name, family in _SETTINGS.items():
        value = getattr(link, name)
        directory = Path("/proc/sys/net") / family / "conf" / link.name
        if value is not None and directory.is_dir():
            (directory / name).write_text(f"{int(value)}\n", encoding="ascii")
    detection = Path("/proc/sys/net/ipv6/conf") / link.name / "accept_dad"
    if link.disable_ipv6 is False and detection.exists():
        # Whose address it is the plan has settled; asking the link for a second or two would hold back first packets.
        detection.write_text("0\n", encoding="ascii")


def _chunks(items: Sequence[Link], size: int) -> Iterator[Sequence[Link]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class LinkKind(Kind[Link]):
    """What ``ip link`` shows."""

    name = "link"
    stages = (30, 50)
    recreated_by = frozenset(
        {"type", "peer", "peer.name", "peer.namespace", "parent", "parent.link", "parent.vlan"}
        # The kernel would take another local address, and go on sending from the former to whom it sent before.
        | {f"vxlan.{name}" for name in ("id", "local", "port", "outside", "source_port", "proxy")}
    )

    def recreates(self, difference: Difference) -> bool:
        if difference.attribute == "parent.mode":
            return _PASSTHRU in (difference.wanted, difference.found)
        return super().recreates(difference)

    def observe(self, host: Host, wanted: Sequence[Link]) -> dict[Key, Found[Link]]:
        ports = self._ports(host)
        wanted_keys = {item.key: item for item in wanted}
        result: dict[Key, Found[Link]] = {}
        for namespace in host.places:
            for link in host.snapshot(namespace).links.values():
                role = role_of(link["alias"], host.project)
                want = wanted_keys.get(("link", namespace, link["name"]))
                if link["loopback"] or (role or "").startswith(PORT) or (role is None and want is None):
                    continue
                known = role or (want.role if want is not None else "")
                found = self._found(host, namespace, link, role or "", ports.get(PORT + known, []))
                if found.stays or (role is None and _is_adopted(want, link)):
                    host.used.add((namespace, link["name"]))
                    found = replace(found, adopts=True)
                ours = (role is not None or found.adopts) or (
                    want is not None and (host.repairs(namespace, want.role) or _is_half_made(want, link))
                )
                result[found.key] = Found(found, ours=ours, stale=host.prunes(role))
        for role, ends in ports.items():
            for namespace, link in ends:
                orphan = Link(namespace, link["name"], link["kind"], role, up=link["up"])
                result[orphan.key] = Found(orphan, stale=host.prunes(role))
        self._find_names_taken(host, wanted, result)
        return result

    @staticmethod
    def _ports(host: Host) -> dict[str, list[_End]]:
        """The marked far ends of veth pairs by role; those left after pairing have lost their sandbox."""
        result: dict[str, list[_End]] = {}
        for namespace in host.places:
            for link in host.snapshot(namespace).links.values():
                role = role_of(link["alias"], host.project) or ""
                if role.startswith(PORT):
                    result.setdefault(role, []).append((namespace, link))
        return result

    @staticmethod
    def _found(host: Host, namespace: str, link: dict[str, Any], role: str, ends: list[_End]) -> Link:
        """The link, with which of the ends it is paired with; that is taken off them."""
        peer = None
        if link["kind"] == "veth":
            here = link["link_netnsid"] is None
            for place, port in ends:
                paired = port["index"] == link["link"] and port["link"] == link["index"]
                if paired and here == (place == namespace):
                    master = host.snapshot(place).link_by_index(port["master"]) or {}
                    isolated, hairpin = (bool(port["port"].get(flag)) for flag in _PEER_FLAGS)
                    place_of = (place, port["name"], master.get("name", ""))
                    peer = VethPeer(*place_of, isolated, port["up"], port["group"], hairpin)
                    ends.remove((place, port))
                    break
        disable_ipv6 = link["disable_ipv6"]
        outside = _is_outside(host, namespace, link)
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
            bool(link["route_localnet"]),
            port=_port_of(host, namespace, link),
            vxlan=_vxlan_of(namespace, link, outside),
            parent=_parent_of(host, link, outside),
            learns_from_reserved=_learns_from_reserved(link),
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
        if found.adopts:
            wanted = _as_used(wanted)
        # What is done when something changes is nothing that could differ.
        ignored = {"announcements", "announcement_ms", "adopts"}
        # A kernel without IPv6 has nothing to guard against.
        ignored |= {"disable_ipv6", "accept_ra"} if found.disable_ipv6 is None else set()
        ignored |= {"learns_from_reserved"} if found.learns_from_reserved is None else set()  # Linux 5.0
        return [item for item in super().differences(wanted, found) if item.attribute not in ignored]

    def create(self, host: Host, resources: Sequence[Link]) -> None:
        single = [item for item in resources if item.peer is None and item.vxlan is None and item.parent is None]
        for namespace, group in by_namespace(single).items():
            host.send(namespace, [_new_link(item) for item in group])
        for kind in _ON_A_PARENT:
            for chunk in _chunks([item for item in resources if item.type == kind], _OPEN_AT_ONCE):
                self._create_on_parents(host, chunk)
        for item in resources:
            if item.vxlan is not None:
                self._create_vxlan(host, item, item.vxlan)
        pairs = [item for item in resources if item.peer is not None]
        for namespace in sorted({item.peer.namespace for item in pairs if item.peer is not None}):
            group = [item for item in pairs if item.peer is not None and item.peer.namespace == namespace]
            for chunk in _chunks(group, _OPEN_AT_ONCE):
                self._create_pairs(host, namespace, chunk)
        self._settle(host, resources)

    @staticmethod
    def _create_vxlan(host: Host, item: Link, vxlan: Vxlan) -> None:
        """In its namespace at once, its packets in the one that asks for it."""
        asking = "" if vxlan.outside else item.namespace
        elsewhere = asking != item.namespace
        path = f"{namespaces.DIRECTORY}/{item.namespace}"
        with open(path, "rb") if elsewhere else contextlib.nullcontext() as place:
            message = _new_link(item, place.fileno() if place is not None else None)
            deadline = time.monotonic() + _VNI_WAIT_S
            while True:
                try:
                    host.send(asking, [message])
                    return
                except netlink.NetlinkError as error:
                    if error.errno != errno.EEXIST or item.name in host.links(item.namespace):
                        raise
                    # The kernel takes a namespace apart some time after it has lost its name.
                    if vni_holder(host, vxlan, host.places) or time.monotonic() > deadline:
                        raise _vni_taken(host, vxlan, error) from error
                time.sleep(_VNI_PAUSE_S)

    @staticmethod
    def _create_on_parents(host: Host, items: Sequence[Link]) -> None:
        """Each in its namespace at once, asked for where its parent is.

        There, too, older kernels look whether the name is taken (seen on 6.1), and every host has an eth0; but not if
        they are told a number for the link (rtnl_newlink).
        """
        links = host.links("")
        number = _highest(links) + len(items)  # those that are to be the host's own take the next ones
        highest = {name: _highest(host.links(name)) for name in {item.namespace for item in items if item.namespace}}
        with contextlib.ExitStack() as stack:
            messages = []
            for item in items:
                parent = item.parent or Parent("")
                if parent.link not in links:
                    problem = f"there is no link {parent.link} on this host to make it on"
                    raise netlink.NetlinkError(errno.ENODEV, problem, f"new link {item.name}")
                path = f"{namespaces.DIRECTORY}/{item.namespace}"
                place = stack.enter_context(open(path, "rb")) if item.namespace else None
                number = max(number, highest[item.namespace]) + 1 if place else number
                given = {"index": number} if place else {}
                below = links[parent.link]["index"]
                messages.append(_new_link(item, place.fileno() if place else None, below, **given))
            host.send("", messages)

    @staticmethod
    def _create_pairs(host: Host, namespace: str, pairs: Sequence[Link]) -> None:
        links = host.links(namespace)
        opened: dict[str, int] = {}
        try:
            messages = []
            for item in pairs:
                peer = item.peer or VethPeer()
                fd = opened.setdefault(item.namespace, -1)
                if fd < 0:
                    path = f"{namespaces.DIRECTORY}/{item.namespace}" if item.namespace else _HERE
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

    def _settle(self, host: Host, resources: Sequence[Link]) -> None:
        """What only an existing link takes: its parameters while it is down, then the mark."""
        by_end = _ends(resources)
        for namespace, ends in sorted(by_end.items()):
            links = host.links(namespace)
            messages = []
            for name, item, is_peer in ends:
                index = links[name]["index"]
                if is_peer:
                    port = _peer_flags(item.peer) if item.peer is not None and item.peer.master else None
                    alias = mark(host.project, PORT + item.role)
                    if port is None:
                        host.run_in(namespace, _write_settings, replace(item, name=name, **_FAR_END))
                    group = item.peer.group if item.peer is not None else None
                    messages.append(netlink.set_link(index, alias=alias, addr_gen_mode="none", port=port, group=group))
                else:
                    host.run_in(namespace, _write_settings, item)
                    # The address of scope link that rules know it by; a plan's endpoints alone have IPv6 so.
                    mode = "eui64" if item.peer is not None and item.disable_ipv6 is False else None
                    messages.append(netlink.set_link(index, alias=mark(host.project, item.role), addr_gen_mode=mode))
                    messages += _joining(item.port, index, links)
            host.send(namespace, messages)

    def change(self, host: Host, operations: Sequence[Operation[Link]]) -> None:
        for operation in operations:
            wanted = operation.resource
            names = {difference.attribute for difference in operation.differences}
            own: dict[str, Any] = {}
            if operation.found is not None and operation.found.adopts:
                wanted = _as_used(wanted)
            if "role" in names:
                own["alias"] = mark(host.project, wanted.role) if wanted.role else ""
            own.update({name: getattr(wanted, name) for name in ("mac", "mtu", "group") if name in names})
            if "up" in names and not wanted.up:
                own["up"] = False
            if names & set(_SETTINGS):
                host.run_in(wanted.namespace, _write_settings, wanted)
            if own:
                index = host.links(wanted.namespace)[wanted.name]["index"]
                host.send(wanted.namespace, [netlink.set_link(index, **own)])
            if any(name.startswith(("port", "vxlan.", "parent.", "learns_")) for name in names):
                self._change_single(host, wanted, names)
            if wanted.peer is not None:
                self._change_peer(host, wanted.peer, wanted.mtu if "mtu" in names else None, names)

    @staticmethod
    def _change_single(host: Host, wanted: Link, names: set[str]) -> None:
        """A bridge's port that is no veth, and what a VXLAN and what is on a parent let be changed."""
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
            messages.append(netlink.set_link(index, kind=wanted.type, data=_parent_data(wanted.parent, wanted.type)))
        if names & {"port", "port.master"}:
            messages += _joining(wanted.port, index, links)
        elif wanted.port is not None and any(name.startswith("port.") for name in names):
            messages.append(netlink.set_link(index, port=_port_flags(wanted.port)))
        host.send(wanted.namespace, messages)

    @staticmethod
    def _change_peer(host: Host, peer: VethPeer, mtu: Optional[int], names: set[str]) -> None:
        links = host.links(peer.namespace)
        index = links[peer.name]["index"]
        messages = []
        if mtu is not None:
            messages.append(netlink.set_link(index, mtu=mtu))
        if "peer.master" in names:
            if not peer.master:
                far = Link(peer.namespace, peer.name, "veth", **_FAR_END)
                host.run_in(peer.namespace, _write_settings, far)
            messages.append(netlink.set_link(index, master=links[peer.master]["index"] if peer.master else 0))
        if "peer.group" in names:
            messages.append(netlink.set_link(index, group=peer.group))
        if names & {"peer.master", "peer.isolated", "peer.hairpin"} and peer.master:
            messages.append(netlink.set_link(index, port=_peer_flags(peer)))
        host.send(peer.namespace, messages)

    def finish(self, host: Host, resources: Sequence[Link]) -> None:
        by_end = _ends([item for item in resources if item.up])
        for namespace, ends in sorted(by_end.items()):
            links = host.links(namespace)
            down = [name for name, _item, _is_peer in ends if not links[name]["up"]]
            host.send(namespace, [netlink.set_link(links[name]["index"], up=True) for name in down])

    def delete(self, host: Host, resources: Sequence[Link]) -> None:
        """One by one each link costs a grace period of the kernel; a whole group costs one."""
        self._give_back(host, [item for item in resources if item.stays])
        resources = [item for item in resources if not item.stays]
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
        """One of the links is none that goes, like tunl0: root in there has forged a mark.  What stays loses it."""
        host.run_in(namespace, try_send, [netlink.del_link(index) for index in indexes])
        host.remove(namespace, [netlink.set_link(index, alias="", group=0) for index in indexes])

    @staticmethod
    def _give_back(host: Host, resources: Sequence[Link]) -> None:
        """Take off bridges of somebody else what using them has put on; their addresses are not ours."""
        for namespace, group in by_namespace(resources).items():
            links = host.links(namespace)
            there = [item for item in group if item.name in links]
            for item in there:
                if item.route_localnet:
                    host.run_in(namespace, _write_settings, Link(namespace, item.name, item.type, route_localnet=False))
            host.remove(namespace, [netlink.set_link(links[item.name]["index"], alias="", group=0) for item in there])


def _highest(links: Mapping[str, Mapping[str, Any]]) -> int:
    return max(int(link["index"]) for link in links.values())


def _new_link(
    item: Link, netns_fd: Optional[int] = None, parent: Optional[int] = None, index: Optional[int] = None
) -> netlink.Message:
    """A VXLAN of a local IPv6 address takes IPv6 remote ends without a group, as tried on Linux 6.1 and 6.18."""
    data: dict[str, Any] = {}
    if item.vxlan is not None:
        vxlan = item.vxlan
        data = {"id": vxlan.id, "local": vxlan.local, "port": vxlan.port, "learning": vxlan.learning}
        if vxlan.proxy:
            data["proxy"] = True
        if vxlan.source_port:
            data["source_ports"] = (vxlan.source_port, vxlan.source_port + 1)
    elif item.parent is not None:
        data = _parent_data(item.parent, item.type)
    elif item.type == "bridge" and item.namespace:
        # Else each static entry of its forwarding table is two, one of them for VLAN 1, which it does not have.
        data = {"vlan_default_pvid": 0}
    if item.learns_from_reserved is False:
        data = {**data, "no_linklocal_learn": True}
    values: dict[str, Any] = {"mac": item.mac, "mtu": item.mtu, "group": item.group}
    return netlink.new_link(item.name, item.type, **values, link=parent, netns_fd=netns_fd, data=data, index=index)


def _parent_data(parent: Parent, kind: str) -> dict[str, Any]:
    if kind == "vlan":
        return {"id": parent.vlan}
    return {"mode": parent.mode, "flags": parent.flag} if kind == "ipvlan" else {"mode": parent.mode}


def _parent_of(host: Host, link: Mapping[str, Any], outside: bool) -> Optional[Parent]:
    """What it is on; a parent that is not in the host's own namespace has no name."""
    if link["kind"] not in _ON_A_PARENT:
        return None
    below = host.snapshot("").link_by_index(link["link"]) if outside else None
    data = link["data"]
    return Parent(below["name"] if below else "", data.get("mode", ""), data.get("flags", ""), data.get("id", 0))


def _joining(port: Optional[BridgePort], index: int, links: Mapping[str, Mapping[str, Any]]) -> list[netlink.Message]:
    """What makes a link a bridge's port; it has no addresses of its own then, the link's own IPv6 among them."""
    if port is None:
        return []
    join = netlink.set_link(index, master=links[port.master]["index"], addr_gen_mode="none")
    return [join, netlink.set_link(index, port=_port_flags(port))]


def _port_of(host: Host, namespace: str, link: Mapping[str, Any]) -> Optional[BridgePort]:
    bridge = host.snapshot(namespace).link_by_index(link["master"])
    if link["kind"] == "veth" or bridge is None or bridge["kind"] != "bridge":
        return None
    return BridgePort(bridge["name"], **{name: bool(link["port"].get(name)) for name in _PORT_FLAGS})


def _is_outside(host: Host, namespace: str, link: Mapping[str, Any]) -> bool:
    """Whether what is below a link, a VXLAN's packets or a parent, is in the host's own namespace and no other."""
    number = link["link_netnsid"]
    if link["kind"] not in ("vxlan", *_ON_A_PARENT) or not namespace or number is None:
        return not namespace and number is None
    with open(_HERE, "rb") as here:
        return bool(host.run_in(namespace, _number_of, here.fileno()) == number)


def _number_of(descriptor: int) -> Optional[int]:
    with netlink.Netlink() as socket:
        return socket.namespace_id(descriptor)


def _learns_from_reserved(link: Mapping[str, Any]) -> Optional[bool]:
    """None of what is no bridge, and from a kernel that has no such option."""
    silent = link["data"].get("no_linklocal_learn") if link["kind"] == "bridge" else None
    return None if silent is None else not silent


def _vxlan_of(namespace: str, link: Mapping[str, Any], outside: bool) -> Optional[Vxlan]:
    if link["kind"] != "vxlan":
        return None
    data = link["data"]
    first, end = data.get("source_ports", (0, 0))
    source_port = _SEVERAL if end > first + 1 else first
    learning, proxy = bool(data.get("learning")), bool(data.get("proxy"))
    return Vxlan(data.get("id", 0), data.get("local", ""), data.get("port", 0), learning, outside, source_port, proxy)


def _family(vxlan: Vxlan) -> int:
    return 6 if ":" in vxlan.local else 4


def vni_holder(host: Host, vxlan: Vxlan, places: Iterable[str]) -> str:
    """The name of the VXLAN in one of these namespaces that has the VNI and port; "" if there is none."""
    wanted = (vxlan.id, vxlan.port, _family(vxlan), vxlan.outside)
    for namespace in places:
        with contextlib.suppress(FileNotFoundError):
            for name, link in host.links(namespace).items():
                found = _vxlan_of(namespace, link, _is_outside(host, namespace, link))
                if found is not None and (found.id, found.port, _family(found), found.outside) == wanted:
                    return "/".join(part for part in (namespace, name) if part)
    return ""


def _vni_taken(host: Host, vxlan: Vxlan, error: netlink.NetlinkError) -> netlink.NetlinkError:
    name = vni_holder(host, vxlan, host.places)
    who = f"this host's VXLAN {name}" if name else "another VXLAN of this host"
    return netlink.NetlinkError(errno.EEXIST, f"{who} has VNI {vxlan.id} on port {vxlan.port} already", error.request)


def _is_half_made(want: Link, link: dict[str, Any]) -> bool:
    """What a killed run made and had no time to mark: our derived name and MAC or our group, down, nothing said."""
    same = link["kind"] == want.type and want.mac is not None and link["mac"] == want.mac
    same = same or (link["kind"] == want.type and link["group"] == want.group == LAN_GROUP)
    return same and not link["alias"] and not link["up"]


def _is_adopted(want: Optional[Link], link: dict[str, Any]) -> bool:
    """A bridge that nobody marked, where one may be used; it can be given back as it was."""
    marked = link["alias"] or link["group"]
    return want is not None and want.adopts and link["kind"] == want.type and not marked


def _as_used(wanted: Link) -> Link:
    """What of a wanted bridge holds for one that somebody else made; a link as it was found is that already."""
    role, answers = wanted.role, wanted.route_localnet
    if role and not wanted.stays:
        role, answers = USED + role, answers or None
    return Link(
        wanted.namespace, wanted.name, wanted.type, role, up=wanted.up, group=wanted.group, route_localnet=answers
    )


def _ends(resources: Iterable[Link]) -> dict[str, list[tuple[str, Link, bool]]]:
    """The ends of links by namespace: (name, the link, whether it is the far end)."""
    result: dict[str, list[tuple[str, Link, bool]]] = {}
    for item in resources:
        result.setdefault(item.namespace, []).append((item.name, item, False))
        if item.peer is not None:
            result.setdefault(item.peer.namespace, []).append((item.peer.name, item, True))
    return result
