# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Encodes requests: pure functions that return a `Message`.

A value of the wrong form (not an address, a number too large, an option the kind lacks) raises ValueError or
OverflowError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ...plan.families import family_of, socket_family
from .format import (
    ADDR_GEN_MODE,
    ADDRESS_OPTIONS,
    AF_BRIDGE,
    AF_INET,
    AF_INET6,
    BITS,
    FDB_OPTIONS,
    FR_ACT_BLACKHOLE,
    FR_ACT_TO_TBL,
    IFA_F_NODAD,
    IFADDRMSG,
    IFF_UP,
    IFINFOMSG,
    KIND_OPTIONS,
    LINK_OPTIONS,
    NAME,
    NDMSG,
    NEIGHBOUR_OPTIONS,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NTF_MASTER,
    NTF_SELF,
    NTF_STICKY,
    NUD_NOARP,
    NUD_PERMANENT,
    PORT_OPTIONS,
    ROUTE_OPTIONS,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTMSG,
    RTN_UNICAST,
    RULE_OPTIONS,
    VERSIONS,
    Message,
    pack_address,
    pack_attribute,
    pack_mac,
    pack_message,
    pack_options,
)


def new_link(
    name: str,
    kind: str,
    *,
    mac: Optional[str] = None,
    mtu: Optional[int] = None,
    master: Optional[int] = None,
    group: Optional[int] = None,
    link: Optional[int] = None,
    netns_fd: Optional[int] = None,
    up: bool = False,
    data: Optional[Mapping[str, Any]] = None,
    peer: Optional[Mapping[str, Any]] = None,
    index: Optional[int] = None,
) -> Message:
    """Create a link that must not exist; the kernel accepts an alias only in `set_link`.

    ``data`` holds options of the kind (the names in `KIND_OPTIONS`).  ``peer`` describes a veth's other end: name,
    netns_fd, mac, mtu, group.  It cannot be created up: the kernel would start it before its pair exists.
    """
    values = {"name": name, "mac": mac, "mtu": mtu, "master": master, "group": group}
    attributes = pack_options(LINK_OPTIONS, {**values, "link": link, "netns_fd": netns_fd}, "a link")
    options = pack_options(KIND_OPTIONS.get(kind, {}), data or {}, f"a link of kind {kind}")
    if peer is not None:
        options += pack_attribute(1, IFINFOMSG.pack(0, 0, 0, 0, 0) + pack_options(LINK_OPTIONS, peer, "a peer"))
    info = pack_attribute(1, NAME.encode(kind)) + (pack_attribute(2, options) if options else b"")
    state = IFF_UP if up else 0
    body = IFINFOMSG.pack(0, 0, index or 0, state, state) + attributes + pack_attribute(18, info)
    return pack_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"new link {name}")


def set_link(
    index: int,
    *,
    name: Optional[str] = None,
    up: Optional[bool] = None,
    mac: Optional[str] = None,
    mtu: Optional[int] = None,
    master: Optional[int] = None,
    alias: Optional[str] = None,
    group: Optional[int] = None,
    addr_gen_mode: Optional[str] = None,
    port: Optional[Mapping[str, bool]] = None,
    kind: str = "",
    data: Optional[Mapping[str, Any]] = None,
) -> Message:
    """Change what is not None.  ``master`` 0 releases the link, ``alias`` "" clears it.

    ``data`` holds options of a link of that ``kind``; the kernel accepts some of them only at creation.

    ``port`` holds bridge port flags (the names in `PORT_OPTIONS`).  They apply to the bridge the link is already in:
    the kernel handles them before ``master``, so setting both takes two messages.
    """
    values = {"name": name, "mac": mac, "mtu": mtu, "master": master, "alias": alias, "group": group}
    body = IFINFOMSG.pack(0, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)
    body += pack_options(LINK_OPTIONS, values, "a link")
    if addr_gen_mode is not None:
        body += pack_attribute(26, pack_attribute(AF_INET6, pack_attribute(8, ADDR_GEN_MODE.encode(addr_gen_mode))))
    if port:
        body += pack_attribute(
            18, pack_attribute(4, b"bridge\0") + pack_attribute(5, pack_options(PORT_OPTIONS, port, "a bridge port"))
        )
    if data:
        options = pack_options(KIND_OPTIONS.get(kind, {}), data, f"a link of kind {kind}")
        body += pack_attribute(18, pack_attribute(1, NAME.encode(kind)) + pack_attribute(2, options))
    wanted = {**values, "addr_gen_mode": addr_gen_mode, "up": up, **(port or {}), **(data or {})}
    changes = ", ".join(key for key, value in wanted.items() if value is not None)
    return pack_message(RTM_NEWLINK, 0, body, f"change of link {index} ({changes})")


