# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Decodes the kernel's messages into plain dicts."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Optional

from .format import (
    ADDR_GEN_MODE,
    ADDRESS_OPTIONS,
    AF_BRIDGE,
    AF_INET,
    AF_INET6,
    FDB_OPTIONS,
    IFA_F_PERMANENT,
    IFADDRMSG,
    IFF_LOOPBACK,
    IFF_LOWER_UP,
    IFF_RUNNING,
    IFF_UP,
    IFINFOMSG,
    KIND_OPTIONS,
    LINK_OPTIONS,
    NDMSG,
    NEIGHBOUR_OPTIONS,
    NTF_EXTERN_LEARNED,
    NTF_SELF,
    NTF_STICKY,
    NUD_NOARP,
    NUD_PERMANENT,
    PORT_OPTIONS,
    ROUTE_OPTIONS,
    RT_TABLE_LOCAL,
    RTATTR,
    RTGENMSG,
    RTM_F_CLONED,
    RTMSG,
    RTN_UNICAST,
    RULE_OPTIONS,
    VERSIONS,
    Entry,
    Option,
    text_of,
)

_REMEMBERED = 8192


def attributes(data: bytes, at: int, end: int) -> dict[int, bytes]:
    """The attributes of a message or of a nested attribute, by number, undecoded."""
    found = {}
    while at + 4 <= end:
        length, number = RTATTR.unpack_from(data, at)
        if length < 4:
            break
        found[number] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


Decode = Callable[[bytes, int, int], Any]
_Decoders = dict[int, tuple[str, Callable[[bytes], Any]]]


def _decoders(table: Mapping[str, Option]) -> _Decoders:
    numbers = {name: {option.number, option.number6 or option.number} for name, option in table.items()}
    return {number: (name, table[name].codec.decode) for name in table for number in numbers[name]}


def decode_attributes(decoders: _Decoders, data: bytes, at: int = 0, end: Optional[int] = None) -> Entry:
    """The attributes that have a decoder, by name."""
    found = {}
    unpack, known = RTATTR.unpack_from, decoders.get
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


def _signed(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder, signed=True)


@lru_cache(_REMEMBERED)
def _settings(data: bytes) -> Entry:
    """IPv6 settings of a link; their positions are those of DEVCONF in ipv6.h."""
    values = struct.unpack_from(f"={len(data) // 4}i", data)
    found: Entry = {name: values[index] for name, index in _DEVCONF.items() if index < len(values)}
    if "addr_gen_mode" in found:  # its own attribute is left out along with the statistics
        found["addr_gen_mode"] = ADDR_GEN_MODE.decode(bytes([found["addr_gen_mode"] & 0xFF]))
    return found


@lru_cache(_REMEMBERED)
def _settings4(data: bytes) -> Entry:
    """IPv4 settings of a link; positions in ip.h's enum count from 1."""
    values = struct.unpack_from(f"={len(data) // 4}i", data)
    return {name: values[position - 1] for name, position in _DEVCONF4.items() if position <= len(values)}


_DEVCONF4 = {"forwarding4": 1, "rp_filter": 8, "route_localnet": 26}
_DEVCONF = {"forwarding6": 0, "accept_ra": 3, "disable_ipv6": 26, "addr_gen_mode": 47}
_DATA_DECODERS = {kind: _decoders(table) for kind, table in KIND_OPTIONS.items()}
_PORT_DECODERS = _decoders(PORT_OPTIONS)
_INFO_DECODERS: _Decoders = {1: ("kind", text_of), 2: ("data", bytes), 4: ("slave", text_of), 5: ("port", bytes)}
_LINK_DECODERS: _Decoders = {
    **_decoders(LINK_OPTIONS),
    18: ("info", bytes),
    26: ("families", bytes),
    37: ("link_netnsid", _signed),
}
_ADDRESS_DECODERS, _ROUTE_DECODERS = _decoders(ADDRESS_OPTIONS), _decoders(ROUTE_OPTIONS)
_RULE_DECODERS = _decoders(RULE_OPTIONS)
_NEIGHBOUR_DECODERS, _FDB_DECODERS = _decoders(NEIGHBOUR_OPTIONS), _decoders(FDB_OPTIONS)
_NO_LINK_ATTRIBUTES = {"name": "", "mac": "", "mtu": 0, "master": 0, "link": 0, "alias": "", "group": 0}
_NO_SETTINGS, _NO_ROUTE_ATTRIBUTES = (
    dict.fromkeys((*_DEVCONF, *_DEVCONF4)),
    dict.fromkeys(("via", "dev", "metric", "source")),
)


class _Layout:
    """Where the attributes are in data of one form: one call unpacks all that are wanted, instead of one for each."""

    def __init__(self, decoders: _Decoders, data: bytes) -> None:
        form, headers, self._wanted = ["="], list[int](), list[tuple[str, int, Callable[[bytes], Any]]]()
        self._at, at = list[int](), 0
        while at + 4 <= len(data):
            length, number = RTATTR.unpack_from(data, at)
            padded = min((length + 3) & ~3, len(data) - at)
            if length < 4 or length > padded:
                break
            self._at.append(len(headers) + len(self._wanted))
            headers += struct.unpack_from("=I", data, at)
            decoder = decoders.get(number & 0x3FFF)
            if decoder is None:
                form.append(f"I{padded - 4}x")
            else:
                form.append(f"I{length - 4}s{padded - length}x")
                self._wanted.append((decoder[0], len(headers) + len(self._wanted), decoder[1]))
            at += padded
        form.append(f"{len(data) - at}x")
        self._form, self._headers = struct.Struct("".join(form)), headers
        self._is_complete = at == len(data)

    def decode(self, data: bytes) -> Optional[Entry]:
        """The attributes that have a decoder, by name; None if they are elsewhere in these data."""
        if len(data) != self._form.size or not self._is_complete:
            return None
        values = self._form.unpack(data)
        if [values[at] for at in self._at] != self._headers:
            return None
        return {name: decode(values[index]) for name, index, decode in self._wanted}


