# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""An encrypted overlay whose hosts tell each other of endpoints by BGP EVPN."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import Fleet
from lab import Lab
from overlaying import on_the_wire, torn_down

pytestmark = pytest.mark.vm

EVERYONE: dict[str, Any] = {
    "cnm_control_plane": "evpn",
    "cnm_evpn": {"route_reflectors": ["node1", "node2"], "password": "4b7d0e92c61f35a8"},
    "cnm_overlay_secret": "c0ffee-and-a-few-octets-more-0123456789",
    "cnm_networks": {"vault": {"driver": "overlay", "subnet": "10.10.4.0/24", "encrypted": True}},
}


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """c1 on node1 and c2 on node2; afterwards the hosts are as they were."""
    with torn_down(Fleet(lab, tmp_path_factory.mktemp("evpn"))) as fleet:
        declare(fleet)
        fleet.site()
        yield fleet


def declare(fleet: Fleet, *more: str) -> None:
    boxes = {name: {"networks": ["vault"]} for name in ("c2", *more)}
    fleet.declare(EVERYONE, node1={"cnm_sandboxes": {"c1": {"networks": ["vault"]}}}, node2={"cnm_sandboxes": boxes})


def reach(fleet: Fleet, address: str) -> None:
    deadline = time.monotonic() + 60
    while "1 received" not in fleet.sh("node1", f"ip netns exec c1 ping -c 1 -W 2 {address}", check=False):
        assert time.monotonic() < deadline, address


def test_the_wire_shows_esp_alone_for_a_sandbox_that_one_host_was_run_for(fleet: Fleet) -> None:
    reach(fleet, "10.10.4.3")
    assert fleet.site().changed == []
    declare(fleet, "c3")
    fleet.site("--limit", "node2")
    with on_the_wire(fleet, "node1", "esp or port 4789 or port 14789") as wire:
        reach(fleet, "10.10.4.4")
    assert "ESP" in wire[0]
    assert "VXLAN" not in wire[0]
    assert "14789" not in wire[0]


@pytest.mark.whole
def test_a_host_without_keys_sends_nothing_in_the_clear(fleet: Fleet) -> None:
    fleet.sh("node1", "ip xfrm state flush")
    with on_the_wire(fleet, "node1", "port 4789 or port 14789") as wire:
        fleet.sh("node1", "ip netns exec c1 ping -c 3 -i 0.2 -W 1 10.10.4.3", check=False)
    assert wire == [""]
    fleet.site()
    reach(fleet, "10.10.4.3")
