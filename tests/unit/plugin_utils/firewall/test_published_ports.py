# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which port of a host leads where, who is in its way, and what the host itself needs for it."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Sysctl
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

BRIDGE = "com.docker.network.bridge."


def planned(networks: dict[str, Any], sandboxes: dict[str, Any], facts: Facts | None = None) -> Planned:
    variables = {"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}}
    return plan(read_topology(variables), {"node1": facts or Facts()}, empty(), "now")


def elements(made: Plan) -> dict[str, tuple[str, ...]]:
    """What stands in the sets and maps of the host's table about ports; empty ones left out."""
    (table,) = (r for r in made.resources if isinstance(r, Nftables) and not r.namespace and r.family == "inet")
    found = {item.name: item.elements for item in table.sets if item.elements}
    return {name: items for name, items in found.items() if name.startswith(("ports", "ranges", "open"))}


def published(*ports: str, network: dict[str, Any] | None = None) -> dict[str, tuple[str, ...]]:
    networks = {"n": {"subnet": ["10.0.0.0/24", "fd00::/64"], **(network or {})}}
    return elements(planned(networks, {"a": {"networks": ["n"], "ports": list(ports)}}).plans["node1"])


def test_a_port_is_at_all_addresses_of_both_families() -> None:
    assert published("8080:80") == {
        "ports4_any": ("tcp . 8080 : 10.0.0.2 . 80",),
        "ports6_any": ("tcp . 8080 : fd00::2 . 80",),
        "open4": ("10.0.0.2 . tcp . 80",),
        "open6": ("fd00::2 . tcp . 80",),
    }


@pytest.mark.parametrize(
    ("port", "names"),
    [
        ("0.0.0.0:8080:80", {"ports4_any", "open4"}),
        ("[::]:8080:80", {"ports6_any", "open6"}),
        ("192.0.2.1:8080:80", {"ports4", "open4"}),
        ("[2001:db8::1]:8080:80", {"ports6", "open6"}),
    ],
)
def test_an_address_is_of_one_family(port: str, names: set[str]) -> None:
    assert set(published(port)) == names


def test_a_lan_that_supplies_the_default_route_gets_no_ports_of_the_host() -> None:
    networks = {
        "lan": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.0.2.0/24", "gateway": "192.0.2.1"}]},
            "driver_opts": {"parent": "eth0"},
        },
        "open": {"subnet": "10.0.0.0/24", "driver_opts": {BRIDGE + "gateway_mode_ipv4": "routed"}},
    }
    boxes = {"a": {"networks": {"lan": {"gw_priority": 1}, "open": {}}, "ports": ["8080:80"]}}
    facts = Facts(links={"eth0": LinkFacts()})
    assert elements(planned(networks, boxes, facts).plans["node1"]) == {"open4": ("10.0.0.2 . tcp . 80",)}


def test_the_network_s_own_binding_is_the_default_and_its_0_0_0_0_is_both_families() -> None:
    option = BRIDGE + "host_binding_ipv4"
    assert published("8080:80", network={"driver_opts": {option: "127.0.0.1"}}) == {
        "ports4": ("127.0.0.1 . tcp . 8080 : 10.0.0.2 . 80",),
        "open4": ("10.0.0.2 . tcp . 80",),
    }
    assert published("8080:80", network={"driver_opts": {option: "0.0.0.0"}}) == published("8080:80")


def test_a_range_with_unchanged_numbers_is_one_interval_else_single_ports() -> None:
    assert published("0.0.0.0:9000-9999:9000-9999/udp") == {
        "ranges4_any": ("udp . 9000-9999 : 10.0.0.2",),
        "open_ranges4": ("10.0.0.2 . udp . 9000-9999",),
    }
    assert published("0.0.0.0:9000-9002:80-82") == {
        "ports4_any": tuple(f"tcp . {9000 + n} : 10.0.0.2 . {80 + n}" for n in range(3)),
        "open_ranges4": ("10.0.0.2 . tcp . 80-82",),
    }


def test_a_routed_network_opens_the_port_and_publishes_none_on_the_host() -> None:
    assert published("0.0.0.0:8080:80", network={"driver_opts": {BRIDGE + "gateway_mode_ipv4": "routed"}}) == {
        "open4": ("10.0.0.2 . tcp . 80",)
    }


def test_a_port_is_forwarded_to_the_endpoint_with_the_default_route() -> None:
    networks = {"a": {"subnet": "10.0.0.0/24"}, "b": {"subnet": "10.0.1.0/24"}}
    box = {"networks": {"a": None, "b": {"gw_priority": 1}}, "ports": ["8080:80"]}
    assert elements(planned(networks, {"x": box}).plans["node1"])["ports4_any"] == ("tcp . 8080 : 10.0.1.2 . 80",)


