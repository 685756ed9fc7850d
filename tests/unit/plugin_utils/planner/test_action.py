# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The action: whether hosts that cannot be as declared hold up all others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import constants
from reporting import answer_of

from ansible_collections.cnm.fabric.plugins.action.plan import ActionModule

PLAYBOOKS = Path(__file__).resolve().parents[4] / "playbooks"
DECLARED = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "cnm_sandboxes": {"c1": {"networks": ["front"]}},
    "cnm_all_or_nothing": True,
}


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> dict[str, Any]:
    """The result for two hosts that are declared alike; node2 has not answered."""
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(folder))
    task = SimpleNamespace(
        args=arguments, action="plan", run_once=True, async_val=0, check_mode=True, diff=False, environment=None
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
    action = ActionModule(task, connection, None, None, SimpleNamespace(template=lambda value: value), None)
    hosts = ["node1", "node2"]
    hostvars = {host: {**DECLARED, "inventory_dir": str(folder)} for host in hosts}
    hostvars["node1"]["fabric_probe"] = answer_of("node1")
    variables = {
        **hostvars["node1"],
        "inventory_hostname": "node1",
        "groups": {"all": hosts},
        "ansible_play_hosts_all": hosts,
        "hostvars": hostvars,
    }
    made: dict[str, Any] = action.run(None, variables)
    return made


def test_a_host_that_does_not_answer_holds_up_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(tmp_path, monkeypatch)
    assert result["failed"]
    assert "no host is changed (cnm_all_or_nothing)" in result["msg"]


def test_but_not_where_no_host_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(tmp_path, monkeypatch, all_or_nothing=False)
    assert list(result["hosts"]) == ["node1"]


@pytest.mark.parametrize("name", ["graph", "verify"])
def test_playbooks_that_only_look_say_so(name: str) -> None:
    (play,) = yaml.safe_load((PLAYBOOKS / f"{name}.yml").read_text(encoding="utf-8"))
    (task,) = [task for task in play["tasks"] if "cnm.fabric.plan" in task]
    assert task["cnm.fabric.plan"] == {"all_or_nothing": False}
