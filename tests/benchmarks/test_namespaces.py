# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What it costs tests to make their own namespaces: by a shell with `ip`, by `ip -batch`, and by pyroute2.

Each makes a bridge and 20 namespaces with a link into it, an address and a default route, on a host of its own; all
make the same.  docs/development/libraries.md says what follows.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from host import measured_on_a_host, sh
from measuring import in_turns, rounds
from pyroute2 import IPRoute, NetNS, netns
from rows import Table

pytestmark = pytest.mark.root
NUMBERS = range(20)


def by_shell() -> None:
    lines = ["ip link add br0 up type bridge"]
    for number in NUMBERS:
        inside = f"ip -n s{number}"
        lines += [
            f"ip netns add s{number}",
            f"ip link add v{number} master br0 up type veth peer name eth0 netns s{number}",
            f"{inside} address add 10.0.0.{number + 2}/24 dev eth0",
            f"{inside} link set eth0 up",
            f"{inside} route add default via 10.0.0.1",
        ]
    sh("\n".join(lines))


def by_batch() -> None:
    def batch(lines: list[str], *options: str) -> None:
        subprocess.run(["ip", *options, "-batch", "-"], input="\n".join(lines), text=True, check=True)

    batch(["link add br0 up type bridge", *(f"netns add s{number}" for number in NUMBERS)])
    batch([f"link add v{number} master br0 up type veth peer name eth0 netns s{number}" for number in NUMBERS])
    for number in NUMBERS:
        inside = ["link set eth0 up", "route add default via 10.0.0.1"]
        batch([f"address add 10.0.0.{number + 2}/24 dev eth0", *inside], "-n", f"s{number}")


def by_pyroute2() -> None:
    with IPRoute() as kernel:
        kernel.link("add", ifname="br0", kind="bridge", state="up")
        (bridge,) = kernel.link_lookup(ifname="br0")
        for number in NUMBERS:
            name = f"s{number}"
            netns.create(name)
            peer = {"ifname": "eth0", "net_ns_fd": name}
            kernel.link("add", ifname=f"v{number}", kind="veth", master=bridge, state="up", peer=peer)
            with NetNS(name) as inside:
                (link,) = inside.link_lookup(ifname="eth0")
                inside.addr("add", index=link, address=f"10.0.0.{number + 2}", prefixlen=24)
                inside.link("set", index=link, state="up")
                inside.route("add", dst="default", gateway="10.0.0.1", proto="boot")


def _round(make: Callable[[], None], directory: Path) -> tuple[float, str]:
    """Milliseconds, and what was made."""

    def work() -> list[object]:
        started = time.perf_counter()
        make()
        taken = 1000 * (time.perf_counter() - started)
        return [taken, "".join(sh(f"ip -n s{number} -4 route; ip -n s{number} -br -4 address") for number in NUMBERS)]

    taken, made = measured_on_a_host(work, directory / "measured")
    return float(str(taken)), str(made)


def test_namespaces_are_made_alike_by_all_three(tmp_path: Path, table: Table) -> None:
    ways = {
        make.__name__: lambda make=make: _round(make, tmp_path)  # type: ignore[misc]
        for make in (by_shell, by_batch, by_pyroute2)
    }
    found = [in_turns(ways) for _round_ in rounds(3, 5, 15)]
    assert len({made for each in found for _taken, made in each.values()}) == 1
    times = {name: [each[name][0] for each in found] for name in ways}
    table.add("tests.batch", times["by_batch"], times["by_shell"])
    table.add("tests.pyroute2", times["by_pyroute2"], times["by_shell"])
