# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks on the hosts' LAN, planned: addresses over all hosts, parents, the hosts' own places, names."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address, Route
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.verification import checks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

NOW = "2026-11-21T05:00:00Z"
LINKS = {
    "lo": LinkFacts(loopback=True, ethernet=False),
    "eth0": LinkFacts(),
    "eth1": LinkFacts(mtu=9000, up=False),
    "eth2": LinkFacts(master="br-theirs"),
    "eth3": LinkFacts(mtu=9000),
    "eth0.60": LinkFacts(kind="vlan", below="eth0"),
    "eth0.70": LinkFacts(kind="vlan", below="eth0", ours="parent/eth0.70", made=True),
    "br-ours": LinkFacts(kind="bridge", ours="network/ours"),
    "elsewhere": LinkFacts(kind="bridge", owner="lab"),
    "mv0": LinkFacts(kind="macvlan", below="eth3"),
    "tun0": LinkFacts(ethernet=False),
}
LAN = ("192.0.2.0/24", "eth0", None)


def facts(**more: Any) -> Facts:
    return Facts(resolvers=("192.0.2.1",), routes=(LAN, ("default", "eth0", "192.0.2.1")), links=LINKS, **more)


def office(subnet: Any = "192.0.2.0/24", parent: str = "eth0", **options: Any) -> dict[str, Any]:
    driver = "ipvlan" if any(key.startswith("ipvlan") for key in options) else "macvlan"
    return {"driver": driver, "subnet": subnet, "driver_opts": {"parent": parent, **options}}


def planned(
    network: dict[str, Any],
    *boxes: list[str],
    leases: Optional[Leases] = None,
    complete: bool = True,
    given: Optional[Facts] = None,
) -> Planned:
    """Hosts h1, h2, … with these sandboxes on the network."""
    variables = {
        f"h{number}": {
            "cnm_networks": {"office": network},
            "cnm_sandboxes": {name: {"networks": ["office"]} for name in names},
        }
        for number, names in enumerate(boxes, 1)
        if names
    }
    known = {host: given or facts() for host in variables}
    return plan(read_topology(variables), known, leases or empty(), NOW, complete=complete)


def addresses(made: Planned) -> dict[str, str]:
    return {
        f"{item.namespace}/{item.link}": item.address
        for each in made.plans.values()
        for item in each.resources
        if isinstance(item, Address)
    }


def links(made: Planned, host: str = "h1") -> dict[str, Link]:
    return {item.label: item for item in made.plans[host].resources if isinstance(item, Link)}


class TestAddresses:
    def test_are_given_over_all_hosts_and_the_first_is_left_to_the_router(self) -> None:
        made = planned(office(), ["a", "c"], ["b"])
        assert addresses(made) == {"a/eth0": "192.0.2.2/24", "b/eth0": "192.0.2.3/24", "c/eth0": "192.0.2.4/24"}

    def test_are_those_of_ip_range_from_its_first_on(self) -> None:
        network = {**office(), "ipam": {"config": [{"subnet": "192.0.2.0/24", "ip_range": "192.0.2.0/28"}]}}
        del network["subnet"]
        assert addresses(planned(network, ["a"])) == {"a/eth0": "192.0.2.1/24"}

    def test_are_kept_when_others_come_and_their_sandbox_moves(self) -> None:
        made = planned(office(), ["b"], ["d"])
        again = planned(office(), ["a", "d"], ["b"], leases=made.leases)
        assert addresses(again) == {"b/eth0": "192.0.2.2/24", "d/eth0": "192.0.2.3/24", "a/eth0": "192.0.2.4/24"}

    def test_of_hosts_that_are_not_planned_are_not_given_again(self) -> None:
        made = planned(office(), ["a"], ["b"])
        alone = planned(office(), ["a", "new"], leases=made.leases, complete=False)
        assert addresses(alone) == {"a/eth0": "192.0.2.2/24", "new/eth0": "192.0.2.4/24"}
        assert alone.plans["h1"].leases["overlays"] == made.leases["overlays"]

    def test_a_subnet_that_another_link_of_the_host_has_is_refused(self) -> None:
        made = planned(office(parent="eth3"), ["a"])
        (problem,) = made.refusals["h1"]
        assert "subnet 192.0.2.0/24 overlaps the route 192.0.2.0/24 on eth0 on this host." in problem

    def test_networks_that_a_host_routes_are_its_own(self) -> None:
        made = planned(office("10.1.0.0/24", ipvlan_mode="l3"), ["a"], ["b"])
        assert addresses(made) == {"a/eth0": "10.1.0.2/24", "b/eth0": "10.1.0.2/24"}
        routes = [item for item in made.plans["h1"].resources if isinstance(item, Route)]
        assert [(item.namespace, item.destination, item.via, item.link) for item in routes] == [
            ("a", "default", None, "eth0")
        ]


