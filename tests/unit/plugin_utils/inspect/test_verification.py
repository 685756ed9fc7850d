# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What verify tries: everything where that is little, else the same sample every time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.action.verify import ActionModule
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.verification import Check, checks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

NETWORKS: dict[str, Any] = {
    "front": {"subnet": "10.0.0.0/24"},
    "back": {"subnet": "10.0.1.0/24", "internal": True},
    "dual": {"subnet": ["10.0.3.0/24", "fd00:3::/64"], "enable_ipv6": True},
    "six": {"subnet": "fd00:6::/64", "enable_ipv6": True, "enable_ipv4": False},
    "apart": {"subnet": "10.0.2.0/24", "driver_opts": {"com.docker.network.bridge.enable_icc": "false"}},
}
ALL = 1000


def model(sandboxes: dict[str, Any]) -> dict[str, Any]:
    variables = {"node1": {"cnm_networks": NETWORKS, "cnm_sandboxes": sandboxes}}
    made = plan(read_topology(variables), {"node1": Facts()}, empty(), "now")
    return made.plans["node1"].model


def checks(sandboxes: dict[str, Any], limit: int = ALL) -> dict[str, Check]:
    return {check["sandbox"]: check for check in checks_of(model(sandboxes), limit)}


def on(network: str, *names: str) -> dict[str, Any]:
    return {name: {"networks": [network]} for name in names}


def pairs_tried(made: dict[str, Check]) -> int:
    """How many of other sandboxes' addresses are tried, either way; gateways end in .1."""
    return sum(
        1 for check in made.values() for target in (*check["reach"], *check["refuse"]) if not target.endswith(".1")
    )


def test_sandboxes_of_a_network_reach_each_other_and_the_gateway_by_name_and_address() -> None:
    assert checks(on("front", "c1", "c2")) == {
        "c1": {
            "sandbox": "c1",
            "reach": ["10.0.0.1", "10.0.0.3"],
            "refuse": [],
            "names": {"c2": ["10.0.0.3"]},
            "way_out": [4],
        },
        "c2": {
            "sandbox": "c2",
            "reach": ["10.0.0.1", "10.0.0.2"],
            "refuse": [],
            "names": {"c1": ["10.0.0.2"]},
            "way_out": [4],
        },
    }


def test_sandboxes_without_a_common_network_must_not_reach_or_resolve_each_other() -> None:
    made = checks({**on("front", "c1"), **on("back", "c2")})
    assert (made["c1"]["refuse"], made["c1"]["names"]) == (["10.0.1.2"], {})
    assert (made["c2"]["refuse"], made["c2"]["names"]) == (["10.0.0.2"], {})


def test_an_internal_sandbox_has_no_gateway_and_no_default_route() -> None:
    made = checks(on("back", "c1", "c2"))
    assert made["c1"]["reach"] == ["10.0.1.3"]
    assert made["c1"]["way_out"] == []


def test_an_internal_network_beside_another_keeps_the_default_route() -> None:
    (made,) = checks({"c1": {"networks": ["back", "front"]}}).values()
    assert made["reach"] == ["10.0.0.1"]
    assert made["way_out"] == [4]


def test_both_families_of_a_dual_stack_network_are_checked() -> None:
    made = checks(on("dual", "c1", "c2"))["c1"]
    assert made["reach"] == ["10.0.3.1", "10.0.3.3", "fd00:3::1", "fd00:3::3"]
    assert made["names"] == {"c2": ["10.0.3.3", "fd00:3::3"]}
    assert made["way_out"] == [4, 6]


def test_each_network_has_default_routes_of_its_own_families() -> None:
    assert [check["way_out"] for check in checks(on("six", "c1")).values()] == [[6]]
    assert [check["way_out"] for check in checks({"c1": {"networks": ["six", "back"]}}).values()] == [[6]]
    assert [check["way_out"] for check in checks({"c1": {"networks": ["six", "front"]}}).values()] == [[4, 6]]


def test_without_icc_peers_resolve_but_only_the_gateway_is_reached() -> None:
    made = checks(on("apart", "c1", "c2"))["c1"]
    assert made["reach"] == ["10.0.2.1"]
    assert made["refuse"] == ["10.0.2.3"]
    assert made["names"] == {"c2": ["10.0.2.3"]}


def test_each_common_network_is_checked_by_itself() -> None:
    made = checks({name: {"networks": ["front", "apart"]} for name in ("c1", "c2")})["c1"]
    assert made["reach"] == ["10.0.0.1", "10.0.0.3", "10.0.2.1"]
    assert made["refuse"] == ["10.0.2.3"]
    assert made["names"] == {"c2": ["10.0.0.3", "10.0.2.3"]}


def test_addresses_on_other_networks_are_not_expected() -> None:
    made = checks({"c1": {"networks": ["front"]}, "c2": {"networks": ["front", "back"]}})["c1"]
    assert made["reach"] == ["10.0.0.1", "10.0.0.3"]
    assert made["names"] == {"c2": ["10.0.0.3"]}


def test_a_shared_alias_resolves_to_all_addresses() -> None:
    sandboxes = {name: {"networks": {"front": {"aliases": ["web"]}}} for name in ("c1", "c2", "c3")}
    for check in checks(sandboxes).values():
        assert check["names"]["web"] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_all_addresses_of_an_alias_are_expected_even_if_only_one_is_sampled() -> None:
    sandboxes = {name: {"networks": {"front": {"aliases": ["web"]}}} for name in ("c1", "c2", "c3")}
    seen = [check["names"]["web"] for check in checks(sandboxes, 1).values() if check["names"]]
    assert seen == [["10.0.0.2", "10.0.0.3", "10.0.0.4"]]


