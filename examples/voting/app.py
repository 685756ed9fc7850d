#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What stands in for the applications of the voting example: a server that says who it is and who called, and a caller.

app.py serve NAME PORT… serves until it is ended; app.py ask HOST PORT TIMES prints each answer.
"""

from __future__ import annotations

import selectors
import socket
import sys


def serve(name: str, ports: list[int]) -> None:
    """Answer each connection, on IPv4 and IPv6, with ``NAME was called by ADDRESS``."""
    chosen = selectors.DefaultSelector()
    for port in ports:
        opened = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        chosen.register(opened, selectors.EVENT_READ)
    while True:
        for key, _events in chosen.select():
            opened = key.fileobj
            assert isinstance(opened, socket.socket)
            connection, caller = opened.accept()
            with connection:
                connection.sendall(f"{name} was called by {caller[0].removeprefix('::ffff:')}\n".encode())


def ask(host: str, port: int, times: int) -> None:
    """Print what so many connections are answered with."""
    for _number in range(times):
        with socket.create_connection((host, port), timeout=5) as connection:
            print(connection.recv(200).decode().strip())


if __name__ == "__main__":
    what, whom, *numbers = sys.argv[1:]
    if what == "serve":
        serve(whom, [int(number) for number in numbers])
    else:
        ask(whom, int(numbers[0]), int(numbers[1]))