class TestUsedPorts:
    NETWORK = {"n": {"subnet": ["10.0.0.0/24", "fd00::/64"]}}

    def refused(self, port: str, *listener: Any) -> list[str]:
        box = {"a": {"networks": ["n"], "ports": [port]}}
        return planned(self.NETWORK, box, Facts(listeners=(tuple(listener),))).refusals.get("node1", [])

    @pytest.mark.parametrize(
        ("port", "listener"),
        [
            ("8080:80", ("tcp", "0.0.0.0", 8080, "nginx (pid 7)")),
            ("8080:80", ("tcp", "::", 8080, "nginx (pid 7)")),
            ("0.0.0.0:8080:80", ("tcp", "::", 8080, "nginx (pid 7)")),
            ("8080:80", ("tcp", "192.0.2.1", 8080, "nginx (pid 7)")),
            ("127.0.0.1:8080:80", ("tcp", "127.0.0.1", 8080, "nginx (pid 7)")),
            ("8000-8100:8000-8100", ("tcp", "0.0.0.0", 8080, "nginx (pid 7)")),
        ],
    )
    def test_a_port_that_is_listened_on_is_refused_by_name(self, port: str, listener: tuple[Any, ...]) -> None:
        (said,) = self.refused(port, *listener)
        assert "port 8080/tcp of the host is not free: nginx (pid 7) listens on it" in said
        assert said.startswith("cnm_sandboxes.a.ports[0]")

    @pytest.mark.parametrize(
        ("port", "listener"),
        [
            ("8080:80", ("udp", "0.0.0.0", 8080, "x")),
            ("8080:80", ("tcp", "0.0.0.0", 8081, "x")),
            ("192.0.2.1:8080:80", ("tcp", "127.0.0.1", 8080, "x")),
            ("[2001:db8::1]:8080:80", ("tcp", "0.0.0.0", 8080, "x")),
        ],
    )
    def test_a_port_at_another_address_or_protocol_is_free(self, port: str, listener: tuple[Any, ...]) -> None:
        assert self.refused(port, *listener) == []


class TestHost:
    def sysctls(self, facts: Facts, count: int = 1, **network: Any) -> dict[str, str]:
        boxes = {f"s{number}": {"networks": ["n"]} for number in range(count)}
        made = planned({"n": {"subnet": "10.0.0.0/16", **network}}, boxes, facts).plans["node1"]
        return {item.name: item.value for item in made.resources if isinstance(item, Sysctl) and not item.namespace}

    def test_each_family_is_forwarded_where_a_network_has_it(self) -> None:
        assert self.sysctls(Facts()) == {"net.ipv4.ip_forward": "1"}
        six = {"subnet": "fd00::/64", "enable_ipv4": False}
        assert self.sysctls(Facts(), **six) == {"net.ipv6.conf.all.forwarding": "1"}

    def test_a_link_continues_to_accept_router_advertisements(self) -> None:
        facts = Facts(ra_links=("eth0.10",))
        assert "net.ipv6.conf.eth0/10.accept_ra" not in self.sysctls(facts)
        assert self.sysctls(facts, enable_ipv6=True)["net.ipv6.conf.eth0/10.accept_ra"] == "2"

    def test_neighbour_tables_are_enlarged_and_never_shrunk(self) -> None:
        tables = {"ipv4.gc_thresh1": 128, "ipv4.gc_thresh2": 512, "ipv4.gc_thresh3": 100_000, "ipv6.gc_thresh1": 128}
        facts = Facts(neighbour_tables=tables)
        assert "net.ipv4.neigh.default.gc_thresh1" not in self.sysctls(facts)
        many = self.sysctls(facts, 150)
        assert many["net.ipv4.neigh.default.gc_thresh1"] == "8192"
        assert many["net.ipv4.neigh.default.gc_thresh2"] == "49152"
        assert "net.ipv4.neigh.default.gc_thresh3" not in many
        assert "net.ipv6.neigh.default.gc_thresh1" not in many

    @pytest.mark.parametrize(
        ("count", "size"), [(20, None), (30, 65536), (220, 65536), (250, 131072), (500, 262144), (900, 262144)]
    )
    def test_a_neighbour_table_has_place_for_each_pair_of_sandboxes_up_to_a_limit(
        self, count: int, size: Optional[int]
    ) -> None:
        sysctls = self.sysctls(Facts(neighbour_tables={"ipv4.gc_thresh3": 1024}), count)
        assert sysctls.get("net.ipv4.neigh.default.gc_thresh3") == (str(size) if size else None)
