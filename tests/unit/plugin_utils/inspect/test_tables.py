# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Docker's columns over all hosts, and what a table shows of more rows than fit."""

from __future__ import annotations

import re
from typing import Any, Optional

import pytest
from viewing import differs, lost, together, views_of, waits, without_sandboxes

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.health import HostView
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.model import NOTHING
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.tables import (
    Row,
    Table,
    host_table,
    network_table,
    policy_table,
    sandbox_table,
    service_table,
    table,
    task_table,
)

VOTE = {"vote": {"driver": "overlay", "subnet": ["10.10.2.0/24", "fd00:2::/64"], "enable_ipv6": True}}
SERVICES: dict[str, Any] = {
    "redis": {
        "networks": {"vote": {"aliases": ["cache"]}},
        "deploy": {"replicas": 3, "draining": ["redis.2"]},
    },
    "web": {
        "networks": ["vote"],
        "ports": [{"target": 8080, "published": 80, "name": "www"}, "53:53/udp"],
        "deploy": {"endpoint_mode": "dnsrr"},
    },
}
BRIDGES: dict[str, Any] = {"front": {"subnet": "10.0.0.0/24"}, "back": {"subnet": "10.0.1.0/24"}}
BOXES: dict[str, Any] = {
    "c1": {"networks": {"front": {"aliases": ["www", "a"]}, "back": None}, "ports": ["8080:80"]},
    "c10": {"networks": ["back"]},
    "c2": {"networks": ["back"]},
    "h": {"network_mode": "host"},
}


def voting(answers: Any = None) -> dict[str, HostView]:
    common = {"cnm_networks": VOTE, "cnm_services": SERVICES, "cnm_load_balancer": "nftables"}
    return views_of({f"h{number}": common for number in (1, 2, 3)}, answers)


def bridged(answers: Any = None) -> dict[str, HostView]:
    common = {"cnm_networks": BRIDGES}
    one, two = {**common, "cnm_sandboxes": BOXES}, {**common, "cnm_sandboxes": {"d": {"networks": ["front"]}}}
    return views_of({"node2": two, "node1": one}, answers)


def cells(of: Table, full: bool = False) -> list[list[str]]:
    return [re.split(r" {3,}", line) for line in of.lines(None if full else 1)]


class TestColumns:
    def test_columns_are_as_wide_as_their_widest_cell_and_lines_do_not_end_in_blanks(self) -> None:
        assert table(("A", "B"), [("one", "x"), ("2", "")]) == ["A     B", "one   x", "2"]

    def test_a_column_without_text_is_left_out(self) -> None:
        assert table(("A", "B", "C"), [("1", "", "x"), ("2", "", "")]) == ["A   C", "1   x", "2"]

    def test_without_rows_there_is_nothing(self) -> None:
        assert table(("A", "B"), []) == []


def many(fine: int, bad: int, only_bad: bool = False) -> Table:
    rows = [Row((f"f{number}",)) for number in range(fine)] + [Row((f"b{number}",), False) for number in range(bad)]
    return Table(("NAME",), rows, "sandbox", 4, only_bad)


