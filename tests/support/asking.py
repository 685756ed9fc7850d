# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""DNS questions as a program in a sandbox asks them, and servers that answer what its resolver forwards."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
from lab import CLONE_NEWNET, _setns

T = TypeVar("T")

RESOLVER = "127.0.0.11"


@dataclass(frozen=True)
class Answer:
    """What was said: ``NOERROR``, and the records' data in the order they came."""

    code: str
    data: tuple[str, ...] = ()
    truncated: bool = False
    ttls: frozenset[int] = frozenset()


NO_SUCH_NAME = Answer("NXDOMAIN")
NOTHING_OF_THAT_TYPE = Answer("NOERROR")


def said(message: dns.message.Message) -> Answer:
    """A DNS message as an Answer."""
    data = tuple(str(item).rstrip(".") for rrset in message.answer for item in rrset)
    ttls = frozenset(rrset.ttl for rrset in message.answer)
    return Answer(dns.rcode.to_text(message.rcode()), data, bool(message.flags & dns.flags.TC), ttls)


def ask(
    name: str,
    kind: str = "A",
    *,
    tcp: bool = False,
    edns: Optional[int] = None,
    timeout: float = 3.0,
    of: str = RESOLVER,
) -> Answer:
    """The answer to a question asked once, from the thread's namespace; ``dns.exception.Timeout`` if there is none."""
    query = dns.message.make_query(name, kind, use_edns=edns is not None, payload=edns)
    if tcp:
        return said(dns.query.tcp(query, of, timeout=timeout))
    return said(dns.query.udp(query, of, timeout=timeout, raise_on_truncation=False))


def ask_reverse(address: str) -> Answer:
    """Which name an address has."""
    return ask(dns.reversename.from_address(address).to_text(), "PTR")


def ask_patiently(name: str, pause: float, tries: int) -> Answer:
    """As a stub resolver asks: the same question again from the same socket while there is no answer."""
    query = dns.message.make_query(name, "A", use_edns=None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(pause)
        for _try in range(tries):
            opened.sendto(query.to_wire(), (RESOLVER, 53))
            with contextlib.suppress(TimeoutError):
                return said(dns.message.from_wire(opened.recv(65535)))
    raise TimeoutError(name)


def in_namespace(path: str, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call a function in a thread that is in the network namespace of that path."""
    result: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            _setns(path, CLONE_NEWNET)
            result.append(function(*arguments, **named))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


@dataclass
class Upstream:
    """A DNS server of the thread's namespace at an address, for UDP and TCP.

    ``answers`` is {name: {type: data}}; other names do not exist.  It tells the truth after ``delay`` seconds, says
    ``code`` to everything if there is one, and nothing at all while it is ``silent``.
    """

    address: str
    answers: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    delay: float = 0
    code: Optional[str] = None
    silent: bool = False
    port: int = 53
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Name and type of each question that came, in order."""

    def _reply(self, wire: bytes, limit: int) -> Optional[bytes]:
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name, kind = str(question.name).rstrip(".").lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.silent:
            return None
        time.sleep(self.delay)
        reply = dns.message.make_response(query, recursion_available=True)
        known = self.answers.get(name)
        reply.set_rcode(dns.rcode.from_text(self.code or ("NOERROR" if known is not None else "NXDOMAIN")))
        if known and kind in known and not self.code:
            reply.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", kind, list(known[kind])))
        whole = reply.to_wire(max_size=65535)
        if len(whole) > limit:
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            whole = reply.to_wire()
        return whole

    def _udp(self, opened: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, sender = opened.recvfrom(65535)
                if not wire:  # shut down
                    break
                threading.Thread(target=self._udp_one, args=(opened, wire, sender), daemon=True).start()

    def _udp_one(self, opened: socket.socket, wire: bytes, sender: Any) -> None:
        reply = self._reply(wire, 512)
        if reply:
            with contextlib.suppress(OSError):
                opened.sendto(reply, sender)

    def _tcp(self, opened: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _sender = opened.accept()
                with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError, struct.error):
                    while True:
                        reply = self._reply(stream.read(struct.unpack("!H", stream.read(2))[0]), 65535)
                        if not reply:
                            break
                        connection.sendall(struct.pack("!H", len(reply)) + reply)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Upstream]:
        """It answers inside the block."""
        domain = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with (
            socket.socket(domain, socket.SOCK_DGRAM) as datagrams,
            socket.socket(domain, socket.SOCK_STREAM) as connections,
        ):
            connections.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for opened in (datagrams, connections):
                opened.bind((self.address, self.port))
            connections.listen()
            for work, opened in ((self._udp, datagrams), (self._tcp, connections)):
                threading.Thread(target=work, args=(opened,), daemon=True).start()
            yield self
            for opened in (datagrams, connections):
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)
