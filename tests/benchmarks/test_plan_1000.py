# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What it costs to plan 1000 hosts with 20 endpoints each on 10 overlays, and one host of 500 sandboxes.

From the rendered variables to the plans' texts, and once more with nothing changed, in a process of its own; Ansible's
own templating is not in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from measuring import rounds
from rows import Table

import ansible_collections.cnm.fabric as collection

HOSTS = (62, 250, 1000)
SANDBOXES = (31, 125, 500)
_MANY = """
networks = {f"ov{one}": {"driver": "overlay", "subnet": f"10.{one}.0.0/16"} for one in range(10)}
hosts = [f"node{one:04d}" for one in range(number)]
variables = {
    host: {
        "cnm_networks": networks,
        "cnm_sandboxes": {f"{host}-c{one:02d}": {"networks": [f"ov{one % 10}"]} for one in range(20)},
    }
    for host in hosts
}
"""
_ONE = """
boxes = {f"s{one:03d}": {"networks": ["n"]} for one in range(number)}
variables = {"node1": {"cnm_networks": {"n": {"subnet": "10.0.0.0/16"}}, "cnm_sandboxes": boxes}}
"""
_SCRIPT = """
import json, resource, sys, time
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import make_plans
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts

number = int(sys.argv[1])
{variables}
facts = {{
    host: Facts(addresses=((f"192.168.{{one >> 8}}.{{one & 255}}", "eth0", 1500),), routes=(("default", "eth0", ""),))
    for one, host in enumerate(variables, 1)
}}
started = time.perf_counter()
outcome = make_plans(variables, {{}}, facts, sys.argv[2], "2026-01-01T00:00:00Z", remember=True)
size = sum(len(plan.to_json()) for plan in outcome.plans.values()) + sum(map(len, outcome.shared.values()))
seconds = time.perf_counter() - started
assert len(outcome.plans) == len(variables), outcome.refusals
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"seconds": seconds, "memory": memory, "text": size / 1e6}}))
"""


def planned(variables: str, size: int, inventory: Path) -> dict[str, float]:
    """Seconds, MB of memory and MB of text of a planning in a process of its own."""
    inventory.mkdir(exist_ok=True)
    root = Path(next(iter(collection.__path__))).parents[2]
    command = [sys.executable, "-c", _SCRIPT.format(variables=variables), str(size), str(inventory)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_a_thousand_hosts(tmp_path: Path, table: Table) -> None:
    for hosts in HOSTS:
        first, again = [], []
        for number in rounds(2, 3, 30):
            inventory = tmp_path / f"{hosts}-{number}"
            first.append(planned(_MANY, hosts, inventory))
            again.append(planned(_MANY, hosts, inventory))
        for what in ("seconds", "memory", "text"):
            table.grew(f"plan.{what}", hosts, [found[what] for found in first])
        table.grew("plan.unchanged", hosts, [found["seconds"] for found in again])


def test_one_host_of_500_sandboxes(tmp_path: Path, table: Table) -> None:
    for sandboxes in SANDBOXES:
        found = [planned(_ONE, sandboxes, tmp_path / f"{sandboxes}-{number}") for number in rounds(3, 5, 10)]
        table.grew("plan.one", sandboxes, [one["seconds"] * 1000 for one in found])
