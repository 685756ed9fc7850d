# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `site` costs on 50 hosts of 4 sandboxes each on one overlay, beside a task that does nothing.

Wall and the controller's processor time; 3 and 12 of the hosts for growth.  ``CNM_HOSTS`` in the environment is another
number of hosts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet import Fleet, Run
from lab import Lab
from measuring import in_turns, no_op, rounds, with_children
from overlaying import reached_by
from rows import Table

HOSTS = int(os.environ.get("CNM_HOSTS", "50"))
SIZES = sorted({max(HOSTS // 16, 2), max(HOSTS // 4, 2), HOSTS})
ENDPOINTS = 4
_OVERLAY = {"cnm_networks": {"mesh": {"driver": "overlay", "subnet": "10.50.0.0/16"}}}

Pair = dict[str, tuple[float, float]]
"""Wall and processor time of ours and of the peer."""


@pytest.fixture(scope="module")
def many() -> Iterator[Lab]:
    """As many hosts."""
    with Lab(f"pytest-fifty-{os.getpid()}", hosts=HOSTS) as lab:
        yield lab


def declare(fleet: Fleet, more: int = 0) -> None:
    """The sandboxes of each host, and some more on the first."""
    numbers = dict.fromkeys(fleet.hosts, ENDPOINTS)
    numbers[fleet.hosts[0]] += more
    boxes = {
        host: {"cnm_sandboxes": {f"{host}-{one}": {"networks": ["mesh"]} for one in range(number)}}
        for host, number in numbers.items()
    }
    fleet.declare(_OVERLAY, **boxes)


def beside_no_op(fleet: Fleet, idle: Callable[[], None], check: Callable[[Run], None]) -> Pair:
    """A run of `site` and one of the no-op, in random order."""
    runs: list[Run] = []
    found: Pair = in_turns(
        {
            "ours": lambda: with_children(lambda: runs.append(fleet.site())),
            "peer": lambda: with_children(idle),
        }
    )
    check(runs[0])
    return found


def _unchanged(run: Run) -> None:
    assert run.changed == [], run.output


def _entries(fleet: Fleet, sandboxes: int) -> None:
    """The last host knows where all the others' sandboxes are."""
    script = "ip netns exec ov-$(ls /run/netns | sed -n 's/^ov-//p') bridge fdb show | grep -c ' dst '"
    assert int(fleet.sh(fleet.hosts[-1], script)) == sandboxes - ENDPOINTS


@pytest.mark.parametrize("hosts", SIZES)
def test_a_fleet_beside_asking_it(many: Lab, tmp_path: Path, table: Table, hosts: int) -> None:
    fleet = Fleet(many, tmp_path, many.hosts[:hosts])
    reached_by(fleet, without=many.hosts[hosts:])
    fleet.afresh = True
    fleet.patience = 900
    idle = no_op(fleet)
    found: dict[str, list[Pair]] = {"first": [], "unchanged": [], "more": []}
    sandboxes = hosts * ENDPOINTS
    try:
        idle()
        declare(fleet)
        for _round in rounds(1, 1, 0):
            found["first"].append(beside_no_op(fleet, idle, lambda run: None))
        _entries(fleet, sandboxes)
        for _round in rounds(3, 5, 30):
            found["unchanged"].append(beside_no_op(fleet, idle, _unchanged))
        for number in rounds(2, 3, 30):
            declare(fleet, number + 1)
            found["more"].append(beside_no_op(fleet, idle, lambda run: None))
            _entries(fleet, sandboxes + number + 1)
    finally:
        fleet.clear()
    for step, pairs in found.items():
        for place, key in enumerate((f"fleet.{step}", f"fleet.{step}.cpu")):
            if key != "fleet.first.cpu":
                table.grew(key, hosts, [one["ours"][place] for one in pairs], [one["peer"][place] for one in pairs])
