# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Policies: what those of a sandbox, and of its networks, say together of who may speak to whom.  Pure.

The policies that hold for a sandbox are its *combination*; `policy_tables` makes sets and chains of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from ...module_utils.plan.families import family_of
from ...module_utils.plan.records import dataclass
from ..declaration.policies import TCP, UDP
from ..declaration.topology import (
    DIRECTIONS,
    EGRESS_RULES,
    INGRESS_RULES,
    PORTS,
    Host,
    Match,
    Peer,
    PolicyRule,
    Sandbox,
)
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from .address_classes import Classes, addresses_of, classes_of

STRENGTH = ("drop", "reject", "allow")
"""Actions: an earlier one wins over a later one."""


@dataclass(frozen=True)
class Judged:
    """The rules of one direction; ``default`` is "" if nothing is said of it, so that everything passes."""

    rules: tuple[PolicyRule, ...] = ()
    default: str = ""
    logged: tuple[tuple[str, PolicyRule], ...] = ()
    """Rules that log, with the policy of each."""

    @property
    def restricted(self) -> bool:
        """Whether packets of this direction are judged at all."""
        return bool(self.default)

    @property
    def open(self) -> bool:
        """Whether what no rule is about passes."""
        return self.default in ("", "allow")


@dataclass(frozen=True)
class Combination:
    """The policies that hold for a sandbox, with what they say together."""

    id: str
    policies: tuple[str, ...]
    ingress: Judged
    egress: Judged

    def of(self, direction: str) -> Judged:
        """The rules of a direction."""
        return self.ingress if direction == INGRESS_RULES else self.egress

    @property
    def peers(self) -> set[Peer]:
        """All that its rules name."""
        return {peer for direction in DIRECTIONS for rule in self.of(direction).rules for peer in rule.peers}


def policies_of(sandbox: Sandbox, networks: Iterable[PlannedNetwork]) -> tuple[str, ...]:
    """The names of the policies that hold for a sandbox: its own, and those of its networks."""
    if sandbox.everywhere:
        return ()
    return tuple(sorted({*sandbox.policies, *(name for item in networks for name in item.network.policies)}))


def combination(host: Host, names: Sequence[str], resolvers: Iterable[str]) -> Combination:
    """What policies of a host say together.  ``resolvers`` are those that the sandbox's own resolver asks."""
    servers = tuple(sorted(resolvers))
    identity = hashlib.sha256("\n".join([*names, "", *servers]).encode()).hexdigest()[:10]
    chosen = [policy for policy in host.policies if policy.name in names]
    found = {}
    for direction in DIRECTIONS:
        defaults = {policy.default(direction) for policy in chosen} - {""}
        rules = [rule for policy in chosen for rule in policy.rules(direction)]
        default = next((action for action in STRENGTH if action in defaults), "")
        if direction == EGRESS_RULES and default and servers:
            rules.append(_to_resolvers(servers))
        logged = tuple((policy.name, rule) for policy in chosen for rule in policy.rules(direction) if rule.log)
        found[direction] = Judged(tuple(rules), default, logged)
    return Combination(identity, tuple(names), found[INGRESS_RULES], found[EGRESS_RULES])


def _to_resolvers(servers: Iterable[str]) -> PolicyRule:
    """Names resolve whatever the policies, unless one forbids it."""
    peers = tuple(Peer("cidr", f"{server}/{32 if family_of(server) == 4 else 128}") for server in servers)
    return PolicyRule("allow", peers, (Match(PORTS, UDP, 53, 53), Match(PORTS, TCP, 53, 53)))


@dataclass(frozen=True)
class HostPolicies:
    """The policies of a host's sandboxes: by endpoint id the combination."""

    combinations: Mapping[str, Combination] = field(default_factory=dict)
    classes: Classes = field(default_factory=lambda: Classes({}, {}, {}))
    rejects: bool = True
    """Whether the kernel can answer packets that are rejected; else they are dropped."""


def host_policies(
    host: Host,
    networks: Mapping[str, PlannedNetwork],
    sandboxes: Mapping[str, Sequence[PlannedEndpoint]],
    resolvers: Mapping[str, Iterable[str]],
    of_hosts: Mapping[str, Iterable[str]],
    rejects: bool = True,
) -> HostPolicies:
    """What policies say of a host's sandboxes; ``resolvers`` has the upstream servers of each."""
    found: dict[str, Combination] = {}
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], Combination] = {}
    for name, endpoints in sandboxes.items():
        if not endpoints:
            continue
        names = policies_of(endpoints[0].sandbox, [item.network for item in endpoints])
        if not names:
            continue
        key = (names, tuple(sorted(resolvers.get(name, ()))))
        if key not in known:
            known[key] = combination(host, *key)
        if known[key].ingress.restricted or known[key].egress.restricted:
            found.update({item.id: known[key] for item in endpoints})
    if not found:
        return HostPolicies()
    peers = set[Peer]().union(*(item.peers for item in known.values()))
    every = [item for group in sandboxes.values() for item in group]
    return HostPolicies(found, classes_of(addresses_of(peers, host, networks, every, of_hosts)), rejects)
