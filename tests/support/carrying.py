# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How much TCP carries from one namespace of a lab to another, and how long an octet takes there and back.

A small sender in Python stands in for iperf3: its buffers are so large that the time is the kernel's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from lab import Lab

SECONDS = 0.7
PORT = 5001

SERVER = r"""
import socket, sys
listening = socket.create_server(("", int(sys.argv[1])))
print("ready", flush=True)
buffer = bytearray(1 << 20)
while True:
    with listening.accept()[0] as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        echoes = caller.recv(1) == b"e"
        while size := caller.recv_into(buffer):
            if echoes:
                caller.send(buffer[:size])
"""

CALLER = r"""
import json, socket, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
found, data = {}, memoryview(bytearray(1 << 20))
with socket.create_connection((host, port), 10) as stream:
    stream.settimeout(None)
    stream.send(b"s")
    for counts in (False, True):
        sent, started = 0, time.perf_counter()
        while (now := time.perf_counter()) < started + (seconds if counts else 0.1):
            sent += stream.send(data)
    found["Gbit/s"] = sent * 8 / (now - started) / 1e9
with socket.create_connection((host, port), 10) as trips:
    trips.settimeout(None)
    trips.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    trips.send(b"e")
    taken, end = [], time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        trips.send(b"x")
        trips.recv(1)
        taken.append(time.perf_counter() - before)
taken.sort()
found["us"] = taken[len(taken) // 2] * 1e6
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Way:
    """How two sandboxes of the same name pattern reach each other."""

    name: str
    caller: tuple[str, str]
    server: tuple[str, str]
    """Host and namespace of each."""
    address: str


def command(namespace: str, script: str, *words: str) -> list[str]:
    """The command in a namespace of the host it is run on or, "", on that itself."""
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    return [*inside, sys.executable, "-c", script, *words]


def serve(lab: Lab, way: Way) -> None:
    """Start the server, which ends with the lab."""
    server = lab.popen(way.server[0], command(way.server[1], SERVER, str(PORT)), stdout=subprocess.PIPE)
    assert server.stdout is not None and server.stdout.readline() == "ready\n"


def measure(lab: Lab, way: Way, to: str) -> dict[str, float]:
    asking = command(way.caller[1], CALLER, to, str(PORT), str(SECONDS))
    said = lab.run(way.caller[0], asking, check=True).stdout
    result: dict[str, float] = json.loads(said)
    return result
