# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The action summary: of which hosts it tells, in plays of each kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.action.summary import ActionModule

HOSTS = ["node1", "node2", "node3"]


def result_of(host: str) -> dict[str, Any]:
    change = {"action": "add", "kind": "sandbox", "name": "c1", "text": f"sandbox c1 of {host}"}
    return {"changed": True, "operations": [], "changes": [change]}


def told(run_once: bool = True, strategy: str = "linear", **variables: Any) -> dict[str, Any]:
    """The result on node2 in a play on three hosts, each of which has added a sandbox."""
    task = SimpleNamespace(
        args={},
        async_val=0,
        check_mode=False,
        diff=False,
        environment=None,
        run_once=run_once,
        _parent=SimpleNamespace(_play=SimpleNamespace(strategy=strategy)),
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
    action = ActionModule(task, connection, None, None, SimpleNamespace(template=lambda value: value), None)
    given = {
        "inventory_hostname": "node2",
        "hostvars": {host: {"fabric_result": result_of(host)} for host in HOSTS},
        **{f"ansible_play_{hosts}": HOSTS for hosts in ("hosts_all", "hosts", "batch")},
    }
    made: dict[str, Any] = action.run(None, {**given, **variables})
    return made


def test_run_once_tells_of_all_hosts() -> None:
    assert list(told()["changes"]) == HOSTS


@pytest.mark.parametrize(("run_once", "strategy"), [(False, "linear"), (True, "free"), (True, "host_pinned")])
def test_what_runs_on_each_host_tells_of_that_one(run_once: bool, strategy: str) -> None:
    assert list(told(run_once, strategy)["changes"]) == ["node2"]


def test_batch_does_not_tell_of_the_ones_before_it() -> None:
    assert list(told(ansible_play_batch=["node2", "node3"])["changes"]) == ["node2", "node3"]


def test_failed_host_is_told_of_though_it_is_left_out() -> None:
    answers = {host: {"fabric_result": result_of(host)} for host in HOSTS}
    answers["node1"]["fabric_result"].update(failed=True, msg="no way\nmore")
    left = ["node2", "node3"]
    found = told(hostvars=answers, ansible_play_hosts=left, ansible_play_batch=left)
    assert list(found["changes"]) == HOSTS
    assert found["failures"] == {"node1": "no way"}
