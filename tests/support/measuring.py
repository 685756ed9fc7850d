# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How benchmarks measure: in rounds, ways in turns and in random order, wall and processor time."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from fleet import Fleet
from lab import Lab


def rounds(least: int, most: int, seconds: float) -> Iterator[int]:
    """Numbers of rounds: at least and at most so many, and in between as many as end within the seconds."""
    started = time.monotonic()
    for number in range(most):
        passed = time.monotonic() - started
        if number >= least and passed + passed / number > seconds:
            return
        yield number


def timed(work: Callable[..., object], *arguments: Any) -> float:
    """Seconds of wall time."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def in_turns(ways: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each way returns, called in random order: one round."""
    order = list(ways)
    random.shuffle(order)
    found = {name: ways[name]() for name in order}
    return {name: found[name] for name in ways}


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def with_children(work: Callable[..., object], *arguments: Any) -> tuple[float, float]:
    """Seconds of wall time, and of the processors that programs took which ``work`` started and waited for."""
    before = _of_children()
    wall = timed(work, *arguments)
    return wall, _of_children() - before


_SUM = r"""
awk '{ sub(/.*\) /, ""); sum += $12 + $13 + $14 + $15 } END { print sum }' /proc/[0-9]*/stat 2>/dev/null
"""


def used_by_host(lab: Lab, host: str) -> float:
    """Seconds of the processors that a lab host's processes took so far, those that have ended included.

    The kernel tells it in hundredths: measure several calls.
    """
    return float(lab.run(host, ["sh", "-c", _SUM], check=True).stdout) / 100


def a_book(path: Path, *tasks: dict[str, Any]) -> str:
    """A playbook of these tasks, for all hosts."""
    path.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]), encoding="utf-8")
    return str(path)


def no_op(fleet: Fleet, *arguments: str) -> Callable[[], None]:
    """A run of a playbook that does nothing on the fleet's hosts, of ansible.builtin's least module."""
    book = a_book(fleet.directory / "no-op.yml", {"ansible.builtin.ping": None})

    def play() -> None:
        run = fleet.play(book, *arguments)
        assert run.code == 0, run.output

    return play
