# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `site` costs on one host over a task that does nothing, and beside a task for each object.

500 sandboxes, of which one network is, and a quarter and a sixteenth of them for growth; 50 for who has as many.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fleet import Fleet
from lab import Lab
from measuring import a_book, in_turns, no_op, rounds, timed
from rows import Table

SIZES = (31, 125, 500)
FEW = 50
STEPS = ("first", "unchanged", "more", "removed")


def declared(sandboxes: int) -> dict[str, object]:
    names = [f"s{number:03d}" for number in range(sandboxes)]
    return {
        "cnm_networks": {"n": {"subnet": "10.0.0.0/16"}},
        "cnm_sandboxes": {name: {"networks": ["n"]} for name in names},
    }


def _sandboxes(fleet: Fleet) -> int:
    """How many there are, each with its resolver."""
    made = int(fleet.sh("node1", "ls /run/netns 2>/dev/null | wc -l"))
    assert int(fleet.sh("node1", "pgrep -c -x dnsmasq", check=False)) == made
    return made


def _memory(fleet: Fleet) -> float:
    """KiB of each resolver's own and its share of what they share."""
    text = fleet.sh("node1", "for one in $(pgrep -x dnsmasq); do cat /proc/$one/smaps_rollup; done")
    found = [int(size) for size in re.findall(r"(?m)^Pss: +(\d+)", text)]
    return sum(found) / len(found)


def measured(fleet: Fleet, sandboxes: int, most: int) -> tuple[dict[str, tuple[list[float], list[float]]], list[float]]:
    """By step the seconds of `site` and of the no-op beside it; and the KiB of a resolver."""
    idle = no_op(fleet)
    idle()  # opens the connection that all of them share
    found: dict[str, tuple[list[float], list[float]]] = {step: ([], []) for step in STEPS}
    memory = []

    def step(name: str, declaring: int) -> None:
        fleet.declare(declared(declaring))
        runs = []
        ways: dict[str, Callable[[], float]] = {
            "ours": lambda: timed(lambda: runs.append(fleet.site())),
            "peer": lambda: timed(idle),
        }
        pair = in_turns(ways)
        found[name][0].append(pair["ours"])
        found[name][1].append(pair["peer"])
        assert bool(runs[0].changed) is (name != "unchanged"), runs[0].output
        assert _sandboxes(fleet) == declaring

    for _round in rounds(2, most, 75):
        step("first", sandboxes)
        memory.append(_memory(fleet))
        step("unchanged", sandboxes)
        step("more", sandboxes + 1)
        step("removed", 0)
        fleet.teardown()
    return found, memory


@pytest.fixture(scope="module")
def at_fifty() -> dict[str, list[float]]:
    """By step how much `site` took over the no-op with 50 sandboxes; "" before that was measured."""
    return {}


@pytest.mark.parametrize("sandboxes", (FEW, *SIZES))
def test_sandboxes_on_one_host(tmp_path: Path, table: Table, sandboxes: int, at_fifty: dict[str, list[float]]) -> None:
    with Lab(f"pytest-speed-{os.getpid()}", hosts=1) as lab:
        fleet = Fleet(lab, tmp_path)
        fleet.afresh = True
        found, memory = measured(fleet, sandboxes, 3 if sandboxes >= SIZES[-1] else 5)
    for step, (ours, idle) in found.items():
        if sandboxes == FEW:
            table.add(f"50.{step}", ours, idle)
        else:
            table.grew(f"500.{step}", sandboxes, ours, idle)
    over = [ours - idle for ours, idle in zip(*found["more"])]
    if sandboxes == FEW:
        at_fifty["more"] = over
        return
    table.grew("500.memory", sandboxes, memory)
    if sandboxes == SIZES[-1] and at_fifty:
        pairs = list(zip(over, at_fifty["more"]))
        table.add("500.more.than.50", [pair[0] for pair in pairs], [pair[1] for pair in pairs])


def commands(endpoints: int) -> list[str]:
    """What makes the same links, addresses and routes by hand: a command an object."""
    made = ["ip link add br-n type bridge", "ip address add 10.0.0.1/16 dev br-n", "ip link set br-n up"]
    for number in range(endpoints):
        box, port = f"s{number:03d}", f"p{number:03d}"
        made += [
            f"ip netns add {box}",
            f"ip link add {port} type veth peer name eth0 netns {box}",
            f"ip link set {port} master br-n up",
            f"ip -n {box} link set lo up",
            f"ip -n {box} address add 10.0.1.{number}/16 dev eth0",
            f"ip -n {box} link set eth0 up",
            f"ip -n {box} route add default via 10.0.0.1",
        ]
    return made


def test_50_endpoints_beside_a_task_for_each_object(tmp_path: Path, table: Table) -> None:
    with Lab(f"pytest-tasks-{os.getpid()}", hosts=1) as lab:
        fleet = Fleet(lab, tmp_path)
        fleet.afresh = True
        tasks = [{"ansible.builtin.command": {"cmd": command}} for command in commands(FEW)]
        by_tasks = a_book(tmp_path / "by-tasks.yml", *tasks)
        no_op(fleet)()
        ours, theirs = [], []
        for _round in rounds(1, 1, 60):
            fleet.declare(declared(FEW))
            ours.append(timed(fleet.site))
            fleet.teardown()
            theirs.append(timed(fleet.play, by_tasks))
        reached = "ip netns exec s049 ping -q -c 1 -W 2 10.0.0.1 && ls /run/netns | wc -l"
        assert fleet.sh("node1", reached).endswith(f"{FEW}\n")
    table.add("50.tasks", ours, theirs)
