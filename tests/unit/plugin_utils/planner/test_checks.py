# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Checks of the whole topology's plan."""

from __future__ import annotations

from typing import Any

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.module_objects import ModuleState
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.checks import unused_networks

OVERLAY = {"driver": "overlay"}


def unused(variables: dict[str, Any], module_state: Any = None) -> list[str]:
    return unused_networks(read_topology(variables, None, module_state))


def test_a_network_that_nothing_uses_is_found_once_for_all_hosts() -> None:
    networks = {"cnm_networks": {"front": {}, "spare": {}, "lab": {}}}
    sandboxes = {"cnm_sandboxes": {"c1": {"networks": ["front"]}}}
    assert unused({"node1": {**networks, **sandboxes}, "node2": networks}) == ["lab", "spare"]


def test_what_a_service_uses_is_used_with_no_task_as_well() -> None:
    services = {"web": {"networks": ["over"], "deploy": {"replicas": 0}}}
    assert unused({"node1": {"cnm_networks": {"over": OVERLAY, "other": OVERLAY}, "cnm_services": services}}) == [
        "other"
    ]


def test_what_is_there_without_a_declaration_is_not_meant() -> None:
    """The predefined network, the one that overlays lead out by, the ingress, and what a module made."""
    services = {"web": {"networks": ["over"], "ports": ["80:80"]}}
    made = {"node1": ModuleState(networks={"standing": {}})}
    host = {
        "cnm_networks": {"over": OVERLAY},
        "cnm_services": services,
        "cnm_sandboxes": {"c1": {}, "c2": {"networks": ["over"]}},
    }
    assert unused({"node1": host}, made) == []
