# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What an overlay between sandboxes on two lab hosts carries, against VXLAN made by hand with ip: bridge, learning.

By hand it stands on two hosts that have nothing of ours, and once more beside ours, where our rules see its packets.
Rounds of all ways take turns.  Aims: throughput and latency within 3 % of what is made by hand.  Reported, not
asserted.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from carrying import Way, compared, measure, serve
from fleet import Fleet
from lab import Lab, address

ROUNDS = 9
_NETWORK = {"cnm_networks": {"mesh": {"driver": "overlay", "subnet": "10.60.0.0/24", "internal": True}}}

_BY_HAND = """
set -e
ip netns add hand-ov
ip netns add hand
ip link add vx-hand type vxlan id 777 dstport 4789 local {local} remote {remote}
ip link set vx-hand netns hand-ov
ip -n hand-ov link add br0 type bridge
ip -n hand-ov link set vx-hand master br0 mtu 1450 up
ip -n hand-ov link add port type veth peer name eth0 netns hand
ip -n hand-ov link set port master br0 mtu 1450 up
ip -n hand-ov link set br0 mtu 1450 up
ip -n hand addr add {own} dev eth0
ip -n hand link set eth0 mtu 1450 up
"""

WAYS = (
    Way("cnm.fabric", ("node1", "a"), ("node2", "b"), ""),
    Way("by hand", ("node3", "hand"), ("node4", "hand"), "10.61.0.2"),
    Way("by hand beside ours", ("node1", "hand"), ("node2", "hand"), "10.61.0.2"),
)


def _make_by_hand(lab: Lab, one: str, other: str) -> None:
    for number, (host, peer) in enumerate(((one, other), (other, one)), 1):
        script = _BY_HAND.format(local=address(host), remote=address(peer), own=f"10.61.0.{number}/24")
        lab.run(host, ["sh", "-c", script], check=True)


def test_an_overlay_carries_what_vxlan_made_by_hand_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Lab(f"pytest-traffic-{os.getpid()}", hosts=4) as lab:
        fleet = Fleet(lab, tmp_path, ["node1", "node2"])
        boxes = {"node1": {"a": {"networks": ["mesh"]}}, "node2": {"b": {"networks": ["mesh"]}}}
        fleet.declare(_NETWORK, **{host: {"cnm_sandboxes": mine} for host, mine in boxes.items()})
        fleet.site()
        _make_by_hand(lab, "node1", "node2")
        _make_by_hand(lab, "node3", "node4")
        ours = fleet.sh("node2", "ip -n b -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'").strip()
        for way in WAYS:
            serve(lab, way)
        found: dict[str, list[dict[str, float]]] = {way.name: [] for way in WAYS}
        for number in range(ROUNDS):
            for way in (*WAYS[number % 3 :], *WAYS[: number % 3]):
                found[way.name].append(measure(lab, way, way.address or ours))
    with capsys.disabled():
        print(f"\nTCP between sandboxes on two lab hosts, medians of {ROUNDS}, a Python sender of 1 MiB at a time")
        for name, rounds in found.items():
            print(f"  {name}: {compared(rounds, found['by hand'])}")
        print("  (aims: Gbit/s x 0.97 or more, us x 1.03 or less)")
