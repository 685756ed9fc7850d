# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What 10,000 remote endpoints of an overlay cost on a host, against ``bridge -batch`` and ``ip -batch``, and a dump.

Every endpoint is an entry of the VXLAN link's own table, one of the bridge's and a neighbour: 30,000 of the kernel's.
A dump reads the same tables without looking at what was read.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from ipaddress import ip_address
from pathlib import Path

from host import converge, measured_on_a_host, run_command
from measuring import in_turns, rounds, timed
from rows import Table

from ansible_collections.cnm.fabric.plugins.module_utils.engine.engine import Engine
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Fdb, Neighbours
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import BridgePort, Link, Namespace, Vxlan

SIZES = (625, 2_500, 10_000)
VTEPS = 100
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


def _endpoints(size: int) -> list[dict[str, str]]:
    result = []
    for number in range(size):
        address = ip_address("10.0.0.2") + number
        mac = f"02:42:{address.packed.hex(':')}"
        result.append({"address": str(address), "mac": mac, "vtep": f"192.0.2.{2 + number % VTEPS}"})
    return result


def _tables(endpoints: list[dict[str, str]]) -> tuple[Resource, ...]:
    return (
        Fdb("ov", "vx0", {one["mac"]: one["vtep"] for one in endpoints}),
        Neighbours("ov", "br0", {one["address"]: one["mac"] for one in endpoints}),
    )


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


def _measure(size: int) -> dict[str, list[dict[str, float]]]:
    """Of each round the milliseconds of ours and of the peer, the first time and unchanged."""
    endpoints = _endpoints(size)
    for program, lines in BATCHES.items():
        text = "".join(f"{line.format(**one)}\n" for one in endpoints for line in lines)
        Path(f"/tmp/{program}").write_text(text, encoding="ascii")
    wanted = (*LINKS, *_tables(endpoints))
    found: dict[str, list[dict[str, float]]] = {"first": [], "unchanged": []}

    def by_batches() -> float:
        converge(())
        converge(LINKS)
        taken = timed(_batch)
        with Host("default", run_command) as host:
            assert Engine(host).compare(wanted) == []
        return taken * 1000

    def ours() -> float:
        converge(())
        converge(LINKS)
        with Host("default", run_command) as host:
            return timed(Engine(host).converge, wanted, False) * 1000

    def unchanged() -> float:
        with Host("default", run_command) as host:
            return timed(Engine(host).converge, wanted, False) * 1000

    def dump() -> float:
        with Host("default", run_command) as host:
            return float(host.run_in("ov", timed, _dump)) * 1000

    for _round in rounds(3, 7, 25):
        found["first"].append(in_turns({"ours": ours, "peer": by_batches}))
        found["unchanged"].append(in_turns({"ours": unchanged, "peer": dump}))
    converge(())
    return found


def test_remote_endpoints_are_written_and_read_beside_the_kernel_s_own_tools(tmp_path: Path, table: Table) -> None:
    for size in SIZES:
        for what, pairs in measured_on_a_host(lambda size=size: _measure(size), tmp_path / "found").items():  # type: ignore[misc]
            table.grew(f"fdb.{what}", size, [pair["ours"] for pair in pairs], [pair["peer"] for pair in pairs])
