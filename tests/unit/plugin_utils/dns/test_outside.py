# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which names a host gets of its sandboxes."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import decode, encode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File, Resolved, Resolver
from ansible_collections.cnm.fabric.plugins.plugin_utils.dns.outside import host_address
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

FRONT = {"front": {"subnet": "10.0.0.0/24"}}
C1 = {"c1": {"networks": {"front": {"aliases": ["web"]}}}}


def resources(variables: dict[str, Any], links: dict[str, LinkFacts] | None = None) -> list[Any]:
    facts = Facts(
        addresses=(("192.0.2.1", "eth0", 1500),),
        routes=(("192.0.2.0/24", "eth0", None), ("default", "eth0", "192.0.2.254")),
        links={"eth0": LinkFacts(), **(links or {})},
    )
    made = plan(read_topology({"node1": {"cnm_host_names": True, **variables}}), {"node1": facts}, empty(), "now")
    assert not made.refusals
    return list(made.plans["node1"].resources)


def names(found: list[Any], file: str = "@host") -> list[str]:
    """The lines of names for the host, or for a LAN."""
    files = [item.files.get(file, "") for item in found if isinstance(item, File) and item.role == "names"]
    return "".join(files).splitlines()[1:]


def told(found: list[Any]) -> list[Resolved]:
    return [item for item in found if isinstance(item, Resolved)]


def own(found: list[Any]) -> list[Resolver]:
    return [item for item in found if isinstance(item, Resolver) and not item.namespace]


def test_it_is_off_unless_declared() -> None:
    found = resources({"cnm_networks": FRONT, "cnm_sandboxes": C1, "cnm_host_names": False})
    assert (names(found), told(found), own(found)) == ([], [], [])


def test_names_and_aliases_with_and_without_their_network_are_in_the_domain_alone() -> None:
    found = resources({"cnm_networks": FRONT, "cnm_sandboxes": C1})
    assert names(found) == [
        "10.0.0.2 c1.front.cnm.internal c1.cnm.internal web.cnm.internal web.front.cnm.internal",
    ]
    (resolver,) = own(found)
    assert resolver.config == (
        "port=53",
        "listen-address=127.0.0.12",
        "bind-interfaces",
        "no-hosts",
        "no-resolv",
        "local=/cnm.internal/",
        "addn-hosts=/run/cnm/default/names/@host",
    )
    (one,) = told(found)
    assert (one.server, one.domain, one.link[:5]) == ("127.0.0.12", "cnm.internal", "cnm-b")


