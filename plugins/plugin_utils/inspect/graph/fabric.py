# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the graph shows, free of how it is drawn: hosts, networks, sandboxes, services, and how each stands.

Made by `comparing.fabric_of` of what is declared and of what the hosts have.  Everything is frozen and in the order in
which it is shown.
"""

from __future__ import annotations

from dataclasses import replace

from ....module_utils.plan.records import dataclass


@dataclass(frozen=True)
class State:
    """How something stands: one word for programs, a sign and words for people."""

    key: str
    sign: str
    words: str
    meaning: str


FINE = State("fine", "✓", "as declared", "It is there, as the inventory declares it.")
NEW = State("new", "+", "not there yet", "It is declared, and no run has made it: run cnm.fabric.site.")
LOST = State("lost", "×", "missing", "A run made it, and it is gone from the host: run cnm.fabric.site.")
DIFFERS = State("differs", "≠", "differs", "It is there, but not as declared.")
LEFT = State("left", "−", "no longer declared", "It is there, and the next run removes it.")
UNKNOWN = State("unknown", "?", "not known", "The host did not answer, or its answer cannot be used.")
STATES = (FINE, NEW, LOST, DIFFERS, LEFT, UNKNOWN)

_WORST = (LOST, DIFFERS, NEW, LEFT, UNKNOWN, FINE)


def worst(states: list[State]) -> State:
    """The one that most needs a look; `FINE` of none."""
    return min(states, key=_WORST.index, default=FINE)


@dataclass(frozen=True)
class Endpoint:
    """A sandbox on a network.  ``was`` has the addresses that it has, where others are declared."""

    network: str
    link: str
    addresses: tuple[str, ...]
    mac: str
    names: tuple[str, ...]
    state: State
    was: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sandbox:
    """A sandbox, or a task of ``service``."""

    name: str
    host: str
    mode: str
    """``host`` or ``none`` if it has that network mode instead of endpoints."""
    ports: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    state: State
    service: str = ""
    drained: bool = False
    policies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A network on the hosts on which it is one network; ``vteps`` are the hosts' addresses for its tunnels."""

    id: str
    driver: str
    hosts: tuple[str, ...]
    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    flags: tuple[str, ...]
    """Words such as ``internal``, and the VNI."""
    options: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]
    vteps: tuple[tuple[str, str], ...]
    states: tuple[tuple[str, State], ...]
    """By host."""


@dataclass(frozen=True)
class Network:
    """All networks of a name: a lane.  A network of local scope has a part for each host."""

    name: str
    parts: tuple[Part, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that have it."""
        return tuple(host for part in self.parts for host in part.hosts)

    @property
    def drivers(self) -> str:
        """Its driver, or its drivers."""
        return ", ".join(sorted({part.driver for part in self.parts}))

    @property
    def spans(self) -> bool:
        """Whether it is one network on several hosts."""
        return any(len(part.hosts) > 1 or part.vteps for part in self.parts)

    @property
    def state(self) -> State:
        """The worst of its states."""
        return worst([state for part in self.parts for _host, state in part.states])


@dataclass(frozen=True)
class Task:
    """A task of a service, and where it is."""

    name: str
    host: str
    addresses: tuple[str, ...]
    weight: int
    state: State


@dataclass(frozen=True)
class Service:
    """A service over all hosts; ``vips`` are its virtual addresses by network."""

    name: str
    mode: str
    wanted: int
    networks: tuple[tuple[str, tuple[str, ...]], ...]
    """Each with the names by which the service is known on it."""
    vips: tuple[tuple[str, str], ...]
    ports: tuple[str, ...]
    tasks: tuple[Task, ...]
    state: State


@dataclass(frozen=True)
class Rule:
    """A rule of a policy.  ``peers`` are kinds and names, none for everybody; ``about`` is empty for everything."""

    action: str
    peers: tuple[tuple[str, ...], ...]
    about: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """Who may speak to some sandboxes, and to whom they may; "" is said of a direction that is not judged."""

    name: str
    holders: tuple[tuple[str, str], ...]
    """Host and name of each sandbox that it holds for."""
    networks: tuple[str, ...]
    """Networks that have it for all sandboxes on them."""
    ingress: tuple[Rule, ...]
    ingress_default: str
    egress: tuple[Rule, ...]
    egress_default: str


@dataclass(frozen=True)
class Difference:
    """Something that is not as declared, in words; ``values`` are attributes with what is found and what is wanted."""

    host: str
    what: str
    state: State
    words: str
    values: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Host:
    """A host: what it is like in a sentence, and what it has."""

    name: str
    state: State
    words: str
    addresses: tuple[str, ...]
    """Its addresses for tunnels."""
    balancer: str
    sandboxes: tuple[Sandbox, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Fabric:
    """All of it."""

    project: str
    hosts: tuple[Host, ...]
    networks: tuple[Network, ...]
    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()

    @property
    def differences(self) -> list[Difference]:
        """Of all hosts."""
        return [difference for host in self.hosts for difference in host.differences]

    @property
    def grouped(self) -> list[tuple[Difference, list[str]]]:
        """Differences with the hosts that have the same one, those that most need a look first."""
        found: dict[Difference, list[str]] = {}
        for difference in self.differences:
            hosts = found.setdefault(replace(difference, host=""), [])
            # Once a host: it must not count for others.
            hosts += [difference.host] if difference.host not in hosts[-1:] else []
        return sorted(found.items(), key=lambda item: _WORST.index(item[0].state))

    @property
    def known_differences(self) -> int:
        """How many there are, without hosts that are not known; the same one on several hosts counts once."""
        return sum(1 for difference, _hosts in self.grouped if difference.state is not UNKNOWN)

    @property
    def sandboxes(self) -> list[Sandbox]:
        """Of all hosts."""
        return [sandbox for host in self.hosts for sandbox in host.sandboxes]
