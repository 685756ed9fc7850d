# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Our collection on a host where a Docker Engine runs: its FORWARD policy drops, and bridged frames pass iptables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker_engine import DockerEngine
from fleet import Fleet, snapshot
from known import Expected, unexpected
from lab import Lab
from matrix import Side
from scenarios import BRIDGE, STRANGER, Box, Net, Scenario
from world import BOTH, NEAR_BOTH, Outcomes, find_containers, find_sandboxes, furnish, tried, variables

SECOND = "198.51.100.203"
THEIRS = Scenario(
    "Docker's own",
    {"dock": Net(("10.61.0.0/24",))},
    {"dock1": Box({"dock": {}}, ("8101:80", "8101:80/udp")), "dock2": Box({"dock": {}})},
)
OURS = Scenario(
    "ours beside them",
    {
        "mine": Net(("10.61.1.0/24", "fd61:0:0:1::/64")),
        "shy": Net(("10.61.2.0/24", "fd61:0:0:2::/64"), options={BRIDGE + "enable_icc": "false"}),
        "shut": Net(("10.61.3.0/24", "fd61:0:0:3::/64"), internal=True),
    },
    {
        "mine1": Box({"mine": {}}, ("8102:80", "8102:80/udp")),
        "mine2": Box({"mine": {}}),
        "shy1": Box({"shy": {}}),
        "shy2": Box({"shy": {}}),
        "shut1": Box({"shut": {}}),
        "shut2": Box({"shut": {}}),
    },
)
TOGETHER = Scenario("both", {**THEIRS.nets, **OURS.nets}, {**THEIRS.boxes, **OURS.boxes})

_BOXES = "mine?|shy?|stranger"
_DOCKERS: Expected = (
    ("dock?", "dock? open*", "dock? hears {source}"),
    ("host", "dock? open*", "dock? hears gateway"),
    # 20.10 lets everybody in behind published ports (moby#45610), ours as coming from the host.
    ("neighbour", "dock1 open*", "dock1 hears neighbour"),
    (_BOXES, "dock1 open*", "dock1 hears gateway"),
    ("neighbour", "host:8101 ???4|second:8101*|gateway:8101*", "dock1 hears neighbour"),
    # With our table on the host not even Docker's ports are reached at its 127.0.0.1 from outside.
    ("neighbour", "loopback:*", "no"),
    ("host", "*:8101*", "dock1 hears *"),
    ("neighbour", "host:8101 ???6", "dock1 hears gateway"),
    # Docker's proxy answers UDP from the address nearest to the caller (moby#11998).
    ("dock?", "*:8101 tcp4|gateway:8101 udp4", "dock1 hears gateway"),
    (_BOXES, "*:8101 ???4|*:8101 tcp6", "dock1 hears gateway"),
    ("dock?", "service at the gateway of dock*|service ???4", "service hears {source}"),
    ("dock?", "outside ???4", "outside hears host"),
)
"""What concerns Docker's boxes."""

_OURS: Expected = (
    ("mine?", "mine? open*", "mine? hears {source}"),
    ("shy?", "{source} open*", "{source} hears {source}"),
    ("shut?", "shut? open*", "shut? hears {source}"),
    ("host", "* open*", "* hears gateway"),
    ("mine?", "*:8102*", "mine1 hears gateway"),
    ("host", "loopback:8102 ???6", "no"),
    ("host", "*:8102*", "mine1 hears *"),
    ("neighbour", "host:8102*|second:8102*", "mine1 hears neighbour"),
    (_BOXES, "*:8102*", "mine1 hears {source}"),
    ("dock?", "host:8102 ???4|second:8102*", "mine1 hears gateway"),
    (_BOXES, "service*", "service hears {source}"),
    ("shut?", "service at the gateway of shut*", "service hears {source}"),
    (_BOXES, "outside*", "outside hears host"),
    ("*", "*", "no"),
)
"""What concerns ours; whatever stands nowhere is not reached."""


@dataclass
class DockerHost:
    """A host with both on it."""

    side: Side
    engine: DockerEngine
    fleet: Fleet

    def rules(self) -> str:
        """Everything iptables has, and everything else a run of ours could change."""
        programs = [
            f"{program} -w -t {table} -S" for program in ("iptables", "ip6tables") for table in ("filter", "nat")
        ]
        return self.fleet.sh(BOTH, "; ".join(programs)) + snapshot(self.fleet, BOTH)

    def outcomes(self, scenario: Scenario) -> Outcomes:
        """What everybody reaches now."""
        find_containers(self.side, self.engine)
        return tried(self.side, {"all": scenario})[0]


@pytest.fixture(scope="module")
def docker_host(parity_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerHost]:
    """A host with an Engine and two containers on it, and an inventory of ours that declares nothing yet."""
    side = Side("both", parity_lab, BOTH, NEAR_BOTH, SECOND)
    engine = DockerEngine(parity_lab, BOTH, ip6tables=False)
    furnish(side, {"all": TOGETHER})
    engine.start()
    engine.apply([THEIRS], SECOND)
    parity_lab.run(BOTH, ["sysctl", "-qw", *(f"net.bridge.bridge-nf-call-ip{v}tables=1" for v in ("", "6"))])
    directory: Path = tmp_path_factory.mktemp("both")
    yield DockerHost(side, engine, Fleet(parity_lab, directory, hosts=[BOTH]))


def test_ours_beside_a_running_engine(docker_host: DockerHost, subtests: pytest.Subtests) -> None:
    host, fleet = docker_host, docker_host.fleet
    before = host.rules()
    assert before.count("-P FORWARD DROP") == 1
    fleet.declare({}, **{BOTH: variables({"ours": OURS, "stranger": STRANGER}, SECOND)})
    foretold = fleet.site("--check")
    assert host.rules() == before
    assert fleet.site().operations(BOTH) == foretold.operations(BOTH)
    find_sandboxes(host.side, fleet, {"ours": OURS, "stranger": STRANGER})
    with subtests.test("everybody reaches who they should"):
        left = unexpected((*_DOCKERS, *_OURS), host.outcomes(TOGETHER)["all"])
        assert not left, "\n".join(left)
    with subtests.test("a second run changes nothing"):
        assert fleet.site().changed == []
    with subtests.test("verify proves it"):
        verified = fleet.play("verify")
        assert verified.code == 0, verified.output
    with subtests.test("teardown leaves the host as it was, iptables included"):
        fleet.teardown()
        assert host.rules() == before


def test_an_engine_that_drops_ipv6_and_has_no_chain_for_its_users_is_named(docker_host: DockerHost) -> None:
    """20.10 knows ip6tables only as an experiment, without DOCKER-USER."""
    host, fleet = docker_host, docker_host.fleet
    fleet.declare({}, **{BOTH: variables({"ours": OURS}, SECOND)})
    fleet.site()
    host.engine.stop()
    host.engine.ip6tables = True
    host.engine.start()
    try:
        again = fleet.site()
        assert "ip6" in again.output
        assert "FORWARD" in again.output
    finally:
        fleet.teardown()
