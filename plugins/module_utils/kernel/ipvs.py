# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A lean codec for IPVS: virtual servers, real servers and connection timeouts.

pyroute2 as distributions ship it (Debian 12: 0.7.2) lacks IPVS.  Numbers and layouts are those of the kernel's
linux/ip_vs.h; the tests compare every message with a newer pyroute2, and everything read with ``ipvsadm``.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Optional

from ..plan.balancing import Ipvs, IpvsTimeouts, RealServer
from ..plan.families import family_of, packed
from .modules import may_load
from .netlink import Message, Netlink, attributes, pack_attribute, pack_message

_GENERIC, _CONTROL = 16, 16
_GET_FAMILY, _ACK = 3, 0x4
_NEW_SERVICE, _SET_SERVICE, _DEL_SERVICE, _GET_SERVICE = 1, 2, 3, 4
_NEW_SERVER, _SET_SERVER, _DEL_SERVER, _GET_SERVER = 5, 6, 7, 8
_SET_CONFIG, _GET_CONFIG = 12, 13
_SERVICE, _SERVER, _TCP, _TCP_FIN, _UDP = 1, 2, 4, 5, 6

_FAMILIES = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_METHODS = {"masquerade": 0, "tunnel": 2, "direct": 3}
_METHOD_BITS = 0x7
_PERSISTENT = 0x1
_FLAGS = {"fallback": 0x8, "one_packet": 0x4, "port": 0x10}
_ALL_FLAGS = struct.pack("=I", 0xFFFFFFFF)
_EXISTS = Path("/proc/thread-self/net/ip_vs")


def _u16(number: int) -> bytes:
    return number.to_bytes(2, sys.byteorder)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


def _number(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)


def _text(data: bytes, family: int) -> str:
    """An address in its field of 16 bytes."""
    return socket.inet_ntop(family, data[:4] if family == socket.AF_INET else data)


# --- Requests ---


def _identity(item: Ipvs) -> bytes:
    family = pack_attribute(1, _u16(_FAMILIES[item.family]))
    if item.mark:
        return family + pack_attribute(5, _u32(item.mark))
    address = pack_attribute(3, packed(item.address)) + pack_attribute(4, item.port.to_bytes(2, "big"))
    return family + pack_attribute(2, _u16(_PROTOCOLS[item.protocol])) + address


def _settings(item: Ipvs) -> bytes:
    flags = sum(_FLAGS[name] for name in item.flags) | (_PERSISTENT if item.persistence else 0)
    if item.family == 6:
        mask = _u32(item.prefix or 128)
    else:
        mask = (0xFFFFFFFF << 32 - (item.prefix or 32) & 0xFFFFFFFF).to_bytes(4, "big")
    return b"".join(
        (
            pack_attribute(6, item.scheduler.encode() + b"\0"),
            pack_attribute(7, _u32(flags) + _ALL_FLAGS),
            pack_attribute(8, _u32(item.persistence)),
            pack_attribute(9, mask),
        )
    )


def _server_identity(server: RealServer) -> bytes:
    family = pack_attribute(11, _u16(_FAMILIES[family_of(server.address)]))
    return family + pack_attribute(1, packed(server.address)) + pack_attribute(2, server.port.to_bytes(2, "big"))


def _manner(server: RealServer) -> bytes:
    values = (_METHODS[server.method], server.weight, server.upper, server.lower)
    return b"".join(pack_attribute(number, _u32(value)) for number, value in zip((3, 4, 5, 6), values))


def _message(kind: int, command: int, text: str, service: bytes, server: bytes = b"") -> Message:
    body = struct.pack("=BBH", command, 1, 0) + pack_attribute(_SERVICE, service)
    return pack_message(kind, 0, body + (pack_attribute(_SERVER, server) if server else b""), text)


def new_service(kind: int, item: Ipvs) -> Message:
    """Create a virtual server without real ones; ``kind`` is `number`."""
    return _message(kind, _NEW_SERVICE, f"new virtual server {item.name}", _identity(item) + _settings(item))


def set_service(kind: int, item: Ipvs) -> Message:
    """Change a virtual server in place, except its identity."""
    return _message(kind, _SET_SERVICE, f"change of virtual server {item.name}", _identity(item) + _settings(item))


def del_service(kind: int, item: Ipvs) -> Message:
    """Remove a virtual server and its real servers; ESRCH if there is none."""
    return _message(kind, _DEL_SERVICE, f"removal of virtual server {item.name}", _identity(item))


def new_server(kind: int, item: Ipvs, server: RealServer) -> Message:
    """Add a real server that must not exist yet."""
    text = f"new real server {server.address} of {item.name}"
    return _message(kind, _NEW_SERVER, text, _identity(item), _server_identity(server) + _manner(server))


