# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `site` costs on 50 hosts that are as declared, 10 endpoints each on one overlay, over a task that does nothing.

Aim: at most 1.5 times the no-op.  Reported, not asserted.  ``CNM_HOSTS`` in the environment is another number of hosts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import yaml
from fleet import Fleet
from lab import Lab

HOSTS = int(os.environ.get("CNM_HOSTS", "50"))
ENDPOINTS = 10
ROUNDS = 5
_OVERLAY = {"cnm_networks": {"mesh": {"driver": "overlay", "subnet": "10.50.0.0/16"}}}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _sandboxes(host: str) -> dict[str, object]:
    return {"cnm_sandboxes": {f"{host}-{number}": {"networks": ["mesh"]} for number in range(ENDPOINTS)}}


def _no_op(fleet: Fleet, path: Path) -> Callable[[], object]:
    path.write_text(
        yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": None}]}])
    )
    return lambda: fleet.play(str(path))


def test_an_unchanged_fleet_costs_little_more_than_asking_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lab(f"pytest-fifty-{os.getpid()}", hosts=HOSTS) as lab:
        fleet = Fleet(lab, tmp_path)
        fleet.afresh = True
        no_op = _no_op(fleet, tmp_path / "no-op.yml")
        fleet.declare(_OVERLAY, **{host: _sandboxes(host) for host in fleet.hosts})
        first = _seconds(fleet.site)
        idle, unchanged = [], []
        for _round in range(ROUNDS):
            idle.append(_seconds(no_op))
            unchanged.append(_seconds(lambda: _unchanged(fleet)))
        rows = fleet.sh("node1", "ip netns exec ov-$(ls /run/netns | sed -n 's/^ov-//p') bridge fdb show | wc -l")
    ratio = median(unchanged) / median(idle)
    with capsys.disabled():
        print(f"\n{HOSTS} hosts, {ENDPOINTS} endpoints each on one overlay, medians of {ROUNDS} (s); first {first:.1f}")
        print(f"  forwarding entries of a host: {rows.strip()}")
        print(f"  unchanged {median(unchanged):.1f}, no-op {median(idle):.1f}, ratio {ratio:.2f} (aim 1.5)")


def _unchanged(fleet: Fleet) -> None:
    run = fleet.site()
    assert run.changed == [], run.output
