# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Services, planned: where tasks are and stay, what addresses they and their VIPs have, and what is remembered."""

from __future__ import annotations

import copy
import re
from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.conntrack import _flows, forget_moved
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import (
    INGRESS_TASKS,
    VIP_TASKS,
    Nftables,
    NftSet,
    task_set,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File, Sysctl
from ansible_collections.cnm.fabric.plugins.module_utils.plan.shaping import Shaping
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import Host, Service, Topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.verification import checks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.belief import Claim, Part, believe
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.balancing import VirtualService
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.nftables import by_nftables, in_turn
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.placement import place_services

NOW = "2026-11-21T05:00:00Z"
VOTE = {"vote": {"driver": "overlay", "subnet": ["10.10.2.0/24", "fd00:2::/64"], "enable_ipv6": True}}
REDIS: dict[str, Any] = {"networks": {"vote": {"aliases": ["cache"]}}, "deploy": {"replicas": 3}}


def facts(host: str) -> Facts:
    own = ((f"192.0.2.{host[1:]}", "eth0", 1500),)
    return Facts(resolvers=("192.0.2.1",), addresses=own, routes=(("default", "eth0", "192.0.2.1"),))


def planned(
    services: dict[str, Any],
    hosts: int = 3,
    leases: Optional[Leases] = None,
    sandboxes: Optional[dict[str, Any]] = None,
    without: tuple[str, ...] = (),
    networks: Optional[dict[str, Any]] = None,
    labels: Optional[dict[str, Any]] = None,
) -> Planned:
    """Hosts h1, h2, …; the sandboxes are on the first."""
    variables = {
        f"h{number}": {
            "cnm_networks": networks or VOTE,
            "cnm_services": services,
            "cnm_sandboxes": (sandboxes or {}) if number == 1 else {},
            "cnm_load_balancer": "nftables",
            "cnm_node_labels": (labels or {}).get(f"h{number}"),
        }
        for number in range(1, hosts + 1)
        if f"h{number}" not in without
    }
    known = {host: facts(host) for host in variables}
    return plan(read_topology(variables), known, copy.deepcopy(leases) if leases else empty(), NOW)


def redis(replicas: int = 3, **deploy: Any) -> dict[str, Any]:
    return {"redis": {**REDIS, "deploy": {"replicas": replicas, **deploy}}}


def tasks(made: Planned) -> dict[str, str]:
    """The host of each task."""
    return {
        item.name: host
        for host, each in made.plans.items()
        for item in each.resources
        if isinstance(item, Namespace) and item.role.startswith("sandbox/") and item.name.rpartition(".")[2].isdigit()
    }


def vips(made: Planned, network: str = "vote") -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = made.leases["overlays"][network].get("vips", {})
    return found


def tables_of(made: Planned) -> list[PeerTable]:
    return [PeerTable.from_json(text) for text in made.shared.values() if text.startswith('{"endpoints"')]


# --- places ----------------------------------------------------------------------------------------------------------

HOSTS = [f"h{number}" for number in range(1, 7)]
Fleet = tuple[list[str], int, str]
FLEETS = st.tuples(
    st.lists(st.sampled_from(HOSTS), min_size=1, max_size=6, unique=True),
    st.integers(0, 12),
    st.sampled_from(["replicated", "global"]),
)


def placed(fleet: Fleet, held: dict[str, Any]) -> dict[int, str]:
    hosts, replicas, mode = fleet
    service = Service("redis", mode=mode, replicas=replicas)
    topology = Topology(tuple(Host(name, services=(service,)) for name in hosts))
    return dict(place_services(topology, held).found["redis"].tasks)


class TestPlacement:
    @given(FLEETS)
    def test_new_tasks_are_spread_evenly(self, fleet: Fleet) -> None:
        found = placed(fleet, {})
        counted = Counter(found.values())
        each = [counted[host] for host in fleet[0]]
        assert max(each) - min(each) <= 1
        assert sum(each) == (len(fleet[0]) if fleet[2] == "global" else fleet[1])
        assert list(found) == list(range(1, len(found) + 1))

    @given(FLEETS, st.randoms())
    def test_placement_does_not_depend_on_the_order_of_the_inventory(self, fleet: Fleet, chance: Any) -> None:
        shuffled = list(fleet[0])
        chance.shuffle(shuffled)
        assert placed(fleet, {}) == placed((shuffled, *fleet[1:]), {})

    @given(FLEETS)
    def test_placement_is_the_same_in_every_run(self, fleet: Fleet) -> None:
        held: dict[str, Any] = {}
        first = placed(fleet, held)
        before = copy.deepcopy(held)
        assert placed(fleet, held) == first
        assert held == before

    @given(st.lists(FLEETS, min_size=2, max_size=5))
    def test_a_task_keeps_its_host_while_that_can_have_it(self, history: list[Fleet]) -> None:
        held: dict[str, Any] = {}
        before: dict[int, str] = {}
        for fleet in history:
            hosts, replicas, mode = fleet
            found = placed(fleet, held)
            if mode == "replicated":
                kept = {n: host for n, host in before.items() if n <= replicas and host in hosts}
                assert kept.items() <= found.items()
            else:
                assert sorted(found.values()) == sorted(hosts)
                lowest: dict[str, int] = {}
                for number, host in sorted(before.items()):
                    lowest.setdefault(host, number)
                assert {n: host for host, n in lowest.items() if host in hosts}.items() <= found.items()
            before = found

    def test_new_tasks_avoid_drained_hosts(self) -> None:
        first = planned(redis(2))
        more = planned(redis(4, draining=["h3"]), leases=first.leases)
        assert tasks(more) == {"redis.1": "h1", "redis.2": "h2", "redis.3": "h1", "redis.4": "h2"}

    def test_an_unreachable_host_keeps_its_tasks(self) -> None:
        first = planned(redis(3))
        variables = {f"h{n}": {"cnm_networks": VOTE, "cnm_services": redis(3)} for n in (1, 2, 3)}
        known = {host: facts(host) for host in ("h1", "h3")}
        again = plan(read_topology(variables), known, first.leases, NOW)
        assert again.leases["services"] == first.leases["services"]

    def test_only_the_tasks_of_a_removed_host_move(self) -> None:
        first = planned(redis(6))
        left = planned(redis(6), leases=first.leases, without=("h2",))
        assert {task: host for task, host in tasks(first).items() if host != "h2"}.items() <= tasks(left).items()
        assert Counter(tasks(left).values()) == {"h1": 3, "h3": 3}
        assert "h2" not in str(left.leases["services"])
        assert not any(key.startswith("h2/") for key in left.leases["endpoints"])


# --- addresses -------------------------------------------------------------------------------------------------------


class TestConstraints:
    """Each step is hosts with their disks, what the service says, and where its tasks are after that."""

    SSD, NOT_HDD = (
        {"constraints": ["node.labels.disk == ssd"]},
        {"constraints": ["node.labels.disk != HDD", "node.hostname != h3"]},
    )

    @pytest.mark.parametrize(
        "steps",
        [
            [("ssd hdd ssd", SSD, "h1 h3 h1"), ("ssd ssd ssd", SSD, "h1 h3 h1"), ("hdd ssd ssd", SSD, "h2 h3 h2")],
            [("ssd hdd -", NOT_HDD, "h1 h1 h1"), ("ssd - hdd", NOT_HDD, "h1 h1 h1"), ("hdd - -", NOT_HDD, "h2 h2 h2")],
            [("- - ssd", {}, "h1 h2 h3"), ("- - ssd", SSD, "h3 h3 h3"), ("- - ssd", {}, "h3 h3 h3")],
            [
                ("ssd hdd hdd", SSD, "h1 h1 h1"),
                ("ssd ssd hdd", {**SSD, "max_replicas_per_node": 2}, "h1 h1 h2"),
                ("ssd ssd ssd", {**SSD, "max_replicas_per_node": 1}, "h1 h3 h2"),
                ("ssd ssd ssd", {"max_replicas_per_node": 0}, "h1 h3 h2"),
            ],
        ],
    )
    def test_only_tasks_whose_host_no_longer_fits_move(self, steps: list[tuple[str, dict[str, Any], str]]) -> None:
        leases: Optional[Leases] = None
        for disks, placement, expected in steps:
            labels = {f"h{number}": {"disk": disk} for number, disk in enumerate(disks.split(), 1) if disk != "-"}
            made = planned(redis(3, placement=placement), leases=leases, labels=labels)
            assert [tasks(made)[f"redis.{number}"] for number in (1, 2, 3)] == expected.split()
            leases = made.leases

    def test_a_lack_of_hosts_that_are_not_drained_is_reported(self) -> None:
        made = planned(redis(4, placement={"max_replicas_per_node": 2}, draining=["h1"]), hosts=2)
        (problem,) = made.refusals["h1"]
        assert "cnm_services.redis.deploy.placement.max_replicas_per_node: h2 may have 2 tasks each" in problem
        assert "h1 is drained" in problem


class TestAddresses:
    def test_a_service_has_a_vip_per_family_and_network_and_dnsrr_has_none(self) -> None:
        made = planned({**redis(), "db": {"networks": ["vote"], "deploy": {"endpoint_mode": "dnsrr"}}})
        assert set(vips(made)) == {"redis"}
        assert set(vips(made)["redis"]) == {"ipv4", "ipv6"}

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5), max_size=4), min_size=1, max_size=4))
    def test_vips_are_unique_and_kept(self, history: list[dict[str, int]]) -> None:
        leases: Optional[Leases] = None
        before: dict[str, Any] = {}
        for declared in history:
            services = {
                name: {"networks": ["vote"], "deploy": {"replicas": number}} for name, number in declared.items()
            }
            made = planned(services, leases=leases, sandboxes={"worker": {"networks": ["vote"]}})
            assert made.refusals == {}
            leases = made.leases
            found: dict[str, Any] = dict(vips(made))
            found.update({key: entry for key, entry in leases["endpoints"].items() if "/vote/" in key})
            every = [address for entry in found.values() for address in entry.values()]
            assert len(every) == len(set(every))
            assert set(vips(made)) == set(declared)
            for key in set(before) & set(found):
                assert found[key] == before[key]
            before = found

    def test_addresses_of_tasks_can_be_fixed(self) -> None:
        services = {"redis": {"networks": {"vote": {"ipv4_addresses": ["10.10.2.50", "10.10.2.51"]}}}}
        services["redis"]["deploy"] = {"replicas": 3}
        made = planned(services)
        (table,) = [each for each in tables_of(made) if each.network == "vote"]
        found = {peer.sandbox: peer.addresses[0] for peer in table.endpoints}
        assert found == {"redis.1": "10.10.2.50", "redis.2": "10.10.2.51", "redis.3": found["redis.3"]}
        assert vips(made)["redis"]["ipv4"] not in found.values()

    def test_tasks_are_what_the_service_says_of_them(self) -> None:
        vote = {"interface_name": "votes", "limits": {"egress": "8mbit"}, "ipv6_addresses": ["fd00:2::77"]}
        said = {"networks": {"vote": vote}, "hostname": "r-{task}", "sysctls": {"net.core.somaxconn": 9}}
        made = planned({"redis": {**said, "deploy": {"replicas": 2}}})
        for task, host in tasks(made).items():
            own = made.plans[host].resources
            assert Sysctl(task, "net.core.somaxconn", "9") in own
            assert [(item.end, item.egress) for item in own if isinstance(item, Shaping)] == [("votes", 10**6)]
        (table,) = [each for each in tables_of(made) if each.network == "vote"]
        found = {peer.sandbox: peer for peer in table.endpoints}
        assert found["redis.1"].addresses[1] == "fd00:2::77" != found["redis.2"].addresses[1]
        names = [text for text in made.shared.values() if " r-1 " in text and " r-2 " in text]
        assert any(f"{found['redis.1'].addresses[0]} redis.1.vote" in text for text in names)

    def test_a_lack_of_vips_is_reported_for_all_hosts_of_the_network(self) -> None:
        small = {"vote": {"driver": "overlay", "subnet": "10.10.2.0/29"}}
        made = planned(redis(9), networks=small)
        assert set(made.refusals) == {"h1", "h2", "h3"}
        assert made.plans == {}