class TestFolding:
    @pytest.mark.parametrize(
        ("fine", "bad", "only_bad", "shown", "rest"),
        [
            (4, 0, False, ["f0", "f1", "f2", "f3"], None),
            (6, 0, False, ["f0", "f1", "f2", "f3"], "and 2 more sandboxes"),
            (4, 2, False, ["b0", "b1", "f0", "f1"], "and 2 more sandboxes"),
            (5, 6, False, ["b0", "b1", "b2", "b3"], "and 7 more sandboxes, 2 of them not as planned"),
            (3, 1, True, ["f0", "f1", "f2", "b0"], None),
            (5, 0, True, [], "5 sandboxes, as planned"),
            (4, 1, True, ["b0"], "and 4 more sandboxes, as planned"),
            (1, 5, True, ["b0", "b1"], "and 4 more sandboxes, 3 of them not as planned"),
        ],
    )
    def test_what_needs_attention_is_shown_first(
        self, fine: int, bad: int, only_bad: bool, shown: list[str], rest: Optional[str]
    ) -> None:
        made = many(fine, bad, only_bad)
        assert made.lines() == [*(["NAME"] if shown else []), *shown, *([rest] if rest else [])]
        assert made.leaves_out() == (rest is not None)

    def test_what_is_told_of_the_whole_host_is_only_counted(self) -> None:
        rows = [Row((f"r{number}",), number > 3, number < 3) for number in range(7)]
        assert Table(("NAME",), rows, "task", 4, True).lines() == [
            *("NAME", "r3", "and 6 more tasks, 3 of them not as planned"),
        ]

    def test_a_stretched_table_has_more_rows_and_one_in_full_has_all(self) -> None:
        assert many(8, 0).lines(2)[1:] == [f"f{number}" for number in range(8)]
        assert many(9, 0).lines(2)[-1] == "and 1 more sandbox"
        assert len(many(50, 50, True).lines(None)) == 101
        assert not many(50, 50).leaves_out(None)


class TestNetworks:
    def test_a_network_of_each_host_has_one_row(self) -> None:
        assert cells(network_table(bridged(), False)) == [
            ["NAME", "DRIVER", "SCOPE", "SUBNETS", "HOSTS", "SANDBOXES"],
            ["back", "bridge", "local", "10.0.1.0/24", "node1", "3"],
            ["front", "bridge", "local", "10.0.0.0/24", "node2, node1", "2"],
            ["host", "host", "local", "node1", "1"],
        ]

    def test_in_full_each_network_id_has_a_row(self) -> None:
        header, *rows = cells(network_table(bridged(), True), True)
        assert header[0] == "NETWORK ID"
        assert [row[1] for row in rows] == ["back", "front", "front", "host"]
        assert all(re.fullmatch("[0-9a-f]{12}", row[0]) for row in rows)

    def test_predefined_networks_are_shown_if_they_are_used_or_asked_for(self) -> None:
        assert "none" not in str(cells(network_table(bridged(), False)))
        assert ["none", "null", "local", "node2, node1", "0"] in cells(network_table(bridged(), False, {"none"}))

    def test_different_subnets_of_hosts_stand_in_one_row(self) -> None:
        common = {"cnm_sandboxes": {"c": {"networks": ["n"]}}}
        views = views_of({f"h{n}": {**common, "cnm_networks": {"n": {"subnet": f"10.{n}.0.0/24"}}} for n in (1, 2, 3)})
        _header, row = cells(network_table(views, False))
        assert row[3:5] == ["10.1.0.0/24, 10.2.0.0/24 and 1 more", "h1, h2, h3"]

    def test_many_hosts_are_counted(self) -> None:
        views = {f"h{number}": bridged()["node1"] for number in range(5)}
        assert "h0, h1, h2 and 2 more" in network_table(views, False).lines()[1]
        assert "h0, h1, h2, h3, h4" in network_table(views, True).lines(None)[1]


