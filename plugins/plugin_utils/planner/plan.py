# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The planner: topology, facts of hosts and leases in, a plan for each host out.  Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ...module_utils.plan.plan import Plan
from ..declaration.topology import Topology
from ..facts import Facts
from ..leases.base import OF_HOSTS, Leases, join, kept_by, split
from .allocation import allocate_host
from .host import plan_host
from .topology import plan_single_host, plan_topology


@dataclass
class Planned:
    """A plan for each host that was probed, what to remember, and what to tell the user."""

    plans: dict[str, Plan] = field(default_factory=dict)
    leases: Leases = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Hosts that cannot be as declared, with every reason; they get no plan, the others do."""
    warnings: dict[str, list[str]] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Texts that plans name by digest, because their hosts have them in common."""
    meshes: dict[str, list[str]] = field(default_factory=dict)
    """By host the digests of the tables (`Mesh`) of its networks that span hosts."""


def plan(
    topology: Topology,
    facts: Mapping[str, Facts],
    leases: Leases,
    now: str,
    connections: Mapping[str, str] = MappingProxyType({}),
    whole: bool = True,
) -> Planned:
    """Plan every host that ``facts`` has; the others keep their leases as they are.

    ``now`` is the time a new network is said to be created at, in ISO 8601; ``connections`` is where Ansible reaches
    each host.  ``whole`` false says that there are other hosts, of which nothing is known.
    """
    result = Planned()
    found, spanning = split(copy.deepcopy(leases))
    parts = {host.name: found.get(host.name) or {section: {} for section in OF_HOSTS} for host in topology.hosts}
    others = {host: part for host, part in found.items() if host not in parts}
    fleet = (
        plan_topology(topology, facts, connections, parts, spanning, now)
        if whole
        else plan_single_host(topology, facts, parts, spanning, now, others)
    )
    result.shared = fleet.texts
    result.warnings = {host: list(found) for host, found in fleet.overlays.warnings.items() if found}
    for host in sorted(fleet.topology.hosts, key=lambda item: item.name):
        known, part = facts.get(host.name), parts[host.name]
        if known is None:
            if part["hosts"].get(host.name, {}).get("mesh") != (told := fleet.tells(host.name)) and told:
                result.warnings.setdefault(host.name, []).append(fleet.news(host.name))
            continue
        drawn = allocate_host(host, known, fleet, copy.deepcopy(part), now)
        if drawn.problems:
            result.refusals[host.name] = list(dict.fromkeys(drawn.problems))
            continue
        parts[host.name] = drawn.leases
        if drawn.warnings:
            result.warnings.setdefault(host.name, []).extend(drawn.warnings)
        result.plans[host.name] = plan_host(host, known, drawn, fleet, kept_by(host.name, drawn.leases, spanning))
        result.meshes[host.name] = sorted(item.shared.table for item in drawn.networks.values() if item.shared)
    result.leases = join(parts, spanning)
    return result
