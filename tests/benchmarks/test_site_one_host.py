# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `site` costs on one host: over a task that does nothing, and beside a task for each object.

Aims: 200 sandboxes with their resolvers at most 5 s more than the no-op the first time and 2 s unchanged, 500 unchanged
1.5 s; 50 endpoints 20 times as fast as the same by one ``ansible.builtin.command: ip …`` an object.  Reported, not
asserted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Optional

import pytest
import yaml
from fleet import Fleet
from lab import Lab

ROUNDS = 3
ENDPOINTS = 50


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def declared(sandboxes: int) -> dict[str, object]:
    names = [f"s{number:03d}" for number in range(sandboxes)]
    return {
        "cnm_networks": {"n": {"subnet": "10.0.0.0/16"}},
        "cnm_sandboxes": {name: {"networks": ["n"]} for name in names},
    }


def a_book(path: Path, tasks: list[dict[str, Any]]) -> str:
    path.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("sandboxes", "aims"), [(200, (5.0, 2.0)), (500, (None, 1.5))])
def test_sandboxes_on_one_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sandboxes: int, aims: tuple[Optional[float], float]
) -> None:
    with Lab(f"pytest-speed-{os.getpid()}", hosts=1) as lab:
        fleet = Fleet(lab, tmp_path)
        fleet.afresh = True
        no_op = a_book(tmp_path / "no-op.yml", [{"ansible.builtin.ping": None}])
        fleet.play(no_op)  # opens the connection that all of them share
        idle, first, unchanged = [], [], []
        for _round in range(ROUNDS):
            fleet.declare(declared(sandboxes))
            first.append(_seconds(fleet.site))
            idle.append(_seconds(lambda: fleet.play(no_op)))
            unchanged.append(_seconds(fleet.site))
            assert fleet.sh("node1", "ls /run/netns | wc -l").strip() == str(sandboxes)
            fleet.teardown()
    with capsys.disabled():
        print(f"\n{sandboxes} sandboxes, medians of {ROUNDS} (s): no-op {median(idle):.2f}")
        for name, times, aim in (("first time", first, aims[0]), ("unchanged", unchanged, aims[1])):
            print(
                f"  {name}: {median(times):.2f}, {median(times) - median(idle):.2f} over the no-op (aim {aim or '-'})"
            )


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


def test_50_endpoints_beside_a_task_for_each_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Lab(f"pytest-tasks-{os.getpid()}", hosts=1) as lab:
        fleet = Fleet(lab, tmp_path)
        fleet.afresh = True
        tasks = [{"ansible.builtin.command": {"cmd": command}} for command in commands(ENDPOINTS)]
        by_tasks = a_book(tmp_path / "by-tasks.yml", tasks)
        fleet.play(a_book(tmp_path / "no-op.yml", [{"ansible.builtin.ping": None}]))
        ours = []
        for _round in range(ROUNDS):
            fleet.declare(declared(ENDPOINTS))
            ours.append(_seconds(fleet.site))
            fleet.teardown()
        theirs = _seconds(lambda: fleet.play(by_tasks))
        assert fleet.sh("node1", "ip netns exec s049 ping -q -c 1 -W 2 10.0.0.1 && ls /run/netns | wc -l").endswith(
            "50\n"
        )
    with capsys.disabled():
        print(f"\n{ENDPOINTS} endpoints (s): site, with firewall and resolvers, {median(ours):.2f}")
        print(f"  {len(tasks)} tasks {theirs:.2f}")
        print(f"  tasks / site: {theirs / median(ours):.1f} (aim 20)")
