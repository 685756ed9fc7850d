# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks that span hosts, planned: VNIs, addresses, VTEPs and MTUs, and who is told what."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.engine.expand_plan import expand_plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Fdb, Neighbours
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

NOW = "2026-11-21T05:00:00Z"
MULTINET = {"multinet": {"driver": "overlay", "subnet": "10.10.2.0/24"}}
VNI = "com.docker.network.driver.overlay.vxlanid_list"


def place(number: int, family: int = 4) -> str:
    return f"192.0.2.{number}" if family == 4 else f"2001:db8::{number}"


def facts(number: int, *, mtu: int = 1500, vnis: tuple[int, ...] = (), families: tuple[int, ...] = (4,)) -> Facts:
    """A host with an underlay link."""
    own = tuple((place(number, family), "eth0", mtu) for family in families)
    return Facts(resolvers=("192.0.2.1",), addresses=own, vnis=vnis, routes=(("default", "eth0", "192.0.2.1"),))


def hosts(*sandboxes: list[str], networks: Optional[dict[str, Any]] = None, **more: Any) -> dict[str, dict[str, Any]]:
    """Hosts h1, h2, … with these sandboxes, each on all networks."""
    declared = MULTINET if networks is None else networks
    return {
        f"h{number}": {
            "cnm_networks": declared,
            "cnm_sandboxes": {name: {"networks": list(declared)} for name in names},
            **more,
        }
        for number, names in enumerate(sandboxes, 1)
    }


def planned(
    variables: dict[str, dict[str, Any]],
    known: Optional[dict[str, Facts]] = None,
    leases: Optional[Leases] = None,
    connections: Optional[dict[str, str]] = None,
) -> Planned:
    given = {host: facts(int(host[1:])) for host in variables} if known is None else known
    return plan(read_topology(variables), given, leases or empty(), NOW, connections or {})


def vnis(made: Planned) -> dict[str, int]:
    return {name: entry["vni"] for name, entry in made.leases["overlays"].items()}


def tables(made: Planned, host: str) -> tuple[dict[str, str], dict[str, str]]:
    """Forwarding entries and neighbours that a host is to have."""
    resources = expand_plan(made.plans[host], made.shared)
    (fdb,) = (item.entries for item in resources if isinstance(item, Fdb))
    (neighbours,) = (item.entries for item in resources if isinstance(item, Neighbours))
    return fdb, neighbours


def mtus(made: Planned) -> set[Optional[int]]:
    """Of all links of overlays and of the sandboxes on them."""
    links = [item for each in made.plans.values() for item in each.resources if isinstance(item, Link)]
    return {link.mtu for link in links if link.role.partition("/")[2].startswith("multinet") and link.namespace}


