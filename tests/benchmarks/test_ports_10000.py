# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What 10,000 published ports and a range of as many cost: loading them and changing one, against ``nft -f``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from measuring import in_turns, rounds, timed
from rows import Table

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.nft import Library
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables import script, transaction
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables_reading import parse
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

SIZES = (625, 2_500, 10_000)
_LIST, _DELETE = "list table inet cnm", "delete table inet cnm"


def _table(size: int, *more: str) -> Nftables:
    ports = [*(f"{10_000 + number}:80" for number in range(size)), f"30000-{29999 + size}:30000-{29999 + size}", *more]
    box = {"networks": ["n"], "ports": ports}
    variables = {"node1": {"cnm_networks": {"n": {"subnet": "10.0.0.0/24"}}, "cnm_sandboxes": {"a": box}}}
    made = plan(read_topology(variables), {"node1": Facts()}, empty(), "").plans["node1"]
    return next(item for item in made.resources if isinstance(item, Nftables) and item.key[1:3] == ("", "inet"))


def _printed(nft: Library, table: Nftables) -> Nftables:
    nft.run(script(table, "default"))
    found = parse(nft.run(_LIST), "default", "", frozenset(["user_forward"]))
    nft.run(_DELETE)
    assert found is not None
    return found


def _measure(directory: Path, size: int) -> list[dict[str, float]]:
    """Of each round milliseconds to load all, and to change one, by the library and by the program."""
    nft, before, after = Library(), _table(size), _table(size, "50001:80")
    normal, changed = _printed(nft, before), _printed(nft, after)
    there, back = transaction(after, changed, normal, "default"), transaction(before, normal, changed, "default")
    whole, one, undo = (directory / name for name in ("whole.nft", "one.nft", "undo.nft"))
    for path, text in ((whole, script(before, "default")), (one, there), (undo, back)):
        path.write_text(text)

    def program(path: Path) -> float:
        return timed(lambda: subprocess.run(["nft", "-f", str(path)], check=True)) * 1000

    def ours() -> tuple[float, float]:
        load = timed(lambda: nft.run(whole.read_text())) * 1000
        change = timed(nft.run, there) * 1000
        assert "50001" in nft.run(_LIST)
        nft.run(back)
        nft.run(_DELETE)
        return load, change

    def peer() -> tuple[float, float]:
        load, change = program(whole), program(one)
        program(undo)
        nft.run(_DELETE)
        return load, change

    found = []
    for _round in rounds(3, 9, 15):
        pair = in_turns({"ours": ours, "peer": peer})
        found.append({f"{name} {what}": pair[name][at] for name in pair for at, what in enumerate(("load", "change"))})
    return found


def test_ports_are_loaded_and_changed_beside_nft(tmp_path: Path, table: Table) -> None:
    for size in SIZES:
        found = namespaces.run_in_new(_measure, tmp_path, size)
        table.grew("ports.load", size, [one["ours load"] for one in found], [one["peer load"] for one in found])
        table.grew("ports.change", size, [one["ours change"] for one in found])
