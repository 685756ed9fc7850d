# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What sandboxes may send follows from what is declared, and what keeps internal networks shut without nftables."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Rule
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import rule_priority
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.sources import link_local
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

BRIDGE = "com.docker.network.bridge."


def warned(networks: dict[str, Any], boxes: dict[str, Any]) -> list[str]:
    variables = {"cnm_networks": networks, "cnm_sandboxes": boxes}
    known = Facts(resolvers=("192.0.2.1",))
    return plan(read_topology({"node1": variables}), {"node1": known}, empty(), "now").warnings.get("node1", [])


def planned(networks: dict[str, Any], boxes: dict[str, Any], facts: Facts = Facts(), **more: Any) -> Plan:  # noqa: B008
    variables = {"cnm_networks": networks, "cnm_sandboxes": boxes, **more}
    made = plan(read_topology({"node1": variables}), {"node1": facts}, empty(), "now")
    assert not made.refusals
    return made.plans["node1"]


def named(name: str, number: int, **more: Any) -> dict[str, Any]:
    options = {BRIDGE + "name": name, **more.pop("driver_opts", {})}
    return {"subnet": f"10.9.{number}.0/24", "driver_opts": options, **more}


def elements(made: Plan, family: str, name: str) -> list[str]:
    tables = [item for item in made.resources if isinstance(item, Nftables)]
    table = next(item for item in tables if (item.namespace, item.family) == ("", family))
    return [each for item in table.sets if item.name == name for each in item.elements]


def values(found: list[str]) -> list[str]:
    """Elements without their link, sorted."""
    return sorted(part for each in found for part in each.split(" . ") if not part.startswith('"'))


@pytest.mark.parametrize(
    ("mac", "address"),
    [("02:42:0a:09:01:0a", "fe80::42:aff:fe09:10a"), ("00:11:22:33:44:55", "fe80::211:22ff:fe33:4455")],
)
def test_an_address_of_scope_link_follows_from_the_mac_address(mac: str, address: str) -> None:
    assert link_local(mac) == address


def test_a_router_s_port_accepts_routed_prefixes_whoever_declares_them() -> None:
    networks = {"n": named("br-n", 1, routes=[{"destination": "10.7.0.0/16", "gateway": "10.9.1.9"}])}
    boxes: dict[str, Any] = {
        "router": {"networks": {"n": {"ipv4_address": "10.9.1.9"}}},
        "other": {"networks": {"n": {"routes": [{"destination": "10.8.0.0/16", "gateway": "10.9.1.9"}]}}},
        "beyond": {"networks": {"n": {"routes": [{"destination": "10.6.0.0/16", "gateway": "10.9.1.254"}]}}},
    }
    made = planned(networks, boxes)
    assert values(elements(made, "bridge", "routed_ipv4")) == ["10.7.0.0/16", "10.8.0.0/16"]
    assert len({each.split(" . ")[0] for each in elements(made, "bridge", "routed_ipv4")}) == 1
    # On the host it is all that comes from the bridge, what is behind somebody else's router too.
    assert elements(made, "inet", "behind4") == [f'10.{n}.0.0/16 . "br-n"' for n in (6, 7, 8)]


def test_a_router_without_forwarding_gives_a_warning() -> None:
    networks = {"n": named("br-n", 1, routes=[{"destination": "10.7.0.0/16", "gateway": "10.9.1.9"}])}
    router: dict[str, Any] = {"networks": {"n": {"ipv4_address": "10.9.1.9"}}}
    said = "r is the gateway of the route to 10.7.0.0/16, but does not forward: set `net.ipv4.ip_forward: 1` in its "
    assert warned(networks, {"r": router}) == [said + "sysctls"]
    assert warned(networks, {"r": {**router, "sysctls": {"net.ipv4.ip_forward": "1"}}}) == []


def test_a_sandbox_may_answer_from_its_directly_reachable_addresses_by_the_default_route() -> None:
    networks = {
        "front": named("br-f", 1),
        "routed": named("br-r", 2, driver_opts={BRIDGE + "gateway_mode_ipv4": "routed"}),
        "back": named("br-b", 3, internal=True),
    }
    made = planned(networks, {"a": {"networks": {"front": {"gw_priority": 1}, "routed": {}, "back": {}}}})
    assert elements(made, "inet", "behind4") == ['10.9.2.2 . "br-f"']


