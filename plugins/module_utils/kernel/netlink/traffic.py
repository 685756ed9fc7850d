# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Traffic control: messages for the disciplines tbf and netem, and for a policer; and reading them.

Formats: linux/pkt_sched.h, linux/pkt_cls.h.  Rates are octets a second, of a frame with its Ethernet header.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

from .decode import attributes
from .format import NLM_F_CREATE, NLM_F_EXCL, Message, pack_attribute, pack_message, text_of
from .socket import Netlink

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
ROOT = 0xFFFFFFFF
CLSACT, RECEIVED, SENT = 0xFFFFFFF1, 0xFFFFFFF2, 0xFFFFFFF3
"""The discipline that only holds filters, and its sides."""
CLSACT_KIND = "clsact"

NETEM_HANDLE, TBF_HANDLE = 0xC4D10000, 0xC4D20000
"""Majors of our disciplines' handles, by which they are recognised."""
POLICER_HANDLE, _PREFERENCE = 0xC4D3, 0xC4D3
"""The same of our filter."""

_TCMSG = struct.Struct("=BBHiIII")  # family, padding, index, handle, parent, info
_RATE = struct.Struct("=BBHhHI")  # cell_log, linklayer, overhead, cell_align, mpu, octets a second
_TBF = struct.Struct("=12s12sIII")  # rate, peak rate, limit, buffer, mtu
_NETEM = struct.Struct("=IIIIII")  # latency, limit, loss, gap, duplicate, jitter
_NETEM_RATE = struct.Struct("=IiIi")  # octets a second, and overheads
_POLICE = struct.Struct("=IiIII12s12siiI")  # index, action, limit, burst, mtu, rate, peak rate, counts, capabilities
_TICK_NS = 64
"""A tick of the packet scheduler in nanoseconds (PSCHED_SHIFT)."""
_ETHERNET = 1
_LARGEST_32 = 0xFFFFFFFF
_SHOT = 2
_ALL_PROTOCOLS = 0x0300  # ETH_P_ALL, in network order
_LEAST_BURST = 128 * 1024
"""Two of the largest segments that a sandbox hands over at once."""
_LARGEST_BURST = 1 << 30
_QUEUE_SECONDS = 0.05
_NETEM_PACKETS = 10_000
"""As many as wait for 100 ms at 1 Gbit/s in frames of the usual size."""
_RATE_TABLE = bytes(1024)
"""Of no meaning since Linux 3.8, but a policer without it is refused."""


class Discipline(NamedTuple):
    """What of one is ours to say; a ``root`` one has no other discipline above it."""

    link: int
    kind: str
    handle: int
    root: bool
    rate: int = 0
    delay_us: int = 0
    jitter_us: int = 0
    loss_ppm: int = 0


class Filter(NamedTuple):
    """A filter; ``rate`` is 0 of any that is not as `new_policer` makes it."""

    handle: int
    rate: int
    received: bool
    """Whether it is one of what the link receives."""


def _rate(octets: int, cell_log: int = 0) -> bytes:
    return _RATE.pack(cell_log, _ETHERNET, 0, 0, 0, min(octets, _LARGEST_32))


def _more_than_32_bits(number: int, octets: int) -> bytes:
    return pack_attribute(number, struct.pack("=Q", octets)) if octets > _LARGEST_32 else b""


