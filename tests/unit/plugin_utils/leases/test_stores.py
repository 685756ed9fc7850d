# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store: compare-and-swap, and what happens when it is lost or late."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases import http_api, zookeeper
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import LeaseError, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.sqlite import SqliteBackend
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import make_plans

NOW = "2026-11-21T05:00:00Z"


def _leases(host: str, address: str) -> Any:
    return {**empty(), "endpoints": {f"{host}/n/c1": {"ipv4": address}}}


def _store(path: Path) -> PartStore:
    return PartStore(SqliteBackend(path / "store"))


def test_a_store_that_cannot_be_written_says_what_to_set(tmp_path: Path) -> None:
    store = _store(tmp_path / "missing")
    with pytest.raises(LeaseError, match="Set cnm_leases"):
        store.write("p", store.read("p"), empty(), 1)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("etcd://127.0.0.9:99999/cnm", "etcd://127.0.0.9:99999/cnm", "is not an address and a port"),
        ("etcd://127.0.0.9/cnm", "consul://127.0.0.9/cnm", "share one lease store"),
    ],
)
def test_a_store_that_variables_name_wrongly_is_never_asked(tmp_path: Path, one: str, other: str, words: str) -> None:
    """Not even for its key, with which a host's report of what modules made there is compared."""
    variables: dict[str, Any] = {"a": {"cnm_networks": {}, "cnm_leases": one}, "b": {"cnm_leases": other}}
    facts = {"a": Facts(module_state={"cnm_networks": {"lab": {"subnet": "10.9.0.0/24"}}}, revision=3), "b": Facts()}
    begun = time.monotonic()
    with pytest.raises(DeclarationError, match=words):
        make_plans(variables, {"all": ["a", "b"]}, facts, str(tmp_path), NOW, remember=True)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("store", "module", "library", "package"),
    [
        (LeaseStore("etcd", (("a", 1),), "cnm"), http_api, "requests", "python3-requests"),
        (LeaseStore("consul", (("a", 1),), "cnm"), http_api, "requests", "python3-requests"),
        (LeaseStore("zookeeper", (("a", 1),), "cnm"), zookeeper, "kazoo", "python3-kazoo"),
    ],
)
def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, store: LeaseStore, module: Any, library: str, package: str
) -> None:
    monkeypatch.setattr(module, library, None)
    with pytest.raises(LeaseError, match=f"{store.kind} as lease store needs .* {library} .*apt install {package}"):
        open_store(store, "/")


def test_of_sasl_the_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zookeeper, "_SASL", "puresasl_of_nobody")
    with pytest.raises(LeaseError, match=r"`sasl` in cnm_leases_options needs .* pure-sasl .*python3-pure-sasl"):
        open_store(LeaseStore("zookeeper", (("a", 1),), "cnm", username="cnm", password="x", sasl=True), "/")


def test_a_check_run_writes_nothing(tmp_path: Path) -> None:
    _plan(tmp_path, "a", 1, remember=False)
    assert list(tmp_path.iterdir()) == []


def _plan(directory: Path, host: str, count: int, remember: bool = True) -> dict[str, Any]:
    sandboxes = {f"s{number}": {"networks": ["n"]} for number in range(count)}
    everyone = {"cnm_networks": {"n": {"subnet": "10.0.0.0/16"}}, "cnm_sandboxes": sandboxes}
    variables = {"a": everyone, "b": everyone}
    outcome = make_plans(variables, {"all": ["a", "b"]}, {host: Facts()}, str(directory), NOW, remember)
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
        stored = open_store(LeaseStore(), str(directory)).read("default").leases
        assert len(planned) == 200
        assert stored["endpoints"] == planned
