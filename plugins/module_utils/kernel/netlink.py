# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A lean rtnetlink codec for the four hot families: links, addresses, routes, neighbours and forwarding entries.

Encoders are pure functions that return a `Message`; `Netlink` sends many of them at once and reads the kernel's tables
as plain dicts.  Numbers and layouts are those of the kernel's uapi headers (if_link.h, rtnetlink.h, neighbour.h,
if_addr.h, ipv6.h); the tests compare every message with pyroute2.

Families are 4 or 6, links are named by ifindex, MAC addresses are lower case with colons, addresses are text.
A value of the wrong form (not an address, a number too big, an option the kind lacks) is a ValueError or OverflowError.
"""

from __future__ import annotations

import contextlib
import errno as errnos
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional, TypeVar

Entry = dict[str, Any]
N = TypeVar("N", bound="Netlink")

_REQUEST, _ACK, _DUMP_INTERRUPTED, _DUMP = 0x1, 0x4, 0x10, 0x300
_REPLACE, _EXCLUSIVE, _CREATE, _APPEND = 0x100, 0x200, 0x400, 0x800
_ANSWER_CAPPED, _ANSWER_HAS_TEXT = 0x100, 0x200
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _DELADDR, _GETADDR = 16, 17, 18, 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE, _NEWNEIGH, _DELNEIGH, _GETNEIGH = 24, 25, 26, 28, 29, 30
_NEWRULE, _DELRULE, _GETRULE, _TO_TABLE, _BLACKHOLE = 32, 33, 34, 1, 6
_GETNSID, _UNSPECIFIED = 90, bytes(4)
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING, _IFF_LOWER_UP = 0x1, 0x8, 0x40, 0x10000
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_UNICAST, _TABLE_LOCAL, _CLONED = 1, 255, 0x200
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_ANY = 0, 253, 255
_NTF_SELF, _NTF_MASTER, _NTF_EXTERN_LEARNED, _NTF_STICKY = 0x02, 0x04, 0x10, 0x40
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
_IPV4, _IPV6, _BRIDGE = int(socket.AF_INET), int(socket.AF_INET6), 7
_VERSIONS, _BITS = {_IPV4: 4, _IPV6: 6}, {_IPV4: 32, _IPV6: 128}

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, number
_LINK = struct.Struct("=BxHiII")  # family, device type, index, flags, mask of the flags meant
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, length, source length, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=B3xiHBB")  # family, index, state, flags, type
_PADDING = (b"", b"\0", b"\0\0", b"\0\0\0")
_CHUNK_BYTES, _CHUNK_MESSAGES, _ATTEMPTS = 65536, 200, 10


class NetlinkError(OSError):
    """The kernel refused a request: ``errno``, ``message`` (its own words where it has some), ``request``."""

    def __init__(self, errno: int, message: str = "", request: str = "") -> None:
        self.message = message or os.strerror(errno)
        self.request = request
        super().__init__(errno, self.message)

    def __str__(self) -> str:
        name = errnos.errorcode.get(self.errno or 0, f"error {self.errno}")
        return f"{self.request or 'a netlink request'} failed: {self.message} ({name})"


class Message(NamedTuple):
    """One request: header and body with sequence number 0, and what it asks, for errors."""

    payload: bytes
    text: str


# --- Values and attributes ---


class _Codec(NamedTuple):
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


class _Option(NamedTuple):
    """An attribute: its number, how its value is written, and its number for an IPv6 value where that differs."""

    number: int
    codec: _Codec
    number6: int = 0


def _integer(size: int, order: Any = sys.byteorder) -> _Codec:
    return _Codec(lambda value: int(value).to_bytes(size, order), lambda data: int.from_bytes(data, order))


def _choice(size: int, **names: int) -> _Codec:
    texts = {number.to_bytes(size, sys.byteorder): name for name, number in names.items()}
    numbers = {name: data for data, name in texts.items()}

    def encode(value: str) -> bytes:
        if value not in numbers:
            raise ValueError(f"{value!r} is none of {', '.join(numbers)}")
        return numbers[value]

    return _Codec(encode, lambda data: texts.get(data, data.hex()))


def _pack_address(text: str) -> bytes:
    try:
        return socket.inet_pton(_family(text), text)
    except OSError:
        raise ValueError(f"{text!r} is not an IP address") from None


def _address_text(data: bytes) -> str:
    return socket.inet_ntop(_IPV4 if len(data) == 4 else _IPV6, data)


def _pack_mac(text: str) -> bytes:
    data = bytes.fromhex(text.replace(":", ""))
    if len(data) != 6:
        raise ValueError(f"{text!r} is not a MAC address")
    return data


def text_of(data: bytes) -> str:
    """Names and aliases are octets that anybody may have chosen: what is no UTF-8 of them stands as ``\\xff``."""
    return data.rstrip(b"\0").decode(errors="backslashreplace")


def _family(address: str) -> int:
    return _IPV6 if ":" in address else _IPV4


def _of(codec: _Codec, **numbers: int) -> dict[str, _Option]:
    return {name: _Option(number, codec) for name, number in numbers.items()}


_U8, _U16, _U32, _BE16 = _integer(1), _integer(2), _integer(4), _integer(2, "big")
_FLAG = _Codec(lambda value: b"\1" if value else b"\0", lambda data: data != b"\0")
_TEXT = _Codec(os.fsencode, text_of)
_NAME = _Codec(lambda value: os.fsencode(value) + b"\0", text_of)
_IP = _Codec(_pack_address, _address_text)
_MAC = _Codec(_pack_mac, lambda data: data.hex(":"))
_PORTS = _Codec(lambda value: struct.pack(">HH", *value), lambda data: struct.unpack(">HH", data[:4]))
# One bit of many: its value, and a mask that leaves the others as they are.
_FIRST_BIT = _Codec(lambda value: struct.pack("=II", bool(value), 1), lambda data: bool(data[0] & 1))
_GEN_MODE = _choice(1, eui64=0, none=1, stable_secret=2, random=3)

_LINK_NUMBERS = _of(_U32, mtu=4, link=5, master=10, group=27, netns_fd=28)
# An alias goes without its NUL: only an empty attribute clears it.
_LINK_OPTIONS = {**_of(_NAME, name=3), **_of(_MAC, mac=1), **_of(_TEXT, alias=20), **_LINK_NUMBERS}
_ADDRESS_OPTIONS = {**_of(_IP, local=2, address=1), **_of(_U32, flags=8)}
_ROUTE_OPTIONS = {**_of(_IP, destination=1, via=5, source=7), **_of(_U32, dev=4, metric=6, table=15)}
_RULE_OPTIONS = {
    **_of(_IP, destination=1),
    **_of(_NAME, iif=3),
    **_of(_U32, priority=6, table=15),
    **_of(_U8, protocol=21),
}
_NEIGHBOUR_OPTIONS = {**_of(_IP, address=1), **_of(_MAC, mac=2)}
_FDB_OPTIONS = {**_of(_IP, dst=1), **_of(_MAC, mac=2), **_of(_U16, vlan=5), **_of(_U32, master=9)}

_DATA: dict[str, dict[str, _Option]] = {
    "bridge": {
        **_of(_U32, forward_delay=1, hello_time=2, max_age=3, ageing_time=4, stp_state=5),
        **_of(_U16, priority=6, group_fwd_mask=9, vlan_default_pvid=39),
        **_of(_FLAG, vlan_filtering=7, mcast_snooping=23),
        **_of(_FIRST_BIT, no_linklocal_learn=46),
        **_of(_FLAG, nf_call_iptables=36, nf_call_ip6tables=37, nf_call_arptables=38),
    },
    "vxlan": {
        **_of(_U32, id=1, link=3, ageing=8),
        **_of(_U8, ttl=5),
        **_of(_BE16, port=15),
        **_of(_PORTS, source_ports=10),
        **_of(_FLAG, learning=7, proxy=11, l2miss=13, l3miss=14, udp_csum=18),
        "group": _Option(2, _IP, 16),
        "local": _Option(4, _IP, 17),
    },
    "macvlan": _of(_choice(4, private=1, vepa=2, bridge=4, passthru=8, source=16), mode=1),
    "ipvlan": {
        **_of(_choice(2, l2=0, l3=1, l3s=2), mode=1),
        **_of(_choice(2, bridge=0, private=1, vepa=2), flags=2),
    },
    "vlan": {**_of(_U16, id=1), **_of(_BE16, protocol=5)},
}
"""Options by link kind.  Times are in 1/100 s (bridge) or s (vxlan); bridge ``stp_state`` is 0, 1, or 2: user space.

