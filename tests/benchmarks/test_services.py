# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Virtual addresses: what calling by one costs, and what it costs to make many.

On a kernel with IPVS by both engines, else by nftables alone; with IPVS in the virtual machine: ``./run vm python -m
pytest tests/benchmarks/test_services.py``.

1. Requests through a VIP with one task behind it, against the same to the task itself, in turns.  A request is a
   connection, a line and its end.  Aims: requests per second x 0.85 or more, the 99th percentile x 1.3 or less.
2. 100 services of 10 tasks in each of 20 callers' sandboxes: the first time and once more, against ``nft -f`` of the
   same rules and, with IPVS, ``ipvsadm --restore`` of the same servers in each.  Aims: x 1.5 or less, and once more x
   0.3 or less of the first time.  Reported, not asserted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import pytest
from host import converge, on_a_host, sh

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.ipvs import is_available
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace, VethPeer
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables import script
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.sandbox_tables import sandbox_table
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.balancing import VirtualService
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.ipvs import by_ipvs
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.nftables import by_nftables

ROUNDS, REQUESTS = 11, 1500
SERVICES, TASKS, CALLERS = 100, 10, 20
ENGINES = {"nftables": by_nftables, **({"ipvs": by_ipvs} if is_available() else {})}
_VIP, _TASK = "10.0.0.99", "10.0.0.3"

_SERVER = r"""
import socket
listening = socket.create_server(("", 8000), backlog=512)
print("ready", flush=True)
while True:
    with listening.accept()[0] as caller:
        caller.sendall(b"hello\n")
"""

_CALLER = r"""
import json, socket, sys, time
address, times = sys.argv[1], int(sys.argv[2])
taken, begun = [], time.perf_counter()
for _number in range(times):
    before = time.perf_counter()
    with socket.create_connection((address, 8000), 10) as stream:
        while stream.recv(100):
            pass
    taken.append(time.perf_counter() - before)
whole = time.perf_counter() - begun
taken.sort()
print(json.dumps([times / whole, taken[int(times * 0.99)] * 1e6]))
"""


def _box(name: str, last: int) -> list[Resource]:
    return [
        Namespace(name, f"sandbox/{name}"),
        Link(name, "eth0", "veth", f"endpoint/net/{name}", peer=VethPeer("", f"p-{name}", "br0")),
        Address(name, "eth0", f"10.0.0.{last}/24"),
    ]


def _pair(named: str) -> list[Resource]:
    balancing = ENGINES[named]("caller", [VirtualService(_VIP, "rr", ((_TASK, 1),))])
    table = sandbox_table("default", "caller", balancing)
    return [Link("", "br0", "bridge", "network/net"), *_box("caller", 2), *_box("task", 3), table, *balancing.resources]


def _called(address: str, times: int = REQUESTS) -> list[float]:
    command = ["ip", "netns", "exec", "caller", sys.executable, "-c", _CALLER, address, str(times)]
    result: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


@pytest.mark.parametrize("named", ENGINES)
def test_calling_by_a_virtual_address(named: str, capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        _calls(named)


@on_a_host
def _calls(named: str) -> None:
    converge(_pair(named))
    command = ["ip", "netns", "exec", "task", sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        found: dict[str, list[list[float]]] = {_VIP: [], _TASK: []}
        for address in found:
            _called(address, 100)
        for number in range(ROUNDS):
            for address in sorted(found, reverse=bool(number % 2)):
                found[address].append(_called(address))
        server.kill()
    rate, late = (
        median(one[place] / other[place] for one, other in zip(found[_VIP], found[_TASK])) for place in (0, 1)
    )
    said = [[median(each[place] for each in found[address]) for place in (0, 1)] for address in (_VIP, _TASK)]
    print(
        f"\n  {named}, {REQUESTS} requests, medians of {ROUNDS}: through a VIP {said[0][0]:.0f}/s and p99 "
        f"{said[0][1]:.0f} us, straight {said[1][0]:.0f}/s and {said[1][1]:.0f} us: x {rate:.3f} and "
        f"x {late:.2f} (aims: 0.85, 1.3)",
        flush=True,
    )


# --- many ------------------------------------------------------------------------------------------------------------


def _many() -> list[VirtualService]:
    return [
        VirtualService(f"10.{number}.0.2", "rr", tuple((f"10.{number}.0.{task}", 1) for task in range(3, 3 + TASKS)))
        for number in range(1, SERVICES + 1)
    ]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _restored(callers: Sequence[str], tables: Path, servers: Path) -> float:
    """What ``nft -f`` and ``ipvsadm --restore`` take for the same in other namespaces."""
    for name in callers:
        # IPVS takes no address for a server's while the namespace has no local one.
        sh(f"ip netns add {name}-by-hand; ip -n {name}-by-hand link set lo up")
    started = time.perf_counter()
    for name in callers:
        inside = ["ip", "netns", "exec", f"{name}-by-hand"]
        subprocess.run([*inside, "nft", "-f", str(tables / name)], check=True)
        if servers.exists():
            with open(servers, encoding="ascii") as text:
                subprocess.run([*inside, "ipvsadm", "--restore"], stdin=text, check=True)
    return time.perf_counter() - started


@pytest.mark.parametrize("named", ENGINES)
def test_making_many(named: str, capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        _makes_many(named)


@on_a_host
def _makes_many(named: str) -> None:
    callers = [f"caller{number}" for number in range(CALLERS)]
    boxes: list[Resource] = [Namespace(name, f"sandbox/{name}") for name in callers]
    converge([*boxes, *(sandbox_table("default", name) for name in callers)])
    made: list[Resource] = []
    folder = Path("/run/by-hand")
    folder.mkdir()
    for name in callers:
        balancing = ENGINES[named](name, _many())
        table = sandbox_table("default", name, balancing)
        made += [table, *balancing.resources]
        assert isinstance(table, Nftables)
        (folder / name).write_text(script(table, "default"), encoding="utf-8")
    servers = folder / "servers"
    first = _seconds(lambda: converge([*boxes, *made]))
    again = min(_seconds(lambda: converge([*boxes, *made])) for _round in range(3))
    if named == "ipvs":
        servers.write_text(sh(f"ip netns exec {callers[0]} ipvsadm -Sn"), encoding="ascii")
    by_hand = _restored(callers, folder, servers)
    print(
        f"\n  {named}, {SERVICES} services of {TASKS} tasks in {CALLERS} sandboxes: first {first:.2f} s, with nft -f"
        f"{' and ipvsadm --restore' if named == 'ipvs' else ''} {by_hand:.2f} s: x {first / by_hand:.2f}; again "
        f"{again:.2f} s: x {again / first:.2f} (aims: 1.5, 0.3)",
        flush=True,
    )