def test_sources_on_a_bridge_with_foreign_ports_or_gateways_are_not_checked() -> None:
    aux = {"config": [{"subnet": "10.9.3.0/24", "aux_addresses": {"DefaultGatewayIPv4": "10.9.3.9"}}]}
    networks = {
        "own": named("br-own", 1),
        "taken": named("br-taken", 4),
        "theirs": named("br-theirs", 2),
        "way": {"ipam": aux, "driver_opts": {BRIDGE + "name": "br-way"}},
    }
    boxes = {name: {"networks": [name]} for name in networks}
    links = {
        "br-own": LinkFacts("bridge", ours="network/own"),
        "br-taken": LinkFacts("bridge", single_object=True),
        "br-theirs": LinkFacts("bridge"),
    }
    made = planned(networks, boxes, Facts(links=links))
    assert elements(made, "inet", "own_bridges") == ['"br-own"', '"br-taken"']
    assert len(elements(made, "inet", "bridges")) == 4


def test_rules_name_protocols_by_number() -> None:
    """nft looks names up in /etc/protocols."""
    networks = {"n": {"enable_ipv6": True}, "inner": {"internal": True}}
    boxes = {"a": {"networks": ["n", "inner"], "ports": ["80:80", "53:53/udp"]}}
    service = {"s": {"networks": ["n"], "deploy": {"replicas": 1, "draining": ["s.1"]}}}
    made = planned(networks, boxes, cnm_services=service, cnm_load_balancer="nftables")
    tables = [item for item in made.resources if isinstance(item, Nftables)]
    rules = [rule for table in tables for chain in table.chains for rule in chain.rules]
    assert any("reject with tcp reset" in rule for rule in rules)
    named_there = re.compile(r"(l4proto|ip protocol|nexthdr) (!= )?({ )?[a-z]")
    assert [rule for rule in rules if named_there.search(rule)] == []


def test_sandboxes_cannot_send_to_the_overlays_port() -> None:
    networks, boxes = {"n": named("br-n", 1)}, {"a": {"networks": ["n"]}}
    assert elements(planned(networks, boxes, cnm_data_path_port=4790), "inet", "data_path") == ["14790", "4790"]


@pytest.mark.parametrize(
    ("sysctls", "on_link", "expected"),
    [
        ({}, "", (4, 6)),
        ({"net.ipv4.ip_forward": "1"}, "", (6,)),
        ({"net.ipv6.conf.all.forwarding": "1", "net.ipv4.conf.all.forwarding": "1"}, "", ()),
        ({}, "net.ipv4.conf.IFNAME.forwarding=1", (6,)),
        ({"net.ipv4.ip_default_ttl": "3"}, "", (4, 6)),
    ],
)
def test_a_sandbox_forwards_only_with_its_sysctls(
    sysctls: dict[str, str], on_link: str, expected: tuple[int, ...]
) -> None:
    options = {"driver_opts": {"com.docker.network.endpoint.sysctls": on_link}} if on_link else {}
    boxes = {"a": {"networks": {"n": options}, "sysctls": sysctls}, "c": {"namespace": {"pid": 1}, "networks": ["n"]}}
    made = planned({"n": named("br-n", 1)}, boxes)
    found = {item.name: item.no_forwarding for item in made.resources if isinstance(item, Namespace)}
    assert found == {"a": expected, "c": ()}  # what is somebody else's is his to say


@pytest.mark.parametrize(
    ("port", "answers"),
    [("8080:80", True), ("0.0.0.0:8080:80", True), ("127.0.0.2:8080:80", True), ("192.0.2.1:8080:80", False)],
)
def test_route_localnet_is_set_only_with_a_port_published_at_the_loopback(port: str, answers: bool) -> None:
    made = planned({"n": named("br-n", 1)}, {"a": {"networks": ["n"], "ports": [port]}})
    (bridge,) = (item for item in made.resources if isinstance(item, Link) and item.name == "br-n")
    assert bridge.route_localnet is answers


def test_only_internal_networks_have_routing_rules() -> None:
    networks = {"front": named("br-f", 1), "back": named("br-b", 2, internal=True)}
    made = planned(networks, {"a": {"networks": ["front", "back"]}}, cnm_project="blue")
    first, subnet = rule_priority("blue"), "10.9.2.0/24"
    assert [item for item in made.resources if isinstance(item, Rule)] == [
        Rule("", 4, first, "br-b"),
        Rule("", 4, first, "lo", subnet, 254),
        Rule("", 4, first + 1, "", subnet),
        Rule("", 6, first, "br-b"),
    ]


def test_each_project_has_its_own_rule_priorities() -> None:
    found = {rule_priority(f"p{number}") for number in range(50)}
    assert len(found) > 45
    assert all(1000 <= number < 5000 and number % 2 == 0 for number in found)
