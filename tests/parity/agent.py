# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Runs on a lab host: listens in the host's namespaces and calls from them, as told by lines of JSON on its input.

``{"listen": [[namespace, name, protocol, address, port], …]}`` makes listeners that tell each caller who answers and
what address the caller has.  ``{"call": [[namespace, protocol, address, port, payload in hex], …]}`` makes calls, all
at once, and says of each what came back in hex, or why nothing did.  A namespace is a path; an empty one is the host's
own.

A socket stays in the namespace it was made in, so one process with one thread serves and calls for all of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Optional, Union

CLONE_NEWNET = 0x40000000
PATIENCE = 2.5
AGAIN = 0.4
AT_ONCE = 40
FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Agent:
    """One event loop over commands, listeners and calls."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.waiting: list[tuple[int, list[Any]]] = []
        self.calls: dict[int, Call] = {}
        self.results: list[Optional[str]] = []
        self.watch(sys.stdin, lambda: self._command(sys.stdin.readline()))

    def watch(self, what: Any, handler: Callable[[], None], events: int = selectors.EVENT_READ) -> None:
        """Call ``handler`` whenever there is something to read."""
        self.selector.register(what, events, handler)

    @contextlib.contextmanager
    def inside(self, namespace: str) -> Iterator[None]:
        """Make sockets in that namespace."""
        if not namespace:
            yield
            return
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(descriptor)
            yield
        finally:
            _setns(self.home)
            os.close(descriptor)

    def run(self) -> None:
        """Work until the input ends."""
        while True:
            for key, _events in self.selector.select(0.05 if self.calls else 0 if self.waiting else None):
                key.data()
            self._start_some()
            now = time.monotonic()
            for call in list(self.calls.values()):
                call.tick(now)

    def _command(self, line: str) -> None:
        if not line:
            sys.exit()
        command = json.loads(line)
        if "listen" in command:
            said = [self._listen(*words) for words in command["listen"]]
            print(json.dumps(said), flush=True)
        else:
            self.waiting = list(enumerate(command["call"]))
            self.results = [None] * len(self.waiting)

    def _listen(self, namespace: str, name: str, protocol: str, address: str, port: int) -> str:
        try:
            with self.inside(namespace):
                made = _socket(protocol, address)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(*(FREEBIND[made.family]), 1)  # the address may still be looking for duplicates
            made.bind((address, port))
        except OSError as problem:
            return f"{name} {protocol} {address} {port}: {problem}"
        if protocol == "tcp":
            made.listen(256)
            self.watch(made, lambda: _serve_tcp(made, name))
        else:
            self.watch(made, lambda: _serve_udp(made, name))
        return ""

    def _start_some(self) -> None:
        for _turn in range(min(AT_ONCE, len(self.waiting))):
            number, (namespace, *words) = self.waiting.pop(0)
            self.calls[number] = call = Call(self, number, *words)
            try:
                with self.inside(namespace):
                    call.start()
            except OSError as problem:
                call.end(_reason(problem.errno))

    def done(self, number: int, result: str) -> None:
        """A call has ended; with the last one all results are said."""
        del self.calls[number]
        self.results[number] = result
        if not self.calls and not self.waiting:
            print(json.dumps(self.results), flush=True)


class Call:
    """One call; it ends with an answer, an error of the kernel, or when patience does."""

    def __init__(self, agent: Agent, number: int, protocol: str, address: str, port: int, payload: str) -> None:
        self.agent, self.number = agent, number
        self.protocol, self.address, self.port, self.payload = protocol, address, port, bytes.fromhex(payload)
        self.socket: Optional[socket.socket] = None
        self.heard = b""
        self.began = self.sent = time.monotonic()

    def start(self) -> None:
        """Connect, in the namespace this is called in."""
        self.socket = _socket(self.protocol, self.address)
        with contextlib.suppress(BlockingIOError):
            self.socket.connect((self.address, self.port))
        if self.protocol == "udp":
            self.socket.send(self.payload)
        self.agent.watch(self.socket, self._read)

    def _read(self) -> None:
        assert self.socket is not None
        try:
            said = self.socket.recv(4096)
        except BlockingIOError:
            return
        except OSError as problem:
            self.end(_reason(problem.errno))
            return
        self.heard += said
        if self.protocol == "udp" or not said:
            self.end(self.heard.hex() or "closed")

    def tick(self, now: float) -> None:
        """Try again, or give up, if it is time to."""
        if now - self.began > PATIENCE:
            self.end("silent")
        elif self.protocol == "udp" and now - self.sent > AGAIN:
            self.sent = now
            assert self.socket is not None
            try:
                self.socket.send(self.payload)
            except OSError as problem:
                self.end(_reason(problem.errno))

    def end(self, result: str) -> None:
        """Say what came of it."""
        if self.socket is not None:
            with contextlib.suppress(KeyError):
                self.agent.selector.unregister(self.socket)
            self.socket.close()
        self.agent.done(self.number, result)


def _reason(number: Union[int, None]) -> str:
    refused = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE)
    return "refused" if number in refused else "silent" if number == errno.ETIMEDOUT else "unreachable"


def _socket(protocol: str, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def _words(name: str, caller: str) -> bytes:
    return json.dumps([name, caller]).encode()


def _serve_tcp(listener: socket.socket, name: str) -> None:
    with contextlib.suppress(OSError):
        connection, caller = listener.accept()
        with connection:
            connection.sendall(_words(name, caller[0]))


def _serve_udp(listener: socket.socket, name: str) -> None:
    with contextlib.suppress(OSError):
        _said, caller = listener.recvfrom(4096)
        listener.sendto(_words(name, caller[0]), caller)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Agent().run()