class TestVnis:
    NETWORKS = {name: {"driver": "overlay"} for name in ("b", "a", "c")}

    def test_are_given_in_order_of_name_from_4096(self) -> None:
        assert vnis(planned(hosts(["x"], ["y"], networks=self.NETWORKS))) == {"a": 4096, "b": 4097, "c": 4098}

    def test_leave_out_what_anybody_uses_on_any_host_of_the_topology(self) -> None:
        variables = hosts(["x"], [], networks=self.NETWORKS)
        known = {"h1": facts(1, vnis=(4097,)), "h2": facts(2, vnis=(4096,))}
        assert vnis(planned(variables, known)) == {"a": 4098, "b": 4099, "c": 4100}

    def test_are_kept_when_networks_come_and_go(self) -> None:
        two = planned(hosts(["x"], networks={name: self.NETWORKS[name] for name in ("b", "c")}))
        three = planned(hosts(["x"], networks=self.NETWORKS), leases=two.leases)
        assert vnis(three) == {"b": 4096, "c": 4097, "a": 4098}
        one = planned(hosts(["x"], networks={"c": self.NETWORKS["c"]}), leases=three.leases)
        assert vnis(one) == {"c": 4097}

    def test_are_kept_when_somebody_else_takes_one_where_the_network_is_not(self) -> None:
        variables = hosts(["x"], [], networks=self.NETWORKS)
        before = planned(variables)
        known = {"h1": facts(1), "h2": facts(2, vnis=(4096,))}
        assert vnis(planned(variables, known, before.leases)) == vnis(before)

    def test_are_given_anew_where_somebody_else_has_it_on_a_host_of_the_network(self) -> None:
        variables = hosts(["x"], ["y"], networks=self.NETWORKS)
        known = {"h1": facts(1), "h2": facts(2, vnis=(4097,))}
        assert vnis(planned(variables, known, planned(variables).leases)) == {"a": 4096, "b": 4099, "c": 4098}

    def test_of_a_host_that_is_not_reached_are_remembered(self) -> None:
        variables = hosts(["x"], ["y"])
        first = planned(variables, {"h1": facts(1), "h2": facts(2, vnis=(4096, 4098))})
        more = hosts(["x"], ["y"], networks={**MULTINET, "second": {"driver": "overlay"}})
        assert vnis(planned(more, {"h1": facts(1)}, first.leases)) == {"multinet": 4097, "second": 4099}

    def test_that_are_declared_are_taken_or_refused(self) -> None:
        networks = {"multinet": {**MULTINET["multinet"], "driver_opts": {VNI: "5000"}}}
        assert vnis(planned(hosts(["x"], networks=networks))) == {"multinet": 5000}
        refused = planned(hosts(["x"], ["y"], networks=networks), {"h1": facts(1), "h2": facts(2, vnis=(5000,))})
        assert set(refused.refusals) == {"h2"}
        assert "the VNI 5000 is used by a foreign VXLAN on h2" in refused.refusals["h2"][0]
        elsewhere = planned(hosts(["x"], [], networks=networks), {"h1": facts(1), "h2": facts(2, vnis=(5000,))})
        assert elsewhere.refusals == {}

    def test_that_are_used_up_are_said(self) -> None:
        made = planned(hosts(["x"], networks=self.NETWORKS, cnm_vni_range="7000-7001"))
        assert "no VNI is left in cnm_vni_range" in made.refusals["h1"][0]


class TestTables:
    def test_each_host_has_an_entry_for_each_endpoint_of_the_others_and_none_for_its_own(self) -> None:
        made = planned(hosts(["a1", "a2"], ["b1"], []))
        assert tables(made, "h1") == (
            {"02:42:0a:0a:02:04": "192.0.2.2"},
            {"10.10.2.4": "02:42:0a:0a:02:04"},
        )
        assert tables(made, "h2") == (
            {"02:42:0a:0a:02:02": "192.0.2.1", "02:42:0a:0a:02:03": "192.0.2.1"},
            {"10.10.2.2": "02:42:0a:0a:02:02", "10.10.2.3": "02:42:0a:0a:02:03"},
        )
        assert not [item for item in made.plans["h3"].resources if isinstance(item, (Fdb, Neighbours, Link))]

    def test_what_hosts_share_is_written_once(self) -> None:
        made = planned(hosts(["a1"], ["b1"], ["c1"]))
        digests = {digest for each in made.plans.values() for digest in each.shared}
        assert digests == set(made.shared)
        (table,) = (PeerTable.from_json(text) for text in made.shared.values() if text.startswith('{"endpoints"'))
        assert [row[:2] for row in table.endpoints] == [("h1", "a1"), ("h2", "b1"), ("h3", "c1")]

    def test_a_host_nobody_knows_the_address_of_is_said_and_left_out(self) -> None:
        made = planned(hosts(["a1"], ["b1"]), {"h1": facts(1)})
        assert tables(made, "h1") == ({}, {})
        assert any("set cnm_underlay_address" in text for text in made.warnings["h2"])

    @pytest.mark.parametrize("how", ["declared", "connected to", "held"])
    def test_a_host_that_is_not_reached_is_written_where_it_was_declared_reached_or_seen(self, how: str) -> None:
        variables = hosts(["a1"], ["b1"])
        if how == "declared":
            variables["h2"]["cnm_underlay_address"] = "192.0.2.2"
        leases = planned(variables).leases if how == "held" else None
        made = planned(variables, {"h1": facts(1)}, leases, {"h2": "192.0.2.2"} if how == "connected to" else None)
        assert tables(made, "h1")[0] == {"02:42:0a:0a:02:03": "192.0.2.2"}

    def test_a_sandbox_that_moves_keeps_its_address(self) -> None:
        before = planned(hosts(["z1"], ["z2"]))
        both = planned(hosts(["a", "z1"], ["z2"]), leases=before.leases)
        moved = planned(hosts(["a"], ["z1", "z2"]), leases=both.leases)
        assert tables(moved, "h1")[1] == {
            "10.10.2.2": "02:42:0a:0a:02:02",
            "10.10.2.3": "02:42:0a:0a:02:03",
        }

    def test_a_sandbox_speaks_as_itself_alone_behind_no_vlan_tags(self) -> None:
        made = planned(hosts(["a1"], ["b1"]))
        (table,) = (
            item
            for item in made.plans["h1"].resources
            if isinstance(item, Nftables) and item.role == "network/multinet"
        )
        chains = {chain.name: chain.rules for chain in table.chains}
        trunk, *known, rest = chains["prerouting"]
        assert trunk.startswith('iifname "vx-') and rest == "goto from_port"
        assert all(rule.startswith("iifname . ether saddr . ether type . ip") for rule in known)
        assert chains["from_port"][0] == "ether type { 8021q, 8021ad } drop"
        sets = {item.name: item.elements for item in table.sets}
        assert all(" . 0x0800 . " in element for element in sets["allowed_flow4"]) and sets["allowed_flow4"]


