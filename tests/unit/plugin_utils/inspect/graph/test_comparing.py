# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is declared against what the hosts have: every state, in words."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any

import pytest
from fabrics import Variables, broken, drift, fabric_after, reports_of, three

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.fabric import (
    DIFFERS,
    FINE,
    LEFT,
    LOST,
    NEW,
    STATES,
    UNKNOWN,
    Fabric,
    Sandbox,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.report import EMPTY, HostReport


def host(fabric: Fabric, name: str) -> Any:
    (found,) = (each for each in fabric.hosts if each.name == name)
    return found


def sandbox(fabric: Fabric, name: str) -> Sandbox:
    (found,) = (each for each in fabric.sandboxes if each.name == name)
    return found


def said(fabric: Fabric) -> list[str]:
    """All differences, in words."""
    return [f"{item.host}: {item.what} {item.words}" for item in fabric.differences]


def lost(name: str, *operations: Any) -> Fabric:
    reports = reports_of(three())
    reports[name] = replace(reports[name], drift=operations)
    return fabric_of(reports, "default")


def test_hosts_that_are_as_declared_have_no_difference() -> None:
    fabric = fabric_of(reports_of(three()), "default")
    assert fabric.differences == []
    assert {each.state for each in fabric.hosts} == {FINE}
    assert {each.words for each in fabric.hosts} == {"as declared"}
    assert {each.state for each in fabric.sandboxes} == {FINE}


def test_all_of_three_hosts_is_in_it() -> None:
    fabric = fabric_of(reports_of(three()), "default")
    proxy = sandbox(fabric, "proxy")
    assert [(end.network, end.link, end.addresses) for end in proxy.endpoints] == [
        ("ps-bridge", "eth0", ("10.0.0.2/24", "fd00:1::2/64")),
        ("front", "eth1", ("10.10.1.2/24",)),
    ]
    assert proxy.ports == ("0.0.0.0:8080->80/tcp", "127.0.0.1:9000-9003->9000-9003/udp", "[::]:8080->80/tcp")
    assert [end.mac for end in proxy.endpoints] == ["02:42:0a:00:00:02", "02:42:0a:0a:01:02"]
    assert (sandbox(fabric, "vault").mode, sandbox(fabric, "vault").endpoints) == ("none", ())
    assert [(network.name, network.spans, len(network.parts)) for network in fabric.networks] == [
        ("back", True, 1),
        ("front", True, 1),
        ("ps-bridge", False, 3),
        ("ingress", True, 1),
        ("cnm_gwbridge", False, 3),
    ]
    (back,) = fabric.networks[0].parts
    assert (back.hosts, back.subnets, back.labels) == (("node1", "node2"), ("10.10.2.0/24",), (("tier", "data"),))
    assert back.flags == ("internal", "VNI 4096")
    services = {service.name: service for service in fabric.services}
    assert services["web"].ports == ("*:3000->80/tcp",)
    assert [(task.name, task.host) for task in services["redis"].tasks] == [("redis.1", "node3"), ("redis.2", "node1")]
    assert [task.weight for task in services["redis"].tasks] == [1, 0]
    assert sandbox(fabric, "redis.2").drained
    assert services["redis"].networks == (("front", ("redis", "cache")),)
    assert services["db"].vips == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda v: v["node2"]["cnm_sandboxes"].update(extra={"networks": ["back"]}),
            ["node2: sandbox extra is declared and not there yet"],
        ),
        (
            lambda v: v["node2"]["cnm_sandboxes"].pop("shell"),
            [
                "node2: sandbox shell is there and no longer declared",
                "node2: network ps-bridge is there and no longer declared",
            ],
        ),
        (
            lambda v: v["node1"]["cnm_sandboxes"]["proxy"].update(ports=[]),
            ["node1: sandbox proxy publishes other ports than declared"],
        ),
        (
            lambda v: v["node2"]["cnm_sandboxes"]["report"]["networks"].append("front"),
            ["node2: sandbox report is declared and not yet on front"],
        ),
        (
            lambda v: v["node1"]["cnm_sandboxes"]["worker"]["networks"].remove("back"),
            ["node1: sandbox worker is still on back"],
        ),
        (
            lambda v: v["node2"]["cnm_sandboxes"]["report"].update(networks={"back": {"ipv4_address": "10.10.2.99"}}),
            ["node2: sandbox report on back is not as declared"],
        ),
        (
            lambda v: v["node3"]["cnm_sandboxes"]["mail"].update(networks={"ps-bridge": {"aliases": ["smtp", "mx"]}}),
            [
                (
                    "node3: sandbox mail on ps-bridge is not as declared: it is known there as mail, smtp, "
                    "declared is mail, smtp, mx"
                ),
            ],
        ),
    ],
)
def test_a_change_that_no_run_has_made_yet_is_said(change: Any, words: list[str]) -> None:
    fabric = fabric_after(change)
    # The egress network of a host may change with its sandboxes.
    assert [each for each in said(fabric) if "cnm_gwbridge" not in each] == words


