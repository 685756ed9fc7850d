# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `verify` has to know of policies: for each sandbox some addresses that it may speak to, and some it may not."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ...module_utils.plan.families import family_of
from ..declaration.policies import ICMP4, ICMP6, TCP
from ..declaration.topology import (
    EGRESS_RULES,
    EVERYTHING,
    ICMP,
    INGRESS_RULES,
    PORTS,
    PROTOCOL,
    Host,
    Match,
    Peer,
    Sandbox,
)
from ..drivers.base import PlannedEndpoint, PlannedNetwork, by_network
from .address_classes import Classes, addresses_of, classes_of
from .policies import STRENGTH, Combination, Judged, combination, policies_of

_LOOKED_AT = 24
"""Members of a network that are looked at for a sandbox,"""
_OF_EACH = 3
"""and how many addresses of each sort are named."""


@dataclass
class Sample:
    """What a sandbox's policies mean on its networks."""

    policies: list[str]
    networks: list[str] = field(default_factory=list)
    """Its networks on which somebody has policies."""
    open: list[str] = field(default_factory=list)
    """Addresses there that answer its echo requests,"""
    closed: list[str] = field(default_factory=list)
    """and that must not."""
    connects: list[tuple[str, int]] = field(default_factory=list)
    """TCP ports that it reaches."""


def samples(
    host: Host,
    networks: Mapping[str, PlannedNetwork],
    sandboxes: Mapping[str, Sequence[PlannedEndpoint]],
    of_hosts: Mapping[str, Iterable[str]],
) -> dict[str, Sample]:
    """Samples of all sandboxes with a network on which somebody has policies; the same in every run."""
    if not host.policies:
        return {}
    peers = {peer for p in host.policies for rule in (*p.ingress, *p.egress) for peer in rule.peers}
    every = [item for group in sandboxes.values() for item in group]
    judge = _Judge(classes_of(addresses_of(peers, host, networks, every, of_hosts)))
    known: dict[tuple[str, ...], Combination] = {}

    def judged(sandbox: Sandbox) -> Combination | None:
        own = [networks[end.network] for end in sandbox.endpoints if end.network in networks]
        names = policies_of(sandbox, own)
        if names and names not in known:
            known[names] = combination(host, names, ())
        return known.get(names)

    there = by_network(every)
    members = {name: _members(network, there.get(name, ()), judged) for name, network in networks.items()}
    guarded = {name for name, own in members.items() if any(item.judged for item in own)}
    result = {}
    for name, endpoints in sandboxes.items():
        ends = [item for item in endpoints if item.network.name in guarded]
        if not ends:
            continue
        own = judged(endpoints[0].sandbox)
        sample = result[name] = Sample(list(own.policies) if own else [], [item.network.name for item in ends])
        for end in ends:
            if end.network.network.traits.isolates is False:
                for other in _chosen(members[end.network.name], end.sandbox.key):
                    for here, address in _pairs(end.addresses, other.addresses):
                        _add(sample, address, judge.between(own, here, other.judged, address))
        for found in (sample.open, sample.closed, sample.connects):
            found.sort()
    return result


@dataclass(frozen=True, order=True)
class _Member:
    """A sandbox on a network, at its place on a circle of all: a hash of its key."""

    place: bytes
    key: str = field(compare=False)
    addresses: tuple[str, ...] = field(compare=False)
    judged: Combination | None = field(compare=False)
    """The policies that hold for it."""


def _members(
    network: PlannedNetwork, endpoints: Iterable[PlannedEndpoint], judged: Callable[[Sandbox], Combination | None]
) -> list[_Member]:
    every = endpoints if network.spanning is None else network.spanning.sandboxes.values()
    keyed = ((item, item.sandbox.key) for item in every)
    return sorted(_Member(_chance(key), key, item.addresses, judged(item.sandbox)) for item, key in keyed)


def _chosen(members: Sequence[_Member], key: str) -> Iterator[_Member]:
    """The members that are looked at for a sandbox: those that follow a place of its own on the circle."""
    first = bisect_left(members, _chance("for", key), key=lambda item: item.place)
    turned = (members[(first + count) % len(members)] for count in range(min(len(members), _LOOKED_AT + 1)))
    return islice((item for item in turned if item.key != key), _LOOKED_AT)


def _chance(*words: str) -> bytes:
    return hashlib.sha256("\n".join(words).encode()).digest()


def _pairs(own: Iterable[str], others: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each of the others' addresses with one's own of that family."""
    for there in others:
        here = next((item for item in own if family_of(item) == family_of(there)), None)
        if here is not None:
            yield here, there


def _add(sample: Sample, address: str, found: tuple[bool, int | None]) -> None:
    answers, port = found
    room = sample.open if answers else sample.closed
    if len(room) < _OF_EACH * len(sample.networks):
        room.append(address)
    if port is not None and len(sample.connects) < _OF_EACH:
        sample.connects.append((address, port))


class _Judge:
    """Judges what one sandbox opens to another.  None for the policies of one: everybody may speak to it.

    Who is in the same classes under the same policies is judged alike, and once.
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._known: dict[Any, tuple[bool, int | None]] = {}
        self._of: dict[Any, Judged] = {}

    def between(
        self, own: Combination | None, here: str, their: Combination | None, there: str
    ) -> tuple[bool, int | None]:
        """Whether there answers an echo request from here, and the first TCP port that a rule about both allows."""
        family = family_of(here)
        to, of = self._classes.peers_of(there), self._classes.peers_of(here)
        key = (family, own and own.id, to, their and their.id, of)
        if key not in self._known:
            ways = (self._about(own, EGRESS_RULES, to), self._about(their, INGRESS_RULES, of))
            allowing = [rule for judged in ways for rule in judged.rules if rule.action == "allow"]
            matches = (match for rule in allowing for match in rule.matches)
            ports = {match.first for match in matches if match.kind == PORTS and match.protocol == TCP}
            may = (port for port in sorted(ports) if _passes(ways, TCP, port))
            self._known[key] = (_passes(ways, *((ICMP6, 128) if family == 6 else (ICMP4, 8))), next(may, None))
        return self._known[key]

    def _about(self, held: Combination | None, direction: str, peers: frozenset[Peer]) -> Judged:
        """The rules of a direction that are about such peers."""
        if held is None:
            return Judged()
        key = (held.id, direction, peers)
        if key not in self._of:
            judged = held.of(direction)
            rules = (rule for rule in judged.rules if not rule.peers or not peers.isdisjoint(rule.peers))
            self._of[key] = Judged(tuple(rules), judged.default)
        return self._of[key]


def _passes(ways: Iterable[Judged], protocol: int, number: int) -> bool:
    """Whether what opens something passes: a packet to a port, or of an ICMP type."""
    return all(_verdict(judged, protocol, number) == "allow" for judged in ways)


def _verdict(judged: Judged, protocol: int, number: int) -> str:
    actions = {rule.action for rule in judged.rules if any(_is_about(item, protocol, number) for item in rule.matches)}
    return next((action for action in STRENGTH if action in actions), judged.default or "allow")


def _is_about(match: Match, protocol: int, number: int) -> bool:
    if match.kind == EVERYTHING:
        return True
    if match.protocol != protocol:
        return False
    return match.kind == PROTOCOL or (match.kind in (PORTS, ICMP) and match.first <= number <= match.last)
