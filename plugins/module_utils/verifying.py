# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Proof from inside the sandboxes: real echo requests and real DNS questions, all of a sandbox at once."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from .kernel.host import Host

_RESOLVER = ("127.0.0.11", 53)
_IDENTIFIER = 0x636E
_FULL_SIZE = 1000  # added to the sequence number of full-sized requests
_ATTEMPTS = 3
_ROUND_SECONDS = 1.0
_SILENCE_SECONDS = 0.5
_CONNECT_SECONDS = 4.0
"""The kernel asks again after one second, and after three."""
_ENDS = (0, errno.ECONNREFUSED)
_TYPES = {1: socket.AF_INET, 28: socket.AF_INET6}
"""Types of DNS records that hold addresses: A and AAAA."""
_TRUNCATED = 0x0200


@dataclass(frozen=True)
class _Family:
    """What echo requests and routes of one address family are like; numbers are the kernel's."""

    domain: int
    protocol: int
    somewhere: str
    """An address that only a default route leads to."""
    level: int
    never_fragment: tuple[tuple[int, int], ...]
    """Socket options, with their values: IP_MTU_DISCOVER, IPV6_MTU_DISCOVER and IPV6_DONTFRAG."""
    mtu: int
    """The option that says the MTU of a connected socket's route: IP_MTU, IPV6_MTU."""
    headers: int
    """Octets before an echo request's payload, the IP header's among them."""
    request: int
    reply: int
    in_front: bool
    """Whether a raw socket receives the IP header too."""


