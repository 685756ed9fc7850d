# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A lean codec for XFRM, the kernel's IPsec: ESP states in transport mode, and policies.

pyroute2 lacks it, and the output of ``ip xfrm`` is not meant for programs.  Numbers and layouts are those of the
kernel's linux/xfrm.h; the tests compare everything written and read with ``ip xfrm``.  Selectors and templates are kept
and compared in the kernel's binary form.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Optional

from ..plan.families import packed, socket_family
from .netlink import Message, Netlink, attributes, pack_attribute, pack_message

ESP = 50
AEAD = "rfc4106(gcm(aes))"
ICV_BITS = 128
IN, OUT = 0, 1
ALLOW, BLOCK = 0, 1
UDP = 17

_NEW_STATE, _DELETE_STATE, _GET_STATE = 0x10, 0x11, 0x12
_NEW_POLICY, _DELETE_POLICY, _GET_POLICY, _UPDATE_POLICY, _UPDATE_STATE = 0x13, 0x14, 0x15, 0x19, 0x1A
_TEMPLATES, _REPLAY, _TYPE, _AEAD, _MARK, _INTERFACE = 5, 10, 16, 18, 21, 31
_EXCLUSIVE, _CREATE = 0x200, 0x400
_TRANSPORT = 0
_NETLINK_XFRM = 6
_IPV4, _IPV6 = int(socket.AF_INET), int(socket.AF_INET6)

_SELECTOR = struct.Struct("=16s16s2s2s2s2sHBBB3xiI")
"""Destination, source; destination port and mask, source port and mask; family, lengths, protocol, link, user."""
_STATE = struct.Struct(f"={_SELECTOR.size}s16s4sB3x16s64s8xQ28xIIHBBB7x")
"""Selector; destination, SPI, protocol; source; limits; packets so far; sequence number, reqid, family, mode, window,
flags."""
_STATE_ID = struct.Struct("=16s4sHBx")
_POLICY = struct.Struct(f"={_SELECTOR.size}s64s32xIIBBBB4x")
"""Selector, limits, (use so far); priority, index, direction, action, flags, share."""
_POLICY_ID = struct.Struct(f"={_SELECTOR.size}sIB3x")
_TEMPLATE = struct.Struct("=16s4sB3xH2x16sIBBBx12s")
"""Destination, SPI, protocol; family, source; reqid, mode, share, optional, algorithms."""
_ALGORITHM = struct.Struct("=64sII")
_LIMITS = struct.Struct("=4Q32x")
"""Octets and packets, each soft and hard."""
_UNLIMITED = 2**64 - 1
_NO_LIMITS = _LIMITS.pack(*4 * [_UNLIMITED])
_EXPIRY = 1 << 1
_ANY_ALGORITHM = bytes(12 * [0xFF])
_NO_MARK = bytes(8)


def _text(data: bytes, family: int) -> str:
    return socket.inet_ntop(family, data[: 4 if family == _IPV4 else 16])


def selector(source: str, destination: str, source_port: int, port: int) -> bytes:
    """A selector of UDP packets; ``0.0.0.0`` and ``::`` match any address, port 0 any port."""
    addresses = packed(destination), packed(source)
    lengths = [8 * len(data) if any(data) else 0 for data in addresses]
    numbers = [number.to_bytes(2, "big") for number in (port, source_port)]
    ports = [part for number in numbers for part in (number, b"\xff\xff" if any(number) else b"\0\0")]
    return _SELECTOR.pack(*addresses, *ports, socket_family(source), *lengths, UDP, 0, 0)


def ends(data: bytes) -> tuple[str, str, int]:
    """Source, destination and destination port of a selector."""
    destination, source, port, _mask, _sport, _smask, family, *_rest = _SELECTOR.unpack(data)
    return _text(source, family), _text(destination, family), int.from_bytes(port, "big")


def template(source: str, destination: str, spi: int, reqid: int) -> bytes:
    """A template that names the state with this SPI."""
    number = spi.to_bytes(4, "big")
    family = socket_family(source)
    where = packed(destination), number, ESP, family, packed(source)
    return _TEMPLATE.pack(*where, reqid, _TRANSPORT, 0, 0, _ANY_ALGORITHM)


@dataclass(frozen=True)
class State:
    """A security association: one direction of ESP between two hosts.  ``key`` ends with RFC 4106's salt."""

    source: str
    destination: str
    spi: int
    reqid: int
    selector: bytes
    key: bytes = field(repr=False, compare=False)
    algorithm: str = AEAD
    icv_bits: int = ICV_BITS
    protocol: int = ESP
    mode: int = _TRANSPORT
    replay_window: int = 0
    flags: int = 0
    mark: bytes = _NO_MARK
    limit: int = field(default=0, compare=False)
    """Packets after which the kernel sends a notification; 0 is never."""
    packets: int = field(default=0, compare=False)
    """Packets counted so far."""
    sent: int = field(default=0, compare=False)
    """Sequence numbers used; they have 32 bits, and the kernel stops sending at the last."""

    @property
    def identity(self) -> tuple[str, int, int, bytes]:
        """What identifies a state in the kernel."""
        return self.destination, self.spi, self.protocol, self.mark

    @property
    def text(self) -> str:
        return f"ESP state {self.source} to {self.destination} (SPI {self.spi:#x})"


