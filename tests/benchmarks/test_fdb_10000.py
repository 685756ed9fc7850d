# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What 10,000 remote endpoints of an overlay cost on a host, against ``bridge -batch`` and ``ip -batch``, and a dump.

Every endpoint is an entry of the VXLAN link's own table, one of the bridge's and a neighbour: 30,000 of the kernel's.
Aims: the first time at most 1.5 times the two batches, unchanged at most 3 times reading the same tables without
looking at what was read.  Reported, not asserted.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import pytest
from host import converge, on_a_host, run_command

from ansible_collections.cnm.fabric.plugins.module_utils.engine.engine import Engine
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Fdb, Neighbours
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import BridgePort, Link, Namespace, Vxlan

ENDPOINTS = 10_000
VTEPS = 100
ROUNDS = 5
BATCHES = {
    "bridge": ("fdb replace {mac} dev vx0 self permanent dst {vtep}", "fdb replace {mac} dev vx0 master static sticky"),
    "ip": ("neigh replace {address} lladdr {mac} dev br0 nud permanent",),
}

LINKS: tuple[Resource, ...] = (
    Namespace("ov", "network/mesh"),
    Link("ov", "br0", "bridge", "network/mesh"),
    Link(
        "ov",
        "vx0",
        "vxlan",
        "vxlan/mesh",
        port=BridgePort("br0", neigh_suppress=True, learning=False, flood=False, mcast_flood=False, bcast_flood=False),
        vxlan=Vxlan(4097, "192.0.2.1"),
    ),
)


def _endpoints() -> list[dict[str, str]]:
    result = []
    for number in range(ENDPOINTS):
        address = ip_address("10.0.0.2") + number
        mac = f"02:42:{address.packed.hex(':')}"
        result.append({"address": str(address), "mac": mac, "vtep": f"192.0.2.{2 + number % VTEPS}"})
    return result


def _tables(endpoints: list[dict[str, str]]) -> tuple[Resource, ...]:
    return (
        Fdb("ov", "vx0", {one["mac"]: one["vtep"] for one in endpoints}),
        Neighbours("ov", "br0", {one["address"]: one["mac"] for one in endpoints}),
    )


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _dump() -> None:
    """Read both tables and throw them away."""
    buffer, index = bytearray(65536), socket.if_nametoindex("vx0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.setsockopt(270, 12, 1)  # SOL_NETLINK, NETLINK_GET_STRICT_CHK: so that the index below counts
        for family, link in ((7, index), (0, 0)):
            kernel.send(struct.pack("=IHHIIB3xiHBB", 28, 30, 0x301, 1, 0, family, link, 0, 0, 0))
            while True:
                size = kernel.recv_into(buffer)
                if buffer[size - 16] == 3:  # NLMSG_DONE, of 20 bytes, ends it
                    break


def _batch() -> None:
    for program in BATCHES:
        subprocess.run([program, "-n", "ov", "-batch", f"/tmp/{program}"], check=True)


def _measure(report: TextIO) -> None:
    endpoints = _endpoints()
    for program, lines in BATCHES.items():
        text = "".join(f"{line.format(**one)}\n" for one in endpoints for line in lines)
        Path(f"/tmp/{program}").write_text(text, encoding="ascii")
    wanted = (*LINKS, *_tables(endpoints))
    found: dict[str, list[float]] = {"first": [], "batches": [], "unchanged": [], "dump": []}
    for _round in range(ROUNDS):
        converge(LINKS)
        with Host("default", run_command) as host:
            found["batches"].append(_milliseconds(_batch))
            assert Engine(host).compare(wanted) == []
        converge(())
        converge(LINKS)
        with Host("default", run_command) as host:
            found["first"].append(_milliseconds(lambda: Engine(host).converge(wanted, check=False)))
            found["unchanged"].append(_milliseconds(lambda: Engine(host).converge(wanted, check=False)))
            found["dump"].append(host.run_in("ov", _milliseconds, _dump))
        converge(())
    json.dump(found, report)
    report.flush()


def test_10000_endpoints_are_written_and_read_at_the_kernel_s_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "found").open("w+", encoding="utf-8") as report:
        on_a_host(_measure)(report)
        report.seek(0)
        found: dict[str, Any] = {name: median(times) for name, times in json.load(report).items()}
    with capsys.disabled():
        print(f"\n{ENDPOINTS} remote endpoints behind {VTEPS} VTEPs, medians of {ROUNDS} (ms)")
        for ours, theirs, aim in (("first", "batches", 1.5), ("unchanged", "dump", 3)):
            ratio = found[ours] / found[theirs]
            print(f"  {ours}: {found[ours]:.1f}, {theirs} {found[theirs]:.1f}, ratio {ratio:.2f} (aim {aim})")