def burst_of(rate: int) -> int:
    """Octets that pass at once at a rate: what passes in 10 ms, and two large segments at least."""
    return min(max(rate // 100, _LEAST_BURST), _LARGEST_BURST)


def _ticks(octets: int, rate: int) -> int:
    return min(octets * 10**9 // rate // _TICK_NS, _LARGEST_32)


def _discipline(index: int, kind: str, handle: int, parent: int, options: bytes, what: str) -> Message:
    body = _TCMSG.pack(0, 0, 0, index, handle, parent, 0) + pack_attribute(1, kind.encode() + b"\0")
    body += pack_attribute(2, options) if options else b""
    return pack_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body, f"{what} on link {index}")


def new_tbf(index: int, rate: int, below: Optional[int] = None) -> Message:
    """Let packets wait that a link sends faster than so many octets a second; ``below`` another discipline's class."""
    burst = burst_of(rate)
    limit = min(int(rate * _QUEUE_SECONDS) + burst, _LARGEST_32)
    options = pack_attribute(1, _TBF.pack(_rate(rate), bytes(12), limit, _ticks(burst, rate), 0))
    options += _more_than_32_bits(4, rate) + pack_attribute(6, struct.pack("=I", burst))
    return _discipline(index, "tbf", TBF_HANDLE, ROOT if below is None else below, options, f"limit of {rate} octets/s")


def new_netem(index: int, *, delay_us: int = 0, jitter_us: int = 0, loss_ppm: int = 0, rate: int = 0) -> Message:
    """Emulate a worse link than a link is, for what it sends."""
    loss = min(loss_ppm * _LARGEST_32 // 1_000_000, _LARGEST_32)
    ticks = [min(microseconds * 1000 // _TICK_NS, _LARGEST_32) for microseconds in (delay_us, jitter_us)]
    options = _NETEM.pack(ticks[0], _NETEM_PACKETS, loss, 0, 0, ticks[1])
    options += pack_attribute(10, struct.pack("=q", delay_us * 1000)) if delay_us else b""
    options += pack_attribute(11, struct.pack("=q", jitter_us * 1000)) if jitter_us else b""
    if rate:
        options += pack_attribute(6, _NETEM_RATE.pack(min(rate, _LARGEST_32), 0, 0, 0)) + _more_than_32_bits(8, rate)
    return _discipline(index, "netem", NETEM_HANDLE, ROOT, options, "emulation (netem)")


def new_clsact(index: int) -> Message:
    """Let a link have filters of what it receives; EEXIST if it can."""
    return _discipline(index, CLSACT_KIND, 0xFFFF0000, CLSACT, b"", "place for filters")


def new_policer(index: int, rate: int) -> Message:
    """Drop what a link receives faster than so many octets a second; it needs `new_clsact`."""
    police = _POLICE.pack(
        0, _SHOT, 0, _ticks(burst_of(rate), rate), 1 << 31, _rate(rate, cell_log=8), bytes(12), 0, 0, 0
    )
    options = pack_attribute(1, police) + pack_attribute(2, _RATE_TABLE) + _more_than_32_bits(8, rate)
    action = pack_attribute(1, pack_attribute(1, b"police\0") + pack_attribute(2, options))
    body = _TCMSG.pack(0, 0, 0, index, POLICER_HANDLE, RECEIVED, _PREFERENCE << 16 | _ALL_PROTOCOLS)
    body += pack_attribute(1, b"matchall\0") + pack_attribute(2, pack_attribute(2, action))
    what = f"limit of {rate} octets/s received on link {index}"
    return pack_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body, what)


def del_root(index: int) -> Message:
    """Remove the discipline of a link, with those below it; ENOENT if there is none."""
    body = _TCMSG.pack(0, 0, 0, index, 0, ROOT, 0)
    return pack_message(RTM_DELQDISC, 0, body, f"removal of the discipline of link {index}")


def del_policer(index: int) -> Message:
    """Remove the filter that `new_policer` made."""
    body = _TCMSG.pack(0, 0, 0, index, 0, RECEIVED, _PREFERENCE << 16 | _ALL_PROTOCOLS)
    return pack_message(RTM_DELTFILTER, 0, body, f"removal of the policer of link {index}")


def del_clsact(index: int) -> Message:
    """Take a link's filters away with the place that they are in."""
    body = _TCMSG.pack(0, 0, 0, index, 0xFFFF0000, CLSACT, 0)
    return pack_message(RTM_DELQDISC, 0, body, f"removal of the place for filters on link {index}")


def _read_one(data: bytes, at: int, end: int) -> Discipline:
    _family, _pad, _pad2, index, handle, parent, _info = _TCMSG.unpack_from(data, at)
    found = attributes(data, at + _TCMSG.size, end)
    kind, options, root = text_of(found.get(1, b"")), found.get(2, b""), parent == ROOT
    if kind == "tbf":
        return Discipline(index, kind, handle, root, _read_tbf(options))
    if kind == "netem" and len(options) >= _NETEM.size:
        return Discipline(index, kind, handle, root, *_read_netem(options))
    return Discipline(index, kind, handle, root)


def _wide(found: dict[int, bytes], number: int, narrow: int, form: str = "=Q") -> int:
    return int(struct.unpack(form, found[number])[0]) if len(found.get(number, b"")) == 8 else narrow


def _read_tbf(options: bytes) -> int:
    found = attributes(options, 0, len(options))
    if len(found.get(1, b"")) < _TBF.size:
        return 0
    return _wide(found, 4, int(_RATE.unpack(_TBF.unpack_from(found[1])[0])[5]))


def _read_netem(options: bytes) -> tuple[int, int, int, int]:
    latency, _limit, loss, _gap, _duplicate, jitter = _NETEM.unpack_from(options)
    found = attributes(options, _NETEM.size, len(options))
    rate = _NETEM_RATE.unpack_from(found[6])[0] if len(found.get(6, b"")) >= _NETEM_RATE.size else 0
    delay, variation = (
        (_wide(found, number, ticks * _TICK_NS, "=q") + 500) // 1000 for number, ticks in ((10, latency), (11, jitter))
    )
    return _wide(found, 8, int(rate)), delay, variation, (loss * 1_000_000 + _LARGEST_32 - 1) // _LARGEST_32


def _read_filter(data: bytes, at: int, end: int) -> Optional[tuple[int, int]]:
    """Handle and rate."""
    handle = int(_TCMSG.unpack_from(data, at)[4])
    found = attributes(data, at + _TCMSG.size, end)
    if not handle:
        return None  # not a filter, but all of its kind: the kernel lists that too
    if text_of(found.get(1, b"")) != "matchall":
        return handle, 0
    levels = found.get(2, b"")
    for number in (2, 1, 2):  # actions, the first one, its options
        levels = attributes(levels, 0, len(levels)).get(number, b"")
    options = attributes(levels, 0, len(levels))
    if len(options.get(1, b"")) < _POLICE.size:
        return handle, 0
    police = _POLICE.unpack_from(options[1])
    return handle, _wide(options, 8, int(_RATE.unpack(police[5])[5])) if police[1] == _SHOT else 0


class TrafficControl(Netlink):
    """A socket that reads disciplines and filters too."""

    def disciplines(self) -> list[Discipline]:
        """Those of all links of the namespace, but for those that a link has from the start."""
        found: list[Discipline] = self._dump(RTM_GETQDISC, _TCMSG.pack(*[0] * 7), "dump of disciplines", _read_one)
        return [item for item in found if item.handle]

    def filters(self, index: int) -> list[Filter]:
        """The filters of what a link receives and sends."""
        result = []
        for parent in (RECEIVED, SENT):
            body = _TCMSG.pack(0, 0, 0, index, 0, parent, 0)
            for handle, rate in self._dump(RTM_GETTFILTER, body, "dump of filters", _read_filter):
                result.append(Filter(handle, rate, parent == RECEIVED))
        return result