def test_the_address_that_is_there_is_shown_beside_the_declared_one() -> None:
    def change(variables: Variables) -> None:
        variables["node2"]["cnm_sandboxes"]["report"]["networks"] = {"back": {"ipv4_address": "10.10.2.99"}}

    fabric = fabric_after(change)
    (end,) = sandbox(fabric, "report").endpoints
    assert (end.addresses, end.was, end.state) == (("10.10.2.99/24",), ("10.10.2.4/24",), DIFFERS)
    (difference,) = fabric.differences
    assert difference.values == (("addresses", "10.10.2.4/24", "10.10.2.99/24"),)


def test_changes_of_networks_and_services_are_said_once_for_all_hosts() -> None:
    def change(variables: Variables) -> None:
        for of_host in variables.values():
            of_host["cnm_networks"]["back"]["labels"] = {"tier": "other"}
            of_host["cnm_services"]["web"]["ports"] = [{"target": 80, "published": 3001}]

    grouped = {item.what: (item, hosts) for item, hosts in fabric_after(change).grouped}
    network, on_network = grouped["network back"]
    assert on_network == ["node1", "node2"]
    assert network.values == (("Labels", "tier: data", "tier: other"),)
    service, on_service = grouped["service web"]
    assert on_service == ["node1", "node2", "node3"]
    assert service.values == (("ports", "*:3000->80/tcp", "*:3001->80/tcp"),)


def test_a_sandbox_whose_namespace_is_gone_is_missing_in_one_sentence() -> None:
    operations = [drift("create", "namespace", "proxy"), drift("create", "link", "proxy/eth0")]
    fabric = lost("node1", *operations, drift("create", "address", "proxy/eth0/10.0.0.2"))
    assert said(fabric) == ["node1: sandbox proxy is gone from the host"]
    assert sandbox(fabric, "proxy").state is LOST
    assert {end.state for end in sandbox(fabric, "proxy").endpoints} == {LOST}
    assert host(fabric, "node1").words == "1 difference"


def test_an_endpoint_whose_link_is_gone_is_missing() -> None:
    fabric = lost("node1", drift("create", "link", "worker/eth1"), drift("create", "route", "worker/default"))
    assert said(fabric) == [
        "node1: sandbox worker is gone from back",
        "node1: sandbox worker route worker/default is missing",
    ]
    worker = sandbox(fabric, "worker")
    assert (worker.state, [end.state for end in worker.endpoints]) == (DIFFERS, [FINE, LOST, FINE])


def test_objects_that_differ_are_said_of_whom_they_belong_to() -> None:
    reports = reports_of(three())
    roles = {role: label for (_kind, label), role in reports["node1"].roles.items()}
    fabric = lost(
        "node1",
        drift(
            "change", "link", roles["network/ps-bridge"], differences=[{"attribute": "mtu", "found": 9, "wanted": 8}]
        ),
        drift("create", "fdb", f"{roles['overlay/front']}/vx-001001-x"),
        drift("change", "file", "/etc/netns/proxy"),
        drift("delete", "nftables", "inet cnm"),
    )
    whom = [(item.what, item.state) for item in fabric.differences]
    assert whom == [
        ("sandbox proxy", DIFFERS),
        ("host", LEFT),
        ("network front", LOST),
        ("network ps-bridge", DIFFERS),
    ]
    assert fabric.differences[3].values == (("mtu", "9", "8"),)


