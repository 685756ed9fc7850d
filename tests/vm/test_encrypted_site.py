# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""An encrypted overlay as a user makes one: from the inventory, on a kernel that has ESP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import Fleet
from lab import Lab
from overlaying import on_the_wire, torn_down

pytestmark = [pytest.mark.vm, pytest.mark.whole]

SECRET = "c0ffee-and-a-few-octets-more-0123456789"
NETWORKS = {"vault": {"driver": "overlay", "subnet": "10.10.4.0/24", "encrypted": True}}


def declare(fleet: Fleet, **more: Any) -> None:
    fleet.declare(
        {"cnm_networks": NETWORKS, "cnm_overlay_secret": SECRET, **more},
        node1={"cnm_sandboxes": {"c1": {"networks": ["vault"]}}},
        node2={"cnm_sandboxes": {"c2": {"networks": ["vault"]}}},
    )


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """c1 on node1 and c2 on node2; afterwards the hosts are as they were."""
    with torn_down(Fleet(lab, tmp_path_factory.mktemp("encrypted"))) as fleet:
        declare(fleet)
        fleet.site()
        yield fleet


def test_the_wire_shows_esp_and_no_vxlan(fleet: Fleet) -> None:
    with on_the_wire(fleet, "node1", "esp or port 4789 or port 14789") as wire:
        fleet.sh("node1", "ip netns exec c1 ping -c 5 -i 0.2 -W 5 c2")
    assert "ESP" in wire[0]
    assert "VXLAN" not in wire[0]
    assert "14789" not in wire[0]


def test_a_packet_of_the_network_s_size_fits_and_a_larger_one_does_not(fleet: Fleet) -> None:
    fleet.sh("node1", "ip netns exec c1 ping -c 1 -W 5 -M do -s 1388 c2")
    assert "mtu=1416" in fleet.sh("node1", "ip netns exec c1 ping -c 1 -W 5 -M do -s 1389 c2 2>&1", check=False)


def test_a_second_run_changes_nothing_and_shows_no_key(fleet: Fleet) -> None:
    run = fleet.play("site", "--diff", "-vvv")
    assert run.changed == []
    states = fleet.sh("node1", "ip xfrm state")
    keys = re.findall(r"0x([0-9a-f]{32,})", states)
    assert keys
    assert not [key for key in [*keys, SECRET] if key in run.output]
    kept = fleet.sh(
        "node1", f"grep -rl -e '{SECRET}' {' '.join('-e ' + key for key in keys)} /var/lib/cnm /run/cnm", False
    )
    assert kept == ""


def test_policies_that_are_gone_are_named_and_put_back(fleet: Fleet) -> None:
    fleet.sh("node1", "ip xfrm policy flush; ip xfrm state flush")
    assert [text for text in fleet.play("site", "--check").operations("node1") if "xfrm" in text]
    fleet.site()
    fleet.sh("node1", "ip netns exec c1 ping -c 1 -W 5 c2")
    assert fleet.site().changed == []


def test_raising_the_epoch_host_by_host_loses_no_packet(fleet: Fleet) -> None:
    fleet.sh("node1", "ip netns exec c1 sh -c 'ping -i 0.01 -W 2 -q c2 >/tmp/pings 2>&1 & echo $! >/tmp/ping.pid'")
    declare(fleet, cnm_overlay_key_epoch=2)
    before = fleet.sh("node1", "ip xfrm state")
    assert fleet.play("site", "--limit", "node2").code == 0
    assert fleet.play("site", "--limit", "node1").code == 0
    counts = fleet.sh("node1", "sleep 1; kill -INT $(cat /tmp/ping.pid); sleep 2; cat /tmp/pings")
    assert fleet.sh("node1", "ip xfrm state") != before
    assert " 0% packet loss" in counts, counts


def test_without_a_secret_nothing_is_changed(fleet: Fleet) -> None:
    fleet.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": {"c1": {"networks": ["vault"]}}})
    run = fleet.play("site")
    assert "cnm_overlay_secret" in run.output
    assert run.code != 0
    declare(fleet, cnm_overlay_key_epoch=2)
