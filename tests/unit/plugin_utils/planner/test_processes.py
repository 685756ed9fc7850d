# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Planning in several processes: it gives what one process gives, and leaves none behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner import processes
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import Outcome, make_plans
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.processes import results_of

ITEMS = range(10)


@pytest.fixture(autouse=True)
def three_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FEWEST", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2})


def children() -> set[str]:
    """Processes that this one has to wait for; other tests may have left some."""
    return set(Path("/proc/thread-self/children").read_text(encoding="ascii").split())


def processes_of(items: Any) -> list[int]:
    return results_of(lambda _item: os.getpid(), items)


def in_a_worker(work: Callable[[], Any]) -> Any:
    """What a function gives in a process like Ansible's workers: with one thread, a daemon of `multiprocessing`."""
    fork = multiprocessing.get_context("fork")
    given: Any = fork.SimpleQueue()
    worker = fork.Process(target=lambda: given.put(work()), daemon=True)
    worker.start()
    worker.join(10)
    assert worker.exitcode == 0
    return given.get()


def test_results_are_in_order_and_from_several_processes() -> None:
    assert results_of(lambda item: item * item, ITEMS) == [item * item for item in ITEMS]
    assert in_a_worker(lambda: (len(set(processes_of(ITEMS))), children())) == (3, set())


@pytest.mark.parametrize("wrong", [0, 1, 9])
def test_an_exception_is_raised_as_without_processes(wrong: int) -> None:
    def work(item: int) -> int:
        if item == wrong:
            raise LookupError(f"item {item}")
        return item

    before = children()
    with pytest.raises(LookupError, match=f"^'?item {wrong}"):
        results_of(work, ITEMS)
    assert children() <= before


def test_the_share_of_a_process_that_is_killed_is_done_again() -> None:
    own = os.getpid()

    def work(item: int) -> int:
        if os.getpid() != own and item % 3 == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    assert results_of(work, ITEMS) == [*ITEMS]


def test_beside_other_threads_nothing_is_forked() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        assert set(processes_of(ITEMS)) == {os.getpid()}
    finally:
        done.set()
        other.join()


NAMES = [f"h{number}" for number in range(8)]
NETWORKS = {"ov": {"driver": "overlay", "subnet": "10.1.0.0/24"}, "auto": {}, "wide": {"driver": "overlay"}}
SERVICE = {"networks": ["ov"], "deploy": {"replicas": 5}, "ports": ["8000:80"]}


def fleet(some: int) -> dict[str, dict[str, Any]]:
    """Eight hosts with sandboxes, and a service in several tasks; some of the networks that they could be on."""
    boxes = {host: {f"{host}-{name}": {"networks": [name]} for name in [*NETWORKS][: some + 1]} for host in NAMES}
    return {
        host: {"cnm_networks": NETWORKS, "cnm_sandboxes": boxes[host], "cnm_services": {"web": SERVICE}}
        for host in NAMES
    }


@pytest.mark.parametrize("some", range(3))
def test_several_processes_make_the_plans_that_one_makes(
    some: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One host is not in the run, and one cannot be as declared."""
    facts = {
        host: Facts(
            addresses=((f"192.0.2.{number}", "eth0", 1500),), listeners=(("tcp", "0.0.0.0", 8000 + number, "x"),)
        )
        for number, host in enumerate(NAMES)
        if number != 5
    }

    def outcome(folder: str) -> Outcome:
        (tmp_path / folder).mkdir()
        return make_plans(fleet(some), {}, facts, str(tmp_path / folder), "2026-01-01T00:00:00Z", remember=False)

    several = outcome("several")
    monkeypatch.setattr(processes, "FEWEST", 1000)
    one = outcome("one")
    assert several == one
    assert sorted(one.plans) == [host for host in NAMES if host not in ("h0", "h5")]
    assert (sorted(one.refusals), "h5" in one.warnings) == (["h0"], True)
