# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the probe found in a plan's way refuses the host, with the variable's path and what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import Outcome, make_plans

NOW = "2026-11-21T05:00:00Z"
ETH0 = {"eth0": LinkFacts()}
PACKAGE = "linux-modules-extra or kernel-modules-extra"


def lan(driver: str, parent: str = "eth0") -> dict[str, Any]:
    return {"driver": driver, "subnet": "10.0.0.0/24", "driver_opts": {"parent": parent}}


def box(**more: Any) -> dict[str, Any]:
    return {"networks": ["n"], **more}


def refused(network: dict[str, Any], facts: Facts, sandbox: dict[str, Any], **settings: Any) -> list[str]:
    """What keeps a host with one sandbox on one network from being as declared."""
    variables = {"cnm_networks": {"n": network}, "cnm_sandboxes": {"c1": sandbox}, **settings}
    made = plan(read_topology({"node1": variables}), {"node1": facts}, empty(), NOW)
    assert ("node1" in made.plans) == ("node1" not in made.refusals)
    return made.refusals.get("node1", [])


BRIDGE = {"subnet": "10.0.0.0/24"}
NAMED = {**BRIDGE, "driver_opts": {"com.docker.network.bridge.name": "br0"}}


@pytest.mark.parametrize(
    ("network", "facts", "parts"),
    [
        (
            lan("macvlan", "eth0.10"),
            Facts(links=ETH0, missing_links=("vlan",)),
            ("cnm_networks.n.driver_opts.parent: ", "802.1Q", "modprobe 8021q", PACKAGE),
        ),
        (lan("ipvlan"), Facts(links=ETH0, missing_links=("ipvlan",)), ("cnm_networks.n.driver: ", "modprobe ipvlan")),
        (lan("macvlan"), Facts(links=ETH0, missing_links=("macvlan",)), ("cnm_networks.n.driver: ", "driver: ipvlan")),
        (
            {"driver": "overlay"},
            Facts(addresses=(("192.0.2.1", "eth0", 1500),), missing_links=("vxlan",)),
            ("cnm_networks.n.driver: ", "modprobe vxlan", PACKAGE),
        ),
        (BRIDGE, Facts(missing_links=("veth",)), ("cnm_networks.n.driver: ", "links of the type veth")),
        (BRIDGE, Facts(foreign={"namespace": frozenset({"c1"})}), ("cnm_sandboxes.c1: ", "/run/netns/c1 is there")),
        (BRIDGE, Facts(foreign={"nftables": frozenset({"inet cnm"})}), ("cnm_project: ", "nft delete table inet cnm")),
        (NAMED, Facts(foreign={"link": frozenset({"br0"})}), ("cnm_networks.n: ", "the link br0 is there", "rename")),
    ],
)
def test_each_obstacle_is_told_with_path_and_remedy(
    network: dict[str, Any], facts: Facts, parts: tuple[str, ...]
) -> None:
    (said,) = refused(network, facts, box())
    assert [part for part in parts if part not in said] == [], said
    assert said.startswith(parts[0])


@pytest.mark.parametrize(
    ("lacks", "path", "module"),
    [
        ("netem", "netem", "modprobe sch_netem"),
        ("police", "limits.egress", "modprobe act_police"),
        ("tbf", "limits.ingress", "modprobe sch_tbf"),
    ],
)
def test_what_the_kernel_lacks_to_shape_endpoints_refuses_those_that_need_it(
    lacks: str, path: str, module: str
) -> None:
    options = {"limits": {"ingress": "1mbit", "egress": "1mbit"}, "netem": {"loss": "1%"}}
    (said,) = refused(BRIDGE, Facts(missing_shaping=(lacks,)), box(networks={"n": options}))
    assert said.startswith(f"cnm_sandboxes.c1.networks.n.{path}: ")
    assert module in said
    others = {"netem": {"ingress": "1mbit"}, "police": {"ingress": "1mbit"}, "tbf": {"egress": "1mbit"}}[lacks]
    assert refused(BRIDGE, Facts(missing_shaping=(lacks,)), box(networks={"n": {"limits": others}})) == []