A VXLAN's ``source_ports`` are the first it sends from and the first after them; of two that are equal the kernel makes
its own range.
"""

_PORT = {
    **_of(_FLAG, hairpin=4, guard=5, root_block=6, fast_leave=7, learning=8, flood=9, mcast_flood=27),
    **_of(_FLAG, mcast_to_unicast=28, vlan_tunnel=29, bcast_flood=30, neigh_suppress=32, isolated=33, locked=39),
}
"""Bridge port flags; ``flood`` is that of unknown unicast."""


def pack_attribute(number: int, value: bytes) -> bytes:
    """An attribute as the kernel reads it, filled up to a whole number of words."""
    return _ATTRIBUTE.pack(len(value) + 4, number) + value + _PADDING[-len(value) & 3]


def _pack(table: Mapping[str, _Option], values: Mapping[str, Any], what: str) -> bytes:
    """The attributes for those values that are not None, in their order."""
    packed = b""
    for name, value in values.items():
        if name not in table:
            raise ValueError(f"{what} has no option {name!r}; it has {', '.join(table) or 'none'}")
        if value is not None:
            number, codec, number6 = table[name]
            data = codec.encode(value)
            packed += pack_attribute(number6 if number6 and len(data) == 16 else number, data)
    return packed


def pack_message(kind: int, flags: int, body: bytes, text: str) -> Message:
    """A request; ``text`` is what it asks, for errors."""
    return Message(_HEADER.pack(16 + len(body), kind, flags | _REQUEST, 0, 0) + body, text)


# --- Links ---


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
    """Make a link that must not exist yet; the kernel takes no alias here, only `set_link` sets one.

    ``data`` holds options of the kind (the names of `_DATA`).  ``peer`` is a veth's other end, made where and as it
    is to be: name, netns_fd, mac, mtu, group.  It cannot be made up: the kernel would start it before its pair exists.
    """
    values = {"name": name, "mac": mac, "mtu": mtu, "master": master, "group": group}
    attributes = _pack(_LINK_OPTIONS, {**values, "link": link, "netns_fd": netns_fd}, "a link")
    options = _pack(_DATA.get(kind, {}), data or {}, f"a link of kind {kind}")
    if peer is not None:
        options += pack_attribute(1, _LINK.pack(0, 0, 0, 0, 0) + _pack(_LINK_OPTIONS, peer, "a peer"))
    info = pack_attribute(1, _NAME.encode(kind)) + (pack_attribute(2, options) if options else b"")
    state = _IFF_UP if up else 0
    body = _LINK.pack(0, 0, index or 0, state, state) + attributes + pack_attribute(18, info)
    return pack_message(_NEWLINK, _CREATE | _EXCLUSIVE, body, f"new link {name}")


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

    ``data`` holds options of a link of that ``kind``; some the kernel only takes when it makes the link.

    ``port`` holds bridge port flags (the names of `_PORT`).  They apply to the bridge the link is in already: the
    kernel looks at them before ``master``, so a link takes both only as two messages.
    """
    values = {"name": name, "mac": mac, "mtu": mtu, "master": master, "alias": alias, "group": group}
    body = _LINK.pack(0, 0, index, _IFF_UP if up else 0, 0 if up is None else _IFF_UP)
    body += _pack(_LINK_OPTIONS, values, "a link")
    if addr_gen_mode is not None:
        body += pack_attribute(26, pack_attribute(_IPV6, pack_attribute(8, _GEN_MODE.encode(addr_gen_mode))))
    if port:
        body += pack_attribute(
            18, pack_attribute(4, b"bridge\0") + pack_attribute(5, _pack(_PORT, port, "a bridge port"))
        )
    if data:
        options = _pack(_DATA.get(kind, {}), data, f"a link of kind {kind}")
        body += pack_attribute(18, pack_attribute(1, _NAME.encode(kind)) + pack_attribute(2, options))
    wanted = {**values, "addr_gen_mode": addr_gen_mode, "up": up, **(port or {}), **(data or {})}
    changes = ", ".join(key for key, value in wanted.items() if value is not None)
    return pack_message(_NEWLINK, 0, body, f"change of link {index} ({changes})")


