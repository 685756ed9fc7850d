# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who reaches what: the calls of a scenario on one side, and what came of them in words that fit both sides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from agents import Agent, Call
from dns_words import answers, question
from lab import Lab
from scenarios import CLOSED, OPEN, STRANGER, Box, Published, Scenario

SERVICE, WAY_OUT = 7777, 7778
"""Ports of the host's own service, and of the neighbour's."""
PROTOCOLS = ("tcp", "udp")

Row = tuple[str, str]
"""From whom to what."""


@dataclass
class Side:
    """A host with all scenarios on it, a neighbour on its segment, and where everything is."""

    name: str
    lab: Lab
    node: str
    neighbour: str
    second: str
    documents: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What ``docker network inspect`` says, by name."""
    namespaces: dict[str, str] = field(default_factory=dict)
    resolv_conf: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    """Who has an address."""

    def addresses(self, box: str, net: str) -> list[str]:
        """The addresses of a box on a network, without their prefix lengths."""
        for entry in self.documents[net]["Containers"].values():
            if entry["Name"] == box:
                found = (entry["IPv4Address"], entry["IPv6Address"])
                return [address.partition("/")[0] for address in found if address]
        return []

    def gateways(self, scenario: Scenario, net: str) -> list[str]:
        """The bridge's addresses."""
        if net in scenario.nets:
            return list(scenario.nets[net].gateways().values())
        config = self.documents[net]["IPAM"]["Config"]
        return [item.get("Gateway") or str(ip_network(item["Subnet"])[1]) for item in config]

    def know(self, scenarios: Iterable[Scenario]) -> None:
        """Learn who has which address."""
        self.roles = {"127.0.0.1": "loopback", "::1": "loopback", self.second: "second"}
        for family in (4, 6):
            self.roles[self.lab.address(self.node, family)] = "host"
            self.roles[self.lab.address(self.neighbour, family)] = "neighbour"
        for scenario in scenarios:
            for box, net in _endpoints(scenario):
                self.roles.update(dict.fromkeys(self.gateways(scenario, net), "gateway"))
                self.roles.update(dict.fromkeys(self.addresses(box, net), box))


def networks_of(box: Box) -> list[str]:
    """The names of a box's networks."""
    return list(box.networks) or ["bridge"]


def _endpoints(scenario: Scenario) -> list[tuple[str, str]]:
    return [(name, net) for name, box in scenario.boxes.items() for net in networks_of(box)]


# --- listeners --------------------------------------------------------------------------------------------------------


def listen(side: Side, scenarios: Iterable[Scenario], host: Agent, neighbour: Agent) -> list[str]:
    """Open everything that is to be reached; what could not be opened, in words."""
    wanted: dict[tuple[str, str, str, str, int], None] = {}
    own = [*(side.lab.address(side.node, family) for family in (4, 6)), side.second]
    for scenario in scenarios:
        published = scenario.published(side.second)
        for box, net in _endpoints(scenario):
            own += side.gateways(scenario, net)
            for port in {OPEN, *(item.target for item in published if item.box == box)}:
                name = box if port == OPEN else f"{box}:{port}"
                for address in side.addresses(box, net):
                    wanted.update({(side.namespaces[box], name, kind, address, port): None for kind in PROTOCOLS})
    problems = host.listen(list(wanted))
    host.listen([("", "service", kind, address, SERVICE) for address in dict.fromkeys(own) for kind in PROTOCOLS])
    outside = [side.lab.address(side.neighbour, family) for family in (4, 6)]
    return problems + neighbour.listen([("", "outside", k, a, WAY_OUT) for a in outside for k in PROTOCOLS])


# --- calls ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What is called, and by whom: ``boxes``, ``host`` and ``neighbour``."""

    label: str
    address: str
    port: int
    by: tuple[str, ...] = ("boxes", "host", "neighbour")
    protocols: tuple[str, ...] = PROTOCOLS


def targets(scenario: Scenario, side: Side) -> Iterator[Target]:
    """All that a scenario has to offer."""
    published = scenario.published(side.second)
    for box, net in _endpoints(scenario):
        label = f"{box}@{net}" if len(scenario.boxes[box].networks) > 1 else box
        for address in side.addresses(box, net):
            yield Target(f"{label} open", address, OPEN)
            for port in sorted({item.target for item in published if item.box == box} - {OPEN}):
                yield Target(f"{label} open {port}", address, port)
            yield Target(f"{label} closed", address, CLOSED)
    for item in published:
        yield from _published(scenario, side, item)
    for net in dict.fromkeys(net for _box, net in _endpoints(scenario)):
        for address in side.gateways(scenario, net):
            yield Target(f"service at the gateway of {net}", address, SERVICE, ("boxes",))
    for family in (4, 6):
        yield Target("service", side.lab.address(side.node, family), SERVICE, ("boxes",))
        yield Target("outside", side.lab.address(side.neighbour, family), WAY_OUT, ("boxes",))