def test_a_link_without_an_end_outside_the_sandbox_cannot_be_shaped() -> None:
    boxes = box(networks={"n": {"limits": {"ingress": "1mbit"}}})
    (said,) = refused(lan("macvlan"), Facts(links=ETH0), boxes)
    assert said.startswith("cnm_sandboxes.c1.networks.n: limits and netem work")
    assert "the driver macvlan has none" in said


def test_what_is_not_used_is_no_obstacle() -> None:
    facts = Facts(
        links=ETH0,
        missing_links=("ipvlan", "vlan", "vxlan"),
        foreign={"link": frozenset({"br0", "eth0"}), "namespace": frozenset({"other"}), "nftables": frozenset()},
        absent_owners={("docker", "web"): ("it is not running", False)},
        bridges=("br0",),
    )
    assert refused(BRIDGE, facts, box()) == []
    assert refused(lan("macvlan"), facts, box()) == []
    assert refused(NAMED, facts, box()) == [], "a bridge of others is adopted"


def test_a_namespace_of_an_owner_that_is_not_there_is_told_at_the_sandbox() -> None:
    problem = "the container web of Docker is not running (exited): start it"
    facts = Facts(absent_owners={("docker", "web"): (problem, False)})
    declared = box(namespace={"docker": "web"})
    assert refused(BRIDGE, facts, declared) == [f"cnm_sandboxes.c1.namespace.docker: {problem}."]
    same_name = Facts(foreign={"namespace": frozenset({"c1"})})
    assert refused(BRIDGE, same_name, box(namespace={"path": "/run/netns/c1"})) == []


def test_one_that_has_stopped_since_it_was_connected_is_a_warning() -> None:
    variables = {"cnm_networks": {"n": BRIDGE}, "cnm_sandboxes": {"c1": box(namespace={"docker": "web"})}}
    facts = Facts(absent_owners={("docker", "web"): ("it is not running: start it", True)})
    made = plan(read_topology({"node1": variables}), {"node1": facts}, empty(), NOW)
    assert made.refusals == {}
    said = "cnm_sandboxes.c1.namespace.docker: it is not running: start it; the sandbox is left as it is"
    assert said in made.warnings["node1"]


def test_ipvs_by_demand_is_told_with_its_module() -> None:
    service = {"web": {"networks": ["n"]}}
    (said,) = refused(BRIDGE, Facts(), box(), cnm_services=service, cnm_load_balancer="ipvs")
    assert said.startswith("cnm_load_balancer: this host's kernel has no IPVS: load its module ip_vs (modprobe ip_vs;")
    assert refused(BRIDGE, Facts(), box(), cnm_services=service) == []


def test_everything_that_a_host_lacks_is_told_at_once() -> None:
    facts = Facts(
        links=ETH0,
        missing_links=("vlan",),
        listeners=(("tcp", "0.0.0.0", 8080, "nginx (pid 7)"),),
        absent_owners={("pid", "9"): ("there is no process 9 on this host", False)},
    )
    variables = {
        "cnm_networks": {"lan": lan("macvlan", "eth0.10"), "apart": lan("macvlan", "eth7"), "n": {}},
        "cnm_sandboxes": {
            "a": {"networks": ["lan"]},
            "b": {"networks": ["n"], "ports": ["8080:80"]},
            "c": {"networks": ["n"], "namespace": {"pid": 9}},
            "d": {"networks": ["apart"]},
        },
    }
    variables["cnm_networks"]["apart"]["subnet"] = "10.0.1.0/24"
    said = plan(read_topology({"node1": variables}), {"node1": facts}, empty(), NOW).refusals["node1"]
    assert sorted(text.partition(": ")[0] for text in said) == [
        "cnm_networks.apart.driver_opts.parent",
        "cnm_networks.lan.driver_opts.parent",
        "cnm_sandboxes.b.ports[0]",
        "cnm_sandboxes.c.namespace.pid",
    ]