class TestNews:
    def test_says_who_was_not_told_until_they_are(self) -> None:
        first = planned(hosts(["a1"], ["b1"]))
        assert first.warnings == {}
        more = hosts(["a1", "a2"], ["b1"])
        limited = planned(more, {"h1": facts(1)}, first.leases)
        assert ["not part of this run" in text for text in limited.warnings["h2"]] == [True]
        again = planned(more, {"h1": facts(1)}, limited.leases)
        assert again.warnings == limited.warnings
        assert planned(more, leases=again.leases).warnings == {}

    def test_names_only_the_networks_that_changed(self) -> None:
        networks = {name: {"driver": "overlay"} for name in ("multinet", "second", "third")}
        variables = {
            "h1": {"cnm_networks": networks, "cnm_sandboxes": {"a1": {"networks": list(networks)}}},
            "h2": {"cnm_networks": networks, "cnm_sandboxes": {"b1": {"networks": list(networks)}}},
        }
        first = planned(variables)
        of_h1 = {
            **variables["h1"],
            "cnm_sandboxes": {"a1": {"networks": list(networks)}, "a2": {"networks": ["second"]}},
        }
        limited = planned({**variables, "h1": of_h1}, {"h1": facts(1)}, first.leases)
        said = "not part of this run; its peer table or names for second are out of date. Run cnm.fabric.site on it"
        assert limited.warnings == {"h2": [said]}
        of_h1["cnm_sandboxes"]["a3"] = {"networks": ["third"]}
        again = planned({**variables, "h1": of_h1}, {"h1": facts(1)}, limited.leases)
        assert again.warnings == {"h2": [said.replace("second", "second, third")]}

    def test_is_none_where_nothing_changed(self) -> None:
        variables = hosts(["a1"], ["b1"])
        assert planned(variables, {"h1": facts(1)}, planned(variables).leases).warnings == {}