def test_sandboxes_that_the_host_does_not_reach_and_networks_without_names_have_none() -> None:
    networks = {
        **FRONT,
        "closed": {
            "subnet": "10.0.1.0/24",
            "internal": True,
            "driver_opts": {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"},
        },
        "office": {"driver": "macvlan", "subnet": "192.0.2.0/24", "driver_opts": {"parent": "eth0"}},
        "wide": {"driver": "overlay", "subnet": "10.10.0.0/24"},
    }
    sandboxes = {"a": {"networks": ["closed"]}, "b": {"networks": ["office"]}, "c": {"networks": ["wide"]}}
    found = resources({"cnm_networks": networks, "cnm_sandboxes": {**C1, **sandboxes}})
    assert [line.split()[1] for line in names(found)] == ["c1.front.cnm.internal"]
    assert len(told(found)) == 1
    without = resources({"cnm_networks": networks, "cnm_sandboxes": sandboxes})
    assert (names(without), told(without), own(without)) == ([], [], [])


def test_services_have_their_virtual_addresses() -> None:
    services = {"api": {"networks": ["front"], "deploy": {"replicas": 2}}}
    found = resources({"cnm_networks": FRONT, "cnm_services": services})
    assert any(line.split()[1] == "api.front.cnm.internal" for line in names(found))


def test_a_bridge_of_others_is_not_told_to_resolved() -> None:
    named = {"front": {"subnet": "10.0.0.0/24", "driver_opts": {"com.docker.network.bridge.name": "br-lan"}}}
    declared = {"cnm_networks": named, "cnm_sandboxes": C1}
    assert [item.link for item in told(resources(declared))] == ["br-lan"]
    ours = {"br-lan": LinkFacts(kind="bridge", ours=True)}
    assert [item.link for item in told(resources(declared, ours))] == ["br-lan"]
    theirs = {"br-lan": LinkFacts(kind="bridge")}
    found = resources(declared, theirs)
    assert told(found) == [] and names(found)


def test_projects_have_an_address_and_may_have_a_domain_each() -> None:
    found = resources({"cnm_networks": FRONT, "cnm_sandboxes": C1, "cnm_project": "lab", "cnm_domain": "lab.example"})
    (one,) = told(found)
    assert one.domain == "lab.example" and one.server == host_address("lab") != host_address("default")
    assert len({host_address(f"p{number}") for number in range(1000)}) == 1000
    assert all(host_address(f"p{number}") not in ("127.0.0.53", "127.0.0.11", "127.0.0.1") for number in range(1000))


LAN = "192.0.2.1"
PARENT = {"driver": "macvlan", "subnet": "192.0.2.0/24", "driver_opts": {"parent": "eth0"}}


def of_lan(found: list[Any]) -> list[Resolver]:
    return [item for item in found if isinstance(item, Resolver) and item.lan]


def for_lan(networks: dict[str, Any], sandboxes: dict[str, Any], **settings: Any) -> list[str]:
    variables = {"cnm_host_names": False, "cnm_lan_names": LAN, **settings}
    return names(resources({"cnm_networks": networks, "cnm_sandboxes": sandboxes, **variables}), "@lan")


def test_a_lan_gets_addresses_that_it_reaches() -> None:
    networks = {
        "lan": PARENT,
        **FRONT,
        "routed": {
            "subnet": "10.0.1.0/24",
            "driver_opts": {"com.docker.network.bridge.gateway_mode_ipv4": "routed"},
        },
        "alone": {"driver": "macvlan", "subnet": "10.0.2.0/24", "internal": True},
    }
    sandboxes = {
        "c1": {"networks": {"lan": {"ipv4_address": "192.0.2.77"}, "front": {}}, "ports": ["80:80"]},
        "c2": {"networks": ["front"]},
        "c3": {"networks": ["routed"]},
        "c4": {"networks": ["alone"]},
        "web": {"networks": {"front": {"aliases": ["www"]}}, "ports": ["8080:80"]},
    }
    assert for_lan(networks, sandboxes) == [
        "10.0.1.2 c3.routed.cnm.internal c3.cnm.internal",
        "192.0.2.1 web.cnm.internal www.cnm.internal",
        "192.0.2.77 c1.lan.cnm.internal c1.cnm.internal",
    ]


@pytest.mark.parametrize(
    ("host_ip", "told"),
    [("", True), ("0.0.0.0", True), ("192.0.2.1", True), ("127.0.0.1", False), ("192.0.2.2", False)],
)
def test_a_lan_gets_names_of_what_is_published_at_that_address(host_ip: str, told: bool) -> None:
    port: dict[str, Any] = {"target": 80, "published": 8080, **({"host_ip": host_ip} if host_ip else {})}
    found = for_lan(FRONT, {"web": {"networks": ["front"], "ports": [port]}})
    assert found == (["192.0.2.1 web.cnm.internal"] if told else [])


def test_a_lan_gets_services_that_are_published_on_every_host() -> None:
    service = {"networks": ["ov"], "deploy": {"replicas": 1}, "ports": ["8000:80"]}
    found = for_lan({"ov": {"driver": "overlay"}}, {}, cnm_services={"api": service, "own": {"networks": ["ov"]}})
    assert found == ["192.0.2.1 api.cnm.internal"]


def test_the_resolver_of_a_lan_waits_for_its_address_and_is_another_than_the_host_s() -> None:
    variables = {"cnm_networks": {"lan": PARENT, **FRONT}, "cnm_sandboxes": {"c1": {"networks": ["lan", "front"]}}}
    found = resources({**variables, "cnm_lan_names": LAN})
    (resolver,) = of_lan(found)
    assert resolver.config == (
        "port=53",
        "listen-address=192.0.2.1",
        "bind-dynamic",
        "no-hosts",
        "no-resolv",
        "local=/cnm.internal/",
        "addn-hosts=/run/cnm/default/names/@lan",
    )
    assert len(own(found)) == 2
    assert [decode(encode(item)) for item in own(found)] == own(found)
    assert [item.server for item in told(found)] == ["127.0.0.12"]
    assert of_lan(resources(variables)) == []


@pytest.mark.parametrize(
    ("port", "refused"),
    [
        ("53:53", True),
        ("50-60:50-60/udp", True),
        ("192.0.2.1:53:53", True),
        ("192.0.2.2:53:53", False),
        ("54:53", False),
    ],
)
def test_its_port_cannot_be_published_there(port: str, refused: bool) -> None:
    facts = Facts(addresses=((LAN, "eth0", 1500), ("192.0.2.2", "eth0", 1500)))
    sandboxes = {"c1": {"networks": ["front"], "ports": [port]}}
    variables = {"cnm_networks": FRONT, "cnm_sandboxes": sandboxes, "cnm_lan_names": LAN}
    made = plan(read_topology({"node1": variables}), {"node1": facts}, empty(), "now")
    assert any("port 53 of 192.0.2.1" in text for text in made.refusals.get("node1", ())) == refused


@pytest.mark.parametrize(("address", "warned"), [("192.0.2.1", False), ("192.0.2.9", True)])
def test_an_address_that_the_host_does_not_have_yet_is_told(address: str, warned: bool) -> None:
    facts = Facts(addresses=(("192.0.2.1", "eth0", 1500),))
    variables = {"cnm_networks": FRONT, "cnm_sandboxes": C1, "cnm_lan_names": address}
    made = plan(read_topology({"node1": variables}), {"node1": facts}, empty(), "now")
    assert any("cnm_lan_names" in text for text in made.warnings.get("node1", ())) == warned
