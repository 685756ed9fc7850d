# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One sandbox more on an overlay of many hosts, told by the plan or by BGP EVPN, in one run on the same lab.

With the plan each host is written; with EVPN the sandbox's own host alone has to be run.  Reported, not asserted.
``CNM_HOSTS`` is the number of hosts, 50; with 20 it is the full matrix over two reflectors that is of interest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet
from lab import Lab
from overlaying import answered, lab_of, matrix, overlay, sandboxes, unanswered

HOSTS = int(os.environ.get("CNM_HOSTS", "50"))
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


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    started = time.monotonic()
    return work(*arguments), time.monotonic() - started


@pytest.mark.parametrize("plane", PLANES)
def test_one_sandbox_more(
    many: Lab, tmp_path: Path, plane: str, record_property: Callable[[str, object], None]
) -> None:
    fleet = Fleet(many, tmp_path)
    fleet.patience = 3600
    boxes = {host: [f"c{host[4:]}"] for host in fleet.hosts}

    def declare() -> None:
        hosts = {host: sandboxes(**{name: ["multinet"] for name in names}) for host, names in boxes.items()}
        fleet.declare({**NETWORKS, **PLANES[plane]}, **hosts)

    try:
        declare()
        took = {"from nothing": timed(fleet.site)[1]}
        members = {"multinet": {names[0]: host for host, names in boxes.items()}}
        trials = matrix(members, whole=False)
        if HOSTS > _MATRIX:
            trials = {host: group[:1] for host, group in trials.items()}
        took["reached"] = timed(until_all, fleet, trials)[1]
        took["nothing to do"] = timed(fleet.site)[1]
        boxes["node3"].append("more")
        declare()
        limit = ["--limit", "node3"] if plane == "evpn" else []
        run, took["one sandbox more"] = timed(fleet.site, *limit)
        address = fleet.sh("node3", "ip -n more -o -4 address show dev eth0").split()[3].partition("/")[0]
        took["then reached from the last host after"] = timed(until_answered, fleet, fleet.hosts[-1], address)[1]
        changed = {entry["host"] for entry in run.results if entry["result"].get("changed")}
        for what, seconds in took.items():
            print(f"{plane}, {HOSTS} hosts, {what}: {seconds:.1f} s")
            record_property(what, round(seconds, 2))
        print(f"{plane}: {len(changed)} hosts changed")
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
