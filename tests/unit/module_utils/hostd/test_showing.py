# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `cnm` says of a name that is of something else than was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli, showing

MODEL: dict[str, Any] = {
    "networks": [{"Name": name, "Id": f"{name}0123456789ab", "IPAM": {"Config": []}} for name in ("app", "none")],
    "sandboxes": {
        name: {"network_mode": None, "endpoints": [], "ports": []} for name in ("c1", "web.1", "two.1", "two.3")
    },
    "services": {
        "web": {"tasks": {"web.1": "node1", "web.2": "node2"}},
        "two": {"tasks": {"two.1": "node1", "two.2": "node2", "two.3": "node1"}},
        "far": {"tasks": {"far.1": "node2"}},
    },
}
ON_THE_CONTROLLER = "cnm.fabric.inspect, on the controller, shows it"
ELSEWHERE = "a task may be on another host; cnm.fabric.inspect, on the controller, says where"


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("inspect web", f"web is a service: its task here: web.1; {ON_THE_CONTROLLER}"),
        ("exec two id", f"two is a service: its tasks here: two.1, two.3; {ON_THE_CONTROLLER}"),
        ("ps far", f"far is a service: its task here: none; {ON_THE_CONTROLLER}"),
        ("exec app id", "app is a network: cnm ps lists the sandboxes"),
        ("ps app", "app is a network: cnm ps lists the sandboxes"),
        ("inspect web.2", f"this host has no network or sandbox web.2: {ELSEWHERE}"),
        ("exec web.2 id", f"this host has no sandbox web.2: {ELSEWHERE}"),
        ("inspect APP", "this host has no network or sandbox APP: did you mean app?"),
        ("inspect nope", "this host has no network or sandbox nope: cnm ls and cnm ps list what there is"),
        ("ps xyz", "this host has no sandbox xyz: cnm ps lists what there is"),
    ],
)
def test_a_name_of_something_else_is_called_that(
    typed: str, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(showing, "plans", lambda _project: {"default": {"model": MODEL}})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.umask", lambda _mask: 0)
    assert cli.main(typed.split()) == 1
    assert capsys.readouterr().err == f"cnm: {answer}\n"