LOCAL = {"web": {"driver": "bridge", "subnet": ["10.20.0.0/24", "fd00:20::/64"], "enable_ipv6": True}}


class TestVipsOnNetworksOfOneHost:
    SERVICES: ClassVar = {"api": {"networks": {"web": {"aliases": ["www"]}}, "deploy": {"replicas": 3}}}
    BOX: ClassVar = {"c1": {"networks": ["web"]}}

    def test_each_host_has_its_own_vip_and_keeps_it(self) -> None:
        first = planned(self.SERVICES, 2, networks=LOCAL)
        held = {host: first.leases["networks"][f"{host}/web"]["vips"] for host in ("h1", "h2")}
        assert held["h1"]["api"] == {"ipv4": "10.20.0.2", "ipv6": "fd00:20::2"}
        again = planned(self.SERVICES, 2, leases=first.leases, sandboxes=self.BOX, networks=LOCAL)
        assert {host: again.leases["networks"][f"{host}/web"]["vips"] for host in held} == held
        assert again.leases["endpoints"]["h1/web/c1"]["ipv4"] not in str(held)
        gone = planned({}, 2, leases=again.leases, sandboxes=self.BOX, networks=LOCAL)
        assert "vips" not in gone.leases["networks"]["h1/web"]

    def test_sandboxes_and_the_host_itself_reach_the_host_s_own_tasks(self) -> None:
        made = planned(self.SERVICES, 2, sandboxes=self.BOX, networks=LOCAL)
        tables = {item.namespace: item for item in made.plans["h1"].resources if isinstance(item, Nftables)}
        inside = [rule for chain in tables["c1"].chains for rule in chain.rules if "daddr 10.20.0.2 " in rule]
        assert inside == ["ip daddr 10.20.0.2 dnat ip to numgen inc mod 2 map { 0 : 10.20.0.3, 1 : 10.20.0.4 }"]
        (output,) = [chain.rules for chain in tables[""].chains if chain.name == "output"]
        assert inside[0] in output
        assert made.plans["h2"].model["services"]["api"]["networks"]["web"]["answers"]

    @pytest.mark.parametrize("option", ["inhibit_ipv4", "gateway_mode_ipv4"])
    def test_a_host_without_an_address_on_the_network_does_not_translate_vips(self, option: str) -> None:
        value = {"inhibit_ipv4": "true", "gateway_mode_ipv4": "isolated"}[option]
        network = {**LOCAL["web"], "internal": True, "driver_opts": {f"com.docker.network.bridge.{option}": value}}
        made = planned(self.SERVICES, 1, networks={"web": network})
        (table,) = [item for item in made.plans["h1"].resources if isinstance(item, Nftables) and item.role == "host"]
        (output,) = [chain.rules for chain in table.chains if chain.name == "output"]
        assert [rule for rule in output if rule.startswith("ip daddr")] == []
        assert [rule for rule in output if rule.startswith("ip6 daddr")] != []

    def test_a_lack_of_addresses_is_reported(self) -> None:
        many = {"api": {"networks": ["web"], "deploy": {"replicas": 300}}}
        refused = planned(many, 1, networks={"web": {"subnet": "10.20.0.0/24"}}).refusals["h1"]
        assert "cnm_networks.web: 10.20.0.0/24 has no address left for " in refused[0]

    def test_queries_for_names_of_services_are_not_forwarded(self) -> None:
        made = planned(self.SERVICES, 1, networks=LOCAL)
        (names,) = [
            item for item in made.plans["h1"].resources if isinstance(item, File) and item.directory.endswith("names")
        ]
        assert "10.20.0.2 api.web api www www.web\n" in names.files["web"]
        (servers,) = [text for name, text in names.files.items() if name.startswith("@")]
        assert "server=/api.web/\n" in servers
        assert "server=/api.2.web/\n" in servers


