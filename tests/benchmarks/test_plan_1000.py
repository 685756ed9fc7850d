# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What it costs to plan 1000 hosts with 20 endpoints each on 10 overlays, and one host of 500 sandboxes, under 100
policies too.

From the rendered variables to the plans' texts, and once more with nothing changed, in a process of its own; Ansible's
own templating is not in it.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
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
_GUARDED = """
def policy(one):
    peers = [{"cidr": f"10.{one}.{net}.0/24"} for net in range(5)]
    return {
        "ingress": [{"action": "allow", "from": peers, "ports": [1000 + one]}],
        "egress": [{"action": "allow", "to": [{"sandbox": f"s{one % number:03d}"}], "ports": [80]}],
    }
policies = {f"p{one}": policy(one) for one in range(100)}
boxes = {f"s{one:03d}": {"networks": ["n"], "policies": list(policies)} for one in range(number)}
networks = {"n": {"subnet": "10.0.0.0/16"}}
variables = {"node1": {"cnm_networks": networks, "cnm_policies": policies, "cnm_sandboxes": boxes}}
"""
_SCRIPT = """
import dataclasses, json, sys, time
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner import planning
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts

number = int(sys.argv[1])
{variables}
facts = {{
    host: Facts(
        addresses=((f"192.168.{{one >> 8}}.{{one & 255}}", "eth0", 1500),),
        routes=(("default", "eth0", ""),),
        filters_bridges=True,
    )
    for one, host in enumerate(variables, 1)
}}
kept = json.load(open(sys.argv[3])) if sys.argv[3:] else {{}}
facts = {{host: dataclasses.replace(known, **kept.get(host, {{}})) for host, known in facts.items()}}
started = time.perf_counter()
outcome = planning.make_plans(variables, {{}}, facts, sys.argv[2], "2026-01-01T00:00:00Z", remember=True)
seconds = time.perf_counter() - started
size = sum(len(plan.text) for plan in outcome.plans.values()) + sum(map(len, outcome.shared.values()))
assert len(outcome.plans) == len(variables), outcome.refusals
print(json.dumps({{"seconds": seconds, "text": size / 1e6}}), flush=True)
if not kept:  # what the hosts will report
    for host, plan in outcome.plans.items():
        data = json.loads(plan.text)
        kept[host] = {{
            "digest": plan.digest,
            "revision": outcome.revisions[host],
            "signature": outcome.signatures[host],
            "leases": data["leases"],
            "module_state": data.get("module_state", {{}}),
            "shared": sorted(plan.shared),
        }}
    with open(sys.argv[2] + "/kept.json", "w") as stream:
        json.dump(kept, stream)
"""


def planned(variables: str, size: int, inventory: Path, *more: str) -> dict[str, float]:
    """Seconds, MB of memory and MB of text of a planning in a process of its own."""
    inventory.mkdir(exist_ok=True)
    root = Path(next(iter(collection.__path__))).parents[2]
    command = [sys.executable, "-c", _SCRIPT.format(variables=variables), str(size), str(inventory), *more]
    environment = {**os.environ, "XDG_CACHE_HOME": str(inventory)}
    memory = 0.0
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        while not select.select([process.stdout], [], [], 0.05)[0]:
            memory = max(memory, _memory_of(process.pid))
        found: dict[str, float] = json.loads(process.stdout.readline())
    assert process.returncode == 0
    return {**found, "memory": memory}


def _memory_of(process: int) -> float:
    """MB of the process and of those that it has forked; pages that they share are counted once."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
        found = [Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii") for each in (process, *children)]
        return sum(int(text.partition("Pss:")[2].split()[0]) for text in found) / 1024
    except (OSError, ValueError, IndexError):  # one of them has just ended
        return 0.0


def test_a_thousand_hosts(tmp_path: Path, table: Table) -> None:
    for hosts in HOSTS:
        first, again = [], []
        for number in rounds(2, 3, 30):
            inventory = tmp_path / f"{hosts}-{number}"
            first.append(planned(_MANY, hosts, inventory))
            kept = str(inventory / "kept.json")
            planned(_MANY, hosts, inventory, kept)  # the first that finds the hosts as they were left
            again.append(planned(_MANY, hosts, inventory, kept))
        for what in ("seconds", "memory", "text"):
            table.grew(f"plan.{what}", hosts, [found[what] for found in first])
        table.grew("plan.unchanged", hosts, [found["seconds"] for found in again])


@pytest.mark.parametrize(("row", "variables"), [("plan.one", _ONE), ("plan.guarded", _GUARDED)])
def test_one_host_of_500_sandboxes(tmp_path: Path, table: Table, row: str, variables: str) -> None:
    for sandboxes in SANDBOXES:
        found = [planned(variables, sandboxes, tmp_path / f"{sandboxes}-{number}") for number in rounds(3, 5, 10)]
        table.grew(row, sandboxes, [one["seconds"] * 1000 for one in found])
