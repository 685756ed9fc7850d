# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How long an octet takes there and back between two sandboxes of a host that has 29, 119, 479 others with a port each.

A packet is to cost the same however many there are.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from carrying import CALLER, SERVER, command
from host import converge, measured_on_a_host
from measuring import rounds
from rows import Table

from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

SIZES = (30, 120, 480)
PORT, SECONDS = 5001, 0.5


def _latencies(sandboxes: int) -> list[float]:
    """Microseconds, of each round the median."""
    boxes: dict[str, Any] = {
        f"s{number:03d}": {"networks": ["n"], "ports": [f"{8000 + number}:80"]} for number in range(sandboxes)
    }
    variables = {"node1": {"cnm_networks": {"n": {"subnet": "10.0.0.0/16"}}, "cnm_sandboxes": boxes}}
    made = plan(read_topology(variables), {"node1": Facts()}, empty(), "now").plans["node1"]
    resources = [item for item in made.resources if item.kind not in ("resolver", "names", "file")]
    converge(resources)
    to = next(item.address for item in resources if isinstance(item, Address) and item.namespace == "s001")
    with subprocess.Popen(command("s001", SERVER, str(PORT)), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        asking = command("s000", CALLER, to.partition("/")[0], str(PORT), str(SECONDS))
        found = []
        for _round in rounds(3, 5, 6):
            said = subprocess.run(asking, capture_output=True, text=True, check=True).stdout
            found.append(float(json.loads(said)["us"]))
        server.kill()
    return found


def test_a_packet_costs_the_same_among_many(tmp_path: Path, table: Table) -> None:
    for size in SIZES:
        table.grew("packet.among", size, measured_on_a_host(lambda size=size: _latencies(size), tmp_path / "found"))  # type: ignore[misc]
