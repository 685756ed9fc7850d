# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the control plane EVPN plans: nothing of other hosts' endpoints, and an FRR for each host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Optional

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.module_utils.plan.frr import Frr, bgpd_text
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.networks.evpn import covering
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.checks import other_hosts_needed_errors
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

VTEPS = {f"node{number}": f"192.0.2.{number}" for number in range(1, 5)}
PASSWORD = "6f1e4f2b9a7c4d20"
EVERYONE: dict[str, Any] = {
    "cnm_control_plane": "evpn",
    "cnm_evpn": {"route_reflectors": ["node1", "203.0.113.9"], "password": PASSWORD},
    "cnm_networks": {"net": {"driver": "overlay", "subnet": "10.10.2.0/24"}},
}
BOXES: Mapping[str, list[str]] = {"node1": ["a"], "node2": ["b", "c"], "node3": []}


def planned(
    boxes: Optional[Mapping[str, list[str]]] = None,
    evpn: Optional[Mapping[str, Any]] = None,
    leases: Any = None,
    run: Sequence[str] = ("node1", "node2", "node3"),
) -> Planned:
    """node4 is of the topology and was never reached."""
    boxes, evpn = BOXES if boxes is None else boxes, EVERYONE["cnm_evpn"] if evpn is None else evpn
    variables = {
        host: {
            **EVERYONE,
            "cnm_evpn": evpn,
            "cnm_sandboxes": {name: {"networks": ["net"]} for name in boxes.get(host, ())},
        }
        for host in VTEPS
    }
    facts = {host: Facts(addresses=((VTEPS[host], "eth0", 1500),), filters_bridges=True) for host in run}
    made = plan(read_topology(variables), facts, leases or empty(), "2026-11-30T00:00:00Z")
    assert made.refusals == {}
    return made


def frr_of(made: Plan) -> Frr:
    assert made.frr is not None
    return made.frr


def but_names(made: Plan) -> list[Any]:
    return [item for item in made.resources if item.kind not in ("file", "names")]


def test_a_sandbox_more_changes_no_other_host_but_its_names() -> None:
    before = planned()
    after = planned({**BOXES, "node3": ["d"]}, leases=before.leases)
    for host in ("node1", "node2"):
        assert but_names(before.plans[host]) == but_names(after.plans[host])
        assert before.plans[host] != after.plans[host]
    assert "10.10.2.5" not in str(but_names(after.plans["node1"]))
    assert after.warnings == before.warnings


def test_hosts_that_were_not_run_and_do_not_know_a_name_are_named() -> None:
    before = planned()
    first = planned({**BOXES, "node3": ["d"]}, leases=before.leases, run=["node3"])
    for host in ("node1", "node2"):
        assert [text for text in first.warnings[host] if "names for net are out of date" in text]
    second = planned({**BOXES, "node3": ["d"]}, leases=first.leases)
    third = planned({**BOXES, "node3": ["d"]}, leases=second.leases, run=["node3"])
    assert "out of date" not in str([second.warnings, third.warnings])


def test_vxlan_is_accepted_from_all_hosts_of_the_topology_that_are_known() -> None:
    made = planned()
    (item,) = (
        item
        for item in made.plans["node2"].resources
        if item.kind == "nftables" and item.key[1:] == ("", "inet", "cnm")
    )
    (vteps,) = (each for each in item.sets if each.name == "vteps4")  # type: ignore[attr-defined]
    table = PeerTable.from_json(made.shared[vteps.tables[0]])
    assert table.vteps == {host: VTEPS[host] for host in ("node1", "node2", "node3")}
    assert table.endpoints == ()


def test_verify_knows_the_endpoints_of_all() -> None:
    made = planned()
    (digest,) = made.peer_tables["node1"]
    assert [each.sandbox for each in PeerTable.from_json(made.shared[digest]).endpoints] == ["a", "b", "c"]
    assert digest not in made.plans["node1"].shared


def test_each_host_is_told_of_the_reflectors_and_a_reflector_of_where_hosts_are() -> None:
    made = planned()
    one, two = frr_of(made.plans["node1"]), frr_of(made.plans["node2"])
    assert (one.local, one.reflectors) == ("192.0.2.1", ("203.0.113.9",))
    assert one.clients == ("192.0.2.0/24",)
    assert (two.reflectors, two.clients) == (("192.0.2.1", "203.0.113.9"), ())
    # One without a sandbox takes part, too: it may get one at any time, or be a reflector.
    assert frr_of(made.plans["node3"]).reflectors == two.reflectors
    assert PASSWORD not in "".join([*(each.to_json() for each in made.plans.values()), *made.shared.values()])
    assert f"neighbor cnm password {PASSWORD}" in bgpd_text(two, PASSWORD)


