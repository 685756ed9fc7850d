# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `verify` costs on a host with 500 sandboxes: at most a minute, whether all is well or nothing answers.

A lab host's neighbour table is this machine's, which nobody enlarges: with its 1024 entries some checks find no place
in it, and are repeated.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from fleet import Fleet, Run
from lab import Lab

SANDBOXES = 500
FAULTS = {
    "all is well": "true",
    "no resolver runs": "kill -9 $(head -qn1 /run/cnm/default/resolvers/*.pid)",
    "nothing answers": "for link in $(ls /sys/class/net | grep ^cnm-b); do ip link set $link down; done",
}


def test_a_host_with_500_sandboxes_is_verified_within_a_minute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"s{number:03d}" for number in range(SANDBOXES)]
    lines = []
    with Lab(f"pytest-verify-{os.getpid()}", hosts=1) as lab:
        fleet = Fleet(lab, tmp_path)
        halves = {"n": names[::2], "m": names[1::2]}
        fleet.declare(
            {
                "cnm_networks": {"n": {"subnet": "10.0.0.0/16"}, "m": {"subnet": "10.1.0.0/16"}},
                "cnm_sandboxes": {name: {"networks": [on]} for on, found in halves.items() for name in found},
            }
        )
        fleet.site()
        for fault, script in FAULTS.items():
            fleet.sh("node1", script)
            started = time.monotonic()
            run: Run = fleet.play("verify")
            took = time.monotonic() - started
            lines.append(f"{fault}: {took:.1f} s; {said(run)}")
            assert took < 60
            assert (run.code == 0) is (script == "true"), run.output
        fleet.clear()
    with capsys.disabled():
        print(f"\nverify of {SANDBOXES} sandboxes:", *lines, sep="\n  ")


def said(run: Run) -> str:
    """The line that counts."""
    return next(line.strip(" '") for line in run.output.splitlines() if f"{SANDBOXES} sandboxes on" in line)
