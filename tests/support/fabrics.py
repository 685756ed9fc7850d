# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Fabrics for tests of the graph: reports of hosts that are as these variables declare, and what may be wrong there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Optional

from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import plan_data
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.attribution import roles_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.fabric import Fabric
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.layout import decks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.report import EMPTY, HostReport
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.style import CSS
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.svg import drawing
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

NOW = "2026-11-21T05:00:00Z"

Variables = dict[str, dict[str, Any]]

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</title></svg></style></script>",
    "--><!--",
    "]]>&lt;&#60;",
    "' autofocus onfocus='alert(1)",
    "a\x00b\x1b[31mc\u202egnp.exe\u2066\u200f\ufeff\r\nx",
    '"]; end; click s1_1 "javascript:alert(1)" %%{init: {"securityLevel": "loose"}}%%',
    '\\" }; digraph x { a -> b',
    "\\N\\G\\",
    "`${alert(1)}` {{ 7 * 7 }}",
)
"""Names that a host may say it has; none of them may end up as anything but text."""


def reports_of(declared: Variables, made: Optional[Variables] = None) -> dict[str, HostReport]:
    """The reports of hosts that were made as ``made`` says, or else as is declared, and have lost nothing since."""
    before = _planned(declared if made is None else made, empty())
    kept = _texts(before)
    wanted = kept if made is None else _texts(_planned(declared, before.leases))
    return {
        host: HostReport(
            wanted[host]["model"],
            {**EMPTY, **kept.get(host, {}).get("model", {})},
            roles=roles_of(wanted[host]["resources"]),
        )
        for host in declared
    }


def _planned(variables: Variables, leases: Leases) -> Planned:
    facts = {
        host: Facts(addresses=((f"192.0.2.{10 + number}", "eth0", 1500),)) for number, host in enumerate(variables)
    }
    made = plan(read_topology(variables), facts, leases, NOW)
    assert not made.refusals, made.refusals
    return made


def _texts(planned: Planned) -> dict[str, dict[str, Any]]:
    """The hosts' plans, as they are after their way through JSON."""
    return {host: plan_data(each.to_json()) for host, each in planned.plans.items()}


def fabric_after(change: Callable[[Variables], None], variables: Optional[Variables] = None, **more: Any) -> Fabric:
    """The fabric of ``variables``, or else of `three`, after a change of the inventory that no run has made yet."""
    before = three() if variables is None else variables
    after = copy.deepcopy(before)
    change(after)
    return fabric_of(reports_of(after, before), "default", **more)


def broken() -> dict[str, HostReport]:
    """`three` with every state there is: a change that no run has made yet, things lost, and a host that is silent."""
    after = three()
    after["node1"]["cnm_sandboxes"]["proxy"]["ports"] = ["8090:80"]
    after["node2"]["cnm_sandboxes"]["extra"] = {"networks": ["front", "ps-bridge"]}
    del after["node2"]["cnm_sandboxes"]["shell"]
    reports = reports_of(after, three())
    tables = [
        {"attribute": "chains", "found": ["a"], "wanted": ["a", "b"]},
        {"attribute": "x", "found": 1, "wanted": 2},
    ]
    lost = [
        drift("create", "link", "worker/eth1"),
        drift("create", "namespace", "db.1"),
        drift("change", "nftables", "inet cnm", differences=tables),
    ]
    reports["node1"] = replace(reports["node1"], drift=lost)
    reports["node3"] = replace(reports["node3"], problem="did not answer: No route to host")
    return reports


