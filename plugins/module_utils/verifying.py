# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Proof from inside the sandboxes: real echo requests and real DNS questions, all of a sandbox at once."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .kernel.host import Host

_RESOLVER = ("127.0.0.11", 53)
_SOMEWHERE = ("192.0.2.1", 9)
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO, _IP_MTU = 10, 2, 14
_HEADERS = 28  # IPv4's 20 and ICMP's 8
_FULL_SIZE = 1000  # added to the sequence number of full-sized requests
_IDENTIFIER = 0x636E
_ATTEMPTS = 3
_ROUND_SECONDS = 1.0
_SILENCE_SECONDS = 0.5


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _echo_request(sequence: int, size: int = 0) -> bytes:
    payload = bytes(size + size % 2)
    header = struct.pack("!BBHHH", 8, 0, 0, _IDENTIFIER, sequence)
    return struct.pack("!BBHHH", 8, 0, _checksum(header + payload), _IDENTIFIER, sequence) + payload


def _largest_payload(target: str) -> int:
    """How much an echo request to the address can carry without being fragmented, by the route's MTU."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.connect((target, 9))
        return (opened.getsockopt(socket.IPPROTO_IP, _IP_MTU) - _HEADERS) // 2 * 2


def has_way_out() -> bool:
    """Whether the thread's namespace has a route to everywhere; asks the kernel alone, sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        try:
            opened.connect(_SOMEWHERE)
        except OSError:
            return False
    return True


def _collect(
    opened: socket.socket, seconds: float, take: Callable[[bytes, Any], None], done: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + seconds
    while not done() and (left := deadline - time.monotonic()) > 0:
        if select.select([opened], [], [], left)[0]:
            data, address = opened.recvfrom(4096)
            take(data, address)


def answering(targets: Sequence[str], silent: Sequence[str]) -> tuple[set[str], set[str]]:
    """Which addresses answer echo requests from the thread's namespace: small ones, and those as large as the MTU.

    Nothing is fragmented (DF is set).  ``silent`` are those not expected to answer: one try, half a second.
    """
    small: set[str] = set()
    full: set[str] = set()

    def take(data: bytes, address: Any) -> None:
        kind, _code, _sum, identifier, sequence = struct.unpack_from("!BBHHH", data, (data[0] & 15) * 4)
        if kind == 0 and identifier == _IDENTIFIER:
            (full if sequence >= _FULL_SIZE else small).add(address[0])

    def done() -> bool:
        return small.issuperset(targets) and full.issuperset(targets)

    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as opened:
        opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        for attempt in range(_ATTEMPTS):
            first = attempt == 0
            for target in [
                *(item for item in targets if item not in small or item not in full),
                *(silent if first else ()),
            ]:
                with contextlib.suppress(OSError):  # no route is as good as no answer
                    opened.sendto(_echo_request(attempt), (target, 0))
                    if target not in silent:
                        opened.sendto(_echo_request(_FULL_SIZE + attempt, _largest_payload(target)), (target, 0))
            if first and silent:
                _collect(opened, _SILENCE_SECONDS, take, lambda: False)
            _collect(opened, _ROUND_SECONDS, take, done)
            if done():
                break
    return small, full


def _question(identifier: int, name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", identifier, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def _skip_name(data: bytes, offset: int) -> int:
    while data[offset]:
        if data[offset] & 0xC0:
            return offset + 2
        offset += data[offset] + 1
    return offset + 1


def _addresses(data: bytes) -> list[str]:
    """The A records of a DNS answer (RFC 1035 §4.1)."""
    questions, answers = struct.unpack_from("!2H", data, 4)
    offset = 12
    for _number in range(questions):
        offset = _skip_name(data, offset) + 4
    result = []
    for _number in range(answers):
        offset = _skip_name(data, offset)
        kind, _class, _ttl, length = struct.unpack_from("!2HIH", data, offset)
        offset += 10
        if kind == 1 and length == 4:
            result.append(socket.inet_ntoa(data[offset : offset + 4]))
        offset += length
    return sorted(result)


def resolving(names: Sequence[str]) -> dict[str, list[str]]:
    """What each name resolves to at the thread's namespace's resolver; a name without an answer is left out."""
    found: dict[str, list[str]] = {}
    by_identifier = dict(enumerate(names, start=1))

    def take(data: bytes, _address: Any) -> None:
        name = by_identifier.get(struct.unpack_from("!H", data)[0])
        if name is not None:
            found[name] = _addresses(data)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        for _attempt in range(_ATTEMPTS):
            for identifier, name in by_identifier.items():
                if name not in found:
                    opened.sendto(_question(identifier, name), _RESOLVER)
            _collect(opened, _ROUND_SECONDS, take, lambda: len(found) == len(by_identifier))
            if len(found) == len(by_identifier):
                break
    return found


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
    if has_way_out() != check["way_out"]:
        wanted, found = ("a default route", "none") if check["way_out"] else ("no way out", "a default route")
        misses.append(_miss("egress", "outside", wanted, found))
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
    counts = {"reach": 0, "refuse": 0, "names": 0, "egress": 0}
    for check in checks:
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
