# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lab and the playbooks on a stock Debian kernel: a network on two hosts, a service that IPVS balances on one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet, snapshot
from lab import OUTSIDE4, Lab
from serving import Caller, servers

pytestmark = pytest.mark.vm

EVERYWHERE = {
    "cnm_hosts": "all",
    "cnm_load_balancer": "ipvs",
    "cnm_networks": {"ps-bridge": {"driver": "bridge", "subnet": "10.0.0.0/24"}},
    "cnm_services": {
        "web": {"networks": ["ps-bridge"], "deploy": {"replicas": 2, "placement": {"hosts": ["node1"]}}},
    },
}


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """The network ps-bridge on node1 and node2, with a sandbox each, and a service on node1; afterwards nothing."""
    fleet = Fleet(lab, tmp_path)
    fleet.declare(
        EVERYWHERE,
        node1={"cnm_sandboxes": {"c1": {"networks": ["ps-bridge"]}}},
        node2={"cnm_sandboxes": {"c2": {"networks": ["ps-bridge"]}}},
    )
    yield fleet
    fleet.clear()


def test_a_network_and_a_service_are_made_once_and_taken_down(fleet: Fleet) -> None:
    before = {host: snapshot(fleet, host) for host in fleet.hosts}
    fleet.site()
    for host, sandbox in (("node1", "c1"), ("node2", "c2")):
        fleet.sh(host, f"ip netns exec {sandbox} ping -c 1 -W 5 {OUTSIDE4}")
    worker = Caller(fleet, "node1", "c1")
    (vip,) = worker.lookup("web")
    assert "-A -f" in fleet.sh("node1", "ip netns exec c1 ipvsadm -Sn")
    with servers(fleet) as at_work:
        at_work.serve({"web.1": "node1", "web.2": "node1"})
        assert worker.tasks(vip, 4) == {"web.1": 2, "web.2": 2}
    again = fleet.site()
    assert again.changed == []
    assert [again.operations(host) for host in fleet.hosts] == [[], []]
    fleet.teardown()
    assert {host: snapshot(fleet, host) for host in fleet.hosts} == before
