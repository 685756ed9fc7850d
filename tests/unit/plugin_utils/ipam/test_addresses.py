# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Addresses: fixed ones first, nobody moves, newcomers get the lowest free one."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any, Optional

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.addresses import Allocation, allocate
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology


def allocated(
    networks: dict[str, Any], sandboxes: dict[str, Any], leases: Optional[Leases] = None, facts: Optional[Facts] = None
) -> Allocation:
    variables = {"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}}
    host = read_topology(variables).host("node1")
    return allocate(host, facts or Facts(), leases if leases is not None else empty(), "now")


def on(network: str, *names: str) -> dict[str, Any]:
    return {name: {"networks": [network]} for name in names}


def test_fixed_first_then_by_name_each_the_lowest_that_is_free() -> None:
    sandboxes = {**on("n", "b", "a", "c"), "z": {"networks": {"n": {"ipv4_address": "10.0.0.3"}}}}
    assert allocated({"n": {"subnet": "10.0.0.0/24"}}, sandboxes).ipv4 == {
        ("n", "z"): "10.0.0.3/24",
        ("n", "a"): "10.0.0.2/24",
        ("n", "b"): "10.0.0.4/24",
        ("n", "c"): "10.0.0.5/24",
    }


def test_what_has_an_address_keeps_it_and_a_freed_one_is_used_again() -> None:
    leases = empty()
    networks = {"n": {"subnet": "10.0.0.0/24"}}
    allocated(networks, on("n", "m", "p"), leases)
    after = allocated(networks, on("n", "a", "p"), leases)
    assert after.ipv4 == {("n", "p"): "10.0.0.3/24", ("n", "a"): "10.0.0.2/24"}


def test_a_fixed_address_moves_the_one_who_had_it() -> None:
    leases = empty()
    networks = {"n": {"subnet": "10.0.0.0/24"}}
    allocated(networks, on("n", "a"), leases)
    after = allocated(networks, {**on("n", "a"), "z": {"networks": {"n": {"ipv4_address": "10.0.0.2"}}}}, leases)
    assert after.ipv4 == {("n", "z"): "10.0.0.2/24", ("n", "a"): "10.0.0.3/24"}


def test_ip_range_gateway_and_aux_addresses_are_respected() -> None:
    config = {
        "subnet": "10.0.0.0/24",
        "gateway": "10.0.0.1",
        "ip_range": "10.0.0.128/30",
        "aux_addresses": {"printer": "10.0.0.129"},
    }
    made = allocated({"n": {"ipam": {"config": [config]}}}, on("n", "a", "b"))
    assert made.ipv4 == {("n", "a"): "10.0.0.128/24", ("n", "b"): "10.0.0.130/24"}


def test_exhaustion_names_who_got_nothing_and_what_to_do() -> None:
    (problem,) = allocated({"n": {"subnet": "10.0.0.0/29"}}, on("n", *"abcdefg")).problems
    assert "no address left for f, g" in problem
    assert "larger subnet" in problem


def test_automatic_subnets_avoid_routes_resolvers_and_each_other_and_stay() -> None:
    facts = Facts(
        routes=(("172.17.0.0/16", "docker0", None), ("172.18.5.0/24", "vpn0", "192.0.2.1")), resolvers=("172.19.0.53",)
    )
    leases = empty()
    networks: dict[str, Any] = {"a": {}, "b": {}, "fixed": {"subnet": "172.20.0.0/16"}}
    sandboxes = {"s": {"networks": ["a", "b", "fixed"]}}
    made = allocated(networks, sandboxes, leases, facts)
    assert [made.subnets[name][0].subnet for name in ("a", "b")] == ["172.21.0.0/16", "172.22.0.0/16"]
    again = allocated(networks, {"s": {"networks": ["b"]}}, leases)
    assert again.subnets["b"][0].subnet == "172.22.0.0/16"


def test_an_on_link_overlap_is_refused_and_a_routed_one_is_a_warning() -> None:
    networks = {"n": {"subnet": "10.0.0.0/24"}}
    refused = allocated(networks, on("n", "a"), facts=Facts(routes=(("10.0.0.128/25", "eth1", None),)))
    assert "overlaps the route 10.0.0.128/25 on eth1" in refused.problems[0]
    warned = allocated(networks, on("n", "a"), facts=Facts(routes=(("10.0.0.0/8", "eth1", "192.0.2.1"),)))
    assert not warned.problems
    assert "10.0.0.0/8" in warned.warnings[0]


@settings(max_examples=60)
@given(st.lists(st.sets(st.sampled_from([f"s{number}" for number in range(12)])), min_size=1, max_size=8))
def test_whoever_comes_and_goes_no_address_is_given_twice_and_nobody_moves(steps: list[set[str]]) -> None:
    leases = empty()
    before: dict[tuple[str, str], str] = {}
    subnet = ip_network("10.0.0.0/27")
    for names in steps:
        made = allocated({"n": {"subnet": str(subnet)}}, on("n", *names), leases)
        assert not made.problems
        assert {name for _network, name in made.ipv4} == names
        bare = [address.removesuffix("/27") for address in made.ipv4.values()]
        assert len(set(bare)) == len(names)
        assert all(ip_address(address) in subnet and address != "10.0.0.1" for address in bare)
        assert all(made.ipv4[key] == address for key, address in before.items() if key in made.ipv4)
        before = made.ipv4


V6 = {"subnet": ["10.0.0.0/24", "fd00:1::/64"], "enable_ipv6": True}


def test_a_dual_stack_network_gives_one_of_each_and_the_gateways_are_the_first() -> None:
    leases = empty()
    made = allocated({"n": V6}, on("n", "a", "b"), leases)
    assert made.ipv6 == {("n", "a"): "fd00:1::2/64", ("n", "b"): "fd00:1::3/64"}
    assert [subnet.gateway for subnet in made.subnets["n"]] == ["10.0.0.1", "fd00:1::1"]
    again = allocated({"n": V6}, on("n", "b"), leases)
    assert again.ipv6 == {("n", "b"): "fd00:1::3/64"}
    assert again.ipv4 == {("n", "b"): "10.0.0.3/24"}


def test_an_ipv6_network_without_a_subnet_gets_one_of_the_hosts_own() -> None:
    networks = {"a": {"enable_ipv6": True}, "b": {"enable_ipv6": True, "enable_ipv4": False}}
    made = allocated(networks, {"s": {"networks": ["a", "b"]}})
    chosen = [subnet.subnet for name in "ab" for subnet in made.subnets[name] if subnet.family == 6]
    assert chosen[0].startswith("fd")
    assert chosen[1] != chosen[0]
    assert {ip_network(subnet).supernet(new_prefix=48) for subnet in chosen} == {
        ip_network(chosen[0]).supernet(new_prefix=48)
    }
    assert ("b", "s") not in made.ipv4
    other = allocated(networks, {"s": {"networks": ["a"]}}, facts=Facts(routes=((chosen[0], "eth0", None),)))
    assert other.subnets["a"][1].subnet == chosen[1]
