# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Both sides with all scenarios on them, and everything tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import pytest
from agents import Agent
from docker_engine import DockerEngine
from fleet import Fleet
from lab import Lab
from matrix import Row, Side, listen, reached, resolved
from scenarios import STRANGER, Scenario

OURS, DOCKERS, NEAR_OURS, NEAR_DOCKERS, BOTH, NEAR_BOTH = (f"node{number}" for number in range(1, 7))


Outcomes = Mapping[str, Mapping[Row, str]]
"""Each scenario's rows."""


@dataclass
class Result:
    """One side's outcome: what everybody reaches and resolves, or why there is none."""

    side: Side
    reached: Outcomes = field(default_factory=dict)
    resolved: Outcomes = field(default_factory=dict)
    problem: Optional[BaseException] = None
    times: dict[str, float] = field(default_factory=dict)

    def good(self) -> Result:
        """Itself, if it worked."""
        if self.problem is not None:
            pytest.fail(f"{self.side.name}: {self.problem}", pytrace=False)
        return self


@dataclass
class World:
    """Both sides."""

    docker: Result
    ours: Result


def both_sides(lab: Lab, directory: Path, chosen: Mapping[str, Scenario]) -> World:
    """The scenarios on both sides at once."""
    with ThreadPoolExecutor(2) as pool:
        docker = pool.submit(_docker, lab, {name: scenario for name, scenario in chosen.items() if scenario.docker})
        ours = pool.submit(_ours, lab, directory, chosen)
        return World(docker.result(), ours.result())


Applied = Callable[[Side, Mapping[str, Scenario]], None]


def _result(side: Side, scenarios: Mapping[str, Scenario], apply: Applied) -> Result:
    """Make the scenarios, look around, try everything."""
    result = Result(side)
    try:
        furnish(side, scenarios)
        started = time.monotonic()
        apply(side, {**scenarios, "stranger": STRANGER})
        result.times["apply"] = time.monotonic() - started
        result.reached, result.resolved = tried(side, scenarios)
        result.times["all"] = time.monotonic() - started
    except BaseException as problem:
        result.problem = problem
    return result


def tried(side: Side, scenarios: Mapping[str, Scenario]) -> tuple[Outcomes, Outcomes]:
    """What everybody reaches, and what every name means to everybody."""
    everything = [*scenarios.values(), STRANGER]
    side.know(everything)
    host, neighbour = Agent(side.lab, side.node), Agent(side.lab, side.neighbour)
    try:
        problems = listen(side, everything, host, neighbour)
        assert not problems, problems
        resolves = resolved(side, scenarios, host)
        return reached(side, scenarios, host, neighbour), resolves
    finally:
        host.end()
        neighbour.end()


def furnish(side: Side, scenarios: Mapping[str, Scenario]) -> None:
    """The host's second address, and the neighbour's routes through the host, to its loopback address too."""
    side.lab.run(side.node, ["ip", "address", "add", f"{side.second}/24", "dev", "eth0"])
    subnets = [net for item in [*scenarios.values(), STRANGER] for n in item.nets.values() for net in n.subnets]
    address = {family: side.lab.address(side.node, family) for family in (4, 6)}
    lines = [f"ip route replace {net} via {address[6 if ':' in net else 4]}" for net in [*subnets, "172.17.0.0/16"]]
    lines += ["sysctl -qw net.ipv4.conf.all.route_localnet=1", "ip address flush dev lo"]
    lines += [f"ip route add 127.0.0.1 via {address[4]} src {side.lab.address(side.neighbour)}"]
    side.lab.run(side.neighbour, ["sh", "-ec", "\n".join(lines)])


def _docker(lab: Lab, scenarios: Mapping[str, Scenario]) -> Result:
    side = Side("Docker", lab, DOCKERS, NEAR_DOCKERS, "198.51.100.202")
    engine = DockerEngine(lab, DOCKERS)

    def apply(side: Side, scenarios: Mapping[str, Scenario]) -> None:
        engine.start()
        engine.apply(scenarios.values(), side.second)
        find_containers(side, engine)

    return _result(side, scenarios, apply)


def _ours(lab: Lab, directory: Path, scenarios: Mapping[str, Scenario]) -> Result:
    side = Side("cnm.fabric", lab, OURS, NEAR_OURS, "198.51.100.201")
    fleet = Fleet(lab, directory, hosts=[OURS])

    def apply(side: Side, scenarios: Mapping[str, Scenario]) -> None:
        fleet.declare({}, **{side.node: variables(scenarios, side.second)})
        fleet.site()
        find_sandboxes(side, fleet, scenarios)

    return _result(side, scenarios, apply)


def find_containers(side: Side, engine: DockerEngine) -> None:
    """Learn where Docker's boxes are."""
    side.documents.update(engine.networks())
    processes = engine.processes()
    side.namespaces.update({box: f"/proc/{pid}/ns/net" for box, pid in processes.items()})
    paths = {box: f"/proc/{pid}/root/etc/resolv.conf" for box, pid in processes.items()}
    side.resolv_conf.update(_files(side.lab, side.node, paths))


def find_sandboxes(side: Side, fleet: Fleet, scenarios: Mapping[str, Scenario]) -> None:
    """Learn where our boxes are."""
    side.documents.update({item["Name"]: item for item in inspected(fleet, side.node)})
    boxes = [name for scenario in scenarios.values() for name in scenario.boxes]
    side.namespaces.update({box: f"/run/netns/{box}" for box in boxes})
    side.resolv_conf.update(_files(side.lab, side.node, {box: f"/etc/netns/{box}/resolv.conf" for box in boxes}))


def variables(scenarios: Mapping[str, Scenario], second: str) -> dict[str, Any]:
    """The scenarios as a user of ours declares them."""
    networks = {name: net.ours() for scenario in scenarios.values() for name, net in scenario.nets.items()}
    boxes = {name: box.ours() for scenario in scenarios.values() for name, box in scenario.boxes.items()}
    for box in boxes.values():
        if "ports" in box:
            box["ports"] = [port.replace("{second}", second) for port in box["ports"]]
    return {"cnm_networks": networks, "cnm_sandboxes": boxes}


def inspected(fleet: Fleet, node: str) -> list[dict[str, Any]]:
    """What cnm.fabric.inspect says of a host's networks."""
    run = fleet.play("inspect")
    assert run.code == 0, run.output
    documents: list[dict[str, Any]] = run.of("cnm.fabric.inspect", node)["networks"][node]
    return documents


def _files(lab: Lab, node: str, paths: Mapping[str, str]) -> dict[str, str]:
    return {name: lab.run(node, ["cat", path]).stdout for name, path in paths.items()}