def del_link(index: int) -> Message:
    """Remove one link; the kernel takes a grace period (16 to 40 ms) over each."""
    return pack_message(_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0), f"removal of link {index}")


def del_group(group: int) -> Message:
    """Remove all links of a device group in one grace period; ValueError for 0, which is every other link's."""
    if group == 0:
        raise ValueError("group 0 has every link that was given no other")
    body = _LINK.pack(0, 0, 0, 0, 0) + _pack(_LINK_OPTIONS, {"group": group}, "a link")
    return pack_message(_DELLINK, 0, body, f"removal of the links of group {group}")


# --- Addresses and routes ---


def _split(prefix: str) -> tuple[int, str, int]:
    """Address family, address and length of ``10.0.0.2/24``; without a length it is a host's."""
    address, _slash, length = prefix.partition("/")
    family = _family(address)
    number = int(length or _BITS[family])
    if not 0 <= number <= _BITS[family]:
        raise ValueError(f"{prefix!r} has no prefix length from 0 to {_BITS[family]}")
    return family, address, number


def _address(index: int, prefix: str, nodad: bool) -> bytes:
    family, address, length = _split(prefix)
    header = _ADDRESS.pack(family, length, _IFA_F_NODAD if nodad and family == _IPV6 else 0, 0, index)
    return header + _pack(_ADDRESS_OPTIONS, {"local": address, "address": address}, "an address")


def new_address(index: int, address: str, *, nodad: bool = True) -> Message:
    """Put ``10.0.0.2/24`` on a link, without a broadcast address; IPv6 without duplicate detection unless asked for."""
    body = _address(index, address, nodad)
    return pack_message(_NEWADDR, _CREATE | _REPLACE, body, f"new address {address} on link {index}")


