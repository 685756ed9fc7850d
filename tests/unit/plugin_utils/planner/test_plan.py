# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The planner: the same inventory gives the same plan, and each rule of the documents shows in it."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any, Optional

from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Route
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import DockerUser, Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan, plan_data
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Sysctl
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

GOLDEN = Path(__file__).parents[2] / "golden" / "ps-bridge.json"
NOW = "2026-11-21T05:00:00Z"
FACTS = Facts(resolvers=("198.51.100.1",))
EXAMPLE = {
    "cnm_networks": {"ps-bridge": {"driver": "bridge", "subnet": "10.0.0.0/24"}},
    "cnm_sandboxes": {"c1": {"networks": ["ps-bridge"]}, "c2": {"networks": ["ps-bridge"]}},
}


def planned(
    variables: dict[str, dict[str, Any]], facts: Optional[dict[str, Facts]] = None, leases: Optional[Leases] = None
) -> Planned:
    known = facts if facts is not None else dict.fromkeys(variables, FACTS)
    return plan(read_topology(variables), known, leases or empty(), NOW)


def of_kind(made: Plan, kind: type[Any]) -> list[Any]:
    return [resource for resource in made.resources if isinstance(resource, kind)]


def test_the_documents_example_gives_exactly_the_golden_plan() -> None:
    """A change here is a change for users: review it, then write the file anew with ``CNM_GOLDEN=1``."""
    made = plan_data(planned({"node1": EXAMPLE}).plans["node1"].to_json())
    if os.environ.get("CNM_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert made == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_a_plan_survives_its_json() -> None:
    made = planned({"node1": EXAMPLE}).plans["node1"]
    assert Plan.from_json(made.to_json()) == made


def test_the_order_of_everything_is_irrelevant() -> None:
    names = [f"s{number}" for number in range(20)]
    networks = {"a": {"subnet": "10.0.0.0/24"}, "b": {"subnet": "10.0.1.0/24"}, "c": {}}
    digests = set()
    for seed in range(5):
        shuffled = random.Random(seed)
        order = shuffled.sample(names, len(names))
        variables = {
            host: {
                "cnm_networks": dict(shuffled.sample(list(networks.items()), 3)),
                "cnm_sandboxes": {name: {"networks": ["a", "c"]} for name in order},
            }
            for host in shuffled.sample(["node1", "node2"], 2)
        }
        made = planned(variables)
        digests.add(tuple(sorted((host, item.digest) for host, item in made.plans.items())))
    assert len(digests) == 1


def test_the_default_route_is_supplied_by_priority_then_name_and_never_from_an_internal_network() -> None:
    networks = {
        "a": {"subnet": "10.0.0.0/24", "internal": True},
        "b": {"subnet": "10.0.1.0/24"},
        "c": {"subnet": "10.0.2.0/24"},
    }
    sandboxes = {
        "by-name": {"networks": ["c", "a", "b"]},
        "by-priority": {"networks": {"b": None, "c": {"gw_priority": 1}}},
        "inside": {"networks": ["a"]},
    }
    made = planned({"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}}).plans["node1"]
    assert {(route.namespace, route.via) for route in of_kind(made, Route)} == {
        ("by-name", "10.0.1.1"),
        ("by-priority", "10.0.2.1"),
    }


def test_links_are_eth0_eth1_in_the_order_of_the_list_around_given_names() -> None:
    networks = {name: {"subnet": f"10.0.{number}.0/24"} for number, name in enumerate("abc")}
    sandboxes = {"s": {"networks": {"c": None, "b": {"interface_name": "eth0"}, "a": None}}}
    made = planned({"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}}).plans["node1"]
    links = {link.role: link.name for link in of_kind(made, Link) if link.namespace == "s"}
    assert links == {"endpoint/c/s": "eth1", "endpoint/b/s": "eth0", "endpoint/a/s": "eth2"}


def test_a_host_that_did_not_forward_goes_on_dropping_what_is_not_ours() -> None:
    def others(facts: Facts) -> tuple[str, ...]:
        (table,) = (
            t
            for t in of_kind(planned({"node1": EXAMPLE}, {"node1": facts}).plans["node1"], Nftables)
            if not t.namespace and t.family == "inet"
        )
        return next(chain.rules[5:7] for chain in table.chains if chain.name == "forward_unmanaged")

    assert others(Facts()) == ("meta nfproto ipv4 drop", "meta nfproto ipv6 accept")
    assert others(Facts(forwarding_before=(4,))) == ("meta nfproto ipv4 accept", "meta nfproto ipv6 accept")
    routing = Facts(forwarding_links={4: ("default", "eth0"), 6: ("eth1",)})
    assert others(routing) == ('meta nfproto ipv4 iifname "eth0" accept', "meta nfproto ipv4 drop")


def test_dockers_chain_is_opened_for_the_families_that_bridges_have() -> None:
    facts = Facts(docker_user=(4, 6))
    both = {**EXAMPLE, "cnm_networks": {"ps-bridge": {"subnet": ["10.0.0.0/24", "2001:db8::/64"], "enable_ipv6": True}}}

    def opened(variables: dict[str, Any]) -> list[int]:
        made = planned({"node1": variables}, {"node1": facts}).plans["node1"]
        return [item.family for item in of_kind(made, DockerUser)]

    assert opened(EXAMPLE) == [4]
    assert opened(both) == [4, 6]
    assert opened({**both, "cnm_docker_user": False}) == []


def test_a_bridge_that_somebody_else_made_is_no_stranger_to_the_network_that_uses_it() -> None:
    named = {"driver_opts": {"com.docker.network.bridge.name": "br0"}, "subnet": "10.0.9.0/24"}
    variables = {"cnm_networks": {"lan": named}, "cnm_sandboxes": {"c1": {"networks": ["lan"]}}}
    facts = Facts(bridges=("br0", "br1"), routes=(("10.0.9.0/24", "br0", None),))
    made = planned({"node1": variables}, {"node1": facts})
    (table,) = (t for t in of_kind(made.plans["node1"], Nftables) if not t.namespace and t.family == "inet")
    assert [item.elements for item in table.sets if item.name == "foreign_bridge_pairs"] == [('"br1" . "br1"',)]
    way_out = Facts(routes=(("default", "br0", "192.0.2.1"),))
    assert "driver: macvlan" in " ".join(planned({"node1": variables}, {"node1": way_out}).refusals["node1"])


def test_nobody_speaks_in_another_s_name_on_a_bridge_where_the_host_can_see_to_it() -> None:
    def bridge_tables(facts: Facts) -> tuple[list[Nftables], list[str]]:
        made = planned({"node1": EXAMPLE}, {"node1": facts})
        return [t for t in of_kind(made.plans["node1"], Nftables) if t.family == "bridge"], made.warnings.get(
            "node1", []
        )

    (table,), warnings = bridge_tables(FACTS)
    assert not warnings
    elements = {item.name: item.elements for item in table.sets}
    assert len(elements["networks"]) == 1
    assert sorted(element.partition(" . ")[2] for element in elements["allowed_ipv4"]) == ["10.0.0.2", "10.0.0.3"]
    assert elements["allowed_ipv6"] == elements["routed_ipv4"] == elements["routed_ipv6"] == ()
    without, warnings = bridge_tables(Facts(resolvers=("198.51.100.1",), filters_bridges=False))
    assert not without
    assert "speak in each other's name" in warnings[0]


def test_no_network_no_forwarding_and_a_table_only_if_there_is_one() -> None:
    variables = {"node1": {"cnm_sandboxes": {"n": {"network_mode": "none"}, "h": {"network_mode": "host"}}}}
    made = planned(variables).plans["node1"]
    assert not of_kind(made, Sysctl)
    assert not of_kind(made, Nftables)
    assert {resource.kind for resource in made.resources} == {"namespace", "file", "boot"}
    kept = planned(variables, {"node1": Facts(has_table=True)}).plans["node1"]
    assert len(of_kind(kept, Nftables)) == 1


def test_a_network_nobody_uses_is_not_on_the_host() -> None:
    made = planned({"node1": {"cnm_networks": EXAMPLE["cnm_networks"]}}).plans["node1"]
    assert made.resources == ()


def test_a_refused_host_keeps_its_leases_and_the_others_get_their_plans() -> None:
    first = planned({"node1": EXAMPLE, "node2": EXAMPLE})
    clash = Facts(routes=(("10.0.0.0/8", "eth1", None),))
    second = planned({"node1": EXAMPLE, "node2": EXAMPLE}, {"node1": clash, "node2": FACTS}, first.leases)
    assert "overlaps the route 10.0.0.0/8 on eth1" in second.refusals["node1"][0]
    assert list(second.plans) == ["node2"]
    assert second.leases == first.leases


def test_a_route_that_does_not_go_with_the_subnet_chosen_for_its_network_is_refused() -> None:
    networks = {
        "n": {"routes": [{"destination": "10.9.0.0/16", "gateway": "10.0.0.254"}]},
        "right": {"routes": [{"destination": "10.8.0.0/16", "gateway": "172.18.0.9"}]},
    }
    inside = {"routes": [{"destination": "172.18.3.0/24", "gateway": "172.18.0.9"}]}
    sandboxes = {"a": {"networks": ["n"]}, "b": {"networks": ["n"]}, "c": {"networks": {"right": inside}}}
    refused = planned({"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}}).refusals["node1"]
    first, second = refused
    assert first.startswith("cnm_networks.n.routes: the gateway 10.0.0.254 of the route to 10.9.0.0/16 is no host of")
    assert first.endswith("the subnet 172.17.0.0/16, which was chosen for the network. Declare its subnet.")
    assert second.startswith("cnm_sandboxes.c.networks.right.routes: the route to 172.18.3.0/24 lies in the subnet")


def test_a_host_that_was_not_probed_keeps_its_leases() -> None:
    first = planned({"node1": EXAMPLE, "node2": EXAMPLE})
    only_two = planned({"node1": EXAMPLE, "node2": {"cnm_networks": {}}}, {"node2": FACTS}, first.leases)
    assert list(only_two.plans) == ["node2"]
    assert set(only_two.leases["endpoints"]) == {"node1/ps-bridge/c1", "node1/ps-bridge/c2"}


def test_a_host_that_left_the_inventory_is_forgotten() -> None:
    first = planned({"node1": EXAMPLE, "node2": EXAMPLE})
    assert not any(
        key.startswith("node2/") for key in planned({"node1": EXAMPLE}, leases=first.leases).leases["endpoints"]
    )