def set_server(kind: int, item: Ipvs, server: RealServer) -> Message:
    """Change a real server in place; its connections continue."""
    text = f"change of real server {server.address} of {item.name}"
    return _message(kind, _SET_SERVER, text, _identity(item), _server_identity(server) + _manner(server))


def del_server(kind: int, item: Ipvs, server: RealServer) -> Message:
    """Remove a real server; ENOENT if there is none."""
    text = f"removal of real server {server.address} of {item.name}"
    return _message(kind, _DEL_SERVER, text, _identity(item), _server_identity(server))


def set_timeouts(kind: int, item: IpvsTimeouts) -> Message:
    """Set the connection timeouts of the socket's namespace."""
    values = ((_TCP, item.tcp), (_TCP_FIN, item.tcp_fin), (_UDP, item.udp))
    body = struct.pack("=BBH", _SET_CONFIG, 1, 0)
    body += b"".join(pack_attribute(number, _u32(value)) for number, value in values)
    return pack_message(kind, 0, body, "change of IPVS's timeouts")


# --- Answers ---


def _decode_kind(data: bytes, at: int, end: int) -> int:
    return _number(attributes(data, at + 4, end)[1])


def _decode_service(data: bytes, at: int, end: int) -> Ipvs:
    outer = attributes(data, at + 4, end)[_SERVICE]
    found = attributes(outer, 0, len(outer))
    family = _number(found[1])
    flags = _number(found[7][:4])
    version = 4 if family == socket.AF_INET else 6
    prefix = bin(_number(found[9])).count("1") if version == 4 else _number(found[9])
    item = Ipvs(
        "",
        version,
        scheduler=found.get(6, b"").rstrip(b"\0").decode(),
        flags=tuple(name for name, bit in _FLAGS.items() if flags & bit),
        persistence=_number(found[8]) if flags & _PERSISTENT else 0,
        prefix=prefix if prefix != (32 if version == 4 else 128) else 0,
    )
    if 5 in found:
        return replace(item, mark=_number(found[5]))
    protocol = next((name for name, number in _PROTOCOLS.items() if number == _number(found[2])), "")
    return replace(item, protocol=protocol, address=_text(found[3], family), port=int.from_bytes(found[4], "big"))


def _decode_server(data: bytes, at: int, end: int) -> RealServer:
    outer = attributes(data, at + 4, end)[_SERVER]
    found = attributes(outer, 0, len(outer))
    method = _number(found[3]) & _METHOD_BITS
    return RealServer(
        _text(found[1], _number(found[11])),
        _number(found[4]),
        int.from_bytes(found[2], "big"),
        next((name for name, number in _METHODS.items() if number == method), f"method {method}"),
        _number(found[5]),
        _number(found[6]),
    )


def _decode_timeouts(data: bytes, at: int, end: int) -> IpvsTimeouts:
    found = attributes(data, at + 4, end)
    return IpvsTimeouts("", _number(found[_TCP]), _number(found[_TCP_FIN]), _number(found[_UDP]))


class IpvsSocket(Netlink):
    """A socket for IPVS in the network namespace of the thread that makes it."""

    _protocol = _GENERIC

    def services(self) -> list[Ipvs]:
        """All virtual servers, without real servers; their field ``namespace`` is not set."""
        return self._dump(number(), struct.pack("=BBH", _GET_SERVICE, 1, 0), "list of virtual servers", _decode_service)

    def servers(self, item: Ipvs) -> list[RealServer]:
        """The real servers of a virtual server."""
        body = struct.pack("=BBH", _GET_SERVER, 1, 0) + pack_attribute(_SERVICE, _identity(item))
        return self._dump(number(), body, f"list of real servers of {item.name}", _decode_server)

    def timeouts(self) -> Optional[IpvsTimeouts]:
        """The connection timeouts."""
        body = struct.pack("=BBH", _GET_CONFIG, 1, 0)
        found = self._ask(number(), _ACK, body, "look-up of IPVS's timeouts", _decode_timeouts)
        return found[0] if found else None


@cache
def number() -> int:
    """The running kernel's message type of IPVS.  The kernel loads its module if necessary.

    Raises NetlinkError ENOENT if the kernel lacks IPVS.
    """
    body = struct.pack("=BBH", _GET_FAMILY, 1, 0) + pack_attribute(2, b"IPVS\0")
    with IpvsSocket() as control:
        (found,) = control._ask(_CONTROL, _ACK, body, "look-up of IPVS", _decode_kind) or [0]
    return int(found)


def is_loaded() -> bool:
    """Whether IPVS is built in or its module is loaded.  Loads nothing."""
    return _EXISTS.exists()


def is_available() -> bool:
    """Whether the kernel has IPVS or can load it as a module.  Loads nothing."""
    return is_loaded() or (may_load() and _has_module(Path("/lib/modules") / os.uname().release / "modules.dep"))


def _has_module(index: Path) -> bool:
    try:
        lines = index.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any("/ip_vs.ko" in line.partition(":")[0] for line in lines)
