# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How processes in a sandbox are named."""

from __future__ import annotations

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.processes import Process
from ansible_collections.cnm.fabric.plugins.module_utils.resources.occupants import _words


def process(program: str, pid: int) -> Process:
    return Process(pid, 0, 0, 1, 1, 1, program)


def test_the_first_are_named() -> None:
    group = [process("sleep", number) for number in range(5)]
    assert _words(group[:1]) == "sleep (0)"
    assert _words(group) == "sleep (0), sleep (1), sleep (2) and 2 more"


def test_a_program_s_name_stays_short_and_in_its_line() -> None:
    words = _words([process("x\nnode2: failed\x1b[2J\udcff" + "y" * 200, 1)])
    assert words.isprintable()
    assert len(words) < 90