def del_link(index: int) -> Message:
    """Remove one link, which costs a grace period of the kernel (16 to 40 ms)."""
    return pack_message(RTM_DELLINK, 0, IFINFOMSG.pack(0, 0, index, 0, 0), f"removal of link {index}")


def del_group(group: int) -> Message:
    """Remove all links of a device group in one grace period; ValueError for 0, the default group."""
    if group == 0:
        raise ValueError("group 0 is the default group of all links")
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + pack_options(LINK_OPTIONS, {"group": group}, "a link")
    return pack_message(RTM_DELLINK, 0, body, f"removal of the links of group {group}")


# --- Addresses and routes ---


def _split(prefix: str) -> tuple[int, str, int]:
    """Address family, address and length of ``10.0.0.2/24``; the length defaults to that of a single address."""
    address, _slash, length = prefix.partition("/")
    family = socket_family(address)
    number = int(length or BITS[family])
    if not 0 <= number <= BITS[family]:
        raise ValueError(f"{prefix!r} has no prefix length from 0 to {BITS[family]}")
    return family, address, number


def _address(index: int, prefix: str, nodad: bool) -> bytes:
    family, address, length = _split(prefix)
    header = IFADDRMSG.pack(family, length, IFA_F_NODAD if nodad and family == AF_INET6 else 0, 0, index)
    return header + pack_options(ADDRESS_OPTIONS, {"local": address, "address": address}, "an address")


def new_address(index: int, address: str, *, nodad: bool = True) -> Message:
    """Add ``10.0.0.2/24`` to a link, without a broadcast address; by default no IPv6 duplicate detection."""
    body = _address(index, address, nodad)
    return pack_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, f"new address {address} on link {index}")


def del_address(index: int, address: str) -> Message:
    """Remove an address from a link; EADDRNOTAVAIL if it is absent."""
    body = _address(index, address, False)
    return pack_message(RTM_DELADDR, 0, body, f"removal of address {address} from link {index}")


def new_route(
    destination: str,
    *,
    protocol: int,
    via: Optional[str] = None,
    dev: Optional[int] = None,
    table: int = 254,
    metric: Optional[int] = None,
    scope: Optional[int] = None,
    source: Optional[str] = None,
    family: Optional[int] = None,
    remove: bool = False,
) -> Message:
    """Set the unicast route to a prefix or ``default`` (of ``family``, else that of ``via`` or ``source``, else 4).

    ``scope`` defaults to what iproute2 uses: for IPv4 without ``via`` link (253), else universe (0).  `del_route` calls
    this with ``remove``.
    """
    if destination == "default":
        six = family == 6 if family is not None else family_of(via or source or "") == 6
        destination = "::/0" if six else "0.0.0.0/0"
    number, address, length = _split(destination)
    if family not in (None, VERSIONS[number]):
        raise ValueError(f"{destination} is not a destination of family {family}")
    if scope is None:
        scope = RT_SCOPE_NOWHERE if remove else RT_SCOPE_UNIVERSE if via or number == AF_INET6 else RT_SCOPE_LINK
    header = (number, length, 0, 0, table if table < 256 else 0, protocol, scope, 0 if remove else RTN_UNICAST, 0)
    values = {"via": via, "dev": dev, "metric": metric, "source": source, "table": table}
    body = RTMSG.pack(*header)
    body += pack_options(ROUTE_OPTIONS, {"destination": address if length else None, **values}, "a route")
    text = f"route {destination}" + (f" via {via}" if via else "") + (f" on link {dev}" if dev else "")
    if remove:
        return pack_message(RTM_DELROUTE, 0, body, f"removal of {text}")
    return pack_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, f"new {text}")


def del_route(destination: str, *, protocol: int = 0, **which: Any) -> Message:
    """Remove the route that matches the keywords of `new_route`; ESRCH if there is none."""
    return new_route(destination, protocol=protocol, remove=True, **which)


