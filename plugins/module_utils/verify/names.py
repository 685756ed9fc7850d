# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Sends DNS queries (RFC 1035) to a sandbox's resolver, all at once."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Sequence
from ipaddress import ip_address

from ..kernel.dns_question import question
from .echo import ATTEMPTS, ROUND_SECONDS, collect

_RESOLVER = ("127.0.0.11", 53)

_TYPES = {1: socket.AF_INET, 28: socket.AF_INET6}
"""Types of DNS records that hold addresses: A and AAAA."""

_TRUNCATED = 0x0200

_TCP_SECONDS = 2.0


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


def _ask_by_tcp(query: bytes) -> bytes:
    """The complete answer to a query, by TCP, if it is too long for UDP.  OSError if it does not come in time."""
    deadline = time.monotonic() + _TCP_SECONDS
    with socket.create_connection(_RESOLVER, _TCP_SECONDS) as opened:
        opened.sendall(struct.pack("!H", len(query)) + query)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            opened.settimeout(max(0.001, deadline - time.monotonic()))
            more = opened.recv(65536)
            if not more:
                raise ConnectionError("the answer is incomplete")
            data += more
    return data[2:]


def resolving(names: Sequence[str]) -> dict[str, list[str]]:
    """The addresses that each name resolves to in the thread's namespace, sorted as text.

    A name without an answer is left out.
    """
    questions = dict(enumerate(((name, kind) for name in names for kind in _TYPES), start=1))
    answers: dict[int, list[str]] = {}

    def take(_opened: socket.socket, data: bytes, _address: str) -> None:
        # Root in the sandbox can answer instead of the resolver: what is malformed is no answer.
        with contextlib.suppress(struct.error, IndexError, ValueError, OSError):
            identifier, flags = struct.unpack_from("!2H", data)
            if identifier in questions:
                if flags & _TRUNCATED:
                    data = _ask_by_tcp(question(identifier, *questions[identifier]))
                answers[identifier] = _addresses(data)

    def done() -> bool:
        return len(answers) == len(questions)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        for _attempt in range(ATTEMPTS):
            for identifier, (name, kind) in questions.items():
                if identifier not in answers:
                    opened.sendto(question(identifier, name, kind), _RESOLVER)
            collect([opened], ROUND_SECONDS, take, done)
            if done():
                break
    found: dict[str, list[str]] = {}
    for identifier, addresses in answers.items():
        found.setdefault(questions[identifier][0], []).extend(addresses)
    return {name: sorted(addresses) for name, addresses in found.items()}