def test_a_sandbox_that_waits_for_its_container_says_why() -> None:
    fabric = lost("node1", drift("wait for", "sandbox", "proxy", reason="no container `web` runs"))
    assert said(fabric) == ["node1: sandbox proxy waits for its namespace (no container `web` runs)"]
    assert sandbox(fabric, "proxy").state is LOST


def test_every_state_can_be_found_in_one_picture() -> None:
    fabric = fabric_of(broken(), "default")
    assert {each.state for each in fabric.sandboxes} == set(STATES)


class TestHosts:
    def test_one_that_did_not_answer_is_not_known(self) -> None:
        fabric = fabric_of(broken(), "default")
        silent = host(fabric, "node3")
        assert (silent.state, silent.words) == (UNKNOWN, "did not answer")
        assert {each.state for each in silent.sandboxes} == {UNKNOWN}
        assert said(fabric)[-1] == "node3: host did not answer: No route to host"

    def test_one_that_did_not_answer_and_has_no_plan_is_there_all_the_same(self) -> None:
        fabric = fabric_of({**reports_of(three()), "node4": HostReport(problem="did not answer: timeout")}, "default")
        assert (host(fabric, "node4").words, host(fabric, "node4").sandboxes) == ("did not answer", ())

    def test_one_that_has_nothing_and_is_to_have_nothing_says_so(self) -> None:
        fabric = fabric_of({"node1": HostReport(EMPTY)}, "default")
        assert fabric.hosts[0].words == "nothing is declared here, and nothing is here"
        assert fabric.hosts[0].state is FINE

    def test_one_that_no_run_has_met_says_so(self) -> None:
        fabric = fabric_of({"node1": replace(reports_of(three())["node1"], kept=EMPTY)}, "default")
        assert fabric.hosts[0].words == "has nothing of this project yet"
        assert {each.state for each in fabric.sandboxes} == {NEW}

    def test_one_that_lost_everything_says_so(self) -> None:
        report = reports_of(three())["node2"]
        gone = [drift("create", "namespace", name) for name in report.kept["sandboxes"]]
        fabric = fabric_of({"node2": replace(report, drift=gone)}, "default")
        assert fabric.hosts[0].words == f"lost everything it had: {len(gone)} sandboxes"
        assert said(fabric) == [f"node2: host lost everything it had: {len(gone)} sandboxes"]
        assert {each.state for each in fabric.sandboxes} == {LOST}

    def test_one_that_a_run_would_leave_alone_says_why(self) -> None:
        report = replace(reports_of(three())["node2"], declared=None, refused="UDP 4789 is taken")
        assert said(fabric_of({"node2": report}, "default")) == [
            "node2: host a run would leave it alone: UDP 4789 is taken"
        ]

    def test_without_plans_what_a_host_was_given_last_counts(self) -> None:
        reports = {name: replace(report, declared=None) for name, report in reports_of(three()).items()}
        assert fabric_of(reports, "default").differences == []


def test_what_is_given_is_not_changed() -> None:
    reports = broken()
    before = copy.deepcopy(reports)
    fabric_of(reports, "default")
    assert reports == before


def test_what_a_host_says_is_compared_in_time() -> None:
    reports = reports_of(three())
    kept: Any = copy.deepcopy(reports["node3"].kept)
    document = kept["networks"][0]
    box = {**copy.deepcopy(kept["sandboxes"]["mail"]), "endpoints": []}
    number = 4000
    for count in range(number):
        kept["sandboxes"][f"s{count}"] = box
        kept["networks"].append({**document, "Name": f"n{count}", "Id": f"{count:064x}", "Containers": {}})
        kept["services"][f"v{count}"] = {**kept["services"]["web"], "tasks": {f"s{count}": {"weight": 1}}}
        document["Containers"][f"{count:064x}"] = {"Name": f"s{count}", "MacAddress": ""}
    found = [drift("delete", "link", f"x{count}") for count in range(5 * number)]
    reports["node3"] = replace(reports["node3"], kept=kept, drift=found)
    started = time.monotonic()
    fabric = fabric_of(reports, "default")
    assert time.monotonic() - started < 10
    assert len(fabric.networks) > number