class TestSandboxes:
    def test_a_sandbox_has_one_row(self) -> None:
        assert cells(sandbox_table(bridged(), False)) == [
            ["SANDBOX", "HOST", "STATE", "ADDRESSES", "ALIASES", "PORTS"],
            ["d", "node2", "up", "front 10.0.0.2"],
            ["c1", "node1", "up", "front 10.0.0.2, back 10.0.1.2", "a, www", "0.0.0.0:8080->80/tcp"],
            ["c2", "node1", "up", "back 10.0.1.4"],
            ["c10", "node1", "up", "back 10.0.1.3"],
            ["h", "node1", "up", "host"],
        ]

    def test_in_full_links_and_prefix_lengths_are_shown(self) -> None:
        rows = cells(sandbox_table(bridged(), True), True)
        assert rows[2][3] == "eth0 front 10.0.0.2/24, eth1 back 10.0.1.2/24"

    def test_ports_are_written_as_docker_does(self) -> None:
        networks = {
            "n": {"subnet": ["10.0.0.0/24", "fd00::/64"]},
            "r": {"subnet": "10.0.1.0/24", "driver_opts": {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}},
        }
        box = {"networks": ["n", "r"], "ports": ["8080:80", "127.0.0.1:5300-5301:53-54/udp"]}
        views = views_of({"node1": {"cnm_networks": networks, "cnm_sandboxes": {"c1": box}}})
        ports = ["0.0.0.0:8080->80/tcp", "127.0.0.1:5300-5301->53-54/udp", "80/tcp", "53-54/udp", "[::]:8080->80/tcp"]
        assert cells(sandbox_table(views, True), True)[1][-1] == ", ".join(ports)
        assert cells(sandbox_table(views, False))[1][-1] == ", ".join(ports[:3]) + " and 2 more"

    def test_what_is_missing_is_said(self) -> None:
        found = together(
            lost("sandbox", "c2", "namespace c2", "link c2/eth0", "resolver c2"),
            differs("sandbox", "c1", "network back in sandbox c1 (missing)", "create link c1/eth1"),
            waits("c10", "no container"),
        )
        rows = {row[0]: row[2:4] for row in cells(sandbox_table(bridged({"node1": found}), False))}
        assert rows["c1"] == ["differs", "front 10.0.0.2, back missing"]
        assert rows["c2"] == ["missing", "back 10.0.1.4"]
        assert rows["c10"] == ["waits", "back 10.0.1.3"]
        assert rows["d"][0] == rows["h"][0] == "up"


class TestPolicies:
    VARIABLES: dict[str, Any] = {
        "cnm_networks": {**BRIDGES, "front": {**BRIDGES["front"], "policies": ["shut"]}},
        "cnm_policies": {
            "shut": {"default": {"ingress": "drop"}},
            "web": {"egress": [{"action": "allow", "ports": ["80"]}]},
        },
        "cnm_sandboxes": {"c1": {"networks": ["front"], "policies": ["web"]}, "c2": {"networks": ["back"]}},
    }

    def test_of_each_sandbox_with_policies_what_passed_and_what_was_dropped(self) -> None:
        names = ("passed", "passed_bytes", "dropped", "dropped_bytes")
        counts = {"ingress": dict(zip(names, (1, 999, 12, 500))), "egress": dict(zip(names, (70, 123_456_789, 0, 0)))}
        views = views_of({"node1": self.VARIABLES}, {"node1": {"policy_counts": {"c1": counts}}})
        assert cells(policy_table(views, False)) == [
            ["SANDBOX", "HOST", "POLICIES", "PASSED TO IT", "DROPPED", "PASSED FROM IT", "DROPPED"],
            ["c1", "node1", "shut, web", "1 packet, 999 B", "12", "70 packets, 123.5 MB", "0"],
        ]
        (front,) = (row for row in cells(network_table(views, False)) if row[0] == "front")
        assert front[-1] == "shut"

    def test_of_many_those_of_which_packets_were_dropped_stand_first(self) -> None:
        boxes = {f"c{number}": {"networks": ["front"]} for number in range(60)}
        zero = dict.fromkeys(("passed", "passed_bytes", "dropped", "dropped_bytes"), 0)
        counts = {name: {"ingress": zero, "egress": zero} for name in boxes}
        counts["c59"] = {"ingress": {**zero, "dropped": 1}, "egress": zero}
        views = views_of({"node1": {**self.VARIABLES, "cnm_sandboxes": boxes}}, {"node1": {"policy_counts": counts}})
        made = policy_table(views, False).lines()
        assert made[1].startswith("c59 ")
        assert made[-1] == "and 40 more sandboxes"
        dropped = dict.fromkeys(boxes, counts["c59"])
        views = views_of({"node1": {**self.VARIABLES, "cnm_sandboxes": boxes}}, {"node1": {"policy_counts": dropped}})
        assert policy_table(views, False).lines()[-1] == "and 40 more sandboxes, 40 of them with dropped packets"

    def test_of_a_host_that_counts_nothing_it_is_not_known(self) -> None:
        assert cells(policy_table(views_of({"node1": self.VARIABLES}), False))[1][3:] == ["?", "?", "?", "?"]

    def test_without_policies_there_is_no_table_and_no_column(self) -> None:
        assert policy_table(bridged(), False).rows == []
        assert "POLICIES" not in network_table(bridged(), False).lines()[0]


