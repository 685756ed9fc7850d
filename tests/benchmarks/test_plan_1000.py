# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What it costs to plan 1000 hosts with 20 endpoints each on 10 overlays, against a tenth of the hosts.

From the rendered variables to the plans' texts; Ansible's own templating is not in it.  Aims: less than 5 s, less than
500 MB, and at most 12 times what 100 hosts take.  Reported, not asserted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible_collections.cnm.fabric as collection

ROUNDS = 3
_SCRIPT = """
import json, resource, sys, tempfile, time
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import make_plans
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts

number = int(sys.argv[1])
networks = {f"ov{one}": {"driver": "overlay", "subnet": f"10.{one}.0.0/16"} for one in range(10)}
hosts = [f"node{one:04d}" for one in range(number)]
variables = {
    host: {
        "cnm_networks": networks,
        "cnm_sandboxes": {f"{host}-c{one:02d}": {"networks": [f"ov{one % 10}"]} for one in range(20)},
    }
    for host in hosts
}
facts = {
    host: Facts(addresses=((f"192.168.{one // 250}.{one % 250 + 1}", "eth0", 1500),), routes=(("default", "eth0", ""),))
    for one, host in enumerate(hosts)
}
started, worked = time.perf_counter(), time.process_time()
outcome = make_plans(variables, {}, facts, tempfile.mkdtemp(), "2026-01-01T00:00:00Z", remember=True)
size = sum(len(plan.to_json()) for plan in outcome.plans.values())
seconds, cpu = time.perf_counter() - started, time.process_time() - worked
assert len(outcome.plans) == number, outcome.refusals
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
shared = sum(map(len, outcome.shared.values()))
print(json.dumps({"seconds": seconds, "cpu": cpu, "memory": memory, "plans": size / 1e6, "shared": shared / 1e6}))
"""


def _plan(hosts: int) -> dict[str, Any]:
    """The fastest of some rounds, each in a process of its own."""
    root = Path(next(iter(collection.__path__))).parents[2]
    rounds = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", _SCRIPT, str(hosts)], cwd=root, capture_output=True, text=True, check=True
            ).stdout
        )
        for _round in range(ROUNDS)
    ]
    return min(rounds, key=lambda item: float(item["seconds"]))


def test_a_thousand_hosts_are_planned_in_seconds() -> None:
    few, many = _plan(100), _plan(1000)
    growth = many["cpu"] / few["cpu"]
    print(
        f"\nplan of 100 hosts: {few['seconds']:.2f} s; of 1000: {many['seconds']:.2f} s (aim 5), "
        f"of CPU {few['cpu']:.2f} and {many['cpu']:.2f} s, {growth:.1f} x (aim 12), "
        f"{many['memory']:.0f} MB (aim 500); texts: {many['plans']:.1f} MB, shared by all {many['shared']:.1f} MB"
    )
    assert many["shared"] < many["plans"]
