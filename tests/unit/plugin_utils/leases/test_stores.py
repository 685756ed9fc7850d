# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store: compare-and-swap, and what happens when it is lost or late."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Conflict, LeaseError, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.sqlite import SqliteStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import make_plans


def _leases(host: str, address: str) -> dict[str, Any]:
    return {**empty(), "endpoints": {f"{host}/n/c1": {"ipv4": address}}}


def test_writing_a_changed_document_is_a_conflict(tmp_path: Path) -> None:
    one, other = SqliteStore(tmp_path / "store"), SqliteStore(tmp_path / "store")
    assert one.read("p") == (0, empty())
    one.write("p", 0, 1, _leases("a", "10.0.0.2"))
    with pytest.raises(Conflict):
        other.write("p", 0, 1, _leases("a", "10.0.0.9"))
    assert other.read("p") == (1, _leases("a", "10.0.0.2"))


def test_projects_do_not_see_each_other(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    store.write("p", 0, 4, _leases("a", "10.0.0.2"))
    assert store.read("q") == (0, empty())


def test_a_store_that_cannot_be_written_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(LeaseError, match="Set cnm_leases"):
        SqliteStore(tmp_path / "missing" / "store").write("p", 0, 1, empty())


def test_a_check_run_writes_nothing(tmp_path: Path) -> None:
    _plan(tmp_path, "a", 1, remember=False)
    assert list(tmp_path.iterdir()) == []


def _plan(directory: Path, host: str, count: int, remember: bool = True) -> dict[str, Any]:
    sandboxes = {f"s{number}": {"networks": ["n"]} for number in range(count)}
    everyone = {"cnm_networks": {"n": {"subnet": "10.0.0.0/16"}}, "cnm_sandboxes": sandboxes}
    variables = {"a": everyone, "b": everyone}
    outcome = make_plans(variables, {"all": ["a", "b"]}, {host: Facts()}, str(directory), "now", remember)
    return outcome.plans[host].leases["endpoints"]


def _plan_in_a_process(directory: Path, host: str, replies: Any) -> None:
    replies.put(_plan(directory, host, 100))


def test_two_controllers_at_once_lose_nothing(tmp_path: Path) -> None:
    for attempt in range(5):
        directory = tmp_path / str(attempt)
        directory.mkdir()
        context = multiprocessing.get_context("fork")
        replies = context.Queue()
        workers = [context.Process(target=_plan_in_a_process, args=(directory, host, replies)) for host in ("a", "b")]
        for worker in workers:
            worker.start()
        planned = {**replies.get(timeout=60), **replies.get(timeout=60)}
        for worker in workers:
            worker.join()
        _revision, stored = SqliteStore(directory / ".cnm-leases.sqlite3").read("default")
        assert len(planned) == 200
        assert stored["endpoints"] == planned
