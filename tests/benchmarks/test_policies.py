# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What two sandboxes of a bridge carry between them under 100 policies each, against two on a host without any."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from carrying import PORT, Way, measure, serve
from fleet import Fleet
from lab import Lab
from measuring import in_turns, rounds
from rows import Table

_NETWORKS = {"flat": {"subnet": ["10.61.0.0/24", "fd00:61::/64"]}}
_BOXES = {
    name: {"networks": {"flat": {"ipv4_address": f"10.61.0.{number}"}}} for name, number in (("a", 11), ("b", 12))
}


def _policies(count: int) -> dict[str, Any]:
    """So many policies, whose rules name each other's addresses and ports; the last lets everybody call the server."""
    found: dict[str, Any] = {}
    for number in range(count - 1):
        peers = [{"cidr": f"10.{number}.{third}.0/24"} for third in range(100, 105)]
        found[f"p{number}"] = {
            "ingress": [{"action": "allow", "from": peers, "ports": [f"{1000 + number}", f"{7000 + number}-7500/udp"]}],
            "egress": [{"action": "allow", "to": peers, "ports": [f"{1000 + number}"]}],
        }
    found["last"] = {
        "ingress": [{"action": "allow", "from": [{"network": "flat"}], "ports": [PORT]}],
        "egress": [{"action": "allow", "to": [{"network": "flat"}], "ports": [PORT]}],
    }
    return found


def carried(lab: Lab, fleet: Fleet, policies: int = 100, seconds: float = 40) -> dict[str, dict[str, list[float]]]:
    """Samples in pairs of node2, with so many policies for each sandbox, and node1, which has none."""
    declared = _policies(policies)
    held = {name: {**box, "policies": list(declared)} for name, box in _BOXES.items()}
    fleet.declare(
        {"cnm_networks": _NETWORKS, "cnm_policies": declared},
        node1={"cnm_sandboxes": _BOXES},
        node2={"cnm_sandboxes": held},
    )
    fleet.site()
    ways = {
        "ours": Way("policies", ("node2", "a"), ("node2", "b"), "10.61.0.12"),
        "peer": Way("no policy", ("node1", "a"), ("node1", "b"), "10.61.0.12"),
    }
    for way in ways.values():
        serve(lab, way)
    found: dict[str, dict[str, list[float]]] = {"packet.policies": {}, "packet.policies.latency": {}}
    for _number in rounds(5, 25, seconds):
        one = in_turns({side: lambda way=way: measure(lab, way, way.address) for side, way in ways.items()})
        for side, said in one.items():
            found["packet.policies"].setdefault(side, []).append(said["Gbit/s"])
            found["packet.policies.latency"].setdefault(side, []).append(said["us"])
    return found


def test_a_packet_costs_the_same_under_a_hundred_policies(tmp_path: Path, table: Table) -> None:
    with Lab(f"pytest-policies-{os.getpid()}", hosts=2) as lab:
        for key, samples in carried(lab, Fleet(lab, tmp_path)).items():
            table.add(key, samples["ours"], samples["peer"])
