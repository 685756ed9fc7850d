# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The wire format of rtnetlink that encoding and decoding share: messages, attributes and the values in them.

Numbers, names and layouts are those of the kernel's uapi headers (netlink.h, if_link.h, rtnetlink.h, neighbour.h,
if_addr.h).
"""

from __future__ import annotations

import errno as errnos
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ...plan.families import packed

Entry = dict[str, Any]

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 16, 17, 18, 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 24, 25, 26, 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE, FR_ACT_TO_TBL, FR_ACT_BLACKHOLE = 32, 33, 34, 1, 6
RTM_GETNSID = 90
IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x8, 0x40, 0x10000
IFA_F_NODAD, IFA_F_PERMANENT = 0x02, 0x80
RTN_UNICAST, RT_TABLE_LOCAL, RTM_F_CLONED = 1, 255, 0x200
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
NTF_SELF, NTF_MASTER, NTF_EXTERN_LEARNED, NTF_STICKY = 0x02, 0x04, 0x10, 0x40
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
AF_INET, AF_INET6, AF_BRIDGE = int(socket.AF_INET), int(socket.AF_INET6), 7
VERSIONS, BITS = {AF_INET: 4, AF_INET6: 6}, {AF_INET: 32, AF_INET6: 128}

NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port
RTATTR = struct.Struct("=HH")  # length, number
IFINFOMSG = struct.Struct("=BxHiII")  # family, device type, index, flags, mask of the flags meant
IFADDRMSG = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, length, source length, tos, table, protocol, scope, type, flags
NDMSG = struct.Struct("=B3xiHBB")  # family, index, state, flags, type
RTGENMSG = bytes(4)  # the family, which is unspecified, and padding
_PADDING = (b"", b"\0", b"\0\0", b"\0\0\0")


class NetlinkError(OSError):
    """The kernel refused a request: ``errno``, ``message`` (the kernel's text if it sent one), ``request``."""

    def __init__(self, errno: int, message: str = "", request: str = "") -> None:
        self.message = message or os.strerror(errno)
        self.request = request
        super().__init__(errno, self.message)

    def __str__(self) -> str:
        name = errnos.errorcode.get(self.errno or 0, f"error {self.errno}")
        return f"{self.request or 'a netlink request'} failed: {self.message} ({name})"


class Message(NamedTuple):
    """A request: header and body with sequence number 0, and a description for errors."""

    payload: bytes
    text: str


class Codec(NamedTuple):
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


class Option(NamedTuple):
    """An attribute: its number, its codec, and its number for IPv6 values if that differs."""

    number: int
    codec: Codec
    number6: int = 0


def integer_codec(size: int, order: Any = sys.byteorder) -> Codec:
    return Codec(lambda value: int(value).to_bytes(size, order), lambda data: int.from_bytes(data, order))


def choice_codec(size: int, **names: int) -> Codec:
    texts = {number.to_bytes(size, sys.byteorder): name for name, number in names.items()}
    numbers = {name: data for data, name in texts.items()}

    def encode(value: str) -> bytes:
        if value not in numbers:
            raise ValueError(f"{value!r} is not one of {', '.join(numbers)}")
        return numbers[value]

    return Codec(encode, lambda data: texts.get(data, data.hex()))


def pack_address(text: str) -> bytes:
    try:
        return packed(text)
    except OSError:
        raise ValueError(f"{text!r} is not an IP address") from None


def address_text(data: bytes) -> str:
    return socket.inet_ntop(AF_INET if len(data) == 4 else AF_INET6, data)


def pack_mac(text: str) -> bytes:
    data = bytes.fromhex(text.replace(":", ""))
    if len(data) != 6:
        raise ValueError(f"{text!r} is not a MAC address")
    return data


def text_of(data: bytes) -> str:
    """A name or alias, which others may have chosen; octets that are not UTF-8 become ``\\xff``."""
    return data.rstrip(b"\0").decode(errors="backslashreplace")


def options(codec: Codec, **numbers: int) -> dict[str, Option]:
    return {name: Option(number, codec) for name, number in numbers.items()}


U8, U16, U32, BE16 = integer_codec(1), integer_codec(2), integer_codec(4), integer_codec(2, "big")
FLAG = Codec(lambda value: b"\1" if value else b"\0", lambda data: data != b"\0")
TEXT = Codec(os.fsencode, text_of)
NAME = Codec(lambda value: os.fsencode(value) + b"\0", text_of)
IP = Codec(pack_address, address_text)
MAC = Codec(pack_mac, lambda data: data.hex(":"))
PORTS = Codec(lambda value: struct.pack(">HH", *value), lambda data: struct.unpack(">HH", data[:4]))
# One bit of a field: its value, and a mask that keeps the other bits.
FIRST_BIT = Codec(lambda value: struct.pack("=II", bool(value), 1), lambda data: bool(data[0] & 1))
ADDR_GEN_MODE = choice_codec(1, eui64=0, none=1, stable_secret=2, random=3)

LINK_NUMBERS = options(U32, mtu=4, link=5, master=10, group=27, netns_fd=28)
# An alias is sent without a terminating NUL, as only an empty attribute clears it.
LINK_OPTIONS = {**options(NAME, name=3), **options(MAC, mac=1), **options(TEXT, alias=20), **LINK_NUMBERS}
ADDRESS_OPTIONS = {**options(IP, local=2, address=1), **options(U32, flags=8)}
ROUTE_OPTIONS = {**options(IP, destination=1, via=5, source=7), **options(U32, dev=4, metric=6, table=15)}
RULE_OPTIONS = {
    **options(IP, destination=1),
    **options(NAME, iif=3),
    **options(U32, priority=6, table=15),
    **options(U8, protocol=21),
}
NEIGHBOUR_OPTIONS = {**options(IP, address=1), **options(MAC, mac=2)}
FDB_OPTIONS = {**options(IP, dst=1), **options(MAC, mac=2), **options(U16, vlan=5), **options(U32, master=9)}

KIND_OPTIONS: dict[str, dict[str, Option]] = {
    "bridge": {
        **options(U32, forward_delay=1, hello_time=2, max_age=3, ageing_time=4, stp_state=5),
        **options(U16, priority=6, group_fwd_mask=9, vlan_default_pvid=39),
        **options(FLAG, vlan_filtering=7, mcast_snooping=23),
        **options(FIRST_BIT, no_linklocal_learn=46),
        **options(FLAG, nf_call_iptables=36, nf_call_ip6tables=37, nf_call_arptables=38),
    },
    "vxlan": {
        **options(U32, id=1, link=3, ageing=8),
        **options(U8, ttl=5),
        **options(BE16, port=15),
        **options(PORTS, source_ports=10),
        **options(FLAG, learning=7, proxy=11, l2miss=13, l3miss=14, udp_csum=18),
        "group": Option(2, IP, 16),
        "local": Option(4, IP, 17),
    },
    "geneve": {
        **options(U32, id=1),
        **options(U8, ttl=3, tos=4),
        **options(BE16, port=5),
        "remote": Option(2, IP, 7),
    },
    "macvlan": options(choice_codec(4, private=1, vepa=2, bridge=4, passthru=8, source=16), mode=1),
    "ipvlan": {
        **options(choice_codec(2, l2=0, l3=1, l3s=2), mode=1),
        **options(choice_codec(2, bridge=0, private=1, vepa=2), flags=2),
    },
    "vlan": {**options(U16, id=1), **options(BE16, protocol=5)},
}
"""Options by link kind.  Times are in 1/100 s (bridge) or s (vxlan); bridge ``stp_state`` is 0, 1, or 2: user space.

A VXLAN's ``source_ports`` are the first port it sends from and the first after the range; if both are equal, the kernel
chooses the range.
"""

PORT_OPTIONS = {
    **options(FLAG, hairpin=4, guard=5, root_block=6, fast_leave=7, learning=8, flood=9, mcast_flood=27),
    **options(FLAG, mcast_to_unicast=28, vlan_tunnel=29, bcast_flood=30, neigh_suppress=32, isolated=33, locked=39),
}
"""Bridge port flags; ``flood`` is that of unknown unicast."""


def pack_attribute(number: int, value: bytes) -> bytes:
    """An attribute with header and padding."""
    return RTATTR.pack(len(value) + 4, number) + value + _PADDING[-len(value) & 3]


def pack_options(table: Mapping[str, Option], values: Mapping[str, Any], what: str) -> bytes:
    """The attributes of all values that are not None, in order."""
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
    """A request; ``text`` describes it in errors."""
    return Message(NLMSGHDR.pack(16 + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body, text)