class TestServicesOfOneHost:
    HERE: ClassVar = {"networks": ["web"], "deploy": {"replicas": 2, "placement": {"hosts": ["h1"]}}}

    def alone(self, services: dict[str, Any], leases: Optional[Leases] = None, **more: Any) -> Planned:
        """What is planned for h1 by itself."""
        variables = {"cnm_networks": {**LOCAL, **VOTE}, "cnm_services": services, **more}
        return plan(read_topology({"h1": variables}), {"h1": facts("h1")}, leases or empty(), NOW, complete=False)

    def test_a_service_of_one_host_is_planned_without_the_others(self) -> None:
        others = empty()
        others["services"] = {"db": {"tasks": {"1": "h2"}}, "gone": {"tasks": {"1": "h1"}}}
        made = self.alone({"api": self.HERE}, others)
        assert set(tasks(made)) == {"api.1", "api.2"}
        assert made.leases["services"] == {"api": {"tasks": {"1": "h1", "2": "h1"}}, "db": {"tasks": {"1": "h2"}}}
        assert tasks(self.alone({"api": self.HERE}, made.leases)) == tasks(made)

    def test_a_service_of_one_host_needs_a_unique_name(self) -> None:
        taken = empty()
        taken["services"] = {"api": {"tasks": {"1": "h2"}}}
        made = self.alone({"api": self.HERE}, taken)
        assert "a service `api` already exists on h2" in made.refusals["h1"][0]
        assert made.leases["services"] == taken["services"]

    @pytest.mark.parametrize(
        "service",
        [
            {"networks": ["web"]},
            {**HERE, "networks": ["vote"]},
            {**HERE, "ports": ["80:80"]},
        ],
        ids=["placed anywhere", "on an overlay", "with a port of every host"],
    )
    def test_a_service_that_other_hosts_share_is_not_of_one_host(self, service: dict[str, Any]) -> None:
        refused = self.alone({"api": service}).refusals["h1"]
        assert any("what spans hosts is planned for all of them at once" in text for text in refused)
        local = self.alone({"api": {**self.HERE, "ports": ["80:80"]}}, cnm_ingress_mode="local")
        assert local.refusals == {}


