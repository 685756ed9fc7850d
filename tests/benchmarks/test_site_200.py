# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `site` costs over a task that does nothing, for 200 sandboxes with their resolvers on one host.

Aims: unchanged at most 2 s more than the no-op, the first time at most 5 s more.  Reported, not asserted.
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

SANDBOXES = 200
ROUNDS = 3


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def test_200_sandboxes_on_one_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"s{number:03d}" for number in range(SANDBOXES)]
    declared = {
        "cnm_networks": {"n": {"subnet": "10.0.0.0/16"}},
        "cnm_sandboxes": {name: {"networks": ["n"]} for name in names},
    }
    with Lab(f"pytest-speed-{os.getpid()}", hosts=1) as lab:
        fleet = Fleet(lab, tmp_path)
        no_op = tmp_path / "no-op.yml"
        no_op.write_text(
            yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": None}]}])
        )
        fleet.play(str(no_op))  # opens the connection that all of them share
        idle, first, unchanged = [], [], []
        for _round in range(ROUNDS):
            fleet.declare(declared)
            first.append(_seconds(fleet.site))
            idle.append(_seconds(lambda: fleet.play(str(no_op))))
            unchanged.append(_seconds(fleet.site))
            assert fleet.sh("node1", "ls /run/netns | wc -l").strip() == str(SANDBOXES)
            fleet.teardown()
    with capsys.disabled():
        print(f"\n{SANDBOXES} sandboxes, medians of {ROUNDS} (s): no-op {median(idle):.2f}")
        for name, times, aim in (("first time", first, 5), ("unchanged", unchanged, 2)):
            print(f"  {name}: {median(times):.2f}, {median(times) - median(idle):.2f} over the no-op (aim {aim})")
