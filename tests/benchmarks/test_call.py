# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a call to a host takes of its processors: the import of the host half, and a whole run that changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

from fleet import Fleet
from lab import Lab
from measuring import in_turns, no_op, rounds, used_by_host
from rows import Table

CALLS = 4
_PACKAGE = "ansible_collections.cnm.fabric.plugins.module_utils"
_START = f"""
import gc, sys, time
gc.disable()
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "ours":
    import {_PACKAGE}.calls
print(time.process_time() * 1000)
"""


def test_a_call_that_changes_nothing(tmp_path: Path, table: Table) -> None:
    with Lab(f"pytest-call-{os.getpid()}", hosts=1) as lab:
        fleet = Fleet(lab, tmp_path)
        fleet.afresh = True
        idle = no_op(fleet)
        fleet.declare({"cnm_networks": {"n": {}}, "cnm_sandboxes": {"one": {"networks": ["n"]}}})
        fleet.site()
        (half,) = fleet.sh("node1", "ls -d /var/lib/cnm/.half/*").split()

        def unchanged() -> None:
            run = fleet.site()
            assert run.changed == [], run.output

        def used(work: object) -> float:
            """Milliseconds of the host's processors a call."""
            assert callable(work)
            before = used_by_host(lab, "node1")
            for _call in range(CALLS):
                work()
            return (used_by_host(lab, "node1") - before) * 1000 / CALLS

        def start(what: str) -> float:
            # as the controller starts it; -B, as it stands there: whether there is bytecode is what is asked
            command = ["/usr/bin/python3", "-I", "-S", "-B", "-c", _START, half, what]
            return float(lab.run("node1", command, check=True).stdout)

        unchanged()
        runs = [in_turns({"ours": lambda: used(unchanged), "peer": lambda: used(idle)}) for _round in rounds(2, 5, 40)]
        starts = [in_turns({"ours": lambda: start("ours"), "peer": lambda: start("")}) for _round in rounds(9, 21, 10)]
    for key, found in (("call.host", runs), ("call.import", starts)):
        table.add(key, [pair["ours"] for pair in found], [pair["peer"] for pair in found])