class TestRefusals:
    def known(self, **addresses: str) -> dict[str, Facts]:
        return {
            host: replace(facts(host), addresses=(*facts(host).addresses, *((a, "lo", 65536) for a in (more,) if a)))
            for host in ("h1", "h2", "h3")
            for more in (addresses.get(host, ""),)
        }

    def refused(self, services: dict[str, Any], known: dict[str, Facts], **settings: Any) -> dict[str, list[str]]:
        variables = {host: {"cnm_networks": VOTE, "cnm_services": services, **settings} for host in known}
        return plan(read_topology(variables), known, empty(), NOW).refusals

    def test_a_host_ip_that_no_host_has_is_refused(self) -> None:
        services = redis()
        services["redis"]["ports"] = [{"target": 80, "published": 80, "host_ip": "203.0.113.7"}]
        refusals = self.refused(services, self.known())
        assert set(refusals) == {"h1", "h2", "h3"}
        assert "cnm_services.redis.ports[0].host_ip: no host has the address 203.0.113.7." in refusals["h1"][0]
        assert self.refused(services, self.known(h2="203.0.113.7")) == {}

    @pytest.mark.parametrize("of", ["h1", "h3"])
    def test_a_vip_equal_to_a_host_s_address_is_refused(self, of: str) -> None:
        services = redis(2)
        services["redis"]["deploy"] = {"replicas": 2, "placement": {"hosts": ["h1", "h2"]}}
        refusals = self.refused(services, self.known(**{of: "10.10.2.2"}))
        assert "cnm_networks.vote: subnet 10.10.2.0/24 overlaps the" in refusals["h1"][0]
        assert "address 10.10.2.2" in refusals["h1"][0]

    def test_a_port_of_a_task_without_a_suitable_network_is_refused(self) -> None:
        inner = {"vote": {**VOTE["vote"], "internal": True}}
        services = redis(1)
        services["redis"]["ports"] = [{"target": 80, "published": 80, "mode": "host"}]
        made = planned(services, 1, networks=inner)
        assert (
            "cnm_services.redis.ports[0]: no network of the task redis.1 can receive connections"
            in made.refusals["h1"][0]
        )


