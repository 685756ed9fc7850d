# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `verify` costs on a host with 500 sandboxes, whether all is well or nothing answers.

A lab host's neighbour table is this machine's, which nobody enlarges: with its 1024 entries some checks find no place
in it, and are repeated.
"""

from __future__ import annotations

import os
from pathlib import Path

from fleet import Fleet, Run
from lab import Lab
from measuring import rounds, timed
from rows import Table

SANDBOXES = 500
FAULTS = {  # by row
    "500.verified": "true",
    "500.verified.dead": "kill -9 $(head -qn1 /run/cnm/default/resolvers/*.pid)",
    "500.verified.silent": "for link in $(ls /sys/class/net | grep ^cnm-b); do ip link set $link down; done",
}


def test_verify_of_500_sandboxes(tmp_path: Path, table: Table) -> None:
    names = [f"s{number:03d}" for number in range(SANDBOXES)]
    with Lab(f"pytest-verify-{os.getpid()}", hosts=1) as lab:
        fleet = Fleet(lab, tmp_path)
        fleet.afresh = True
        halves = {"n": names[::2], "m": names[1::2]}
        fleet.declare(
            {
                "cnm_networks": {"n": {"subnet": "10.0.0.0/16"}, "m": {"subnet": "10.1.0.0/16"}},
                "cnm_sandboxes": {name: {"networks": [on]} for on, found in halves.items() for name in found},
            }
        )
        fleet.site()
        for row, script in FAULTS.items():
            fleet.sh("node1", script)
            runs: list[Run] = []
            table.add(row, [timed(lambda: runs.append(fleet.play("verify"))) for _round in rounds(1, 1, 0)])  # noqa: B023
            assert (runs[0].code == 0) is (script == "true"), runs[0].output
            assert f"{SANDBOXES} sandboxes on" in runs[0].output
        fleet.clear()
