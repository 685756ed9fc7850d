# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lab and the playbooks on a stock Debian kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet, snapshot
from lab import OUTSIDE4, Lab

pytestmark = pytest.mark.vm

NETWORKS = {"ps-bridge": {"driver": "bridge", "subnet": "10.0.0.0/24"}}


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """The network ps-bridge on node1 and node2, with a sandbox each; afterwards nothing of ours is left."""
    fleet = Fleet(lab, tmp_path)
    fleet.declare(
        {"cnm_networks": NETWORKS},
        node1={"cnm_sandboxes": {"c1": {"networks": ["ps-bridge"]}}},
        node2={"cnm_sandboxes": {"c2": {"networks": ["ps-bridge"]}}},
    )
    yield fleet
    fleet.teardown()


def test_a_bridge_network_is_made_once_and_taken_down(fleet: Fleet) -> None:
    before = {host: snapshot(fleet, host) for host in fleet.hosts}
    fleet.site()
    for host, sandbox in (("node1", "c1"), ("node2", "c2")):
        fleet.sh(host, f"ip netns exec {sandbox} ping -c 1 -W 5 {OUTSIDE4}")
    again = fleet.site()
    assert again.changed == []
    assert [again.operations(host) for host in fleet.hosts] == [[], []]
    fleet.teardown()
    assert {host: snapshot(fleet, host) for host in fleet.hosts} == before
