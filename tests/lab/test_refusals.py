# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What hosts cannot do is told for all of them before any is changed, and so are processes in sandboxes that go.

The machine's kernel has neither ESP nor 802.1Q, so a host lacks what only it is asked for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, Run, snapshot
from lab import Lab
from on_host import run_command
from overlaying import ended, lab_of, reached_by
from traffic import serving

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.modules import missing_link_types
from ansible_collections.cnm.fabric.plugins.module_utils.resources.xfrm import lacking

NETWORKS: dict[str, Any] = {
    "sealed": {"driver": "overlay", "subnet": "10.70.0.0/24", "encrypted": True},
    "tagged": {"driver": "macvlan", "subnet": "10.71.0.0/24", "driver_opts": {"parent": "eth0.10"}},
    "front": {"subnet": "10.72.0.0/24"},
}
ALL: dict[str, Any] = {"cnm_networks": NETWORKS, "cnm_overlay_secret": "only for this test, twenty and more"}
HOSTS: dict[str, Any] = {
    "node1": {"cnm_sandboxes": {"a": {"networks": ["sealed"]}}},
    "node2": {"cnm_sandboxes": {"b": {"networks": ["tagged"]}}},
    "node3": {"cnm_sandboxes": {"c": {"networks": ["front"], "ports": ["6002:80"]}}},
    "node4": {"cnm_sandboxes": {"d": {"networks": ["front"]}}},
}
TOLD = {
    "node1": ("cnm_networks.sealed.encrypted: this kernel has no ESP", "modprobe esp4", "linux-modules-extra"),
    "node2": ("cnm_networks.tagged.driver_opts.parent: ", "802.1Q", "modprobe 8021q", "linux-modules-extra"),
    "node3": ("cnm_sandboxes.c.ports[0]: port 6002/tcp of the host is not free: python3 (pid ", "Publish another"),
}
HEAD = "3 of 4 hosts cannot be as declared"


@pytest.fixture(scope="module")
def four() -> Iterator[Lab]:
    if lacking(4) is None or "vlan" not in missing_link_types(["vlan"], run_command):
        pytest.skip("this kernel has ESP or 802.1Q, and these tests need one that lacks both")
    with lab_of(4, "refusals") as lab:
        yield lab


@pytest.fixture
def fleet(four: Lab, tmp_path: Path) -> Iterator[Fleet]:
    with ended(Fleet(four, tmp_path)) as fleet:
        yield fleet


def listed(run: Run) -> dict[str, str]:
    """The list of the output by host; there is one, and each problem in it stands nowhere else."""
    assert run.output.count(HEAD) == 1, run.output
    blocks = run.output.partition(HEAD)[2].split("\n\n")[1:4]
    result = {head: text for head, _newline, text in (block.partition("\n") for block in blocks)}
    assert [text for text in result.values() if run.output.count(text.strip()) != 1] == []
    return result


def test_one_list_of_all_before_any_change_and_the_same_in_check_mode(fleet: Fleet) -> None:
    before = {host: snapshot(fleet, host) for host in fleet.hosts}
    with serving(fleet, "node3", "", "tcp/6002"):
        fleet.declare({**ALL, "cnm_all_or_nothing": True}, **HOSTS)
        nothing = fleet.play("site")
        fleet.declare(ALL, **HOSTS)
        foretold, run = fleet.play("site", "--check"), fleet.play("site")
    said = listed(run)
    assert {host: [part for part in parts if part not in said[host]] for host, parts in TOLD.items()} == {
        host: [] for host in TOLD
    }
    assert listed(foretold) == said == listed(nothing)
    assert foretold.code == run.code == nothing.code != 0
    assert foretold.operations("node4") == run.operations("node4") != []
    assert [entry for entry in nothing.results if entry["action"] == "cnm.fabric.converge"] == []
    assert "cnm_all_or_nothing" in nothing.output
    for host in TOLD:
        assert run.of("cnm.fabric.converge", host)["msg"].endswith("1 problem, listed above")
        assert snapshot(fleet, host) == before[host]
    assert fleet.sh("node4", "ls /run/netns").split() == ["d"]


def test_with_all_or_nothing_one_that_does_not_answer_stops_all(fleet: Fleet) -> None:
    front = {"cnm_networks": {"front": NETWORKS["front"]}}
    fleet.declare({**front, "cnm_all_or_nothing": True}, node1=HOSTS["node4"], node4=HOSTS["node4"])
    reached_by(fleet, node4={"ansible_port": 1})
    run = fleet.play("site")
    assert run.code != 0
    assert "1 of 4 hosts cannot be as declared (cnm_all_or_nothing: no host is changed)." in run.output
    assert "node4\n  its probe failed" in run.output
    assert [entry for entry in run.results if entry["action"] == "cnm.fabric.converge"] == []
    assert fleet.play("site", "--limit", "node1").code == 0, "who is not asked says nothing"
    assert fleet.sh("node1", "ls /run/netns").split() == ["d"]


@contextmanager
def sleeping(fleet: Fleet, host: str, sandbox: str) -> Iterator[str]:
    """The id of a process in a sandbox, as the host counts."""
    argv = ["ip", "netns", "exec", sandbox, "sh", "-c", "echo $$; exec sleep 300"]
    process = fleet.lab.popen(host, argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = process.stdout.readline().strip()
    try:
        yield pid
    finally:
        fleet.sh(host, f"kill {pid}", check=False)
        process.communicate()


def test_a_sandbox_with_processes_goes_by_force_alone(fleet: Fleet) -> None:
    front = {"cnm_networks": {"front": NETWORKS["front"]}}
    two = {"cnm_sandboxes": {name: {"networks": ["front"]} for name in ("c", "d")}}
    fleet.declare(front, node3=two, node4=two)
    fleet.site()
    with sleeping(fleet, "node3", "c") as pid:
        before = snapshot(fleet, "node3")
        fleet.declare(front, node3=HOSTS["node4"], node4=HOSTS["node4"])
        foretold, run = fleet.play("site", "--check"), fleet.play("site")
        assert foretold.code == run.code != 0
        (said,) = run.refusals("node3")
        assert said.startswith(f"cnm_sandboxes: c is no longer declared, and processes run in it: sleep ({pid}).")
        assert foretold.refusals("node3") == [said]
        assert "cnm_force=true" in said
        assert "delete namespace c" in run.operations("node4")
        torn = [fleet.play("teardown", *check) for check in (["--check"], [])]
        for each in torn:
            assert each.code == torn[0].code != 0
            assert f"processes run in it: sleep ({pid})" in each.of("cnm.fabric.converge", "node3")["msg"]
        assert snapshot(fleet, "node3") == before
        assert "delete namespace c" in fleet.site("-e", "cnm_force=true").operations("node3")
        assert fleet.site().changed == []
    with sleeping(fleet, "node3", "d"):
        assert fleet.play("teardown", "-e", "cnm_force=true").code == 0
        assert fleet.sh("node3", "ls /run/netns").split() == []
