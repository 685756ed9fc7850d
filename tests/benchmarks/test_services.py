# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Virtual addresses: what calling by one costs, and what it costs to make many.

On a kernel with IPVS by both engines, else by nftables alone; with IPVS in the virtual machine: ``./run vm python -m
pytest tests/benchmarks/test_services.py``.

1. Requests through a VIP with one task behind it, against the same to the task itself, in turns.  A request is a
   connection, a line and its end.
2. 100 services of 10 tasks in each of 20 callers' sandboxes: the first time and once more, against ``nft -f`` of the
   same rules and, with IPVS, ``ipvsadm --restore`` of the same servers in each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from host import converge, measured_on_a_host, sh
from measuring import in_turns, rounds, timed
from rows import Table

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

REQUESTS = 1500
SERVICES, TASKS, CALLERS = (6, 25, 100), 10, 20
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
def test_calling_by_a_virtual_address(named: str, tmp_path: Path, table: Table) -> None:
    found = measured_on_a_host(lambda: _calls(named), tmp_path / "found")
    for place, key in enumerate((f"packet.vip.{named}", f"packet.vip.{named}.late")):
        table.add(key, [pair["ours"][place] for pair in found], [pair["peer"][place] for pair in found])


def _calls(named: str) -> list[dict[str, list[float]]]:
    """Of each round, requests a second and the 99th percentile in microseconds: by the VIP, and straight."""
    converge(_pair(named))
    command = ["ip", "netns", "exec", "task", sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        for address in (_VIP, _TASK):
            _called(address, 100)
        ways = {"ours": lambda: _called(_VIP), "peer": lambda: _called(_TASK)}
        found = [in_turns(ways) for _round in rounds(7, 15, 20)]
        server.kill()
    return found


# --- many ------------------------------------------------------------------------------------------------------------


def _many(services: int) -> list[VirtualService]:
    return [
        VirtualService(f"10.{number}.0.2", "rr", tuple((f"10.{number}.0.{task}", 1) for task in range(3, 3 + TASKS)))
        for number in range(1, services + 1)
    ]


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
def test_making_many(named: str, tmp_path: Path, table: Table) -> None:
    for services in SERVICES:
        found = [
            measured_on_a_host(lambda services=services: _makes_many(named, services), tmp_path / "found")  # type: ignore[misc]
            for _round in rounds(1, 3, 15)
        ]
        first, again, by_hand = ([each[name] for each in found] for name in ("first", "again", "by hand"))
        table.grew(f"vips.{named}", services, first, by_hand)
        table.grew(f"vips.{named}.again", services, again, first)


def _makes_many(named: str, services: int) -> dict[str, float]:
    callers = [f"caller{number}" for number in range(CALLERS)]
    boxes: list[Resource] = [Namespace(name, f"sandbox/{name}") for name in callers]
    converge([*boxes, *(sandbox_table("default", name) for name in callers)])
    made: list[Resource] = []
    folder = Path("/run/by-hand")
    folder.mkdir()
    for name in callers:
        balancing = ENGINES[named](name, _many(services))
        table = sandbox_table("default", name, balancing)
        made += [table, *balancing.resources]
        assert isinstance(table, Nftables)
        (folder / name).write_text(script(table, "default"), encoding="utf-8")
    servers = folder / "servers"
    first = timed(converge, [*boxes, *made])
    again = min(timed(converge, [*boxes, *made]) for _round in range(3))
    if named == "ipvs":
        servers.write_text(sh(f"ip netns exec {callers[0]} ipvsadm -Sn"), encoding="ascii")
    return {"first": first, "again": again, "by hand": _restored(callers, folder, servers)}
