# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Two declarations of one host, and the lines that tell them apart."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.model_changes import compare_models
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import plan_data
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

FRONT = {"front": {"subnet": "10.0.0.0/24"}}
BOTH = {**FRONT, "back": {"subnet": "10.0.1.0/24", "internal": True}}
WEB: dict[str, Any] = {"networks": {"front": {"ipv4_address": "10.0.0.9"}}}
SIGNS = {"add": "+", "change": "~", "remove": "-"}


def model(networks: Any, services: Optional[dict[str, Any]] = None, **sandboxes: Any) -> dict[str, Any]:
    """The model a host's plan carries, as it is after its way through JSON."""
    declared = {"cnm_networks": networks, "cnm_sandboxes": sandboxes, "cnm_services": services or {}}
    facts = Facts(addresses=(("192.0.2.1", "eth0", 1500),), routes=(("default", "eth0", "192.0.2.254"),))
    made = plan(read_topology({"node1": declared}), {"node1": facts}, empty(), "now")
    assert not made.refusals
    return dict(plan_data(made.plans["node1"].to_json())["model"])


def lines(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [f"{SIGNS[item.action]} {item.text}" for item in compare_models(before, after)]


NOTHING: dict[str, Any] = {}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "first sandbox": (
        NOTHING,
        model(BOTH, web={**WEB, "ports": ["8080:80"]}, db={"networks": ["back"]}),
        [
            "+ network back (bridge, 10.0.1.0/24, internal)",
            "+ network front (bridge, 10.0.0.0/24)",
            "+ sandbox db on back (10.0.1.2)",
            "+ sandbox web on front (10.0.0.9), port 8080->80/tcp",
        ],
    ),
    "same": (model(FRONT, web=WEB), model(FRONT, web=WEB), []),
    "sandbox removed": (model(FRONT, web=WEB, c=WEB | {"networks": ["front"]}), model(FRONT, web=WEB), ["- sandbox c"]),
    "joins and leaves": (
        model(BOTH, web={"networks": ["front"]}, c={"networks": ["front", "back"]}),
        model(BOTH, web={"networks": ["front", "back"]}, c={"networks": ["front"]}),
        ["- c leaves back", "+ web joins back (10.0.1.2)"],
    ),
    "address": (
        model(FRONT, web=WEB),
        model(FRONT, web={"networks": {"front": {"ipv4_address": "10.0.0.8"}}}),
        ["~ web on front: address 10.0.0.9 → 10.0.0.8"],
    ),
    "aliases": (
        model(FRONT, web={"networks": {"front": {"aliases": ["www", "old"]}}}),
        model(FRONT, web={"networks": {"front": {"aliases": ["www", "new"]}}}),
        ["~ web on front: names +new -old"],
    ),
    "interface": (
        model(FRONT, web={"networks": {"front": {"interface_name": "net0"}}}),
        model(FRONT, web={"networks": ["front"]}),
        ["~ web on front: interface net0 → eth0"],
    ),
    "port": (
        model(FRONT, web={**WEB, "ports": ["8080:80"]}),
        model(FRONT, web={**WEB, "ports": ["8090:80"]}),
        ["~ port 8080→8090 of web"],
    ),
    "ports": (
        model(FRONT, web={**WEB, "ports": ["8080:80", "127.0.0.1:53:53/udp"]}),
        model(FRONT, web={**WEB, "ports": ["8090:81"]}),
        ["- port 127.0.0.1:53->53/udp of web", "- port 8080->80/tcp of web", "+ port 8090->81/tcp of web"],
    ),
    "a port is named": (
        model(FRONT, web={**WEB, "ports": [{"target": 80, "published": 8080}, "81:81"]}),
        model(FRONT, web={**WEB, "ports": [{"target": 80, "published": 8080, "name": "web", "app_protocol": "http"}]}),
        ["~ port 8080->80/tcp of web: (web, http)", "- port 81->81/tcp of web"],
    ),
    "a service's port is named no more": (
        model(FRONT, {"db": {"networks": ["front"], "ports": [{"target": 80, "published": 8080, "name": "web"}]}}),
        model(FRONT, {"db": {"networks": ["front"], "ports": [{"target": 80, "published": 8080}]}}),
        ["~ service db: port 8080->80/tcp is without a name"],
    ),
    "network mode": (
        model(FRONT, web={"network_mode": "none"}),
        model(FRONT, web={"network_mode": "host"}),
        ["~ web: network_mode none → host"],
    ),
    "default network": (
        model(FRONT, web={"network_mode": "none"}),
        model(FRONT, web={}),
        [
            "+ network bridge (bridge, 172.17.0.0/16)",
            "~ web: network_mode none → not set",
            "+ web joins bridge (172.17.0.2)",
        ],
    ),
    "network": (
        model(FRONT, web={"networks": ["front"]}),
        model(
            {"front": {"subnet": "10.9.0.0/24", "internal": True, "labels": {"tier": "1"}}}, web={"networks": ["front"]}
        ),
        [
            "~ network front: internal false → true, subnet 10.0.0.0/24 → 10.9.0.0/24, label tier none → 1",
            "~ web on front: address 10.0.0.2 → 10.9.0.2",
        ],
    ),
    "service": (
        NOTHING,
        model(FRONT, {"db": {"networks": ["front"], "deploy": {"replicas": 2}}}),
        [
            "+ network front (bridge, 10.0.0.0/24)",
            "+ service db (2 tasks, VIP 10.0.0.2 on front)",
            "+ task db.1 on front (10.0.0.3)",
            "+ task db.2 on front (10.0.0.4)",
        ],
    ),
    "tasks": (
        model(FRONT, {"db": {"networks": ["front"], "deploy": {"replicas": 2}}}),
        model(FRONT, {"db": {"networks": ["front"], "deploy": {"replicas": 1, "draining": ["db.1"]}}}),
        ["~ service db: 2 → 1 task, weight of db.1 1 → 0", "- task db.2"],
    ),
    "service removed": (
        model(FRONT, {"db": {"networks": ["front"]}}),
        NOTHING,
        ["- network front", "- service db", "- task db.1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_models_differ_in_words(case: str) -> None:
    before, after, expected = CASES[case]
    assert lines(before, after) == expected


def test_a_change_names_what_else_it_is_about() -> None:
    (found,) = compare_models(model(FRONT, c=WEB), model(FRONT, c=WEB, web={"networks": ["front"]}))
    assert found.as_data() == {
        "action": "add",
        "kind": "sandbox",
        "name": "web",
        "text": "sandbox web on front (10.0.0.2)",
        "about": ["front"],
    }