def test_an_alias_on_another_network_is_not_mixed_in() -> None:
    sandboxes = {
        "asker": {"networks": ["front"]},
        "c1": {"networks": {"front": {"aliases": ["web"]}}},
        "c2": {"networks": {"back": {"aliases": ["web"]}}},
    }
    assert checks(sandboxes)["asker"]["names"]["web"] == ["10.0.0.3"]


@pytest.mark.parametrize("mode", ["host", "none"])
def test_a_sandbox_without_endpoints_is_not_checked(mode: str) -> None:
    made = checks({**on("front", "c1"), "other": {"network_mode": mode}})
    assert set(made) == {"c1"}
    assert (made["c1"]["reach"], made["c1"]["refuse"]) == (["10.0.0.1"], [])


def test_a_host_without_sandboxes_has_no_checks() -> None:
    assert checks_of({"networks": [], "sandboxes": {}}, ALL) == []


@pytest.mark.parametrize("limit", [0, 1, 7, 50])
def test_the_limit_bounds_both_kinds_of_pairs_and_every_sandbox_is_checked(limit: int) -> None:
    sandboxes = {**on("front", *(f"f{n}" for n in range(15))), **on("back", *(f"b{n}" for n in range(15)))}
    made = checks(sandboxes, limit)
    assert set(made) == set(sandboxes)
    reached = sum(len(check["reach"]) for check in made.values()) - 15  # the gateway, from front
    refused = sum(len(check["refuse"]) for check in made.values())
    assert (reached, refused) == (limit, limit)


@pytest.mark.parametrize(("limit", "each"), [(1000, 12), (30, 3), (1, 1)])
def test_each_sandbox_tries_as_many_of_other_hosts_and_none_twice(limit: int, each: int) -> None:
    variables = {
        host: {
            "cnm_networks": {"wide": {"driver": "overlay", "subnet": "10.9.0.0/24"}},
            "cnm_sandboxes": {f"{host}-{number}": {"networks": ["wide"]} for number in range(count)},
        }
        for host, count in (("node1", 10), ("node2", 12))
    }
    facts = {
        host: Facts(addresses=((f"192.0.2.{number}", "eth0", 1500),), routes=(("default", "eth0", "192.0.2.254"),))
        for number, host in enumerate(variables, 1)
    }
    made = plan(read_topology(variables), facts, empty(), "now")
    tables = [PeerTable.from_json(made.shared[digest]) for digest in made.peer_tables["node1"]]
    there = {address for row in tables[0].endpoints if row.host == "node2" for address in row.addresses}
    found = checks_of(made.plans["node1"].model, limit, tables, "node1")
    tried = [there.intersection(check["reach"]) for check in found if check["sandbox"]]
    assert [len(addresses) for addresses in tried] == [each] * 10
    assert len(set().union(*tried)) > each or each == 12
    assert found == checks_of(made.plans["node1"].model, limit, tables, "node1")


def test_below_the_limit_every_pair_is_checked() -> None:
    assert pairs_tried(checks(on("front", *"abcdef"))) == 6 * 5


@settings(max_examples=30)
@given(st.lists(st.sampled_from([f"s{n}" for n in range(12)]), unique=True, min_size=2), st.integers(0, 20))
def test_the_sample_is_the_same_in_every_run_and_order(names: list[str], limit: int) -> None:
    one, other = on("front", *names), on("front", *sorted(names, reverse=True))
    assert checks(one, limit) == checks(other, limit)


def test_a_new_sandbox_replaces_only_a_few_pairs_of_the_sample() -> None:
    before = checks(on("front", *(f"s{n:02}" for n in range(20))), 30)
    after = checks(on("front", *(f"s{n:02}" for n in range(20)), "z"), 30)
    newcomer = next(iter(model({**on("front", *(f"s{n:02}" for n in range(20)), "z")})["sandboxes"]["z"]["endpoints"]))
    address = newcomer["addresses"][0].partition("/")[0]
    kept = {(name, target) for name, check in after.items() for target in check["reach"]}
    kept = {(name, target) for name, target in kept if name != "z" and target != address}
    assert kept <= {(name, target) for name, check in before.items() for target in check["reach"]}


class TestTheAction:
    @staticmethod
    def run(arguments: dict[str, Any], **variables: Any) -> dict[str, Any]:
        task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, diff=False, environment=None)
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
        action = ActionModule(task, connection, None, None, SimpleNamespace(template=lambda value: value), None)
        groups = {"all": ["node1"]}
        made: dict[str, Any] = action.run(None, {"inventory_hostname": "node1", "groups": groups, **variables})
        return made

    def test_reads_the_plan_where_it_was_registered(self) -> None:
        refused = {"hosts": {"node1": {"refused": ["no room"]}}}
        assert "1 problem, listed above" in self.run({"planned": "mine"}, mine=refused)["msg"]
        assert "run cnm.fabric.probe" in self.run({}, mine=refused)["msg"]

    def test_an_invalid_number_is_refused(self) -> None:
        with pytest.raises(AnsibleError, match="pairs"):
            self.run({"pairs": "many"})
