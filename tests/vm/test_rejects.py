# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Policies that reject, on a kernel that answers at a bridge; who is told is counted as dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from host import compare, converge, on_a_host, run_command, sh
from policing import reaches, serving

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.probe import policy_counts
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

pytestmark = pytest.mark.vm

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.9.1.0/24"}},
    "cnm_policies": {
        "shy": {
            "egress": [{"action": "allow", "ports": ["80"]}, {"action": "reject", "ports": ["81/tcp", "81/udp"]}],
            "default": {"egress": "drop"},
        }
    },
    "cnm_sandboxes": {
        "one": {"networks": {"front": {"ipv4_address": "10.9.1.11"}}, "policies": ["shy"]},
        "two": {"networks": {"front": {"ipv4_address": "10.9.1.12"}}},
    },
}


@on_a_host
def test_a_caller_who_is_rejected_is_told_and_counted() -> None:
    made = plan(read_topology({"node1": VARIABLES}), {"node1": Facts(rejects_bridged=True)}, empty(), "now")
    wanted = made.plans["node1"].resources
    converge(wanted)
    assert compare(wanted) == []
    with serving("two"):
        found = [reaches("one", "10.9.1.12", what) for what in ("80/tcp", "81/tcp", "81/udp", "5353/tcp")]
    assert found == ["yes", "refused", "refused", "no"], json.dumps(found) + sh(
        "nft list chain bridge cnm policy_reject"
    )
    with Host("default", run_command) as host:
        (lately,) = policy_counts.dropped_lately(host, wanted)
        counts = policy_counts.counted(host, wanted)["one"]["egress"]
    assert (lately.sandbox, lately.direction) == ("one", "egress")
    assert lately.packets >= 3
    assert counts["dropped"] >= lately.packets
