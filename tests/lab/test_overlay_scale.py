# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One overlay over many hosts with ten endpoints each: eight (twelve with --all), or ``CNM_SCALE_HOSTS``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from fleet import Fleet
from lab import Lab
from overlaying import lab_of, matrix, overlay, pinging, sandboxes, unanswered, wrong
from sampling import WHOLE

HOSTS = int(os.environ.get("CNM_SCALE_HOSTS", "12" if WHOLE else "8"))
EACH = 10
SUBNETS = {"multinet": ["10.10.0.0/16"]}

_SAMPLED = """
- hosts: all
  gather_facts: false
  tasks:
    - {cnm.fabric.probe: , register: fabric_probe}
    - {cnm.fabric.plan: , run_once: true, check_mode: true, register: fabric_plan}
    - {cnm.fabric.verify: {pairs: 10}, throttle: 6}
"""
"""All hosts of a lab have one kernel, and it one table of 1024 neighbours: few pairs, and a few hosts at a time."""

T = TypeVar("T")


@pytest.fixture
def many() -> Iterator[Lab]:
    """As many hosts."""
    with lab_of(HOSTS, "many") as lab:
        yield lab


class Clock:
    """Says how long each phase took."""

    def __init__(self, report: Callable[[str, object], None]) -> None:
        self.report = report

    def time(self, phase: str, work: Callable[..., T], *arguments: str) -> T:
        started = time.monotonic()
        result = work(*arguments)
        took = f"{time.monotonic() - started:.1f} s"
        print(f"{phase} of {HOSTS} hosts with {EACH} endpoints each: {took}")
        self.report(phase, took)
        return result


def test_many_hosts_converge_and_are_proved_and_stay_as_they_are(
    many: Lab, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    fleet, clock = Fleet(many, tmp_path), Clock(record_property)
    fleet.patience = 60 + 20 * HOSTS
    boxes = {host: [f"c{host[4:]}x{number}" for number in range(EACH)] for host in fleet.hosts}
    networks = {"cnm_networks": {name: overlay(*subnets) for name, subnets in SUBNETS.items()}}
    fleet.declare(networks, **{host: sandboxes(**{name: ["multinet"] for name in boxes[host]}) for host in boxes})
    if WHOLE:
        clock.time("check", fleet.site, "--check")
    with pinging(fleet, "node1", "", many.address("node2")) as counted:
        clock.time("converge", fleet.site)
        again = clock.time("second run", fleet.site)
        assert again.changed == []
        sampled = tmp_path / "sampled.yml"
        sampled.write_text(_SAMPLED, encoding="utf-8")
        verified = clock.time("verify", fleet.play, str(sampled))
        assert verified.code == 0, verified.output
    assert counted[0] == counted[1] > 100
    members = {"multinet": {name: host for host, names in boxes.items() for name in names}}
    assert clock.time("every table read", lambda: wrong(fleet, SUBNETS, members)) == []
    firsts = {"multinet": {names[0]: host for host, names in boxes.items()}}
    assert clock.time("pings", lambda: unanswered(fleet, matrix(firsts, whole=False))) == []
    moved = {**boxes, "node1": boxes["node1"][1:], "node2": [*boxes["node2"], boxes["node1"][0]]}
    fleet.declare(networks, **{host: sandboxes(**{name: ["multinet"] for name in moved[host]}) for host in moved})
    clock.time("one sandbox moves", fleet.site)
    members = {"multinet": {name: host for host, names in moved.items() for name in names}}
    assert wrong(fleet, SUBNETS, members) == []
    clock.time("teardown", fleet.teardown)