def _rule(family: int, priority: int, protocol: int, iif: str, destination: str, table: int) -> tuple[bytes, str]:
    number, address, length = _split(destination) if destination else (AF_INET6 if family == 6 else AF_INET, "", 0)
    if VERSIONS[number] != family:
        raise ValueError(f"{destination} is not a destination of family {family}")
    small, action = table if table < 256 else 0, FR_ACT_TO_TBL if table else FR_ACT_BLACKHOLE
    values = {"destination": address or None, "iif": iif or None, "priority": priority}
    values.update({"table": table or None, "protocol": protocol})
    body = RTMSG.pack(number, length, 0, 0, small, 0, 0, action, 0) + pack_options(RULE_OPTIONS, values, "a rule")
    where = "".join(f" {word} {value}" for word, value in (("from", iif), ("to", destination)) if value)
    return body, f"ipv{family} rule {priority}{where}"


def new_rule(
    family: int, *, priority: int, protocol: int, iif: str = "", destination: str = "", table: int = 0
) -> Message:
    """Add a policy routing rule that must not exist; ``table`` 0 drops matching packets (blackhole)."""
    body, text = _rule(family, priority, protocol, iif, destination, table)
    return pack_message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, body, f"new {text}")


def del_rule(
    family: int, *, priority: int, protocol: int, iif: str = "", destination: str = "", table: int = 0
) -> Message:
    """Remove the rule that `new_rule` added with the same arguments; ENOENT if there is none."""
    body, text = _rule(family, priority, protocol, iif, destination, table)
    return pack_message(RTM_DELRULE, 0, body, f"removal of {text}")


# --- Neighbours and forwarding entries ---


def new_neighbour(index: int, address: str, mac: str, *, state: int = NUD_PERMANENT) -> Message:
    """Set an entry of the ARP or ND table."""
    body = NDMSG.pack(socket_family(address), index, state, 0, 0)
    body += pack_options(NEIGHBOUR_OPTIONS, {"address": address, "mac": mac}, "a neighbour")
    return pack_message(
        RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, f"new neighbour {address} at {mac} on link {index}"
    )


def del_neighbour(index: int, address: str) -> Message:
    """Remove an entry of the ARP or ND table; ENOENT if there is none."""
    body = NDMSG.pack(socket_family(address), index, 0, 0, 0) + pack_attribute(1, pack_address(address))
    return pack_message(RTM_DELNEIGH, 0, body, f"removal of neighbour {address} on link {index}")


def _fdb(index: int, state: int, mac: str, dst: Optional[str], flags: int, vlan: Optional[int]) -> tuple[bytes, str]:
    body = NDMSG.pack(AF_BRIDGE, index, state, flags, 0)
    body += pack_options(FDB_OPTIONS, {"mac": mac, "dst": dst, "vlan": vlan}, "a forwarding entry")
    return body, f"forwarding entry {mac}{f' to {dst}' if dst else ''} on link {index}"


def new_fdb(
    index: int,
    mac: str,
    *,
    dst: Optional[str] = None,
    master: bool = False,
    static: bool = False,
    sticky: bool = False,
    vlan: Optional[int] = None,
) -> Message:
    """Set a forwarding entry: of the device itself (``dst``: a VXLAN's remote end) or of the bridge it is a port of.

    In a bridge, a ``static`` entry points at the port; without it the address is the bridge's own.  Without ``sticky``
    (Linux 4.20) the entry still moves to another port that receives a frame from the address.  A VXLAN's all-zero or
    multicast entry is a list of remote ends, which the kernel cannot replace: the new one is appended, which is no
    error if it exists.
    """
    flags = (NTF_MASTER if master else NTF_SELF) | (NTF_STICKY if sticky else 0)
    body, text = _fdb(index, NUD_NOARP if static else NUD_PERMANENT, mac, dst, flags, vlan)
    data = pack_mac(mac)
    is_list = dst is not None and (data[0] & 1 or not any(data))
    return pack_message(RTM_NEWNEIGH, NLM_F_CREATE | (NLM_F_APPEND if is_list else NLM_F_REPLACE), body, f"new {text}")


def del_fdb(
    index: int, mac: str, *, dst: Optional[str] = None, master: bool = False, vlan: Optional[int] = None
) -> Message:
    """Remove a forwarding entry, or with ``dst`` only that remote end of it; ENOENT if there is none."""
    # The device's own list requires the state of its entries; bridges and VXLANs ignore it.
    body, text = _fdb(index, NUD_PERMANENT, mac, dst, NTF_MASTER if master else NTF_SELF, vlan)
    return pack_message(RTM_DELNEIGH, 0, body, f"removal of {text}")