class TestMtus:
    @pytest.mark.parametrize(("family", "mtu"), [(4, 1450), (6, 1430)])
    def test_are_what_the_headers_leave(self, family: int, mtu: int) -> None:
        variables = hosts(["a1"], ["b1"])
        for number, each in enumerate(variables.values(), 1):
            each["cnm_underlay_address"] = place(number, family)
        known = {f"h{number}": facts(number, families=(4, 6)) for number in (1, 2)}
        assert mtus(planned(variables, known)) == {mtu}

    def test_too_small_for_ip_is_refused_and_for_ipv6_is_a_warning(self) -> None:
        networks = {"multinet": {"driver": "overlay", "enable_ipv6": True}}
        assert (
            "leaves 50 octets" in planned(hosts(["x"], networks=networks), {"h1": facts(1, mtu=100)}).refusals["h1"][0]
        )
        made = planned(hosts(["x"], networks=networks), {"h1": facts(1, mtu=1300)})
        assert any("there is no IPv6 on it" in warning for warning in made.warnings["h1"])

    def test_are_those_of_the_smallest_underlay_whose_host_is_named(self) -> None:
        known = {"h1": facts(1, mtu=9000), "h2": facts(2, mtu=1400)}
        made = planned(hosts(["a1"], ["b1"]), known)
        assert mtus(made) == {1350}
        assert made.warnings == {"h2": [made.warnings["h2"][0]]}
        assert "1400 on h2, 9000 on h1" in made.warnings["h2"][0]

    def test_heed_a_host_that_is_not_reached(self) -> None:
        variables = hosts(["a1"], ["b1"])
        before = planned(variables, {"h1": facts(1), "h2": facts(2, mtu=1400)})
        assert mtus(planned(variables, {"h1": facts(1)}, before.leases)) == {1350}

    def test_declared_for_an_underlay_that_is_smaller_are_taken_with_a_warning(self) -> None:
        networks = {"multinet": {**MULTINET["multinet"], "driver_opts": {"com.docker.network.driver.mtu": "9000"}}}
        made = planned(hosts(["a1"], networks=networks))
        assert mtus(made) == {8950}
        assert "packets get lost" in made.warnings["h1"][0]


class TestRefusals:
    def test_underlays_of_both_families(self) -> None:
        known = {"h1": facts(1), "h2": facts(2, families=(6,)), "h3": facts(3)}
        made = planned(hosts(["a1"], ["b1"], ["c1"]), known)
        assert "it is IPv4 on h1 and h3 and IPv6 on h2" in made.refusals["h1"][0]
        assert made.leases["overlays"] == {}

    def test_leave_hosts_that_are_not_on_the_network_alone(self) -> None:
        variables = hosts(["a1"], ["b1"], ["c1"])
        variables["h3"]["cnm_sandboxes"] = {"other": {"network_mode": "none"}}
        made = planned(variables, {"h1": facts(1), "h2": facts(2, families=(6,)), "h3": facts(3)})
        assert set(made.refusals) == {"h1", "h2"}
        assert set(made.plans) == {"h3"}

    def test_keep_what_was_leased(self) -> None:
        variables = hosts(["a1"], ["b1"])
        before = planned(variables)
        refused = planned(variables, {"h1": facts(1), "h2": facts(2, families=(6,))}, before.leases)
        assert refused.leases["overlays"] == before.leases["overlays"]
        assert refused.leases["endpoints"] == before.leases["endpoints"]

    def test_nothing_that_was_given_is_changed(self) -> None:
        leases = planned(hosts(["a1"], ["b1"])).leases
        kept = copy.deepcopy(leases)
        planned(hosts(["a1", "a2"], ["b1"]), leases=leases)
        assert leases == kept


@pytest.mark.parametrize(
    ("networks", "wanted"),
    [
        ({"a": False}, "Allow UDP port 4789 from the other hosts"),
        ({"a": True}, "Allow ESP (IP protocol 50) and in it UDP port 14789 from the other hosts"),
        (
            {"a": True, "b": False},
            "Allow UDP port 4789 and ESP (IP protocol 50) and in it UDP port 14789 from",
        ),
    ],
)
def test_a_firewall_of_the_host_s_is_told_what_to_let_in(networks: dict[str, bool], wanted: str) -> None:
    declared = {name: {"driver": "overlay", "encrypted": secret} for name, secret in networks.items()}
    known = {name: replace(facts(number), closed=("inet filter input",)) for number, name in enumerate(("h1", "h2"), 1)}
    made = planned(hosts(["x"], ["y"], networks=declared, cnm_overlay_secret="correct horse battery"), known)
    for host in known:
        (said,) = (text for text in made.warnings[host] if "inet filter input" in text)
        assert wanted in said


