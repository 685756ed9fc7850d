# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store against what hosts report: what the next run would adopt, ignore or refuse."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ...module_utils.plan.records import dataclass
from ..declaration.topology import Topology
from ..facts import Facts
from ..leases.base import OVERLAYS, SECTIONS, Leases, kept_by, no_part, split
from ..leases.belief import believe
from ..leases.parts import PartStore
from ..leases.stores import open_store
from .planning import Parts, Stamp, claims_of, read_with_modules

_SHOWN = 5


@dataclass
class Checked:
    """What a project's check found; only ``wrong`` is a reason to act."""

    revision: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """By host, or "" for the store itself."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """What the next run brings in order by itself."""
    remains: list[str] = field(default_factory=list)
    """Keys of parts that controllers that died have left."""


def check_leases(
    variables: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    facts: Mapping[str, Facts],
    inventory_directory: str,
    remove: bool,
) -> dict[str, Checked]:
    """Check the leases of all projects; ``remove`` what dead controllers have left.

    Raises DeclarationError for the variables, LeaseError for the store.
    """
    topology, _module_state, refused = read_with_modules(variables, groups, facts, inventory_directory)
    with contextlib.closing(open_store(topology.hosts[0].settings.leases, inventory_directory)) as store:
        found = {}
        for project in sorted({host.settings.project for host in topology.hosts}):
            part = Topology(tuple(host for host in topology.hosts if host.settings.project == project))
            names = {host.name for host in part.hosts} - refused.keys()
            known = {host: each for host, each in facts.items() if host in names}
            found[project] = _check(store, project, part, known, remove)
            for host in sorted(refused.keys() & {item.name for item in part.hosts}):
                found[project].wrong.setdefault(host, []).extend(refused[host])
    return found


def _check(store: PartStore, project: str, topology: Topology, facts: Mapping[str, Facts], remove: bool) -> Checked:
    found = store.read(project)
    key = store.key()
    result = Checked(found.revision)
    declared = Parts(topology)
    belief = believe(
        found.revision,
        found.leases,
        claims_of(topology, facts, Stamp(project, found.revision, key)),
        declared.of,
        declared.shared,
        signed=bool(key),
    )
    for host, sentences in (*belief.warnings.items(), *belief.refusals.items()):
        result.wrong.setdefault(host, []).extend(sentences)
    if twice := _twice(found.leases):
        result.wrong[""] = twice
    parts, spanning = split(found.leases)
    stamp = Stamp(project, found.revision, key)
    for host, known in sorted(facts.items()):
        given = stamp.given(host, known)
        if given is not None and given > found.revision:
            result.wrong.setdefault(host, []).append(
                f"it keeps leases of revision {given}, which this store signed, and the store has revision "
                f"{found.revision}: it was restored from a backup. The next run adopts what the hosts report"
            )
        elif known.leases and given is None and key:
            result.notes.setdefault(host, []).append("what it keeps is not signed by this store: the next run signs it")
        differing = _differing(kept_by(host, parts.get(host, no_part()), spanning), known.leases)
        if known.leases and differing:
            more = f" and {len(differing) - _SHOWN} more" if differing[_SHOWN:] else ""
            sentence = f"it keeps other leases than the store has, in {', '.join(differing[:_SHOWN])}{more}"
            result.notes.setdefault(host, []).append(sentence)
    result.remains = store.sweep(project, remove)
    return result


def _differing(leased: Leases, kept: Mapping[str, Mapping[str, object]]) -> list[str]:
    return sorted(
        f"{section} {key}"
        for section in SECTIONS
        for key in {*leased.get(section, {}), *kept.get(section, {})}
        if leased.get(section, {}).get(key) != kept.get(section, {}).get(key)
    )


def _twice(leases: Leases) -> list[str]:
    """Sentences about addresses of networks that span hosts, and VNIs, that two have."""
    owners: dict[tuple[str, object], str] = {}
    found = []
    claims: list[tuple[tuple[str, object], str]] = []
    for name, entry in leases.get(OVERLAYS, {}).items():
        if "vni" in entry:
            claims.append((("the VNI", entry["vni"]), name))
        for service, addresses in entry.get("vips", {}).items():
            claims += [((name, address), f"the service {service}") for address in addresses.values()]
    for key, addresses in leases.get("endpoints", {}).items():
        network = key.split("/")[1]
        if network in leases.get(OVERLAYS, {}):
            claims += [((network, address), key) for address in addresses.values()]
    for claim, owner in claims:
        other = owners.setdefault(claim, owner)
        if other != owner:
            where = f"{claim[0]} {claim[1]}" if claim[0] == "the VNI" else f"{claim[1]} on {claim[0]}"
            found.append(f"the store gives {where} to {other} and to {owner}")
    return found
