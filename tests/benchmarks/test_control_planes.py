# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One sandbox more on an overlay of 20 hosts, told by the plan or by BGP EVPN, on the same lab.

With the plan each host is written; with EVPN the sandbox's own host alone has to be run.  In both every sandbox reaches
every other.  ``CNM_HOSTS`` is another number of hosts; with more than 20 each pings one other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, Run
from lab import Lab
from measuring import in_turns, no_op, rounds, timed
from overlaying import answered, lab_of, matrix, overlay, sandboxes, unanswered
from rows import Table

HOSTS = int(os.environ.get("CNM_HOSTS", "20"))
_MATRIX = 20
"""More hosts do not ping each other: those of a lab have one kernel, and it one table of 1024 neighbours."""
NETWORKS: dict[str, Any] = {"cnm_networks": {"multinet": overlay("10.10.0.0/16")}}
PLANES: dict[str, dict[str, Any]] = {
    "static": {},
    "evpn": {
        "cnm_control_plane": "evpn",
        "cnm_evpn": {"route_reflectors": ["node1", "node2"], "password": "2a6f7c1e9d4b8035"},
    },
}


@pytest.fixture(scope="module")
def many() -> Iterator[Lab]:
    """As many hosts."""
    with lab_of(HOSTS, "planes") as lab:
        yield lab


@pytest.mark.parametrize("plane", PLANES)
def test_one_sandbox_more(many: Lab, tmp_path: Path, plane: str, table: Table) -> None:
    fleet = Fleet(many, tmp_path)
    fleet.afresh, fleet.patience = True, 3600
    boxes = {host: [f"c{host[4:]}"] for host in fleet.hosts}
    limit = ["--limit", "node3"] if plane == "evpn" else []
    idle = no_op(fleet, *limit)

    def declare() -> None:
        hosts = {host: sandboxes(**{name: ["multinet"] for name in names}) for host, names in boxes.items()}
        fleet.declare({**NETWORKS, **PLANES[plane]}, **hosts)

    try:
        declare()
        idle()
        table.add(f"planes.{plane}.first", [timed(fleet.site) for _round in rounds(1, 1, 0)])
        members = {"multinet": {names[0]: host for host, names in boxes.items()}}
        trials = matrix(members, whole=False)
        if HOSTS > _MATRIX:
            trials = {host: group[:1] for host, group in trials.items()}
        until_all(fleet, trials)
        found, reached = [], []
        for number in rounds(2, 3, 40):
            boxes["node3"].append(f"more{number}")
            declare()
            runs: list[Run] = []
            ways = {"ours": lambda: timed(lambda: runs.append(fleet.site(*limit))), "peer": lambda: timed(idle)}  # noqa: B023
            found.append(in_turns(ways))
            changed = {entry["host"] for entry in runs[0].results if entry["result"].get("changed")}
            assert len(changed) == (1 if limit else HOSTS)
            address = fleet.sh("node3", f"ip -n more{number} -o -4 address show dev eth0").split()[3].partition("/")[0]
            reached.append(timed(until_answered, fleet, fleet.hosts[-1], address))
        table.add(f"planes.{plane}.more", [pair["ours"] for pair in found], [pair["peer"] for pair in found])
        table.add(f"planes.{plane}.reached", reached)
    finally:
        fleet.clear()


def until_all(fleet: Fleet, trials: Any) -> None:
    """Wait until all pings are answered."""
    deadline = time.monotonic() + 60
    while missing := unanswered(fleet, trials):
        assert time.monotonic() < deadline, missing[:3]


def until_answered(fleet: Fleet, host: str, address: str) -> None:
    """Wait until a sandbox of the host has an answer."""
    deadline = time.monotonic() + 60
    while not answered(fleet, host, f"c{host[4:]}", address):
        assert time.monotonic() < deadline, address
