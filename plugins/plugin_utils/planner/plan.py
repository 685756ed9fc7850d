# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The planner: topology, facts of hosts and leases in, a plan for each host out.  Pure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Generic, Optional, TypeVar

from ...module_utils.plan.plan import Plan
from ...module_utils.plan.records import dataclass
from ..declaration.driver import DriverError
from ..declaration.topology import Host, Service, Topology
from ..facts import Facts
from ..leases.base import Leases, empty, join, kept_by, no_part, split
from ..services.rolling import DONE, Roll
from . import front_ends
from .allocation import allocate_host
from .compose import compose
from .connect import connect
from .name import name_sandboxes
from .obstacles import foreign_errors, occupied_errors
from .processes import results_of
from .protect import protect
from .topology import TopologyPlan, plan_single_host, plan_topology

P = TypeVar("P")


@dataclass
class Planned(Generic[P]):
    """A plan for each host that was probed, what to remember, and what to tell the user."""

    plans: dict[str, P] = field(default_factory=dict)
    leases: Leases = field(default_factory=empty)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Hosts that cannot be as declared, with every reason; they get no plan, the others do."""
    warnings: dict[str, list[str]] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Texts that plans name by digest, because their hosts have them in common."""
    peer_tables: dict[str, list[str]] = field(default_factory=dict)
    """By host the digests of the tables (`PeerTable`) of its networks that span hosts."""
    rolls: Mapping[str, tuple[Service, Roll]] = field(default_factory=dict)
    """As `Placement.rolls`."""
    rolling: str = DONE
    """How far changes of services go in these plans."""


@dataclass
class _OfHost(Generic[P]):
    """What the passes for one host come to."""

    refusals: list[str] = field(default_factory=list)
    made: Optional[P] = None
    leases: Optional[Leases] = None
    warnings: list[str] = field(default_factory=list)
    peer_tables: list[str] = field(default_factory=list)


def plan(
    topology: Topology,
    facts: Mapping[str, Facts],
    leases: Leases,
    now: str,
    connections: Mapping[str, str] = MappingProxyType({}),
    complete: bool = True,
) -> Planned[Plan]:
    """As `plan_hosts`, with the plans as they are."""
    return plan_hosts(topology, facts, leases, now, connections, complete, lambda made: made)


def plan_hosts(
    topology: Topology,
    facts: Mapping[str, Facts],
    leases: Leases,
    now: str,
    connections: Mapping[str, str],
    complete: bool,
    finish: Callable[[Plan], P],
    rolling: str = DONE,
) -> Planned[P]:
    """Plan every host that ``facts`` has; the others keep their leases as they are.

    ``now`` is the time a new network is said to be created at, in ISO 8601; ``connections`` is where Ansible reaches
    each host.  ``complete`` false says that there are other hosts, of which nothing is known.  ``finish`` is what
    becomes of each plan; it is called in other processes if there are many hosts.  ``rolling`` is how far changes of
    services go (see `services.rolling`).
    """
    result = Planned[P](rolling=rolling)
    found, spanning = split(copy.deepcopy(leases))
    parts = {host.name: found.get(host.name) or no_part() for host in topology.hosts}
    others = {host: part for host, part in found.items() if host not in parts}
    topology_plan = (
        plan_topology(topology, facts, connections, parts, spanning, now, rolling)
        if complete
        else plan_single_host(topology, facts, parts, spanning, now, others)
    )
    result.shared = topology_plan.texts
    result.rolls = topology_plan.placement.rolls
    result.warnings = {host: list(found) for host, found in topology_plan.spanning.warnings.items() if found}
    hosts = sorted(topology_plan.topology.hosts, key=lambda item: item.name)
    if any(host.policies for host in hosts):
        topology_plan.host_addresses = _addresses_of_hosts(facts, parts)

    def of_host(host: Host) -> _OfHost[P]:
        known, part = facts.get(host.name), parts[host.name]
        if known is None:
            told = part["hosts"].get(host.name, {}).get("peer_digests", {})
            return _OfHost(warnings=topology_plan.stale_peers_warnings(host.name, told))
        return _plan_host(host, known, topology_plan, part, spanning, now, finish)

    for host, outcome in zip(hosts, results_of(of_host, hosts)):
        if outcome.refusals:
            result.refusals[host.name] = outcome.refusals
        if outcome.warnings:
            result.warnings.setdefault(host.name, []).extend(outcome.warnings)
        if outcome.leases is not None and outcome.made is not None:
            parts[host.name] = outcome.leases
            result.plans[host.name] = outcome.made
            result.peer_tables[host.name] = outcome.peer_tables
    result.leases = join(parts, spanning)
    return result


def _plan_host(
    host: Host,
    facts: Facts,
    topology_plan: TopologyPlan,
    part: Leases,
    spanning: Leases,
    now: str,
    finish: Callable[[Plan], P],
) -> _OfHost[P]:
    try:
        allocated = allocate_host(host, facts, topology_plan, copy.deepcopy(part), now)
        if allocated.problems:
            return _OfHost(list(dict.fromkeys(allocated.problems)))
        connected = connect(allocated)
        tunnels = [(item.tunnel, item.network.encrypted) for item in allocated.networks.values() if item.tunnel]
        allocated.warnings += front_ends.warnings(host.name, facts, connected.bridges.values(), tunnels)
        resources = [
            *connected.resources,
            *protect(
                host,
                facts,
                allocated,
                connected,
                topology_plan.ingress,
                topology_plan.spanning.fabric,
                topology_plan.host_addresses,
            ),
            *name_sandboxes(host, facts, allocated),
        ]
        kept = kept_by(host.name, allocated.leases, spanning)
        made = compose(host, facts, allocated, topology_plan.placement, resources, kept, topology_plan.host_addresses)
    except DriverError as error:
        return _OfHost([str(error)])
    if problems := [
        *foreign_errors(host, facts, made.resources),
        *occupied_errors(facts, made.resources, topology_plan.placement.ending(host.name)),
    ]:
        return _OfHost(problems)
    peer_tables = sorted(item.shared.everyone for item in allocated.networks.values() if item.shared)
    return _OfHost([], finish(made), allocated.leases, allocated.warnings, peer_tables)


def _addresses_of_hosts(facts: Mapping[str, Facts], parts: Mapping[str, Leases]) -> dict[str, set[str]]:
    """The addresses by which the topology's hosts are known to others; of those not probed only their VTEPs."""
    found: dict[str, set[str]] = {}
    for name, part in parts.items():
        known, leased = facts.get(name), part["hosts"].get(name, {}).get("underlay")
        found[name] = {address for address, _link, _mtu in known.addresses} if known is not None else set()
        found[name] |= {leased} if leased else set()
    return found
