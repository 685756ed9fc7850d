# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `verify` has to know of policies: for each sandbox some addresses that it may speak to, and some it may not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

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


@dataclass(frozen=True)
class _Far:
    """Somebody on a network; nobody's sandbox is the host, at its gateway."""

    addresses: tuple[str, ...]
    judged: Combination | None
    """None: everybody may speak to it."""


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
    classes = classes_of(addresses_of(peers, host, networks, every, of_hosts))
    known: dict[tuple[str, ...], Combination] = {}

    def judged(sandbox: Sandbox) -> Combination | None:
        own = [networks[end.network] for end in sandbox.endpoints if end.network in networks]
        names = policies_of(sandbox, own)
        if names and names not in known:
            known[names] = combination(host, names, ())
        return known.get(names)

    members = {name: _members(network, by_network(every).get(name, ())) for name, network in networks.items()}
    guarded = {name for name, own in members.items() if any(judged(box) for box, _addresses in own)}
    result = {}
    for name, endpoints in sandboxes.items():
        ends = [item for item in endpoints if item.network.name in guarded]
        if not ends:
            continue
        own = judged(endpoints[0].sandbox)
        sample = result[name] = Sample(list(own.policies) if own else [], [item.network.name for item in ends])
        for end in ends:
            others = [pair for pair in members[end.network.name] if pair[0].key != end.sandbox.key]
            chosen = sorted(others, key=lambda pair: _chance(name, pair[0].key))[:_LOOKED_AT]
            if end.network.network.traits.isolates is False:
                for box, addresses in chosen:
                    _judge(sample, end, own, _Far(addresses, judged(box)), classes)
        for found in (sample.open, sample.closed, sample.connects):
            found.sort()
    return result


def _members(network: PlannedNetwork, endpoints: Iterable[PlannedEndpoint]) -> list[tuple[Sandbox, tuple[str, ...]]]:
    if network.spanning is not None:
        return [(item.sandbox, item.addresses) for item in network.spanning.sandboxes.values()]
    return [(item.sandbox, item.addresses) for item in endpoints]


def _chance(*words: str) -> bytes:
    return hashlib.sha256("\n".join(words).encode()).digest()


def _judge(sample: Sample, end: PlannedEndpoint, own: Combination | None, far: _Far, classes: Classes) -> None:
    """Add what becomes of the sandbox's echo requests to somebody, and of connections that are allowed."""
    for address in far.addresses:
        family = family_of(address)
        here = next((item for item in end.addresses if family_of(item) == family), None)
        if here is None:
            continue
        ways = (
            (own.of(EGRESS_RULES) if own else Judged(), peers_of(address, classes)),
            (far.judged.of(INGRESS_RULES) if far.judged else Judged(), peers_of(here, classes)),
        )
        ping = (ICMP6, 128) if family == 6 else (ICMP4, 8)
        passes = all(verdict(judged, peers, *ping) == "allow" for judged, peers in ways)
        room = sample.open if passes else sample.closed
        if len(room) < _OF_EACH * len(sample.networks):
            room.append(address)
        ports = {
            match.first
            for judged, _peers in ways
            for rule in judged.rules
            if rule.action == "allow"
            for match in rule.matches
            if match.kind == PORTS and match.protocol == TCP
        }
        if len(sample.connects) < _OF_EACH:
            may = [port for port in sorted(ports) if all(verdict(j, peers, TCP, port) == "allow" for j, peers in ways)]
            sample.connects += [(address, port) for port in may[:1]]


def peers_of(address: str, classes: Classes) -> frozenset[Peer]:
    """All peers that an address is of."""
    family, number = family_of(address), int(ip_address(address))
    found = classes.members[family].get(address)
    for span, value in classes.prefixes[family].items() if found is None else ():
        first, _dash, last = span.partition("-")
        if int(ip_address(first)) <= number <= int(ip_address(last or first)):
            found = value
    return classes.peers[found][1] if found is not None else frozenset()


def verdict(judged: Judged, peers: frozenset[Peer], protocol: int, number: int) -> str:
    """What becomes of a packet that opens something: of a port, or an ICMP type."""
    actions = {
        rule.action
        for rule in judged.rules
        if (not rule.peers or peers & set(rule.peers))
        and any(_is_about(item, protocol, number) for item in rule.matches)
    }
    return next((action for action in STRENGTH if action in actions), judged.default or "allow")


def _is_about(match: Match, protocol: int, number: int) -> bool:
    if match.kind == EVERYTHING:
        return True
    if match.protocol != protocol:
        return False
    return match.kind == PROTOCOL or (match.kind in (PORTS, ICMP) and match.first <= number <= match.last)
