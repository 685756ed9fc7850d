# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Real servers and callers on the lab's hosts and in their sandboxes.  A server answers with the caller's address."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fleet import Fleet

_SERVER = r"""
import selectors, socket, sys
chosen = selectors.DefaultSelector()
for word in sys.argv[1:]:
    protocol, port = word.split("/")
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        opened = socket.socket(family, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            opened.bind((any_address, int(port)))
        except OSError:
            continue
        if protocol == "tcp":
            opened.listen(64)
        chosen.register(opened, selectors.EVENT_READ, protocol)
chosen.register(sys.stdin, selectors.EVENT_READ, "end")
print("ready", flush=True)
while True:
    for key, _events in chosen.select():
        if key.data == "end":
            sys.exit()
        if key.data == "tcp":
            connection, caller = key.fileobj.accept()
            connection.sendall(caller[0].encode())
            connection.close()
        else:
            data, caller = key.fileobj.recvfrom(2048)
            key.fileobj.sendto(caller[0].encode(), caller)
"""

_CALLER = r"""
import json, socket, sys, threading
calls, answers = json.loads(sys.argv[1]), {}
def call(number, protocol, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as opened:
        opened.settimeout(1.2)
        try:
            opened.connect((address, port))
            if protocol == "udp":
                opened.send(b"who")
            answers[number] = opened.recv(100).decode()
        except OSError:
            answers[number] = None
threads = [threading.Thread(target=call, args=(n, *item)) for n, item in enumerate(calls)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([answers[n] for n in range(len(calls))]))
"""

Call = tuple[str, str, int]
"""(tcp or udp, address, port)."""


def _inside(sandbox: str, argv: Sequence[str]) -> list[str]:
    return ["ip", "netns", "exec", sandbox, *argv] if sandbox else list(argv)


@contextmanager
def serving(fleet: Fleet, node: str, sandbox: str, *ports: str) -> Iterator[None]:
    """Serve ``tcp/80`` and so on in a sandbox ("" for the host itself) while the context lasts."""
    argv = _inside(sandbox, ["/usr/bin/python3", "-c", _SERVER, *ports])
    # The server ends with its input: between it and us stand programs that would not hand a signal on.
    process = fleet.lab.popen(node, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.communicate()


def answers(fleet: Fleet, node: str, sandbox: str, calls: Sequence[Call]) -> list[str | None]:
    """What each call is answered with: the address the server saw, None if nobody answered."""
    argv = _inside(sandbox, ["/usr/bin/python3", "-c", _CALLER, json.dumps(calls)])
    found: list[str | None] = json.loads(fleet.lab.run(node, argv).stdout)
    return found
