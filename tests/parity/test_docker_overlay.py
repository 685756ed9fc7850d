# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Overlays over three hosts, on one of which a Docker Engine runs: neither disturbs the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker_engine import DockerEngine, missing, remove_groups
from fleet import Fleet, snapshot
from lab import OUTSIDE4, Lab
from overlaying import lab_of, matrix, overlay, pinged, sandboxes, unanswered, wrong
from scenarios import Net
from traffic import Call, answers, serving

SUBNETS = {"multinet": ["10.10.2.0/24"], "second": ["10.10.3.0/24", "fd10:3::/64"]}
MEMBERS = {
    "multinet": {"c1": "node1", "c1b": "node1", "c2": "node2", "c3": "node3"},
    "second": {"c1": "node1", "c2": "node2"},
}
_TABLES = "; ".join(f"{p} -w -t {t} -S" for p in ("iptables", "ip6tables") for t in ("filter", "nat"))


@pytest.fixture(scope="module")
def beside() -> Iterator[Lab]:
    """Three hosts."""
    if missing():
        pytest.fail(f"there is no Docker Engine: install the package {missing()}", pytrace=False)
    with lab_of(3, "docker") as lab:
        yield lab
    remove_groups()


@dataclass
class Containers:
    """Docker's own on node1: two on a network, one with a published port."""

    engine: DockerEngine
    fleet: Fleet

    def start(self) -> None:
        self.engine.start()
        self.engine.client.networks.create("dock", **Net(("10.61.0.0/24",)).docker())
        for number, ports in ((1, {"80/tcp": 8101}), (2, {})):
            self.engine.run(f"dock{number}", network="dock", ports=ports)
            self.fleet.sh("node1", f"ip netns attach dock{number} {self.engine.processes()[f'dock{number}']}")
        self.fleet.sh("node1", "sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1")

    def reached(self) -> list[object]:
        """Whom they reach, and who reaches them."""
        one, two = (self.fleet.lab.address(f"node{number}") for number in (1, 2))
        with serving(self.fleet, "node1", "dock1", "tcp/80"), serving(self.fleet, "node2", "", "tcp/6000"):
            calls: list[Call] = [("tcp", "10.61.0.2", 80), ("tcp", two, 6000)]
            return [
                *answers(self.fleet, "node1", "dock2", calls),
                *answers(self.fleet, "node2", "", [("tcp", one, 8101), ("tcp", one, 80)]),
                *pinged(self.fleet, "node1", [("dock1", OUTSIDE4), ("dock2", OUTSIDE4)]).values(),
            ]

    def undisturbed(self) -> bool:
        """All of that is as Docker has it."""
        one, two = (self.fleet.lab.address(f"node{number}") for number in (1, 2))
        assert self.reached() == ["10.61.0.3", one, two, None, True, True]
        return True

    def rules(self) -> str:
        return re.sub(r"\[\d+:\d+\]", "", self.fleet.sh("node1", _TABLES))


def test_three_hosts_beside_a_running_engine(beside: Lab, tmp_path: Path, subtests: pytest.Subtests) -> None:
    fleet = Fleet(beside, tmp_path)
    docker = Containers(DockerEngine(beside, "node1", ip6tables=False), fleet)
    docker.start()
    before = {host: snapshot(fleet, host) for host in fleet.hosts}
    rules = docker.rules()
    assert "-P FORWARD DROP" in rules
    assert docker.undisturbed()
    networks = {"cnm_networks": {name: overlay(*subnets) for name, subnets in SUBNETS.items()}}
    both = {"networks": ["multinet", "second"], "ports": ["8102:80"]}
    fleet.declare(
        networks,
        node1=sandboxes(c1=both, c1b=["multinet"]),
        node2=sandboxes(c2=["multinet", "second"]),
        node3=sandboxes(c3=["multinet"]),
    )
    fleet.site()
    with subtests.test("the matrix"):
        assert wrong(fleet, SUBNETS, MEMBERS) == []
        assert unanswered(fleet, matrix(MEMBERS)) == []
    with subtests.test("full packets pass"):
        trials = [("c1", "-M", "do", "-s", str(size), "c3") for size in (1422, 1423)]
        assert list(pinged(fleet, "node1", trials).values()) == [True, False]
    with subtests.test("the way out, and in"):
        assert unanswered(fleet, {"node1": [("c1", OUTSIDE4), ("c1b", OUTSIDE4)]}) == []
        with serving(fleet, "node1", "c1", "tcp/80"):
            found = answers(fleet, "node2", "", [("tcp", beside.address("node1"), 8102)])
            assert found == [beside.address("node2")]
    with subtests.test("Docker's own are as they were"):
        assert docker.undisturbed()
    with subtests.test("a second run changes nothing, and verify proves it"):
        assert fleet.site().changed == []
        verified = fleet.play("verify")
        assert verified.code == 0, verified.output
    with subtests.test("teardown leaves each host as it was, iptables included"):
        fleet.teardown()
        assert {host: snapshot(fleet, host) for host in fleet.hosts} == before
        assert docker.rules() == rules
        assert docker.undisturbed()