def test_no_sandbox_of_a_bridge_sends_to_a_port_of_overlays_encrypted_or_not() -> None:
    declared = {"cnm_networks": {"n": {}}, "cnm_sandboxes": {"c": {"networks": ["n"]}}}
    made = planned({"h1": {**declared, "cnm_data_path_port": 5000}})
    (table,) = (item for item in made.plans["h1"].resources if isinstance(item, Nftables) and item.role == "host")
    (ports,) = (item for item in table.sets if item.name == "data_path")
    assert sorted(ports.elements) == ["15000", "5000"]


class TestWhoseAnAddressIs:
    """A probe's answer has the addresses that its host says it has: with another's it would get what is sent there."""

    VARIABLES = hosts(["a"], ["b"], ["c"])

    def claimed(self, variables: Any = None, **more: Any) -> Planned:
        """h3 says that it has h1's address."""
        known = {"h1": facts(1), "h2": facts(2), "h3": facts(1)}
        return planned(variables or self.VARIABLES, known, **more)

    def test_that_two_claim_is_nobody_s_and_names_both(self) -> None:
        made = self.claimed()
        assert made.refusals.keys() == {"h1", "h3"}
        assert "h1 and h3 both have 192.0.2.1" in made.refusals["h1"][0]
        assert "h3 and h1 both have 192.0.2.1" in made.refusals["h3"][0]

    @pytest.mark.parametrize("how", ["declared", "reached", "held"])
    def test_is_the_host_s_of_which_that_is_known(self, how: str) -> None:
        variables = copy.deepcopy(self.VARIABLES)
        before = planned(variables)
        if how == "declared":
            variables["h1"]["cnm_underlay_address"] = "192.0.2.1"
        more: dict[str, Any] = {"connections": {"h1": "192.0.2.1", "h3": "192.0.2.3"}} if how == "reached" else {}
        made = self.claimed(variables, **more, **({"leases": before.leases} if how == "held" else {}))
        assert made.refusals.keys() == {"h3"}
        assert "h3 and h1 both have 192.0.2.1" in made.refusals["h3"][0]
        assert made.plans.keys() == {"h1", "h2"}

    def test_counts_for_one_that_is_not_reached_too(self) -> None:
        before = planned(self.VARIABLES)
        made = planned(self.VARIABLES, {"h2": facts(2), "h3": facts(1)}, before.leases)
        assert made.refusals.keys() == {"h3"}

    def test_that_ansible_forwards_through_another_is_that_other_s(self) -> None:
        known = {"h1": facts(1), "h2": facts(2), "h3": facts(3)}
        assert planned(self.VARIABLES, known, connections={"h3": "192.0.2.1"}).refusals == {}


def test_a_route_of_one_host_that_overlaps_a_network_refuses_that_host_alone() -> None:
    known = {f"h{number}": facts(number) for number in (1, 2)}
    known["h2"] = replace(known["h2"], routes=(*known["h2"].routes, ("10.10.2.0/25", "eth1", None)))
    made = planned(hosts(["a"], ["b"]), known)
    assert made.refusals.keys() == {"h2"}
    assert "subnet 10.10.2.0/24 overlaps the route 10.10.2.0/25 on eth1" in made.refusals["h2"][0]


def test_neighbour_tables_have_a_place_for_sandboxes_of_all_hosts() -> None:
    variables = hosts(*([f"s{number}x{at}" for at in range(4)] for number in range(40)))
    known = {host: replace(facts(int(host[1:])), neighbour_tables={"ipv4.gc_thresh3": 1024}) for host in variables}
    sizes = {item.name: item.value for item in planned(variables, known).plans["h1"].resources if item.kind == "sysctl"}
    assert sizes["net.ipv4.neigh.default.gc_thresh3"] == "65536"
