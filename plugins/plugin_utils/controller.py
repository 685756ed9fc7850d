# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The controller's side of a run: read, plan, remember.  Imports no Ansible; the actions hand it plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..module_utils.plan import Plan
from .declaration.reading import read_topology
from .declaration.topology import Topology
from .facts import Facts
from .leases.base import SECTIONS, Conflict, LeaseError, Leases, Store, adopt
from .leases.sqlite import SqliteStore
from .planner import Planned, plan

_ATTEMPTS = 20
# Hidden, so that an inventory that is a whole folder does not take it for one of its sources.
_DEFAULT_STORE = ".cnm-leases.sqlite3"
_SQLITE = "sqlite:///"


@dataclass
class Outcome:
    """Plans of all projects together, and their lease revisions by host."""

    plans: dict[str, Plan] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)


def open_store(setting: str, inventory_directory: str) -> Store:
    """The lease store ``cnm_leases`` names; a relative path and the default are beside the inventory."""
    path = setting[len(_SQLITE) :] if setting.startswith(_SQLITE) else setting
    return SqliteStore(Path(inventory_directory) / (path or _DEFAULT_STORE))


def make_plans(
    variables: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    facts: Mapping[str, Facts],
    inventory_directory: str,
    now: str,
    remember: bool,
) -> Outcome:
    """Plan all probed hosts.  Raises DeclarationError for the variables, LeaseError for the store.

    ``remember`` false (check mode) leaves the lease store as it is.
    """
    topology = read_topology(variables, groups)
    outcome = Outcome()
    for project in sorted({host.settings.project for host in topology.hosts}):
        part = Topology(tuple(host for host in topology.hosts if host.settings.project == project))
        planned, revision = _plan_project(project, part, facts, inventory_directory, now, remember)
        outcome.plans.update(planned.plans)
        outcome.revisions.update(dict.fromkeys(planned.plans, revision))
        outcome.refusals.update(planned.refusals)
        outcome.warnings.update(planned.warnings)
    return outcome


def _plan_project(
    project: str, topology: Topology, facts: Mapping[str, Facts], directory: str, now: str, remember: bool
) -> tuple[Planned, int]:
    settings = sorted({host.settings.leases for host in topology.hosts})
    if len(settings) > 1:
        raise LeaseError(
            f"cnm_leases of project {project} must be the same on all hosts, but it is {', '.join(settings)}"
        )
    store = open_store(settings[0], directory)
    for _attempt in range(_ATTEMPTS):
        read_revision, stored = store.read(project)
        known, leases = adopt(read_revision, stored, _reported(topology, facts))
        planned = plan(topology, facts, leases, now)
        revision = known if _same(planned.leases, leases) else known + 1
        if not remember or (_same(planned.leases, stored) and revision == read_revision):
            return planned, revision
        try:
            store.write(project, read_revision, revision, planned.leases)
        except Conflict:
            continue
        return planned, revision
    raise LeaseError(f"the leases of project {project} kept changing while this run planned: run it again")


def _reported(topology: Topology, facts: Mapping[str, Facts]) -> dict[str, tuple[int, Leases]]:
    result = {}
    for host in topology.hosts:
        known = facts.get(host.name)
        if known is not None and known.revision:
            result[host.name] = (known.revision, {section: dict(known.leases.get(section, {})) for section in SECTIONS})
    return result


def _same(one: Leases, other: Leases) -> bool:
    return all(one.get(section, {}) == other.get(section, {}) for section in SECTIONS)