# --- what is remembered ----------------------------------------------------------------------------------------------


class TestLeases:
    def test_leases_of_a_removed_service_are_removed(self) -> None:
        box = {"worker": {"networks": ["vote"]}}
        first = planned({**redis(), "web": {"networks": ["vote"], "ports": ["80:80"]}}, sandboxes=box)
        left = planned({}, leases=first.leases, sandboxes=box)
        assert left.leases["services"] == {}
        assert vips(left) == {}
        assert [key for key in left.leases["endpoints"] if not key.endswith("/worker")] == []
        assert set(left.leases["overlays"]) == {"vote"}

    @pytest.mark.parametrize("lost", [(), ("h2",)])
    def test_leases_of_services_are_restored_from_the_hosts(self, lost: tuple[str, ...]) -> None:
        before = planned(redis(2), without=("h1",), hosts=3)
        first = planned(redis(4), leases=before.leases)
        claims = {host: Claim(7, each.leases) for host, each in first.plans.items() if host not in lost}
        part = Part({"vote": frozenset()}, frozenset({"redis"}))
        found = believe(0, empty(), claims, lambda _host: part, lambda: frozenset({"vote"}), signed=False)
        again = planned(redis(4), leases=found.leases, without=lost)
        assert (found.warnings, found.refusals) == ({}, {})
        assert {task: host for task, host in tasks(first).items() if host not in lost}.items() <= tasks(again).items()
        assert vips(again) == vips(first)
        if not lost:
            assert {host: each.to_json() for host, each in again.plans.items()} == {
                host: each.to_json() for host, each in first.plans.items()
            }

    def test_a_second_plan_is_the_same(self) -> None:
        services = {**redis(), "web": {"networks": ["vote"], "ports": ["80:80"]}}
        first = planned(services)
        again = planned(services, leases=first.leases)
        assert again.leases == first.leases
        assert {host: each.to_json() for host, each in again.plans.items()} == {
            host: each.to_json() for host, each in first.plans.items()
        }