def test_another_password_makes_another_plan() -> None:
    evpn = {**EVERYONE["cnm_evpn"], "password": "another0123456789"}
    assert frr_of(planned().plans["node2"]).fingerprint != frr_of(planned(evpn=evpn).plans["node2"]).fingerprint


def test_what_is_missing_is_a_warning() -> None:
    alone = planned(evpn={"route_reflectors": ["node4"], "password": PASSWORD})
    assert any("node4 was never reached" in text for text in alone.warnings["node1"])
    assert any("has one reflector" in text for text in alone.warnings["node1"])


def test_an_frr_of_others_gets_a_text_without_the_password() -> None:
    made = planned(evpn={**EVERYONE["cnm_evpn"], "manage": False}).plans["node2"]
    assert made.frr is None
    (text,) = (item for item in made.resources if isinstance(item, File) and item.directory == "/run/cnm/default/evpn")
    assert " neighbor cnm password PASSWORD\n" in text.files["frr.conf"]
    assert PASSWORD not in made.to_json()


@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=5))
def test_the_prefix_of_hosts_has_them_all_and_is_not_narrow(addresses: list[str]) -> None:
    (prefix,) = covering(addresses)
    assert all(ip_address(address) in ip_network(prefix) for address in addresses)
    assert ip_network(prefix).prefixlen <= 24


def test_an_underlay_of_ipv6_is_refused() -> None:
    variables = {"node1": {**EVERYONE, "cnm_sandboxes": {"a": {"networks": ["net"]}}}}
    variables["node1"]["cnm_evpn"] = {"route_reflectors": ["node1"], "password": PASSWORD}
    facts = {"node1": Facts(addresses=(("2001:db8::1", "eth0", 1500),), filters_bridges=True)}
    made = plan(read_topology(variables), facts, empty(), "2026-11-30T00:00:00Z")
    assert any("takes an underlay of IPv4" in text for text in made.refusals["node1"])


def test_all_overlays_are_in_one_namespace_where_zebra_is_and_nothing_of_theirs_is_the_host_s() -> None:
    networks = {**EVERYONE["cnm_networks"], "other": {"driver": "overlay", "enable_ipv6": True}}
    boxes = {"a": {"networks": ["net", "other"]}}
    variables = {"node1": {**EVERYONE, "cnm_networks": networks, "cnm_sandboxes": boxes}}
    variables["node1"]["cnm_evpn"] = {"route_reflectors": ["node1"], "password": PASSWORD}
    facts = {"node1": Facts(addresses=((VTEPS["node1"], "eth0", 1500),), filters_bridges=True)}
    made = plan(read_topology(variables), facts, empty(), "2026-11-30T00:00:00Z").plans["node1"]
    place = frr_of(made).namespace
    links = [item for item in made.resources if isinstance(item, Link)]
    assert {item.namespace for item in links if item.type == "vxlan"} == {place}
    assert len([item for item in links if (item.namespace, item.type) == (place, "bridge")]) == 2
    # The way out of sandboxes is a bridge of the host, as with overlays that the plan tells hosts of.
    assert [item.role for item in links if (item.namespace, item.type) == ("", "bridge")] == ["network/cnm_gwbridge"]
    (table,) = (item for item in made.resources if item.key == ("nftables", place, "bridge", "cnm"))
    assert isinstance(table, Nftables)
    rules = {chain.name: chain.rules for chain in table.chains}
    assert rules["input"] == ("drop",)
    assert rules["prerouting"][0].count("cnm-v") == 2


def test_a_host_that_takes_part_is_not_planned_alone() -> None:
    """The plan of one host alone has no FRR, which a reflector without overlays may have nothing but."""
    evpn = {**EVERYONE, "cnm_evpn": {"route_reflectors": ["node1"], "password": PASSWORD}}
    for variables, known in (({}, Facts(has_frr=True)), (evpn, Facts())):
        host = read_topology({"node1": {**variables, "cnm_networks": {}, "cnm_sandboxes": {}}}).hosts[0]
        assert any("cnm.fabric.site" in text for text in other_hosts_needed_errors(host, known))
    assert other_hosts_needed_errors(read_topology({"node1": {"cnm_networks": {}}}).hosts[0], Facts()) == []