_FORMS = 256
"""Of so many lengths an `AlikeDecoder` remembers a form: names differ in theirs, and root in a sandbox chooses them."""


class AlikeDecoder:
    """`decode_attributes` for data of which most have the form of those of their length that were decoded first."""

    def __init__(self, decoders: _Decoders) -> None:
        self._decoders = decoders
        self._layouts: dict[int, _Layout] = {}

    def __call__(self, data: bytes) -> Entry:
        layout = self._layouts.get(len(data))
        if layout is None:
            if len(self._layouts) < _FORMS:
                self._layouts[len(data)] = _Layout(self._decoders, data)
        elif (found := layout.decode(data)) is not None:
            return found
        return decode_attributes(self._decoders, data)


_link, _info, _port = AlikeDecoder(_LINK_DECODERS), AlikeDecoder(_INFO_DECODERS), AlikeDecoder(_PORT_DECODERS)
_address, _route = AlikeDecoder(_ADDRESS_DECODERS), AlikeDecoder(_ROUTE_DECODERS)
_by_family = AlikeDecoder(
    {
        AF_INET: ("inet4", AlikeDecoder({1: ("settings", _settings4)})),
        AF_INET6: ("inet6", AlikeDecoder({2: ("settings", _settings)})),
    }
)


@lru_cache(_REMEMBERED)
def _families(data: bytes) -> Entry:
    """A link's settings by family; they rarely change while a run lists its links several times."""
    found = _by_family(data)
    return {**found.get("inet4", {}).get("settings", {}), **found.get("inet6", {}).get("settings", {})}


def decode_link(data: bytes, at: int, end: int) -> Entry:
    _link_family, _type, index, flags, _mask = IFINFOMSG.unpack_from(data, at)
    found = _link(data[at + 16 : end])
    info, families = _info(found.pop("info", b"")), found.pop("families", b"")
    kind = info.get("kind", "")
    port = info.get("port", b"") if info.get("slave") == "bridge" else b""
    return {
        "index": index,
        "up": bool(flags & IFF_UP),
        "running": bool(flags & IFF_RUNNING),
        "carrier": bool(flags & IFF_LOWER_UP),
        "loopback": bool(flags & IFF_LOOPBACK),
        "kind": kind,
        "data": decode_attributes(_DATA_DECODERS.get(kind, {}), info.get("data", b"")),
        "port": _port(port),
        "slave": info.get("slave", ""),
        "link_netnsid": None,
        **_NO_SETTINGS,
        **_families(families),
        **_NO_LINK_ATTRIBUTES,
        **found,
    }


def decode_namespace_id(data: bytes, at: int, end: int) -> int:
    return int(decode_attributes({1: ("id", _signed)}, data, at + len(RTGENMSG), end)["id"])


def decode_address(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, length, flags, scope, index = IFADDRMSG.unpack_from(data, at)
    if family not in VERSIONS:
        return None
    found = _address(data[at + 8 : end])
    flags = found.get("flags", flags)
    return {
        "index": index,
        "address": f"{found.get('local') or found['address']}/{length}",
        "family": VERSIONS[family],
        "scope": scope,
        "permanent": bool(flags & IFA_F_PERMANENT),
        "flags": flags,
    }


def decode_route(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, length, _source_length, _tos, table, protocol, scope, kind, flags = RTMSG.unpack_from(data, at)
    if family not in VERSIONS or kind != RTN_UNICAST or flags & RTM_F_CLONED:
        return None
    found = _route(data[at + 12 : end])
    if found.setdefault("table", table) == RT_TABLE_LOCAL:
        return None
    destination = f"{found['destination']}/{length}" if length else "default"
    header = {"family": VERSIONS[family], "protocol": protocol, "scope": scope, "type": kind}
    return {**_NO_ROUTE_ATTRIBUTES, **header, **found, "destination": destination}


def decode_rule(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, length, _source_length, _tos, table, _reserved, _reserved2, action, _flags = RTMSG.unpack_from(data, at)
    if family not in VERSIONS:
        return None
    found = {
        "priority": 0,
        "iif": "",
        "table": table,
        "protocol": 0,
        **decode_attributes(_RULE_DECODERS, data, at + 12, end),
    }
    destination = f"{found['destination']}/{length}" if length else ""
    return {**found, "family": VERSIONS[family], "destination": destination, "action": action}


def decode_neighbour(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, index, state, _flags, _type = NDMSG.unpack_from(data, at)
    if family not in VERSIONS:
        return None
    found = decode_attributes(_NEIGHBOUR_DECODERS, data, at + 12, end)
    return {"index": index, "mac": "", "state": state, "permanent": bool(state & NUD_PERMANENT), **found}


def decode_fdb(data: bytes, at: int, end: int) -> Optional[Entry]:
    family, index, state, flags, _type = NDMSG.unpack_from(data, at)
    if family != AF_BRIDGE:
        return None
    return {
        "index": index,
        "dst": None,
        "master": None,
        "vlan": None,
        "self": bool(flags & NTF_SELF),
        "permanent": bool(state & NUD_PERMANENT),
        "static": bool(state & NUD_NOARP),
        "sticky": bool(flags & NTF_STICKY),
        "extern_learn": bool(flags & NTF_EXTERN_LEARNED),
        **decode_attributes(_FDB_DECODERS, data, at + 12, end),
    }