# --- rules, views and checks -----------------------------------------------------------------------------------------


class TestRules:
    def test_rules_number_the_tasks_that_get_connections_and_sets_list_all(self) -> None:
        service = VirtualService("10.0.0.9", "rr", (("10.0.0.2", 2), ("10.0.0.3", 0), ("10.0.0.4", 1)))
        made = by_nftables("c1", [service])
        assert made.output == (
            "ip daddr 10.0.0.9 dnat ip to numgen inc mod 3 map { 0 : 10.0.0.2, 1 : 10.0.0.4, 2 : 10.0.0.2 }",
        )
        (behind,) = made.sets
        assert behind.elements == tuple(f"10.0.0.9 . 10.0.0.{last}" for last in (2, 3, 4))
        assert (behind.tracks, behind.family) == (VIP_TASKS, 4)

    @given(st.lists(st.integers(1, 40), min_size=2, max_size=6))
    def test_shares_of_a_turn_are_the_weights_and_never_far_from_them(self, weights: list[int]) -> None:
        expression = in_turn([(f"t{number}", weight) for number, weight in enumerate(weights)])
        match = re.fullmatch(r"numgen inc mod (\d+) map { (.*) }", expression)
        assert match
        modulus, pairs = match.groups()
        taken = [pair.partition(" : ")[2] for pair in pairs.split(", ")]
        assert [pair.partition(" : ")[0] for pair in pairs.split(", ")] == [
            str(number) for number in range(int(modulus))
        ]
        for number, weight in enumerate(weights):
            share = weight / sum(weights)
            assert taken.count(f"t{number}") * sum(weights) == weight * len(taken)
            for first in range(1, len(taken)):
                assert abs(taken[:first].count(f"t{number}") - share * first) < len(weights)

    def test_weights_of_which_no_rule_can_hold_a_turn_are_left_to_chance(self) -> None:
        assert in_turn([("a", 65535), ("b", 1)]) == "numgen random mod 65536 map { 0-65534 : a, 65535 : b }"
        assert in_turn([("a", 500), ("b", 500)]) == "numgen inc mod 2 map { 0 : a, 1 : b }"

    def test_a_caller_s_shares_are_the_weights(self) -> None:
        (rule,) = by_nftables("c1", [VirtualService("10.0.0.9", "sh", (("10.0.0.2", 3), ("10.0.0.3", 1)))]).output
        assert "jhash ip saddr mod 4 seed 0x636e6d map { 0-2 : 10.0.0.2, 3 : 10.0.0.3 }" in rule

    def test_rules_for_one_task_choose_nothing_and_for_none_refuse(self) -> None:
        one = by_nftables("c1", [VirtualService("fd00::9", "rr", (("fd00::2", 5),))])
        assert one.output == ("ip6 daddr fd00::9 dnat ip6 to fd00::2",)
        none = by_nftables("c1", [VirtualService("10.0.0.9", "sh", (("10.0.0.2", 0),))])
        assert none.output == (
            "ip daddr 10.0.0.9 ct state new meta l4proto 6 reject with tcp reset",
            "ip daddr 10.0.0.9 ct state new reject",
        )

    def test_ingress_rules_are_on_every_host_and_translate_to_tasks(self) -> None:
        services = redis(2, draining=["redis.2"])
        services["redis"]["ports"] = ["3000:6379", "9000-9002:9000-9002/udp", "7000-7001:8000-8001"]
        made = planned(services)
        for host in made.plans:
            (table,) = [
                item
                for item in made.plans[host].resources
                if isinstance(item, Nftables) and item.role == "ingress/ingress_sbox"
            ]
            (rules,) = [chain.rules for chain in table.chains if chain.name == "prerouting"]
            four = [rule.partition("meta nfproto ipv4 ")[2] for rule in rules if "ipv4" in rule]
            target = four[0].rpartition(":")[0].rpartition(" ")[2]
            assert four == [
                f"tcp dport 3000 dnat ip to {target}:6379",
                f"tcp dport 7000 dnat ip to {target}:8000",
                f"tcp dport 7001 dnat ip to {target}:8001",
                f"udp dport 9000-9002 dnat ip to {target}",
            ]
            (known,) = [item.elements for item in table.sets if item.name == "ingress4"]
            assert len(known) == 2 * 3

    def test_connections_to_removed_tasks_are_forgotten(self) -> None:
        said = (
            "tcp      6 431999 ESTABLISHED src=10.0.0.5 dst=10.0.0.9 sport=4 dport=80 src=10.0.0.2 dst=10.0.0.5 "
            "sport=80 dport=4 [ASSURED] mark=0 use=1\n"
            "udp      17 29 src=10.0.0.5 dst=10.0.0.9 sport=5 dport=53 [UNREPLIED] src=10.0.0.3 dst=10.0.0.5 sport=53 "
            "dport=5 mark=0 use=1\n"
            "icmp     1 29 src=10.0.0.5 dst=10.0.0.9 type=8 code=0 id=1 src=10.0.0.9 dst=10.0.0.5 type=0 code=0 id=1\n"
            "udp      17 29 src=10.0.0.5 dst=10.0.0.7 sport=5 dport=53 src=10.0.0.7 dst=10.0.0.5 sport=53 dport=5\n"
        )
        assert len(set(_flows(said))) == 4
        ran: list[list[str]] = []

        def run(command: list[str]) -> tuple[int, str, str]:
            ran.append(command[1:])
            return 0, said if "-L" in command and "ipv4" in command else "", ""

        def forgotten(before: list[NftSet], after: list[NftSet]) -> list[tuple[str, str]]:
            ran.clear()
            forget_moved(run, before, after, anything=lambda: True)
            return [(words[words.index("-p") + 1], words[-1]) for words in ran if "-D" in words]

        def tasks(tracks: str, family: int, *elements: str) -> list[NftSet]:
            return [task_set(tracks, family, elements=elements)]

        vip = ("10.0.0.9 . 10.0.0.2", "10.0.0.9 . 10.0.0.3")
        both = tasks(VIP_TASKS, 4, *vip)
        assert forgotten(both, both) == [("1", "10.0.0.9")]
        assert forgotten(both, tasks(VIP_TASKS, 4, vip[0])) == [("1", "10.0.0.9"), ("17", "10.0.0.3")]
        assert forgotten(both, []) == [("1", "10.0.0.9"), ("17", "10.0.0.3"), ("6", "10.0.0.2")]
        assert forgotten([], tasks(VIP_TASKS, 6, "fd00::9 . fd00::2")) == []
        ports = ("17 . 50-59 . 10.0.0.3", "17 . 50-59 . 10.0.0.7", "6 . 80 . 10.0.0.2")
        served = tasks(INGRESS_TASKS, 4, *ports)
        assert forgotten([], served) == []
        assert forgotten(served, tasks(INGRESS_TASKS, 4, *ports[1:])) == [("17", "10.0.0.3")]