class TestServices:
    def test_services_are_docker_service_ls_with_addresses(self) -> None:
        views = voting()
        header, redis, web = cells(service_table(views, views, False))
        assert header == ["NAME", "MODE", "REPLICAS", "VIPS", "ALIASES", "PORTS"]
        assert redis == ["redis", "replicated", "3/3", "vote 10.10.2.2 fd00:2::2", "cache"]
        assert web == ["web", "replicated", "1/1", "vote dnsrr", "*:80->8080/tcp (www), *:53->53/udp"]

    def test_tasks_are_docker_service_ps_in_order(self) -> None:
        rows = cells(task_table(voting(), False))
        assert [row[:3] for row in rows] == [
            ["TASK", "HOST", "STATE"],
            ["redis.1", "h1", "ready"],
            ["redis.2", "h2", "drained"],
            ["redis.3", "h3", "ready"],
            ["web.1", "h1", "ready"],
        ]
        assert rows[1][3] == "vote 10.10.2.3 fd00:2::3"

    def test_missing_tasks_are_shown_and_not_counted(self) -> None:
        views = voting({"h1": without_sandboxes(["redis.1"])})
        assert cells(service_table(views, views, False))[1][2] == "2/3"
        assert cells(task_table(views, False))[1][:3] == ["redis.1", "h1", "missing"]
        assert not service_table(views, views, False).rows[0].fine

    def test_tasks_of_hosts_that_are_not_shown_are_counted(self) -> None:
        views = voting()
        assert cells(service_table({"h1": views["h1"]}, views, False))[1][2] == "3/3"

    def test_the_ingress_mesh_s_own_sandbox_is_shown_in_full_or_if_it_is_missing(self) -> None:
        assert sandbox_table(voting(), False).lines() == []
        assert "ingress_sbox" in str(sandbox_table(voting(), True).lines(None))
        views = voting({"h1": without_sandboxes(["ingress_sbox"])})
        assert cells(sandbox_table(views, False))[1][:3] == ["ingress_sbox", "h1", "missing"]

    def test_without_services_there_is_no_table(self) -> None:
        views = bridged()
        assert service_table(views, views, False).lines() == task_table(views, False).lines() == []


class TestHosts:
    def test_few_hosts_have_a_row_each_with_the_engine_that_balances(self) -> None:
        assert cells(host_table(voting(), False))[:2] == [
            ["HOST", "STATE", "NETWORKS", "SANDBOXES", "TASKS", "BALANCER"],
            ["h1", "as planned", "3", "2", "2", "nftables"],
        ]

    def test_of_many_hosts_only_those_that_differ_have_a_row(self) -> None:
        fine, bad = bridged()["node1"], bridged({"node1": without_sandboxes(["c2"])})["node1"]
        views = {f"h{number}": bad if number == 3 else fine for number in range(20)}
        views["off"] = HostView(NOTHING, answered=False)
        assert cells(host_table(views, False)) == [
            ["HOST", "STATE", "NETWORKS", "SANDBOXES"],
            ["h3", "1 difference", "3", "4"],
            ["off", "no answer"],
            ["19 others", "as planned", "3", "4"],
        ]
        assert len(host_table(views, True).lines(None)) == 22
        views = {f"h{number}": bad for number in range(30)}
        assert cells(host_table(views, False))[-1][:2] == ["20 others", "differs"]

    def test_counts_that_are_not_the_same_are_given_as_a_range(self) -> None:
        one, two = bridged().values()
        views = {f"h{number}": one if number % 2 else two for number in range(12)}
        assert cells(host_table(views, False))[1] == ["12 hosts", "as planned", "1-3", "1-4"]