def three() -> Variables:
    """Three hosts with some of everything: overlays, bridges, services, ports, policies, a sandbox without network."""
    networks: dict[str, Any] = {
        "front": {"driver": "overlay", "subnet": "10.10.1.0/24"},
        "back": {"driver": "overlay", "subnet": "10.10.2.0/24", "internal": True, "labels": {"tier": "data"}},
        "ps-bridge": {"driver": "bridge", "subnet": ["10.0.0.0/24", "fd00:1::/64"]},
    }
    services: dict[str, Any] = {
        "web": {"networks": ["front"], "deploy": {"replicas": 3}, "ports": [{"target": 80, "published": 3000}]},
        "redis": {
            "networks": {"front": {"aliases": ["cache"]}},
            "deploy": {"replicas": 2, "draining": ["redis.2"]},
        },
        "db": {"networks": ["back"], "deploy": {"replicas": 2, "endpoint_mode": "dnsrr"}, "policies": ["store"]},
    }
    policies: dict[str, Any] = {
        "store": {
            "ingress": [
                {"action": "allow", "from": [{"sandbox": "worker"}, {"sandbox": "report"}], "ports": ["5432/tcp"]},
                {"action": "allow", "icmp_types": ["echo-request"]},
            ],
            "default": {"egress": "reject"},
        },
        "edge": {
            "ingress": [
                {"action": "allow", "from": [{"cidr": "198.51.100.0/24"}, {"host": "node2"}], "ports": ["80", "443"]},
                {"action": "drop", "from": [{"network": "ps-bridge"}], "ports": ["22"]},
            ],
            "egress": [{"action": "allow", "to": [{"service": "redis"}, {"addresses": "office"}]}],
        },
    }
    sandboxes: dict[str, dict[str, Any]] = {
        "node1": {
            "proxy": {
                "networks": ["ps-bridge", "front"],
                "ports": ["8080:80", "127.0.0.1:9000-9003:9000-9003/udp"],
                "policies": ["edge"],
            },
            "worker": {"networks": ["front", "back"]},
        },
        "node2": {"report": {"networks": ["back"]}, "shell": {"networks": ["ps-bridge"]}},
        "node3": {
            "mail": {"networks": {"ps-bridge": {"aliases": ["smtp"]}}, "ports": ["25:25"]},
            "vault": {"network_mode": "none"},
        },
    }
    return {
        host: {
            "cnm_networks": networks,
            "cnm_services": services,
            "cnm_sandboxes": boxes,
            "cnm_policies": policies,
            "cnm_address_sets": {"office": ["203.0.113.0/28"]},
        }
        for host, boxes in sandboxes.items()
    }


def hostile() -> Fabric:
    """A fabric in which every name is an attack."""
    reports = broken()

    def renamed(value: Any, names: Mapping[str, str]) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): renamed(item, names) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item, names) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    words = ("front", "back", "ps-bridge", "proxy", "worker", "mail", "report", "vault", "web", "redis", "tier", "data")
    words += ("store", "edge", "office", "5432/tcp")
    names = {word: HOSTILE[number % len(HOSTILE)] + word for number, word in enumerate(words)}
    names.update({"0.0.0.0:8080->80/tcp": HOSTILE[0], "overlay": HOSTILE[1], "eth0": HOSTILE[6]})
    made = {}
    for number, (name, report) in enumerate(reports.items()):
        declared, kept = renamed([report.declared, report.kept], names)
        differences = [{"attribute": attack, "found": attack, "wanted": [attack]} for attack in HOSTILE]
        operations = [drift("change", attack, attack, reason=attack, differences=differences) for attack in HOSTILE]
        problem = HOSTILE[4] if report.problem else ""
        made[f"{name}{HOSTILE[number]}"] = HostReport(declared, kept, operations, problem)
    return fabric_of(made, HOSTILE[0])


def fleet(hosts: int, sandboxes: int) -> Variables:
    """Hosts with as many sandboxes each: on overlays, and on networks of their own."""
    networks: dict[str, Any] = {
        "mesh": {"driver": "overlay", "subnet": "10.50.0.0/16"},
        "store": {"driver": "overlay", "subnet": "10.51.0.0/16", "internal": True},
        "metrics": {"driver": "overlay", "subnet": "10.52.0.0/16"},
        "local": {"subnet": "10.60.0.0/24"},
    }
    services = {
        "api": {
            "networks": ["mesh"],
            "deploy": {"replicas": hosts // 2},
            "ports": [{"target": 80, "published": 8080}],
        }
    }
    choices = (["mesh"], ["mesh", "store"], ["local"], ["local", "metrics"], ["store"])
    result: Variables = {}
    for number in range(1, hosts + 1):
        host = f"node{number}"
        boxes: dict[str, Any] = {
            f"{host}-app{each}": {"networks": choices[(number + each) % len(choices)]}
            for each in range(1, sandboxes + 1)
        }
        public = next((box for box in boxes.values() if "local" in box["networks"]), {})
        public["ports"] = [f"{9000 + number}:80"]
        result[host] = {"cnm_networks": networks, "cnm_services": services, "cnm_sandboxes": boxes}
    return result


def drift(action: str, kind: str, name: str, **more: Any) -> Mapping[str, Any]:
    """An operation, as the probe reports it."""
    return {"action": action, "kind": kind, "name": name, **more}


def picture() -> str:
    """docs/graph.svg: the drawing of `broken`, with its style in it."""
    fabric = fabric_of(broken(), "default")
    (deck,) = decks_of(fabric)
    drawn = drawing(deck, fabric, 1)
    style = "svg { background: var(--card); font-family: system-ui, 'DejaVu Sans', sans-serif; }"
    return (
        drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        .replace("<title", f"<!-- SPDX-License-Identifier: GPL-3.0-or-later --><style>{CSS}{style}</style><title", 1)
        .replace("><", ">\n<")
    )


if __name__ == "__main__":
    print(picture())