class TestWhatUsersSee:
    SERVICES = {**redis(2, draining=["redis.2"]), "web": {"networks": ["vote"], "ports": ["80:8080", "53:53/udp"]}}

    @pytest.mark.parametrize("network", ["vote", "other"])
    def test_a_scheduler_of_ipvs_is_refused_only_on_hosts_with_the_service(self, network: str) -> None:
        other = {"other": {"driver": "overlay", "subnet": "10.10.3.0/24"}}
        weighted = {"networks": [network], "deploy": {"placement": {"hosts": ["h2"]}, "scheduler": "wlc"}}
        services = {"redis": {**REDIS, "deploy": {"placement": {"hosts": ["h1", "h2"]}}}, "db": weighted}
        engines = {"h1": "nftables", "h2": "ipvs"}
        variables = {
            host: {"cnm_networks": {**VOTE, **other}, "cnm_services": services, "cnm_load_balancer": engine}
            for host, engine in engines.items()
        }
        known = {host: replace(facts(host), ipvs=engine == "ipvs") for host, engine in engines.items()}
        made = plan(read_topology(variables, {"all": ["h1", "h2"]}), known, empty(), NOW)
        assert set(made.refusals) == ({"h1"} if network == "vote" else set())

    def test_verify_checks_vips_and_ports_of_every_host(self) -> None:
        made = planned(self.SERVICES, sandboxes={"worker": {"networks": ["vote"]}})
        checks = {check["sandbox"]: check for check in checks_of(made.plans["h1"].model, 100, tables_of(made), "h1")}
        for name in ("redis", "web"):
            assert set(vips(made)[name].values()) <= set(checks["worker"]["reach"])
            assert checks["worker"]["names"][name] == sorted(vips(made)[name].values())
        assert checks[""]["connect"] == [[f"192.0.2.{number}", 80] for number in (1, 2, 3)]
        sampled = checks_of(made.plans["h1"].model, 2, tables_of(made), "h1")
        assert len(next(check["connect"] for check in sampled if not check["sandbox"])) == 2
