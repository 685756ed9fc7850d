# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Two controllers at once on one lease store: no address is given twice, and no lease is lost."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import make_plans

NOW = "2026-11-21T05:00:00Z"

HOSTS = ("node1", "node2")
EACH = 100
ROUNDS = 10


def _variables(turn: int) -> dict[str, Any]:
    """Half of the sandboxes of each host are new in every round."""
    names = [f"s{number:03}" for number in range(turn * EACH // 2, turn * EACH // 2 + EACH)]
    declared = {"cnm_networks": {"n": {"subnet": ["10.0.0.0/22", "fd00::/64"]}, "auto": {}}}
    boxes = {name: {"networks": ["n", "auto"]} for name in names}
    return {host: {**declared, "cnm_sandboxes": boxes} for host in HOSTS}


def _controller(directory: str, mine: list[str], gate: Any, results: Any) -> None:
    for turn in range(ROUNDS):
        gate.wait(30)
        outcome = make_plans(_variables(turn), {}, dict.fromkeys(mine, Facts()), directory, NOW, remember=True)
        gate.wait(30)
        results.put((turn, mine, {host: plan.text for host, plan in outcome.plans.items()}, outcome.refusals))


def _at_once(directory: Path, shares: list[list[str]]) -> list[Any]:
    spawn = multiprocessing.get_context("fork")
    gate, results = spawn.Barrier(len(shares)), spawn.Queue()
    workers = [spawn.Process(target=_controller, args=(str(directory), mine, gate, results)) for mine in shares]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _number in range(ROUNDS * len(shares))]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    return found


def _addresses(directory: Path, host: str) -> list[str]:
    leases = open_store(LeaseStore(), str(directory)).read("default").leases
    entries = [entry for key, entry in leases["endpoints"].items() if key.startswith(f"{host}/n/")]
    return [address for entry in entries for address in (entry["ipv4"], entry["ipv6"])]


def test_each_with_hosts_of_its_own_loses_nothing_of_the_other(tmp_path: Path) -> None:
    assert not any(refusals for *_rest, refusals in _at_once(tmp_path, [["node1"], ["node2"]]))
    for host in HOSTS:
        found = _addresses(tmp_path, host)
        assert len(found) == len(set(found)) == 2 * EACH


def test_both_with_the_same_hosts_come_to_the_same_plans(tmp_path: Path) -> None:
    found = _at_once(tmp_path, [list(HOSTS), list(HOSTS)])
    assert not any(refusals for *_rest, refusals in found)
    for turn in range(ROUNDS):
        one, other = (plans for number, _mine, plans, _refusals in found if number == turn)
        assert one == other
    for host in HOSTS:
        found_there = _addresses(tmp_path, host)
        assert len(found_there) == len(set(found_there)) == 2 * EACH
