# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is sent on and on from a system or a sandbox of it, and answered, while something is done there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from systems import System

_SERVER = r"""
import selectors, socket, sys
port = int(sys.argv[1])
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("", port))
listening = socket.create_server(("", port))
chosen = selectors.DefaultSelector()
for each in (datagrams, listening, sys.stdin):
    chosen.register(each, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _events in chosen.select():
        if key.fileobj is sys.stdin:
            sys.exit()
        if key.fileobj is datagrams:
            data, (address, number) = datagrams.recvfrom(99)
            datagrams.sendto(b"%s %s:%d" % (data, address.encode(), number), (address, number))
        elif key.fileobj is listening:
            connection = listening.accept()[0]
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            chosen.register(connection, selectors.EVENT_READ)
        else:
            try:
                data = key.fileobj.recv(4096)
                key.fileobj.sendall(data)
            except ConnectionError:
                data = b""
            if not data:
                chosen.unregister(key.fileobj)
                key.fileobj.close()
"""
"""Answers a datagram with what it says and where it is from, and on a connection with the same again."""

_CALLER = r"""
import json, select, socket, struct, sys, time
kind, address, port, pause, expected = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
tcp = kind == "tcp"
if tcp:
    opened = socket.create_connection((address, port), 10)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
else:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.connect((address, port))
opened.setblocking(False)

def words(number):
    if kind != "dns":
        return b"%08d\n" % number
    name = b"".join(bytes([len(label)]) + label for label in expected.split("=")[0].encode().split(b"."))
    return struct.pack(">6H", number & 0xFFFF, 0x100, 1, 0, 0, 0) + name + struct.pack(">BHH", 0, 1, 1)

def understood(data):
    global rest
    if tcp:
        *whole, rest = (rest + data).split(b"\n")
        return list(map(int, whole))
    if kind == "udp":
        number, where = data.split()
        said.add(where.decode())
        return [int(number)]
    right = data.endswith(socket.inet_aton(expected.split("=")[1]))
    return [number for number in [sent & ~0xFFFF | struct.unpack(">H", data[:2])[0]] if right]

sent, rest, said, answered, error = 0, b"", set(), set(), ""
began = last = due = time.monotonic()
longest, ending = 0.0, None
watched = [opened, sys.stdin]
while True:
    now = time.monotonic()
    if ending is not None and (len(answered) == sent or now > ending):
        break
    if not answered and now > began + 10:
        sys.exit("no answer")
    if ending is None and now >= due:
        due = max(due + pause, now)
        try:
            opened.send(words(sent))
        except (ConnectionRefusedError, BlockingIOError) as problem:
            if tcp:
                error = str(problem)
        except OSError as problem:
            error = str(problem)
        sent += 1
    for ready in select.select(watched, [], [], max(0, min(pause, due - time.monotonic())))[0]:
        if ready is sys.stdin:
            ending = time.monotonic() + 3
            watched.remove(sys.stdin)
            longest = max(longest, time.monotonic() - last)
            continue
        try:
            data = opened.recv(4096)
        except ConnectionRefusedError as problem:
            if tcp:
                error = str(problem)
            continue
        except OSError as problem:
            error, data = str(problem), b""
        if tcp and not data:
            error = error or "closed"
            watched.remove(opened)
            ending = time.monotonic()
            continue
        for number in understood(data):
            if not answered:
                print("ready", flush=True)
            elif ending is None:
                longest = max(longest, time.monotonic() - last)
            last = time.monotonic()
            answered.add(number)
again = struct.unpack_from("I", opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0] if tcp else 0
print(json.dumps([sent, sent - len(answered), longest, sorted(said), again, error]))
"""


@dataclass
class Flow:
    """What became of what was sent."""

    sent: int = 0
    lost: int = 0
    longest: float = 0.0
    """Seconds between two answers."""
    said: list[str] = field(default_factory=list)
    """Where datagrams were from, as the server saw it."""
    sent_again: int = 0
    """Segments of TCP, by the caller's kernel."""
    error: str = ""


def _place(sandbox: str) -> list[str]:
    return ["ip", "netns", "exec", sandbox] if sandbox else []


@contextlib.contextmanager
def serving(system: System, sandbox: str, port: int) -> Iterator[None]:
    """Inside the block a server in a sandbox, or ("") the system itself, answers UDP and TCP."""
    command = [*_place(sandbox), "python3", "-c", _SERVER, str(port)]
    with system.popen(*command, stdin=-1, stdout=-1) as server:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield


@contextlib.contextmanager
def flowing(
    system: System, sandbox: str, kind: str, address: str, port: int, pause: float = 0.005, expected: str = ""
) -> Iterator[Flow]:
    """Inside the block something is sent every few milliseconds from one socket; afterwards the flow is filled in.

    ``kind`` is tcp or udp, to what `serving` serves, or dns, which asks for ``expected``: ``c2=10.0.0.3``.
    """
    command = [*_place(sandbox), "python3", "-c", _CALLER, kind, address, str(port), str(pause), expected]
    with system.popen(*command, stdin=-1, stdout=-1) as caller:
        assert caller.stdout is not None and caller.stdout.readline() == "ready\n"
        flow = Flow()
        yield flow
        found = json.loads(caller.communicate()[0])
        flow.sent, flow.lost, flow.longest, flow.said, flow.sent_again, flow.error = found


def questions(system: System, sandbox: str, name: str, address: str) -> contextlib.AbstractContextManager[Flow]:
    """Inside the block a program in a sandbox asks for a name every 20 ms; only the right address is an answer."""
    return flowing(system, sandbox, "dns", "127.0.0.11", 53, 0.02, f"{name}={address}")
