# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The roles in plays of a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import Fleet, Run
from lab import Lab
from overlaying import answered, ended, overlay, sandboxes

NETWORKS = {"cnm_networks": {"multinet": overlay("10.10.2.0/24"), "here": {"subnet": "10.0.0.0/24"}}}
ONE_EACH = {f"node{n}": sandboxes(**{f"c{n}": ["multinet", "here"]}) for n in (1, 2, 3)}


@pytest.fixture
def fleet(trio: Lab, tmp_path: Path) -> Iterator[Fleet]:
    with ended(Fleet(trio, tmp_path)) as fleet:
        fleet.declare(NETWORKS, **ONE_EACH)
        yield fleet


def play(fleet: Fleet, role: str, *arguments: str, dynamic: bool = False, **more: Any) -> Run:
    """A play with that role and nothing else."""
    include = {"ansible.builtin.include_role": {"name": f"cnm.fabric.{role}"}}
    what: dict[str, Any] = {"tasks": [include]} if dynamic else {"roles": [f"cnm.fabric.{role}"]}
    book = fleet.directory / "play.yml"
    book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, **what, **more}]), encoding="utf-8")
    return fleet.play(str(book), *arguments)


def test_multi_host_does_what_site_does(fleet: Fleet) -> None:
    foretold = play(fleet, "multi_host", "--check", "--diff")
    done = play(fleet, "multi_host")
    assert done.code == 0, done.output
    for host in fleet.hosts:
        assert foretold.operations(host) == done.operations(host) != []
    assert answered(fleet, "node1", "c1", "c3.multinet")
    assert answered(fleet, "node3", "c3", "c2.multinet")
    assert play(fleet, "multi_host", dynamic=True).changed == []
    assert fleet.site().changed == []
    assert fleet.play("verify").code == 0


def test_multi_host_is_for_a_project_that_module_defaults_name(fleet: Fleet) -> None:
    lab = {"module_defaults": {"group/cnm.fabric.fabric": {"project": "lab"}}}
    done = play(fleet, "multi_host", dynamic=True, **lab)
    assert done.code == 0, done.output
    assert "alias cnm:lab:sandbox/c1" in fleet.sh("node1", "ip -n c1 link show lo")
    assert play(fleet, "multi_host", **lab).changed == []
    assert answered(fleet, "node1", "c1", "c3.multinet")
    gone = play(fleet, "teardown", **lab)
    assert gone.code == 0, gone.output


@pytest.mark.parametrize("role", ["multi_host", "single_host"])
def test_what_is_wrong_with_the_variables_is_said_as_by_site(fleet: Fleet, role: str) -> None:
    fleet.declare({"cnm_networks": ["front"]})
    run = play(fleet, role)
    assert run.code != 0
    assert "Write the names as keys: `cnm_networks: {front: {driver: bridge}}`." in run.output


@pytest.mark.parametrize("words", [{"serial": 1}, {"strategy": "free"}], ids=["serial", "free"])
def test_multi_host_has_to_see_all_hosts_at_once(fleet: Fleet, words: dict[str, Any]) -> None:
    run = play(fleet, "multi_host", **words)
    assert run.code != 0
    assert "use strategy linear and no serial" in run.output
    assert not any(entry["action"] == "cnm.fabric.converge" for entry in run.results)


def test_single_host_says_whose_matter_networks_of_many_hosts_are(fleet: Fleet) -> None:
    run = play(fleet, "single_host")
    for host in fleet.hosts:
        said = (
            "multinet: what spans hosts is planned for all of them at once: run cnm.fabric.site, or the role multi_host"
        )
        assert run.of("cnm.fabric.plan", host)["hosts"][host]["refused"] == [said]
        assert f"{host}\n  {said}\n" in run.output
    fleet.declare(NETWORKS, node1=sandboxes(c1=["here"]))
    assert play(fleet, "single_host").code == 0


def test_single_host_leaves_the_overlays_of_others_as_they_are(fleet: Fleet) -> None:
    fleet.declare(NETWORKS, **{**ONE_EACH, "node1": sandboxes(c1=["here"])})
    fleet.site()
    fleet.declare(NETWORKS, **{**ONE_EACH, "node1": sandboxes(c1=["here"], c4=["here"])})
    run = play(fleet, "single_host", "--limit", "node1")
    assert run.code == 0, run.output
    assert fleet.site().changed == []
    assert answered(fleet, "node2", "c2", "c3.multinet")