class TestTheHostsOwnPlace:
    def test_is_a_link_with_an_address_and_a_route_to_each_sandbox_of_the_host(self) -> None:
        made = planned(office(host_access=True), ["a"], ["b"])
        (shim,) = (name for name in links(made) if name.startswith("cnm-s"))
        assert addresses(made)[f"/{shim}"] == "192.0.2.3/32"  # h1 has .2, and the name is the same on both
        routes = [item for item in made.plans["h1"].resources if isinstance(item, Route)]
        assert [(item.destination, item.link) for item in routes] == [("192.0.2.4/32", shim)]

    def test_is_where_the_aux_address_of_its_name_says(self) -> None:
        config = {"subnet": "192.0.2.0/24", "aux_addresses": {"h1": "192.0.2.99"}}
        network = {
            "driver": "macvlan",
            "ipam": {"config": [config]},
            "driver_opts": {"parent": "eth0", "host_access": 1},
        }
        assert "192.0.2.99/32" in addresses(planned(network, ["a"])).values()

    def test_is_nobody_s_name_and_no_endpoint(self) -> None:
        made = planned(office(host_access=True), ["a"])
        assert not any("@host" in text for text in made.shared.values())
        (document,) = (item for item in made.plans["h1"].model["networks"] if item["Name"] == "office")
        assert [item["Name"] for item in document["Containers"].values()] == ["a"]


class TestParents:
    @pytest.mark.parametrize(
        ("parent", "made"),
        [("eth0", False), ("eth0.60", False), ("eth0.70", True), ("eth0.80", True), ("eth3.80", True)],
    )
    def test_a_vlan_link_is_made_if_it_is_not_the_host_s_own(self, parent: str, made: bool) -> None:
        found = links(planned(office("10.1.0.0/24", parent), ["a"]))
        assert (parent in found) == made
        assert found["a/eth0"].mtu == (9000 if parent.startswith("eth3") else 1500)

    @pytest.mark.parametrize(
        ("parent", "said"),
        [
            ("eth9", "there is no link eth9 on this host. Write one that it has: eth0, eth0.60, eth1, eth3."),
            ("eth9.10", "there is no link eth9.10 on this host, and no eth9 to make it on."),
            ("eth1.10", "eth1, which the VLAN link eth1.10 is to be made on, is down."),
            ("tun0.10", "tun0 is no Ethernet link, so it has no VLANs."),
            ("tun0", "tun0 is no Ethernet link."),
            ("eth2", "eth2 is a port of br-theirs, which gets all its traffic. Write br-theirs instead."),
            ("br-ours", "br-ours is made by this inventory itself (network/ours)."),
            ("elsewhere", "elsewhere was made by the project lab and goes when that does."),
            ("mv0", "mv0 is a macvlan link itself. Write what it is on, eth3."),
        ],
    )
    def test_one_that_cannot_be_is_named(self, parent: str, said: str) -> None:
        (problem,) = planned(office("10.1.0.0/24", parent), ["a"]).refusals["h1"]
        assert problem.startswith("cnm_networks.office.driver_opts.parent: ")
        assert said in problem

    def test_one_with_links_of_the_other_kind_on_it_is_named(self) -> None:
        (problem,) = planned(office("10.1.0.0/24", "eth3", ipvlan_mode="l2"), ["a"]).refusals["h1"]
        assert "eth3 already carries the macvlan link mv0; no ipvlan can share it." in problem

    def test_one_that_is_down_is_a_warning(self) -> None:
        assert (
            planned(office("10.1.0.0/24", "eth1"), ["a"])
            .warnings["h1"][0]
            .startswith("cnm_networks.office: its parent eth1 is down, so nothing gets through")
        )

    def test_an_mtu_above_its_own_is_refused(self) -> None:
        network = office("10.1.0.0/24", **{"com.docker.network.driver.mtu": "1501"})
        (problem,) = planned(network, ["a"]).refusals["h1"]
        assert "eth0 has an MTU of 1500, and the network's cannot be larger (1501)" in problem

    @pytest.mark.parametrize(("reached", "refused"), [("eth0", True), ("eth0.60", True), ("eth3", False)])
    def test_the_connection_s_link_is_not_taken_over(self, reached: str, refused: bool) -> None:
        network = office("10.1.0.0/24", macvlan_mode="passthru")
        made = planned(network, ["a"], given=facts(reached_by=(reached,)))
        assert ("h1" in made.refusals) == refused


@pytest.mark.parametrize(("mode", "crossed"), [("bridge", True), ("vepa", False)])
def test_verify_asks_for_everybody_s_names_on_the_lan_and_on_an_overlay_beside_it(mode: str, crossed: bool) -> None:
    networks = {
        "office": office("198.18.0.0/24", macvlan_mode=mode),
        "wide": {"driver": "overlay", "subnet": "10.1.0.0/24"},
    }
    variables = {
        host: {"cnm_networks": networks, "cnm_sandboxes": {name: {"networks": ["wide", "office"]}}}
        for host, name in (("h1", "one"), ("h2", "two"))
    }
    known = {host: facts(addresses=((f"192.0.2.1{host[1]}", "eth0", 1500),)) for host in variables}
    made = plan(read_topology(variables), known, empty(), NOW)
    peer_tables = [PeerTable.from_json(made.shared[digest]) for digest in made.peer_tables["h1"]]
    check, of_host = checks_of(made.plans["h1"].model, 10, peer_tables, "h1")
    assert of_host["hosts"] == ["192.0.2.12"]
    wide, on_lan = "10.1.0.3", addresses(made)["two/eth1"].partition("/")[0]
    assert check["names"] == {"two": [wide, on_lan], "two.wide": [wide], "two.office": [on_lan]}
    assert wide in check["reach"]
    assert (on_lan in check["reach"]) is crossed