@dataclass(frozen=True)
class Policy:
    """What happens to packets that match the selector, outbound or inbound."""

    selector: bytes
    action: int
    priority: int
    templates: tuple[bytes, ...]
    direction: int = OUT
    mark: bytes = _NO_MARK
    interface: int = 0
    index: int = field(default=0, compare=False)
    """The kernel's number of the direction."""

    @property
    def identity(self) -> tuple[bytes, int, bytes, int]:
        """What identifies a policy in the kernel."""
        return self.selector, self.direction, self.mark, self.interface

    @property
    def reqids(self) -> set[int]:
        """The reqid of its templates."""
        return {_TEMPLATE.unpack(item)[5] for item in self.templates}

    @property
    def spis(self) -> list[int]:
        """The SPIs of its templates."""
        return [int.from_bytes(_TEMPLATE.unpack(item)[1], "big") for item in self.templates]

    @property
    def senders(self) -> list[str]:
        """The source addresses of its templates."""
        parts = (_TEMPLATE.unpack(item) for item in self.templates)
        return [_text(source, family) for _destination, _spi, _protocol, family, source, *_rest in parts]

    @property
    def text(self) -> str:
        source, destination, port = ends(self.selector)
        return f"IPsec policy {source} to {destination} port {port}"


def new_state(state: State, replace: bool = False) -> Message:
    """Create a state that must not exist or, with ``replace``, set the limit of an existing one."""
    identity = packed(state.destination), state.spi.to_bytes(4, "big"), state.protocol
    rest = 0, state.reqid, socket_family(state.source), state.mode, state.replay_window, state.flags
    limits = _LIMITS.pack(_UNLIMITED, _UNLIMITED, state.limit or _UNLIMITED, _UNLIMITED)
    body = _STATE.pack(state.selector, *identity, packed(state.source), limits, 0, *rest)
    algorithm = _ALGORITHM.pack(state.algorithm.encode(), 8 * len(state.key), state.icv_bits) + state.key
    kind, flags = (_UPDATE_STATE, 0) if replace else (_NEW_STATE, _CREATE | _EXCLUSIVE)
    return pack_message(kind, flags, body + pack_attribute(_AEAD, algorithm), f"new {state.text}")


def delete_state(state: State) -> Message:
    """Remove a state; ESRCH if there is none."""
    number = state.spi.to_bytes(4, "big")
    body = _STATE_ID.pack(packed(state.destination), number, socket_family(state.destination), state.protocol)
    return pack_message(_DELETE_STATE, 0, body, f"removal of {state.text}")


def new_policy(policy: Policy, replace: bool = False) -> Message:
    """Create a policy that must not exist or, with ``replace``, replace one atomically."""
    body = _POLICY.pack(policy.selector, _NO_LIMITS, policy.priority, 0, policy.direction, policy.action, 0, 0)
    body += pack_attribute(_TEMPLATES, b"".join(policy.templates))
    kind, flags = (_UPDATE_POLICY, 0) if replace else (_NEW_POLICY, _CREATE | _EXCLUSIVE)
    return pack_message(kind, flags, body, f"new {policy.text}")


def delete_policy(policy: Policy) -> Message:
    """Remove a policy; ENOENT if there is none."""
    body = _POLICY_ID.pack(policy.selector, policy.index, policy.direction)
    return pack_message(_DELETE_POLICY, 0, body, f"removal of {policy.text}")


def _decode_state(data: bytes, at: int, end: int) -> Optional[State]:
    chosen, destination, spi, protocol, source, *rest = _STATE.unpack_from(data, at)
    limits, packets, _seq, reqid, family, mode, replay_window, flags = rest
    if family not in (_IPV4, _IPV6):
        return None
    found = attributes(data, at + _STATE.size, end)
    aead = found.get(_AEAD, bytes(_ALGORITHM.size))
    name, bits, icv = _ALGORITHM.unpack_from(aead)
    limit = _LIMITS.unpack(limits)[2]
    return State(
        source=_text(source, family),
        destination=_text(destination, family),
        spi=int.from_bytes(spi, "big"),
        reqid=reqid,
        selector=chosen,
        key=aead[_ALGORITHM.size : _ALGORITHM.size + bits // 8],
        algorithm=name.rstrip(b"\0").decode(),
        icv_bits=icv,
        protocol=protocol,
        mode=mode,
        replay_window=replay_window,
        flags=flags,
        mark=found.get(_MARK, _NO_MARK),
        limit=0 if limit == _UNLIMITED else limit,
        packets=packets,
        sent=struct.unpack_from("=I", found.get(_REPLAY, bytes(4)))[0],
    )


def _decode_policy(data: bytes, at: int, end: int) -> Optional[Policy]:
    chosen, _limits, priority, index, direction, action, _flags, _share = _POLICY.unpack_from(data, at)
    found = attributes(data, at + _POLICY.size, end)
    if found.get(_TYPE, b"\0")[0]:
        return None
    templates = found.get(_TEMPLATES, b"")
    size = _TEMPLATE.size
    return Policy(
        chosen,
        action,
        priority,
        tuple(templates[start : start + size] for start in range(0, len(templates), size)),
        direction,
        found.get(_MARK, _NO_MARK),
        int.from_bytes(found.get(_INTERFACE, b""), sys.byteorder),
        index,
    )


def expiries() -> socket.socket:
    """A socket that is notified when a state in the calling thread's network namespace reaches a limit."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM)
    events.bind((0, _EXPIRY))
    return events


class XfrmSocket(Netlink):
    """A socket for XFRM in the network namespace of the thread that makes it; OSError in a kernel without it."""

    _protocol = _NETLINK_XFRM

    def states(self) -> list[State]:
        """All states, also those of others."""
        return self._dump(_GET_STATE, b"", "list of ESP states", _decode_state)

    def policies(self) -> list[Policy]:
        """All policies, also those of others."""
        return self._dump(_GET_POLICY, b"", "list of IPsec policies", _decode_policy)