def del_address(index: int, address: str) -> Message:
    """Take an address off a link; EADDRNOTAVAIL if it is not there."""
    body = _address(index, address, False)
    return pack_message(_DELADDR, 0, body, f"removal of address {address} from link {index}")


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

    ``scope`` None is what iproute2 fills in: for IPv4 without ``via`` that of the link (253), else the universe (0).
    ``remove`` is `del_route`.
    """
    if destination == "default":
        six = family == 6 if family is not None else ":" in (via or source or "")
        destination = "::/0" if six else "0.0.0.0/0"
    number, address, length = _split(destination)
    if family not in (None, _VERSIONS[number]):
        raise ValueError(f"{destination} is not a destination of family {family}")
    if scope is None:
        scope = _SCOPE_ANY if remove else _SCOPE_UNIVERSE if via or number == _IPV6 else _SCOPE_LINK
    header = (number, length, 0, 0, table if table < 256 else 0, protocol, scope, 0 if remove else _UNICAST, 0)
    values = {"via": via, "dev": dev, "metric": metric, "source": source, "table": table}
    body = _ROUTE.pack(*header)
    body += _pack(_ROUTE_OPTIONS, {"destination": address if length else None, **values}, "a route")
    text = f"route {destination}" + (f" via {via}" if via else "") + (f" on link {dev}" if dev else "")
    if remove:
        return pack_message(_DELROUTE, 0, body, f"removal of {text}")
    return pack_message(_NEWROUTE, _CREATE | _REPLACE, body, f"new {text}")


def del_route(destination: str, *, protocol: int = 0, **which: Any) -> Message:
    """Remove the route that has what is given, by the keywords of `new_route`; ESRCH if there is none."""
    return new_route(destination, protocol=protocol, remove=True, **which)


def _rule(family: int, priority: int, protocol: int, iif: str, destination: str, table: int) -> tuple[bytes, str]:
    number, address, length = _split(destination) if destination else (_IPV6 if family == 6 else _IPV4, "", 0)
    if _VERSIONS[number] != family:
        raise ValueError(f"{destination} is not a destination of family {family}")
    small, action = table if table < 256 else 0, _TO_TABLE if table else _BLACKHOLE
    values = {"destination": address or None, "iif": iif or None, "priority": priority}
    values.update({"table": table or None, "protocol": protocol})
    body = _ROUTE.pack(number, length, 0, 0, small, 0, 0, action, 0) + _pack(_RULE_OPTIONS, values, "a rule")
    where = "".join(f" {word} {value}" for word, value in (("from", iif), ("to", destination)) if value)
    return body, f"ipv{family} rule {priority}{where}"


def new_rule(
    family: int, *, priority: int, protocol: int, iif: str = "", destination: str = "", table: int = 0
) -> Message:
    """Add a rule of policy routing that must not exist yet; ``table`` 0 drops what it is about (blackhole)."""
    body, text = _rule(family, priority, protocol, iif, destination, table)
    return pack_message(_NEWRULE, _CREATE | _EXCLUSIVE, body, f"new {text}")


def del_rule(
    family: int, *, priority: int, protocol: int, iif: str = "", destination: str = "", table: int = 0
) -> Message:
    """Remove the rule that `new_rule` added with the same arguments; ENOENT if there is none."""
    body, text = _rule(family, priority, protocol, iif, destination, table)
    return pack_message(_DELRULE, 0, body, f"removal of {text}")


# --- Neighbours and forwarding entries ---


def new_neighbour(index: int, address: str, mac: str, *, state: int = NUD_PERMANENT) -> Message:
    """Set an entry of the ARP or ND table."""
    body = _NEIGHBOUR.pack(_family(address), index, state, 0, 0)
    body += _pack(_NEIGHBOUR_OPTIONS, {"address": address, "mac": mac}, "a neighbour")
    return pack_message(_NEWNEIGH, _CREATE | _REPLACE, body, f"new neighbour {address} at {mac} on link {index}")


def del_neighbour(index: int, address: str) -> Message:
    """Remove an entry of the ARP or ND table; ENOENT if there is none."""
    body = _NEIGHBOUR.pack(_family(address), index, 0, 0, 0) + pack_attribute(1, _pack_address(address))
    return pack_message(_DELNEIGH, 0, body, f"removal of neighbour {address} on link {index}")


def _fdb(index: int, state: int, mac: str, dst: Optional[str], flags: int, vlan: Optional[int]) -> tuple[bytes, str]:
    body = _NEIGHBOUR.pack(_BRIDGE, index, state, flags, 0)
    body += _pack(_FDB_OPTIONS, {"mac": mac, "dst": dst, "vlan": vlan}, "a forwarding entry")
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

    In a bridge, ``static`` is what points at the port; without it the address is the bridge's own.  Unless it is
    ``sticky`` it moves all the same to a port from which somebody says to have the address (Linux 4.20).  A VXLAN's
    all-zero or multicast entry is a list of remote ends, which the kernel refuses to replace: those are appended, and
    one that is there already is no error.
    """
    flags = (_NTF_MASTER if master else _NTF_SELF) | (_NTF_STICKY if sticky else 0)
    body, text = _fdb(index, NUD_NOARP if static else NUD_PERMANENT, mac, dst, flags, vlan)
    data = _pack_mac(mac)
    is_list = dst is not None and (data[0] & 1 or not any(data))
    return pack_message(_NEWNEIGH, _CREATE | (_APPEND if is_list else _REPLACE), body, f"new {text}")


def del_fdb(
    index: int, mac: str, *, dst: Optional[str] = None, master: bool = False, vlan: Optional[int] = None
) -> Message:
    """Remove a forwarding entry, or with ``dst`` that one remote end of it; ENOENT if there is none."""
    # The device's own list demands the state it would be made with; bridges and VXLANs do not look at it.
    body, text = _fdb(index, NUD_PERMANENT, mac, dst, _NTF_MASTER if master else _NTF_SELF, vlan)
    return pack_message(_DELNEIGH, 0, body, f"removal of {text}")