def test_what_a_host_says_often_counts_for_it_alone() -> None:
    reports = reports_of(three())
    reports["node3"] = replace(reports["node3"], drift=[drift("delete", "link", "x9")] * 3)
    assert [hosts for _difference, hosts in fabric_of(reports, "default").grouped] == [["node3"]]


def test_what_a_host_has_left_does_not_stand_for_what_is_declared_elsewhere() -> None:
    before = three()
    for variables in before.values():
        del variables["cnm_services"], variables["cnm_policies"]
        variables["cnm_sandboxes"].get("proxy", {}).pop("policies", None)
    after = copy.deepcopy(before)
    after["node1"]["cnm_sandboxes"] = {}
    reports = reports_of(after, before)
    honest = {network.name: network.parts for network in fabric_of(reports, "default").networks}
    kept: Any = copy.deepcopy(reports["node1"].kept)
    for document in kept["networks"]:
        document.update(Driver="lie", Options={"lie": "1"}, Labels={"lie": "1"})
        document["IPAM"]["Config"] = [{"Subnet": "203.0.113.0/24"}]
    reports["node1"] = replace(reports["node1"], kept=kept)
    networks = {network.name: network.parts for network in fabric_of(reports, "default").networks}
    assert networks["back"] == honest["back"]


def test_a_service_that_a_host_has_left_does_not_change_the_declared_one() -> None:
    reports = reports_of(three())
    honest = {item.name: item for item in fabric_of(reports, "default").services}["web"]
    declared, kept = (copy.deepcopy(dict(model or {})) for model in (reports["node1"].declared, reports["node1"].kept))
    del declared["services"]["web"]
    lie = {"vips": ["203.0.113.1"], "names": ["lie"], "answers": True}
    kept["services"]["web"].update(mode="lie", wanted=9, networks={"front": lie}, ports=[])
    reports["node1"] = replace(reports["node1"], declared=declared, kept=kept)
    found = {item.name: item for item in fabric_of(reports, "default").services}["web"]
    assert (found.mode, found.wanted, found.networks, found.vips, found.ports) == (
        *(honest.mode, honest.wanted, honest.networks, honest.vips, honest.ports),
    )


def test_an_encrypted_network_says_so_as_docker_does() -> None:
    variables = three()
    for of_host in variables.values():
        of_host["cnm_networks"]["back"]["encrypted"] = True
        of_host["cnm_overlay_secret"] = "correct horse battery staple, and more"
    reports = reports_of(variables)
    (document,) = (each for each in reports["node1"].kept["networks"] if each["Name"] == "back")
    assert document["Options"] == {"com.docker.network.driver.overlay.vxlanid_list": "4096", "encrypted": ""}
    (back,) = fabric_of(reports, "default").networks[0].parts
    assert back.flags == ("internal", "encrypted", "VNI 4096")
    assert back.options == ()


def test_a_policy_that_no_run_has_changed_yet_is_said() -> None:
    def change(variables: Variables) -> None:
        for entry in variables.values():
            entry["cnm_policies"] = copy.deepcopy(entry["cnm_policies"])
            entry["cnm_policies"]["store"]["ingress"][0]["ports"] = ["5433"]
        variables["node3"]["cnm_sandboxes"]["mail"]["policies"] = ["edge"]
        del variables["node1"]["cnm_sandboxes"]["proxy"]["policies"]

    fabric = fabric_after(change)
    assert sorted(said(fabric)) == [
        "node1: policy edge holds and is no longer declared",
        "node1: policy store has other rules than declared",
        "node1: sandbox proxy has other policies than declared",
        "node2: policy store has other rules than declared",
        "node3: policy edge is declared and does not hold yet",
        "node3: sandbox mail has other policies than declared",
    ]
    assert sandbox(fabric, "mail").state is DIFFERS
