# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which names a host gets of its sandboxes."""

from __future__ import annotations

from typing import Any

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


def names(found: list[Any]) -> list[str]:
    """The host's lines of names."""
    files = [item.files.get("@host", "") for item in found if isinstance(item, File) and item.role == "names"]
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