def _published(scenario: Scenario, side: Side, item: Published) -> Iterator[Target]:
    net = networks_of(scenario.boxes[item.box])[-1]
    places = [("host", side.lab.address(side.node, family)) for family in (4, 6)] + [("second", side.second)]
    places += [("gateway", address) for address in side.gateways(scenario, net)]
    for label, address in places:
        yield Target(f"{label}:{item.port}", address, item.port, protocols=(item.protocol,))
    for address, by in (("127.0.0.1", ("host", "neighbour")), ("::1", ("host",))):
        yield Target(f"loopback:{item.port}", address, item.port, by, (item.protocol,))


def _calls(scenario: Scenario, side: Side) -> Iterator[tuple[Row, bool, Call]]:
    """Each row with whether the neighbour does it, and the call."""
    boxes = {name: side.namespaces[name] for name in [*scenario.boxes, *STRANGER.boxes]}
    for target in targets(scenario, side):
        callers = {**(boxes if "boxes" in target.by else {}), **{who: "" for who in target.by if who != "boxes"}}
        for who, namespace in callers.items():
            for protocol in target.protocols:
                label = f"{target.label} {protocol}{6 if ':' in target.address else 4}"
                call = (namespace, protocol, target.address, target.port, b"who?".hex())
                yield (who, label), who == "neighbour", call


def reached(side: Side, scenarios: Mapping[str, Scenario], host: Agent, neighbour: Agent) -> dict[str, dict[Row, str]]:
    """For each scenario every row: who answered and whom it heard, or how nobody did."""
    rows = [(name, *call) for name, scenario in scenarios.items() for call in _calls(scenario, side)]
    for agent, outside in ((host, False), (neighbour, True)):
        agent.begin([call for _name, _row, by_neighbour, call in rows if by_neighbour == outside])
    said = {False: iter(host.results()), True: iter(neighbour.results())}
    result: dict[str, dict[Row, str]] = {name: {} for name in scenarios}
    for name, row, by_neighbour, _call in rows:
        result[name][row] = _in_words(next(said[by_neighbour]), side.roles)
    return result


def _in_words(said: str, roles: Mapping[str, str]) -> str:
    if said in ("refused", "closed", "unreachable", "silent"):
        return said
    who, caller = json.loads(bytes.fromhex(said))
    return f"{who} hears {roles.get(caller, caller)}"


# --- names ------------------------------------------------------------------------------------------------------------


def _questions(scenario: Scenario, side: Side) -> Iterator[tuple[str, str]]:
    """Names and kinds that every box of a scenario asks for."""
    names = ["nobody-of-that-name", "stranger", "stranger.far", "outside.example"]
    for name, entry in scenario.boxes.items():
        names += [name, name.upper()]
        names += [alias for options in entry.networks.values() for alias in options.get("aliases", ())]
        names += [f"{name}.{net}" for net in networks_of(entry)]
    for name in dict.fromkeys(names):
        yield name, "A"
        yield name, "AAAA"
    for box, net in _endpoints(scenario):
        for address in side.addresses(box, net):
            yield address, "PTR"


def resolved(side: Side, scenarios: Mapping[str, Scenario], host: Agent) -> dict[str, dict[Row, str]]:
    """For each scenario what every box is told about every name."""
    rows: list[tuple[str, Row, Call]] = []
    for scenario_name, scenario in scenarios.items():
        for box in scenario.boxes:
            server = _server(side.resolv_conf[box])
            for name, kind in _questions(scenario, side):
                call = (side.namespaces[box], "udp", server, 53, question(name, kind))
                label = f"{kind} {side.roles.get(name, name) if kind == 'PTR' else name}"
                rows.append((scenario_name, (box, f"{label} {'in6' if ':' in name else ''}".strip()), call))
    host.begin([call for _scenario, _row, call in rows])
    result: dict[str, dict[Row, str]] = {name: {} for name in scenarios}
    for (scenario_name, row, _call), said in zip(rows, host.results()):
        result[scenario_name][row] = _dns_in_words(said, side.roles)
    return result


def _server(resolv_conf: str) -> str:
    return next((line.split()[1] for line in resolv_conf.splitlines() if line.startswith("nameserver")), "127.0.0.1")


def _dns_in_words(said: str, roles: Mapping[str, str]) -> str:
    if said in ("refused", "closed", "unreachable", "silent"):
        return said
    return " ".join(sorted(roles.get(item, item) for item in answers(said)))
