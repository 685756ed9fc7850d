# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What 10,000 published ports and a range of as many cost: loading them and changing one, against ``nft -f``.

Aims: at most 1.3 times what ``nft -f`` takes for the same ruleset; a change at most 5 ms.  Reported, not asserted.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.nft import Library
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables import script, transaction
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables_reading import parse
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

PORTS = 10_000
ROUNDS = 5
_LIST, _DELETE = "list table inet cnm", "delete table inet cnm"


def _table(*more: str) -> Nftables:
    ports = [*(f"{10_000 + number}:80" for number in range(PORTS)), "30000-39999:30000-39999", *more]
    box = {"networks": ["n"], "ports": ports}
    variables = {"node1": {"cnm_networks": {"n": {"subnet": "10.0.0.0/24"}}, "cnm_sandboxes": {"a": box}}}
    made = plan(read_topology(variables), {"node1": Facts()}, empty(), "").plans["node1"]
    return next(item for item in made.resources if isinstance(item, Nftables) and item.key[1:3] == ("", "inet"))


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _printed(nft: Library, table: Nftables) -> Nftables:
    nft.run(script(table, "default"))
    found = parse(nft.run(_LIST), "default", "", frozenset(["user_forward"]))
    nft.run(_DELETE)
    assert found is not None
    return found


def _measure(directory: Path) -> dict[str, list[float]]:
    nft, before, after = Library(), _table(), _table("50001:80")
    normal, changed = _printed(nft, before), _printed(nft, after)
    there, back = transaction(after, changed, normal, "default"), transaction(before, normal, changed, "default")
    whole, one, undo = (directory / name for name in ("whole.nft", "one.nft", "undo.nft"))
    for path, text in ((whole, script(before, "default")), (one, there), (undo, back)):
        path.write_text(text)

    def program(path: Path) -> Callable[[], object]:
        return lambda: subprocess.run(["nft", "-f", str(path)], check=True)

    found: dict[str, list[float]] = {"load": [], "load, nft -f": [], "change": [], "change, nft -f": []}
    for _round in range(ROUNDS):
        found["load, nft -f"].append(_milliseconds(program(whole)))
        nft.run(_DELETE)
        found["load"].append(_milliseconds(lambda: nft.run(whole.read_text())))
        found["change"].append(_milliseconds(lambda: nft.run(there)))
        assert "50001" in nft.run(_LIST)
        nft.run(back)
        found["change, nft -f"].append(_milliseconds(program(one)))
        program(undo)()
        nft.run(_DELETE)
    return found


def test_ports_are_loaded_and_changed_at_the_speed_of_nft(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {name: median(times) for name, times in namespaces.run_in_new(_measure, tmp_path).items()}
    with capsys.disabled():
        print(f"\n{PORTS} ports and a range of as many, medians of {ROUNDS} (ms)")
        for name in ("load", "change"):
            ours, theirs = found[name], found[f"{name}, nft -f"]
            print(f"  {name}: {ours:.2f}, nft -f {theirs:.2f}, ratio {ours / theirs:.2f} (aim 1.3)")
        print("  (aim for a change: 5 ms)")
