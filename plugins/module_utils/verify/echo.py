# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Sends echo requests (RFC 792, RFC 4443) to many targets at once; also `collect`, which all checks use."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field

from ..plan.families import family_of
from ..plan.records import dataclass

_IDENTIFIER = 0x636E

_HEADER_OCTETS = 8

_FULL_SIZE = 1000  # added to the sequence number of full-sized requests

ATTEMPTS = 3

ROUND_SECONDS = 1.0

SILENCE_SECONDS = 0.5


@dataclass(frozen=True)
class _Family:
    """Echo requests and routes of one address family; numbers are the kernel's."""

    domain: int
    protocol: int
    somewhere: str
    """An address that only a default route matches."""
    level: int
    never_fragment: tuple[tuple[int, int], ...]
    """Socket options and their values: IP_MTU_DISCOVER, IPV6_MTU_DISCOVER and IPV6_DONTFRAG."""
    mtu: int
    """The option for the MTU of a connected socket's route: IP_MTU, IPV6_MTU."""
    headers: int
    """Octets before an echo request's payload, including the IP header."""
    request: int
    reply: int
    in_front: bool
    """Whether a raw socket receives the IP header too."""


FAMILIES = {
    4: _Family(
        socket.AF_INET,
        socket.IPPROTO_ICMP,
        "192.0.2.1",
        socket.IPPROTO_IP,
        ((10, 2),),
        mtu=14,
        headers=28,
        request=8,
        reply=0,
        in_front=True,
    ),
    6: _Family(
        socket.AF_INET6,
        socket.IPPROTO_ICMPV6,
        "2001:db8:ffff::1",
        socket.IPPROTO_IPV6,
        ((23, 2), (62, 1)),
        mtu=24,
        headers=48,
        request=128,
        reply=129,
        in_front=False,
    ),
}


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _echo_request(family: _Family, sequence: int, size: int = 0) -> bytes:
    """For IPv6 the kernel fills in the checksum."""
    payload = bytes(size + size % 2)
    header = struct.pack("!BBHHH", family.request, 0, 0, _IDENTIFIER, sequence)
    checksum = _checksum(header + payload)
    return struct.pack("!BBHHH", family.request, 0, checksum, _IDENTIFIER, sequence) + payload


def _largest_payload(family: _Family, target: str) -> int:
    """The largest payload of an echo request to the address that is not fragmented, by the route's MTU."""
    with socket.socket(family.domain, socket.SOCK_DGRAM) as opened:
        opened.connect((target, 9))
        return (opened.getsockopt(family.level, family.mtu) - family.headers) // 2 * 2


def ways_out() -> list[int]:
    """Families in which the thread's namespace has a default route; asks only the kernel, sends nothing."""
    result = []
    for version, family in FAMILIES.items():
        with contextlib.suppress(OSError), socket.socket(family.domain, socket.SOCK_DGRAM) as opened:
            opened.connect((family.somewhere, 9))
            result.append(version)
    return result


def collect(
    sockets: Sequence[socket.socket],
    seconds: float,
    take: Callable[[socket.socket, bytes, str], None],
    done: Callable[[], bool],
) -> None:
    deadline = time.monotonic() + seconds
    while not done() and (left := deadline - time.monotonic()) > 0:
        for opened in select.select(sockets, [], [], left)[0]:
            data, address = opened.recvfrom(4096)
            take(opened, data, address[0])


@contextlib.contextmanager
def _echo_sockets(versions: set[int]) -> Iterator[dict[int, socket.socket]]:
    with contextlib.ExitStack() as stack:
        result = {}
        for version in sorted(versions):
            family = FAMILIES[version]
            opened = stack.enter_context(socket.socket(family.domain, socket.SOCK_RAW, family.protocol))
            for option, value in family.never_fragment:
                opened.setsockopt(family.level, option, value)
            result[version] = opened
        yield result


@dataclass
class Echoes:
    """What became of echo requests, by address."""

    small: set[str] = field(default_factory=set)
    """Those that answered a small request."""
    large: set[str] = field(default_factory=set)
    """Those that answered one of MTU size."""
    errors: dict[str, str] = field(default_factory=dict)
    """Why the kernel sent none, such as ``Network is unreachable``."""


def answering(targets: Sequence[str], silent: Sequence[str]) -> Echoes:
    """Send echo requests to addresses from the thread's namespace, both small ones and ones of MTU size.

    Nothing is fragmented.  ``silent`` are those not expected to answer: one try, half a second.
    """
    found = Echoes()
    small, large = found.small, found.large

    def take(opened: socket.socket, data: bytes, address: str) -> None:
        family = FAMILIES[family_of(address)]
        start = (data[0] & 15) * 4 if family.in_front and data else 0
        if len(data) < start + _HEADER_OCTETS:
            return  # root in a sandbox can send anything
        kind, _code, _sum, identifier, sequence = struct.unpack_from("!BBHHH", data, start)
        if kind == family.reply and identifier == _IDENTIFIER:
            (large if sequence >= _FULL_SIZE else small).add(address)

    def done() -> bool:
        return small.issuperset(targets) and large.issuperset(targets)

    with _echo_sockets({family_of(item) for item in (*targets, *silent)}) as sockets:
        for attempt in range(ATTEMPTS):
            missing = [item for item in targets if item not in small or item not in large]
            for target in missing:
                found.errors.update(_ask_for_echo(sockets, target, attempt, with_full=True))
            if attempt == 0 and silent:
                for target in silent:
                    _ask_for_echo(sockets, target, attempt, with_full=False)
                collect(list(sockets.values()), SILENCE_SECONDS, take, lambda: False)
            collect(list(sockets.values()), ROUND_SECONDS, take, done)
            if done():
                break
    return found


def _ask_for_echo(sockets: Mapping[int, socket.socket], target: str, attempt: int, with_full: bool) -> dict[str, str]:
    """Returns why nothing could be sent, by the target."""
    family, opened = FAMILIES[family_of(target)], sockets[family_of(target)]
    try:
        opened.sendto(_echo_request(family, attempt), (target, 0))
        if with_full:
            size = _largest_payload(family, target)
            opened.sendto(_echo_request(family, _FULL_SIZE + attempt, size), (target, 0))
    except OSError as error:
        return {target: error.strerror or str(error)}
    return {}