# --- Decoding ---


def attributes(data: bytes, at: int, end: int) -> dict[int, bytes]:
    """The attributes of a message or of an attribute, by number, as they are."""
    found = {}
    while at + 4 <= end:
        length, number = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[number] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


_Decode = Callable[[bytes, int, int], Any]
_Decoders = dict[int, tuple[str, Callable[[bytes], Any]]]


def _decoders(table: Mapping[str, _Option]) -> _Decoders:
    numbers = {name: {option.number, option.number6 or option.number} for name, option in table.items()}
    return {number: (name, table[name].codec.decode) for name in table for number in numbers[name]}


def _decode(decoders: _Decoders, data: bytes, at: int = 0, end: Optional[int] = None) -> Entry:
    """The attributes that have a decoder, by name."""
    found = {}
    unpack, known = _ATTRIBUTE.unpack_from, decoders.get
    end = len(data) if end is None else end
    while at + 4 <= end:
        length, number = unpack(data, at)
        if length < 4:
            break
        decoder = known(number & 0x3FFF)
        if decoder is not None:
            found[decoder[0]] = decoder[1](data[at + 4 : at + length])
        at += (length + 3) & ~3
    return found


def _nest(name: str, decoders: _Decoders) -> tuple[str, Callable[[bytes], Any]]:
    return name, lambda data: _decode(decoders, data)


def _signed(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder, signed=True)


def _settings(data: bytes) -> Entry:
    """What is used of the IPv6 settings of a link, by their places in ipv6.h's DEVCONF."""
    values = struct.unpack_from(f"={len(data) // 4}i", data)
    found: Entry = {name: values[place] for name, place in _DEVCONF.items() if place < len(values)}
    if "addr_gen_mode" in found:  # its own attribute is left out along with the statistics
        found["addr_gen_mode"] = _GEN_MODE.decode(bytes([found["addr_gen_mode"] & 0xFF]))
    return found


def _settings4(data: bytes) -> Entry:
    """The same of its IPv4 settings, whose places in ip.h's enum count from 1."""
    values = struct.unpack_from(f"={len(data) // 4}i", data)
    return {name: values[place - 1] for name, place in _DEVCONF4.items() if place <= len(values)}


_DEVCONF4 = {"forwarding4": 1, "route_localnet": 26}
_DEVCONF = {"forwarding6": 0, "accept_ra": 3, "disable_ipv6": 26, "addr_gen_mode": 47}
_DATA_DECODERS = {kind: _decoders(table) for kind, table in _DATA.items()}
_PORT_DECODERS = _decoders(_PORT)
_INFO_DECODERS: _Decoders = {1: ("kind", text_of), 2: ("data", bytes), 4: ("slave", text_of), 5: ("port", bytes)}
_LINK_DECODERS: _Decoders = {
    **_decoders(_LINK_OPTIONS),
    18: _nest("info", _INFO_DECODERS),
    26: _nest(
        "families",
        {_IPV4: _nest("inet4", {1: ("settings", _settings4)}), _IPV6: _nest("inet6", {2: ("settings", _settings)})},
    ),
    37: ("link_netnsid", _signed),
}
_ADDRESS_DECODERS, _ROUTE_DECODERS = _decoders(_ADDRESS_OPTIONS), _decoders(_ROUTE_OPTIONS)
_RULE_DECODERS = _decoders(_RULE_OPTIONS)
_NEIGHBOUR_DECODERS, _FDB_DECODERS = _decoders(_NEIGHBOUR_OPTIONS), _decoders(_FDB_OPTIONS)
_NO_LINK_ATTRIBUTES = {"name": "", "mac": "", "mtu": 0, "master": 0, "link": 0, "alias": "", "group": 0}
_NO_SETTINGS, _NO_ROUTE_ATTRIBUTES = (
    dict.fromkeys((*_DEVCONF, *_DEVCONF4)),
    dict.fromkeys(("via", "dev", "metric", "source")),
)


def _decode_link(data: bytes, at: int, end: int) -> Entry:
    _family, _type, index, flags, _mask = _LINK.unpack_from(data, at)
    found = _decode(_LINK_DECODERS, data, at + 16, end)
    info, families = found.pop("info", {}), found.pop("families", {})
    kind = info.get("kind", "")
    port = info.get("port", b"") if info.get("slave") == "bridge" else b""
    return {
        "index": index,
        "up": bool(flags & _IFF_UP),
        "running": bool(flags & _IFF_RUNNING),
        "carrier": bool(flags & _IFF_LOWER_UP),
        "loopback": bool(flags & _IFF_LOOPBACK),
        "kind": kind,
        "data": _decode(_DATA_DECODERS.get(kind, {}), info.get("data", b"")),
        "port": _decode(_PORT_DECODERS, port),
        "slave": info.get("slave", ""),
        "link_netnsid": None,
        **_NO_SETTINGS,
        **families.get("inet4", {}).get("settings", {}),
        **families.get("inet6", {}).get("settings", {}),
        **_NO_LINK_ATTRIBUTES,
        **found,
    }


