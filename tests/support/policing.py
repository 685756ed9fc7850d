# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who reaches whom: servers in namespaces of the test's own host, and callers of them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Iterator, Sequence

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces

PORTS = (80, 81, 5353)
TIMEOUT = 0.2


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _listening(port: int, kind: socket.SocketKind) -> socket.socket:
    opened = socket.socket(socket.AF_INET6, kind)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        opened.listen(50)
    return opened


class Servers:
    """Servers that send everything back, TCP and UDP, on `PORTS` of several namespaces; "" is the host."""

    def __init__(self, places: Sequence[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._ends = False
        for place in places:
            for port in PORTS:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    opened = namespaces.run(place, _listening, port, kind)
                    self._selector.register(opened, selectors.EVENT_READ, kind)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._ends:
            for key, _events in self._selector.select(0.1):
                with contextlib.suppress(OSError):
                    self._answer(key)

    def _answer(self, key: selectors.SelectorKey) -> None:
        opened = key.fileobj
        assert isinstance(opened, socket.socket)
        if key.data == socket.SOCK_STREAM:
            caller, _address = opened.accept()
            self._selector.register(caller, selectors.EVENT_READ, None)
        elif key.data == socket.SOCK_DGRAM:
            said, address = opened.recvfrom(65535)
            opened.sendto(said, address)
        else:
            said = opened.recv(65536)
            if said:
                opened.sendall(said)
            else:
                self._selector.unregister(opened)
                opened.close()

    def close(self) -> None:
        self._ends = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


@contextlib.contextmanager
def serving(*places: str) -> Iterator[Servers]:
    opened = Servers(places)
    try:
        yield opened
    finally:
        opened.close()


def _opened(address: str, kind: socket.SocketKind, protocol: int = 0, port: int = 0) -> socket.socket:
    opened = socket.socket(_family(address), kind, protocol)
    opened.settimeout(TIMEOUT)
    if port:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("", port))
    return opened


def _scoped(address: str, port: int) -> tuple[object, ...]:
    return (address, port) if ":" not in address else (address, port, 0, 2 if address.startswith("fe80") else 0)


def said(opened: socket.socket, text: bytes = b"word") -> str:
    """Whether what is said by a connected socket comes back: ``yes``, ``refused`` or ``no``."""
    try:
        opened.send(text)
        got = b""
        while len(got) < len(text):
            part = opened.recv(65536)
            if not part:
                return "refused"
            got += part
        return "yes" if got == text else f"garbled: {len(got)}"
    except (ConnectionRefusedError, ConnectionResetError):
        return "refused"
    except OSError as error:
        return "no" if isinstance(error, TimeoutError) else f"no ({error.strerror})"


def connected(place: str, address: str, port: int, kind: str = "tcp", source: int = 0) -> socket.socket:
    """A socket connected from a namespace; OSError if that fails."""
    sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    opened = namespaces.run(place, _opened, address, sort, 0, source)
    try:
        opened.connect(_scoped(address, port))
    except OSError:
        opened.close()
        raise
    return opened


def reaches(place: str, address: str, what: str, source: int = 0, text: bytes = b"word") -> str:
    """``yes``, ``refused`` or ``no``; ``what`` is ``80/tcp``, ``80/udp`` or ``ping``."""
    if what == "ping":
        return _pings(place, address)
    port, _slash, kind = what.partition("/")
    try:
        with connected(place, address, int(port), kind, source) as opened:
            return said(opened, text)
    except (ConnectionRefusedError, ConnectionResetError):
        return "refused"
    except OSError as error:
        return "no" if isinstance(error, TimeoutError) else f"no ({error.strerror})"


def _pings(place: str, address: str) -> str:
    protocol, request, reply = (58, 128, 129) if ":" in address else (1, 8, 0)
    with namespaces.run(place, _opened, address, socket.SOCK_RAW, protocol) as opened:
        body = struct.pack("!BBHHH", request, 0, 0, 0x4E4E, 1)
        if protocol == 1:
            body = body[:2] + struct.pack("!H", 0xFFFF - sum(struct.unpack("!4H", body))) + body[4:]
        opened.sendto(body, _scoped(address, 0))
        for _attempt in range(8):
            try:
                got, (sender, *_rest) = opened.recvfrom(2000)
            except OSError:
                return "no"
            inner = got[(got[0] & 15) * 4 :] if protocol == 1 else got
            if inner[0] == reply and inner[4:6] == b"NN" and sender.partition("%")[0] == address:
                return "yes"
    return "no"
