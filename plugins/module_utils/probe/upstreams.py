# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Asks the host's upstream DNS servers, all at once, whether they resolve names for this host (RFC 1035)."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import field
from ipaddress import ip_address

from ..kernel.dns_question import question
from ..plan.constants import RESOLVER_FAILURES
from ..plan.records import dataclass

_REFUSED, _SERVFAIL, _UNREACHABLE, _SILENT = RESOLVER_FAILURES
PATIENCE_S = 1.0
_AGAIN_S = 0.4
"""A question without an answer is asked once more."""
_MOST = 8
"""Servers that are asked; a libc asks three."""
_ERRORS = {2: _SERVFAIL, 5: _REFUSED}
"""Response codes after which dnsmasq tries the next server."""
_RESPONSE = 0x8000
_IPV4, _IPV6 = (socket.AF_INET, socket.IPPROTO_IP, 11), (socket.AF_INET6, socket.IPPROTO_IPV6, 25)
"""With IP_RECVERR and IPV6_RECVERR, by which a socket hears of each ICMP error; numbers are the kernel's."""
_ROOT, _NS, _SOA = "", 2, 6


@dataclass
class _Asked:
    """A server that is being asked, one question after the other until it answers one."""

    address: str
    questions: list[tuple[str, int]]
    """Name and type."""
    opened: socket.socket = field(init=False)
    problem: str = _SILENT

    def open(self, stack: contextlib.ExitStack) -> bool:
        """Ask the first question; False if the host has no way to the server, or not its IP version."""
        domain, level, told = _IPV6 if ":" in self.address else _IPV4
        try:
            self.opened = stack.enter_context(socket.socket(domain, socket.SOCK_DGRAM))
            self.opened.setblocking(False)
            self.opened.setsockopt(level, told, 1)
            self.opened.connect((self.address, 53))
        except OSError:
            self.problem = _UNREACHABLE
            return False
        self.ask()
        return True

    @property
    def _identifier(self) -> int:
        return len(self.questions)

    def ask(self) -> None:
        """Send the present question.  An error is that of an earlier datagram, which `hear` reads next."""
        with contextlib.suppress(OSError):
            self.opened.send(question(self._identifier, *self.questions[0]))

    def hear(self) -> bool:
        """Read an answer; whether there is nothing more to wait for."""
        try:
            data = self.opened.recv(512)
        except BlockingIOError:
            return False
        except OSError:
            self.problem = _UNREACHABLE
            return True
        if len(data) < 4:
            return False
        identifier, flags = struct.unpack_from("!2H", data)
        if identifier != self._identifier or not flags & _RESPONSE:
            return False
        self.problem = _ERRORS.get(flags & 0xF, "")
        if self.problem and len(self.questions) > 1:
            del self.questions[0]
            self.ask()
            return False
        return True


def failing(servers: Sequence[str], domains: Sequence[str]) -> dict[str, str]:
    """Why each of the servers resolves nothing, of `RESOLVER_FAILURES`; empty as soon as one of them answers.

    Each is asked for the root's servers, and one that refuses that also for the first of the search ``domains``: it may
    serve only that.  Returns after at most `PATIENCE_S`.
    """
    questions = [(_ROOT, _NS), *((domain.strip("."), _SOA) for domain in domains[:1] if _is_name(domain))]
    asked = [_Asked(server, list(questions)) for server in dict.fromkeys(servers) if _is_asked(server)][:_MOST]
    with contextlib.ExitStack() as stack:
        waiting: dict[int, _Asked] = {}
        poll = select.poll()
        for item in asked:
            if item.open(stack):
                waiting[item.opened.fileno()] = item
                poll.register(item.opened, select.POLLIN)
        again, end = (time.monotonic() + seconds for seconds in (_AGAIN_S, PATIENCE_S))
        while waiting and (now := time.monotonic()) < end:
            if now >= again:
                again = end
                for item in waiting.values():
                    item.ask()
            for number, _events in poll.poll((again - now) * 1000 + 1):
                if waiting[number].hear():
                    item = waiting.pop(number)
                    poll.unregister(number)
                    if not item.problem:
                        return {}
    return {item.address: item.problem for item in asked}


def _is_asked(server: str) -> bool:
    """Whether a query to the server means anything on this host: a stub, or a link-local one, is no sandbox's."""
    address = ip_address(server)
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local)


def _is_name(domain: str) -> bool:
    labels = domain.strip(".").split(".")
    return domain.isascii() and len(domain) < 254 and all(0 < len(label) < 64 for label in labels)
