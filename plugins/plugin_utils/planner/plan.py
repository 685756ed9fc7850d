# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The planner: topology, facts of hosts and leases in, a plan for each host out.  Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ...module_utils.plan.plan import Plan
from ..declaration.driver import DriverError
from ..declaration.topology import Topology
from ..facts import Facts
from ..leases.base import Leases, empty, join, kept_by, no_part, split
from . import front_ends
from .allocation import allocate_host
from .compose import compose
from .connect import connect
from .name import name_sandboxes
from .obstacles import foreign_errors, occupied_errors
from .protect import protect
from .topology import plan_single_host, plan_topology


@dataclass
class Planned:
    """A plan for each host that was probed, what to remember, and what to tell the user."""

    plans: dict[str, Plan] = field(default_factory=dict)
    leases: Leases = field(default_factory=empty)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Hosts that cannot be as declared, with every reason; they get no plan, the others do."""
    warnings: dict[str, list[str]] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Texts that plans name by digest, because their hosts have them in common."""
    peer_tables: dict[str, list[str]] = field(default_factory=dict)
    """By host the digests of the tables (`PeerTable`) of its networks that span hosts."""


def plan(
    topology: Topology,
    facts: Mapping[str, Facts],
    leases: Leases,
    now: str,
    connections: Mapping[str, str] = MappingProxyType({}),
    complete: bool = True,
) -> Planned:
    """Plan every host that ``facts`` has; the others keep their leases as they are.

    ``now`` is the time a new network is said to be created at, in ISO 8601; ``connections`` is where Ansible reaches
    each host.  ``complete`` false says that there are other hosts, of which nothing is known.
    """
    result = Planned()
    found, spanning = split(copy.deepcopy(leases))
    parts = {host.name: found.get(host.name) or no_part() for host in topology.hosts}
    others = {host: part for host, part in found.items() if host not in parts}
    topology_plan = (
        plan_topology(topology, facts, connections, parts, spanning, now)
        if complete
        else plan_single_host(topology, facts, parts, spanning, now, others)
    )
    result.shared = topology_plan.texts
    result.warnings = {host: list(found) for host, found in topology_plan.spanning.warnings.items() if found}
    for host in sorted(topology_plan.topology.hosts, key=lambda item: item.name):
        known, part = facts.get(host.name), parts[host.name]
        if known is None:
            told = part["hosts"].get(host.name, {}).get("peer_digests", {})
            if stale := topology_plan.stale_peers_warnings(host.name, told):
                result.warnings.setdefault(host.name, []).extend(stale)
            continue
        try:
            allocated = allocate_host(host, known, topology_plan, copy.deepcopy(part), now)
            if allocated.problems:
                result.refusals[host.name] = list(dict.fromkeys(allocated.problems))
                continue
            connected = connect(allocated)
            tunnels = [(item.tunnel, item.network.encrypted) for item in allocated.networks.values() if item.tunnel]
            allocated.warnings += front_ends.warnings(host.name, known, connected.bridges.values(), tunnels)
            resources = [
                *connected.resources,
                *protect(host, known, allocated, connected, topology_plan.ingress, topology_plan.spanning.fabric),
                *name_sandboxes(host, known, allocated),
            ]
            kept = kept_by(host.name, allocated.leases, spanning)
            made = compose(host, known, allocated, topology_plan.placement, resources, kept)
        except DriverError as error:
            result.refusals[host.name] = [str(error)]
            continue
        problems = [*foreign_errors(host, known, made.resources), *occupied_errors(known, made.resources)]
        if problems:
            result.refusals[host.name] = problems
            continue
        parts[host.name] = allocated.leases
        if allocated.warnings:
            result.warnings.setdefault(host.name, []).extend(allocated.warnings)
        result.plans[host.name] = made
        result.peer_tables[host.name] = sorted(
            item.shared.everyone for item in allocated.networks.values() if item.shared
        )
    result.leases = join(parts, spanning)
    return result