def _decode_namespace_id(data: bytes, at: int, end: int) -> int:
    return int(_decode({1: ("id", _signed)}, data, at + len(_UNSPECIFIED), end)["id"])


def _decode_address(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, length, flags, scope, index = _ADDRESS.unpack_from(data, at)
    if family not in _VERSIONS:
        return None
    found = _decode(_ADDRESS_DECODERS, data, at + 8, end)
    flags = found.get("flags", flags)
    return {
        "index": index,
        "address": f"{found.get('local') or found['address']}/{length}",
        "family": _VERSIONS[family],
        "scope": scope,
        "permanent": bool(flags & _IFA_F_PERMANENT),
        "flags": flags,
    }


def _decode_route(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, length, _source_length, _tos, table, protocol, scope, kind, flags = _ROUTE.unpack_from(data, at)
    if family not in _VERSIONS or kind != _UNICAST or flags & _CLONED:
        return None
    found = _decode(_ROUTE_DECODERS, data, at + 12, end)
    if found.setdefault("table", table) == _TABLE_LOCAL:
        return None
    destination = f"{found['destination']}/{length}" if length else "default"
    header = {"family": _VERSIONS[family], "protocol": protocol, "scope": scope, "type": kind}
    return {**_NO_ROUTE_ATTRIBUTES, **header, **found, "destination": destination}


def _decode_rule(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, length, _source_length, _tos, table, _reserved, _reserved2, action, _flags = _ROUTE.unpack_from(data, at)
    if family not in _VERSIONS:
        return None
    found = {"priority": 0, "iif": "", "table": table, "protocol": 0, **_decode(_RULE_DECODERS, data, at + 12, end)}
    destination = f"{found['destination']}/{length}" if length else ""
    return {**found, "family": _VERSIONS[family], "destination": destination, "action": action}


def _decode_neighbour(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, index, state, _flags, _type = _NEIGHBOUR.unpack_from(data, at)
    if family not in _VERSIONS:
        return None
    found = _decode(_NEIGHBOUR_DECODERS, data, at + 12, end)
    return {"index": index, "mac": "", "state": state, "permanent": bool(state & NUD_PERMANENT), **found}


def _decode_fdb(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, index, state, flags, _type = _NEIGHBOUR.unpack_from(data, at)
    if family != _BRIDGE:
        return None
    return {
        "index": index,
        "dst": None,
        "master": None,
        "vlan": None,
        "self": bool(flags & _NTF_SELF),
        "permanent": bool(state & NUD_PERMANENT),
        "static": bool(state & NUD_NOARP),
        "sticky": bool(flags & _NTF_STICKY),
        "extern_learn": bool(flags & _NTF_EXTERN_LEARNED),
        **_decode(_FDB_DECODERS, data, at + 12, end),
    }


# --- Reading large tables: what stands there over and over again is looked at once ---


class Alike(NamedTuple):
    """Neighbours or forwarding entries that came one after the other and differ in their addresses alone."""

    first: Entry
    """The first of them, as `neighbours` or `fdb` give it; empty if it is neither."""
    size: int
    macs: Sequence[bytes]
    addresses: Sequence[bytes]
    """Of neighbours their own, of forwarding entries the remote ends; either is empty if they have none."""


_DESTINATION, _LINK_ADDRESS, _AGES = 1, 2, (3, 4)
_FEWEST = 8


def _columns(data: bytes, at: int, end: int) -> tuple[struct.Struct, list[int]]:
    """How a message like this one is taken apart, and which attribute each field has: 0 for all that has to be alike.

    Ages (when an entry was used, how often it was probed) are left out.
    """
    form, numbers, alike = "=", [], 28
    at += 12
    while at + 4 <= end:
        length, number = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        size, padding = length - 4, -length & 3
        if number in (_DESTINATION, _LINK_ADDRESS):
            form += f"{alike + 4}s{size}s"
            numbers += [0, number]
            alike = padding
        elif number in _AGES:
            form += f"{alike + 4}s{size + padding}x"
            numbers.append(0)
            alike = 0
        else:
            alike += length + padding
        at += length + padding
    return struct.Struct(f"{form}{alike}s"), [*numbers, 0]


def address_texts(addresses: Sequence[bytes]) -> list[str]:
    """The texts of an `Alike`'s addresses, which are of one family."""
    family = _IPV6 if addresses and len(addresses[0]) == 16 else _IPV4
    return [socket.inet_ntop(family, address) for address in addresses]


class _Grouping:
    """Reads as many messages at a time as are alike; a look-ahead that grows keeps it from looking far in vain."""

    def __init__(self, decode: _Decode) -> None:
        self._decode = decode
        self._ahead = _FEWEST

    def __call__(self, data: bytes, at: int, end: int) -> Alike:
        form, numbers = _columns(data, at, end)
        start = at - 16
        whole = form.size == (end - start + 3) & ~3
        count = min(self._ahead, (len(data) - start) // form.size if whole else 0)
        fields = list(zip(*form.iter_unpack(memoryview(data)[start : start + count * form.size])))
        for number, field in zip(numbers, fields):
            if not number and field.count(field[0]) != len(field):
                count = min(count, next(place for place, value in enumerate(field) if value != field[0]))
        self._ahead = self._ahead * 4 if count == self._ahead else max(_FEWEST, count)
        found = {number: field[:count] for number, field in zip(numbers, fields)}
        first = self._decode(data, at, end) or {}
        return Alike(first, max(count, 1), found.get(_LINK_ADDRESS, ()), found.get(_DESTINATION, ()))


# --- The socket ---

_SKIP_STATISTICS = pack_attribute(29, _U32.encode(8))


def _chunks(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    start = size = 0
    for position, message in enumerate(messages):
        if position > start and (size + len(message.payload) > _CHUNK_BYTES or position - start == _CHUNK_MESSAGES):
            yield messages[start:position]
            start, size = position, 0
        size += len(message.payload)
    if start < len(messages):
        yield messages[start:]


class Netlink:
    """A socket in the network namespace the calling thread is in when it is made; it stays there."""

    _protocol = int(socket.NETLINK_ROUTE)

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self._protocol)
        # Kernels that lack one of these (older than 4.20) only say less in errors or filter less in dumps.
        for option in (11, 10, 12):  # NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK
            with contextlib.suppress(OSError):
                self._socket.setsockopt(270, option, 1)  # SOL_NETLINK
        for option in (socket.SO_RCVBUF, 33):  # SO_RCVBUFFORCE: beyond net.core.rmem_max, for root
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        self._socket.bind((0, 0))
        self._buffer = bytearray(_CHUNK_BYTES)
        self._view = memoryview(self._buffer)
        self._sequence = 0
        self.most: Optional[int] = None
        """How many entries a table may have; one with more is not read to its end."""

    def close(self) -> None:
        self._socket.close()

    def __enter__(self: N) -> N:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Send in order, many at once.  NetlinkError is the first that failed.

        Those sent along with it (up to 200) were tried all the same, later ones were not.
        """
        for chunk in _chunks(messages):
            for error in self._exchange(chunk):
                if error is not None:
                    raise error

    def try_send(self, messages: Sequence[Message]) -> list[Optional[NetlinkError]]:
        """Send all in order; returns for each its error, or None."""
        return [error for chunk in _chunks(messages) for error in self._exchange(chunk)]

    def links(self) -> list[Entry]:
        """All links.

        index, name, mac ("" if none), mtu, up, running, carrier, loopback, master, link (0 if none), link_netnsid (or
        None), alias, group, kind ("" for physical ones), data and port (as `new_link` and `set_link` take them),
        slave (the kind of what it is a port of, ""),
        forwarding4, route_localnet, forwarding6, accept_ra, disable_ipv6, addr_gen_mode (None without that family).
        """
        return self._dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0) + _SKIP_STATISTICS, "list of links", _decode_link)

    def link_by_name(self, name: str) -> Optional[Entry]:
        """One link as in `links`, or None."""
        body = _LINK.pack(0, 0, 0, 0, 0) + pack_attribute(3, _NAME.encode(name)) + _SKIP_STATISTICS
        try:
            found = self._ask(_GETLINK, _ACK, body, f"look-up of link {name}", _decode_link)
            return found[0] if found else None
        except NetlinkError as error:
            if error.errno == errnos.ENODEV:
                return None
            raise

    def namespace_id(self, descriptor: int) -> Optional[int]:
        """What ``link_netnsid`` is here for the network namespace of an open file; None if it has no number yet."""
        body = _UNSPECIFIED + pack_attribute(3, _U32.encode(descriptor))
        (found,) = self._ask(_GETNSID, _ACK, body, "look-up of a namespace's number", _decode_namespace_id) or [-1]
        return found if found >= 0 else None

    def addresses(self) -> list[Entry]:
        """All IP addresses: index, address (``10.0.0.2/24``), family, scope, permanent, flags."""
        return self._dump(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), "list of addresses", _decode_address)

    def routes(self) -> list[Entry]:
        """The unicast routes of all tables but the local one; one with several next hops has neither via nor dev.

        destination (``default`` or ``10.0.0.0/24``), family, via, dev, protocol, table, metric, scope, source, type.
        """
        return self._dump(_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, _UNICAST, 0), "list of routes", _decode_route)

    def rules(self) -> list[Entry]:
        """The rules of policy routing: family, priority, iif, destination, table (0 for none), action, protocol."""
        return self._dump(_GETRULE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list of rules", _decode_rule)

    def neighbours(self) -> list[Entry]:
        """The ARP and ND tables: index, address, mac ("" while unknown), state, permanent."""
        return self._dump(_GETNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0), "list of neighbours", _decode_neighbour)

    def fdb(self, index: int = 0) -> list[Entry]:
        """Forwarding entries: index, mac, dst, master, vlan (or None), self, permanent, static, sticky, extern_learn.

        With an ``index`` those of that link alone, its own and those of the bridge it is a port of that lead there.
        """
        body = _NEIGHBOUR.pack(_BRIDGE, index, 0, 0, 0)
        entries = self._dump(_GETNEIGH, body, "list of forwarding entries", _decode_fdb)
        return [entry for entry in entries if entry["index"] == index] if index else entries

    def neighbours_alike(self) -> list[Alike]:
        """`neighbours`, read without looking at each."""
        return self._dump(_GETNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0), "list of neighbours", _Grouping(_decode_neighbour))

    def fdb_alike(self, index: int = 0) -> list[Alike]:
        """`fdb`, read without looking at each."""
        body = _NEIGHBOUR.pack(_BRIDGE, index, 0, 0, 0)
        entries = self._dump(_GETNEIGH, body, "list of forwarding entries", _Grouping(_decode_fdb))
        return [entry for entry in entries if not index or entry.first.get("index") == index]

    def _receive(self) -> bytes:
        """One datagram."""
        size = self._socket.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        if size > len(self._buffer):
            raise NetlinkError(errnos.EMSGSIZE, "an answer is larger than any the kernel is known to send")
        return bytes(self._view[:size])

    def _exchange(self, chunk: Sequence[Message]) -> list[Optional[NetlinkError]]:
        """The kernel answers what fails, and of what succeeds only the last, which is asked to be acknowledged."""
        first = self._sequence + 1
        request = bytearray(b"".join([message.payload for message in chunk]))
        at = 0
        for message in chunk:
            self._sequence += 1
            struct.pack_into("=I", request, at + 8, self._sequence)
            at += len(message.payload)
        last = at - len(chunk[-1].payload) + 6
        struct.pack_into("=H", request, last, _ACK | struct.unpack_from("=H", request, last)[0])
        self._socket.send(request)
        errors: list[Optional[NetlinkError]] = [None] * len(chunk)
        answered = False
        while not answered:
            for sequence, error in self._answers(first, [message.text for message in chunk]):
                errors[sequence - first] = error
                answered = sequence == self._sequence
        return errors

    def _answers(self, first: int, texts: Sequence[str]) -> Iterator[tuple[int, Optional[NetlinkError]]]:
        """What a datagram says of requests, numbered from ``first``: sequence number and error, None for success."""
        data, at = self._receive(), 0
        while (header := _header(data, at)) is not None:
            end, kind, flags, sequence = header
            if kind == _ERROR and first <= sequence < first + len(texts):
                yield sequence, _error(data, flags, at + 16, end, texts[sequence - first])
            at = (end + 3) & ~3

    def _dump(self, kind: int, body: bytes, text: str, decode: _Decode) -> list[Any]:
        for _attempt in range(_ATTEMPTS):
            entries = self._ask(kind, _DUMP, body, text, decode)
            if entries is not None:
                return entries
        raise NetlinkError(errnos.EAGAIN, f"the table changed during each of {_ATTEMPTS} reads", text)

    def _ask(self, kind: int, flags: int, body: bytes, text: str, decode: _Decode) -> Optional[list[Any]]:
        """The entries of the answer, or None if the kernel says that it could not give them of one piece."""
        self._sequence += 1
        self._socket.send(_HEADER.pack(16 + len(body), kind, flags | _REQUEST, self._sequence, 0) + body)
        entries: list[Any] = []
        seen = 0
        while True:
            data, at = self._receive(), 0
            while (header := _header(data, at)) is not None:
                end, answer, answer_flags, sequence = header
                start, at = at + 16, (end + 3) & ~3
                if sequence != self._sequence:
                    continue  # what an interrupted call left unread
                seen |= answer_flags
                if answer in (_DONE, _ERROR):
                    error = _error(data, answer_flags, start, end, text)
                    if error is not None:
                        raise error
                    return None if seen & _DUMP_INTERRUPTED else entries
                entry = decode(data, start, end)
                if isinstance(entry, Alike):
                    at = start - 16 + (at - start + 16) * entry.size
                if entry is not None:
                    entries.append(entry)
            if self.most is not None and len(entries) > self.most:
                raise NetlinkError(errnos.E2BIG, f"there are more than {self.most:,} entries", text)


def _header(data: bytes, at: int) -> Optional[tuple[int, int, int, int]]:
    """Of the message that begins there: where it ends, its type, flags and sequence number; None if there is none."""
    if at + 16 > len(data):
        return None
    length, kind, flags, sequence, _port = _HEADER.unpack_from(data, at)
    return (at + length, kind, flags, sequence) if length >= 16 else None


def _error(data: bytes, flags: int, at: int, end: int, text: str) -> Optional[NetlinkError]:
    """What an acknowledgement or the end of a dump says; None for success."""
    (code,) = struct.unpack_from("=i", data, at)
    if code >= 0:
        return None
    words = ""
    if flags & _ANSWER_HAS_TEXT:
        # The request's header follows the code, and unless it was capped the rest of the request.
        echoed = 16 if flags & _ANSWER_CAPPED else (_HEADER.unpack_from(data, at + 4)[0] + 3) & ~3
        words = _decode({1: ("words", text_of)}, data, at + 4 + echoed, end).get("words", "")
    return NetlinkError(-code, words, text)