def test_processes_in_a_sandbox_that_goes_keep_host_and_leases_as_they_are() -> None:
    before = {"cnm_networks": {"n": BRIDGE}, "cnm_sandboxes": {"c1": box(), "c2": box()}}
    after = {**before, "cnm_sandboxes": {"c2": box()}}
    leases = plan(read_topology({"node1": before}), {"node1": Facts()}, empty(), NOW).leases
    occupied = Facts(occupied={"c1": "sleep (412)", "c2": "nginx (7)"})
    made = plan(read_topology({"node1": after}), {"node1": occupied}, leases, NOW)
    (said,) = made.refusals["node1"]
    assert said.startswith("cnm_sandboxes: c1 is no longer declared, and processes run in it: sleep (412). ")
    assert said.endswith("remove it all the same with -e cnm_force=true.")
    assert made.leases == leases
    assert plan(read_topology({"node1": before}), {"node1": occupied}, leases, NOW).refusals == {}


def test_the_address_of_a_sandbox_that_stays_so_on_an_overlay_is_given_to_nobody() -> None:
    networks = {"cnm_networks": {"n": {"driver": "overlay", "subnet": "10.0.0.0/24"}}}
    facts = {f"node{n}": Facts(addresses=((f"192.0.2.{n}", "eth0", 1500),)) for n in (1, 2)}
    before = {"node1": {**networks, "cnm_sandboxes": {"c0": box(), "c1": box()}}, "node2": networks}
    leases = plan(read_topology(before), facts, empty(), NOW).leases
    after = {
        "node1": {**networks, "cnm_sandboxes": {"c0": box()}},
        "node2": {**networks, "cnm_sandboxes": {"c2": box()}},
    }
    occupied = {**facts, "node1": replace(facts["node1"], occupied={"c1": "sleep (7)"})}
    made = plan(read_topology(after), occupied, leases, NOW)
    assert list(made.refusals) == ["node1"]
    endpoints = made.leases["endpoints"]
    assert endpoints["node1/n/c1"] == leases["endpoints"]["node1/n/c1"]
    assert endpoints["node2/n/c2"] not in leases["endpoints"].values()
    gone = plan(read_topology(after), facts, leases, NOW).leases["endpoints"]
    assert gone["node2/n/c2"] == leases["endpoints"]["node1/n/c1"], "the lowest free one"


class TestAllOrNothing:
    VARIABLES = {"cnm_networks": {"n": BRIDGE}, "cnm_sandboxes": {"c1": box()}}
    BUSY = Facts(foreign={"namespace": frozenset({"c1"})})

    def outcome(self, directory: Path, facts: dict[str, Facts], every: bool, failed: tuple[str, ...] = ()) -> Outcome:
        variables = {**self.VARIABLES, "cnm_all_or_nothing": every}
        hosts = dict.fromkeys(("node1", "node2"), variables)
        return make_plans(hosts, {}, facts, str(directory), NOW, remember=True, failed=failed)

    def remembered(self, directory: Path) -> bool:
        leases = open_store(read_topology({"a": self.VARIABLES}).hosts[0].settings.leases, str(directory))
        return bool(leases.read("default").leases["endpoints"])

    def test_a_refused_host_leaves_the_lease_store_as_it_is(self, tmp_path: Path) -> None:
        facts = {"node1": Facts(), "node2": self.BUSY}
        outcome = self.outcome(tmp_path, facts, every=True)
        assert outcome.all_or_nothing
        assert list(outcome.refusals) == ["node2"]
        assert not self.remembered(tmp_path)
        assert not self.outcome(tmp_path, facts, every=False).all_or_nothing
        assert self.remembered(tmp_path)

    def test_so_does_one_that_did_not_answer_but_not_one_that_was_not_asked(self, tmp_path: Path) -> None:
        self.outcome(tmp_path, {"node1": Facts()}, every=True, failed=("node2",))
        assert not self.remembered(tmp_path)
        self.outcome(tmp_path, {"node1": Facts()}, every=True)
        assert self.remembered(tmp_path)