_FAMILIES = {
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


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _echo_request(family: _Family, sequence: int, size: int = 0) -> bytes:
    """In IPv6 the kernel writes the checksum itself, whatever stands there."""
    payload = bytes(size + size % 2)
    header = struct.pack("!BBHHH", family.request, 0, 0, _IDENTIFIER, sequence)
    checksum = _checksum(header + payload)
    return struct.pack("!BBHHH", family.request, 0, checksum, _IDENTIFIER, sequence) + payload


def _largest_payload(family: _Family, target: str) -> int:
    """How much an echo request to the address can carry without being fragmented, by the route's MTU."""
    with socket.socket(family.domain, socket.SOCK_DGRAM) as opened:
        opened.connect((target, 9))
        return (opened.getsockopt(family.level, family.mtu) - family.headers) // 2 * 2


def ways_out() -> list[int]:
    """The families in which the thread's namespace has a route to everywhere; asks the kernel alone, sends nothing."""
    result = []
    for version, family in _FAMILIES.items():
        with contextlib.suppress(OSError), socket.socket(family.domain, socket.SOCK_DGRAM) as opened:
            opened.connect((family.somewhere, 9))
            result.append(version)
    return result


def _collect(
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
            family = _FAMILIES[version]
            opened = stack.enter_context(socket.socket(family.domain, socket.SOCK_RAW, family.protocol))
            for option, value in family.never_fragment:
                opened.setsockopt(family.level, option, value)
            result[version] = opened
        yield result


def answering(targets: Sequence[str], silent: Sequence[str]) -> tuple[set[str], set[str]]:
    """Which addresses answer echo requests from the thread's namespace: small ones, and those as large as the MTU.

    Nothing is fragmented.  ``silent`` are those not expected to answer: one try, half a second.
    """
    small: set[str] = set()
    full: set[str] = set()

    def take(opened: socket.socket, data: bytes, address: str) -> None:
        family = _FAMILIES[_version(address)]
        start = (data[0] & 15) * 4 if family.in_front else 0
        kind, _code, _sum, identifier, sequence = struct.unpack_from("!BBHHH", data, start)
        if kind == family.reply and identifier == _IDENTIFIER:
            (full if sequence >= _FULL_SIZE else small).add(address)

    def done() -> bool:
        return small.issuperset(targets) and full.issuperset(targets)

    with _echo_sockets({_version(item) for item in (*targets, *silent)}) as sockets:
        for attempt in range(_ATTEMPTS):
            missing = [item for item in targets if item not in small or item not in full]
            for target in missing:
                _ask_for_echo(sockets, target, attempt, with_full=True)
            if attempt == 0 and silent:
                for target in silent:
                    _ask_for_echo(sockets, target, attempt, with_full=False)
                _collect(list(sockets.values()), _SILENCE_SECONDS, take, lambda: False)
            _collect(list(sockets.values()), _ROUND_SECONDS, take, done)
            if done():
                break
    return small, full


def _ask_for_echo(sockets: Mapping[int, socket.socket], target: str, attempt: int, with_full: bool) -> None:
    family, opened = _FAMILIES[_version(target)], sockets[_version(target)]
    with contextlib.suppress(OSError):  # no route is as good as no answer
        opened.sendto(_echo_request(family, attempt), (target, 0))
        if with_full:
            size = _largest_payload(family, target)
            opened.sendto(_echo_request(family, _FULL_SIZE + attempt, size), (target, 0))


def _question(identifier: int, name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", identifier, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def _skip_name(data: bytes, offset: int) -> int:
    while data[offset]:
        if data[offset] & 0xC0:
            return offset + 2
        offset += data[offset] + 1
    return offset + 1


def _addresses(data: bytes) -> list[str]:
    """The A and AAAA records of a DNS answer (RFC 1035 §4.1)."""
    questions, answers = struct.unpack_from("!2H", data, 4)
    offset = 12
    for _number in range(questions):
        offset = _skip_name(data, offset) + 4
    result = []
    for _number in range(answers):
        offset = _skip_name(data, offset)
        kind, _class, _ttl, length = struct.unpack_from("!2HIH", data, offset)
        offset += 10
        if kind in _TYPES:
            result.append(str(ip_address(data[offset : offset + length])))
        offset += length
    return result


def _ask_by_tcp(question: bytes) -> bytes:
    """The whole answer to a question, one that is too long for UDP."""
    with socket.create_connection(_RESOLVER, _ROUND_SECONDS) as opened, opened.makefile("rb") as stream:
        opened.sendall(struct.pack("!H", len(question)) + question)
        (length,) = struct.unpack("!H", stream.read(2))
        return stream.read(length)


def resolving(names: Sequence[str]) -> dict[str, list[str]]:
    """What each name resolves to at the thread's namespace's resolver: IPv4 and IPv6 addresses, sorted as text.

    A name without an answer is left out.
    """
    questions = dict(enumerate(((name, kind) for name in names for kind in _TYPES), start=1))
    answers: dict[int, list[str]] = {}

    def take(_opened: socket.socket, data: bytes, _address: str) -> None:
        identifier, flags = struct.unpack_from("!2H", data)
        if identifier in questions:
            if flags & _TRUNCATED:
                data = _ask_by_tcp(_question(identifier, *questions[identifier]))
            answers[identifier] = _addresses(data)

    def done() -> bool:
        return len(answers) == len(questions)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        for _attempt in range(_ATTEMPTS):
            for identifier, (name, kind) in questions.items():
                if identifier not in answers:
                    opened.sendto(_question(identifier, name, kind), _RESOLVER)
            _collect([opened], _ROUND_SECONDS, take, done)
            if done():
                break
    found: dict[str, list[str]] = {}
    for identifier, addresses in answers.items():
        found.setdefault(questions[identifier][0], []).extend(addresses)
    return {name: sorted(addresses) for name, addresses in found.items()}


def unconnected(targets: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Which addresses and ports no TCP connection from the thread's namespace comes to an end at, and why.

    An end is whoever accepts it, or refuses it: then it arrived where nobody listens.
    """
    found: dict[tuple[str, int], str] = {}
    waiting: dict[socket.socket, tuple[str, int]] = {}
    with contextlib.ExitStack() as stack:
        for target in dict.fromkeys(targets):
            opened = stack.enter_context(socket.socket(_FAMILIES[_version(target[0])].domain, socket.SOCK_STREAM))
            opened.setblocking(False)
            code = opened.connect_ex(target)
            if code == errno.EINPROGRESS:
                waiting[opened] = target
            elif code not in _ENDS:
                found[target] = os.strerror(code)
        poll = select.poll()
        by_number = {opened.fileno(): opened for opened in waiting}
        for number in by_number:
            poll.register(number, select.POLLOUT)
        deadline = time.monotonic() + _CONNECT_SECONDS
        while waiting and (left := deadline - time.monotonic()) > 0:
            for number, _events in poll.poll(left * 1000):
                opened = by_number[number]
                poll.unregister(number)
                target, code = waiting.pop(opened), opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code not in _ENDS:
                    found[target] = os.strerror(code)
        found.update(dict.fromkeys(waiting.values(), "none"))
    return found


def _unconnected(targets: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """What of a host's check is wrong; runs in the host's namespace."""
    found = unconnected([(str(target[0]), int(target[1])) for target in targets])
    return [_miss("connect", f"{address} tcp {port}", "an answer", why) for (address, port), why in found.items()]


def _misses(check: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What one sandbox's check finds wrong; runs in its namespace."""
    small, full = answering(check["reach"], check["refuse"])
    misses = [_miss("reach", target, "an answer", "none") for target in check["reach"] if target not in small]
    misses += [
        _miss("reach", target, "an answer to a packet as large as the MTU", "none")
        for target in sorted(small - full)
        if target in check["reach"]
    ]
    misses += [_miss("refuse", target, "no answer", "one") for target in check["refuse"] if target in small]
    found = ways_out()
    for version in sorted(set(found) ^ set(check["way_out"])):
        wanted, there = (
            ("a default route", "none") if version in check["way_out"] else ("no way out", "a default route")
        )
        misses.append(_miss("egress", f"outside over IPv{version}", wanted, there))
    if check["names"]:
        resolved = resolving(sorted(check["names"]))
        for name, addresses in sorted(check["names"].items()):
            if resolved.get(name) != addresses:
                said = ", ".join(resolved.get(name, ())) or "no answer"
                misses.append(_miss("resolve", name, ", ".join(addresses), said))
    return misses


def _miss(check: str, target: str, wanted: str, found: str) -> dict[str, Any]:
    return {"check": check, "target": target, "wanted": wanted, "found": found}


def verify(host: Host, checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Run the checks of all sandboxes; returns how many were made and every miss with its sandbox."""
    misses = []
    counts = {"reach": 0, "refuse": 0, "names": 0, "egress": 0, "connect": 0}
    for check in checks:
        if not check["sandbox"]:
            counts["connect"] += len(check["connect"])
            misses += [{"sandbox": "host", **miss} for miss in host.run_in("", _unconnected, check["connect"])]
            continue
        for kind in ("reach", "refuse", "names"):
            counts[kind] += len(check[kind])
        counts["egress"] += 1
        try:
            found = host.run_in(check["sandbox"], _misses, check)
        except FileNotFoundError:
            found = [_miss("sandbox", check["sandbox"], "a namespace", "none")]
        except OSError as error:
            found = [_miss("sandbox", check["sandbox"], "answers", str(error))]
        misses += [{"sandbox": check["sandbox"], **miss} for miss in found]
    return {"counts": counts, "misses": misses}
