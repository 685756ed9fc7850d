# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The actions summary and verdict: of which hosts they tell, in plays of each kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.action import summary, verdict

HOSTS = ["node1", "node2", "node3"]


def result_of(host: str) -> dict[str, Any]:
    change = {"action": "add", "kind": "sandbox", "name": "c1", "text": f"sandbox c1 of {host}"}
    return {"changed": True, "operations": [], "changes": [change]}


def made_by(module: Any, variables: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """The result of an action in a play with these variables."""
    task = SimpleNamespace(
        args={}, async_val=0, check_mode=False, diff=False, environment=None, **{"run_once": True, **attributes}
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
    action = module.ActionModule(task, connection, None, None, SimpleNamespace(template=lambda value: value), None)
    result: dict[str, Any] = action.run(None, variables)
    return result


def told(run_once: bool = True, strategy: str = "linear", **variables: Any) -> dict[str, Any]:
    """The result on node2 in a play on three hosts, each of which has added a sandbox."""
    given = {
        "inventory_hostname": "node2",
        "hostvars": {host: {"fabric_result": result_of(host)} for host in HOSTS},
        **{f"ansible_play_{hosts}": HOSTS for hosts in ("hosts_all", "hosts", "batch")},
    }
    parent = SimpleNamespace(_play=SimpleNamespace(strategy=strategy))
    return made_by(summary, {**given, **variables}, run_once=run_once, _parent=parent)


def test_run_once_tells_of_all_hosts() -> None:
    assert list(told()["changes"]) == HOSTS


@pytest.mark.parametrize(("run_once", "strategy"), [(False, "linear"), (True, "free"), (True, "host_pinned")])
def test_what_runs_on_each_host_tells_of_that_one(run_once: bool, strategy: str) -> None:
    assert list(told(run_once, strategy)["changes"]) == ["node2"]


def test_batch_does_not_tell_of_the_ones_before_it() -> None:
    assert list(told(ansible_play_batch=["node2", "node3"])["changes"]) == ["node2", "node3"]


def test_host_that_was_as_planned_is_told_of_though_it_was_not_converged() -> None:
    planned = {"hosts": {"node1": {"settled": True}, "node2": {"settled": False}, "node3": {"refused": ["no"]}}}
    assert told(hostvars={host: {"fabric_plan": planned} for host in HOSTS})["changes"] == {"node1": []}


def test_failed_host_is_told_of_though_it_is_left_out() -> None:
    answers = {host: {"fabric_result": result_of(host)} for host in HOSTS}
    answers["node1"]["fabric_result"].update(failed=True, msg="no way\nmore")
    left = ["node2", "node3"]
    found = told(hostvars=answers, ansible_play_hosts=left, ansible_play_batch=left)
    assert list(found["changes"]) == HOSTS
    assert found["failures"] == {"node1": "no way"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"failed": True, "msg": "no Python\nmore"}, "no Python"),
        ({"failed": True, "msg": " \n"}, "it was not asked"),
        ({"unreachable": True, "msg": "x"}, "Ansible does not reach it"),
        ({}, "it was not asked"),
    ],
)
def test_host_without_a_result_is_a_cause(answer: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = made_by(verdict, {"hostvars": {"node1": {"fabric_verify": answer}}, "ansible_play_hosts_all": ["node1"]})
    assert found["failed"]
    assert f"node1 could not be verified: {why}" in "".join(capsys.readouterr())
