# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The controller's side of a run: read, plan, remember.  Imports no Ansible; the actions hand it plain data."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..module_utils.forms import FormError, printable
from ..module_utils.plan import Plan
from .declaration.alone import Alone, disconnect, explained, pack_declared, settle, whose
from .declaration.mistakes import DeclarationError, NothingDeclared
from .declaration.reading import read_topology
from .declaration.topology import Host, Topology
from .facts import Facts
from .leases.base import SECTIONS, SERVICES, Conflict, LeaseError, Leases, Store, adopt, confirm, join, split
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
    shared: dict[str, str] = field(default_factory=dict)
    """Texts that plans name by digest."""
    meshes: dict[str, list[str]] = field(default_factory=dict)
    """As `Planned.meshes`."""


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
    whole: bool = True,
    connections: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """Plan all probed hosts.  Raises DeclarationError for the variables, LeaseError for the store.

    ``remember`` false (check mode) leaves the lease store as it is; ``whole`` false says that these are not all hosts
    of the topology; ``connections`` is where Ansible reaches each.
    """
    with _uncollected(), _in_words():
        return _make_plans(variables, groups, _Planning(facts, inventory_directory, now, remember, whole, connections))


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """What was reported or remembered, and has not the form of what is to be written with it, stops the run."""
    try:
        yield
    except FormError as error:
        raise LeaseError(
            f"a plan would have a value in it that is none: {error}. Nothing was changed. It is not from the variables "
            "but from what a host reports or the lease store has: mend it there."
        ) from error


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through a fleet's plans again and again and find no cycle.

    Nor does it go through them later: they last as long as the process that planned.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _make_plans(
    variables: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]], given: _Planning
) -> Outcome:
    facts = given.facts
    alone = {
        host: settle(Alone.unpacked(facts[host].alone), variables[host]) if host in facts else Alone()
        for host in variables
    }
    try:
        topology = disconnect(read_topology(variables, groups, alone), alone)
    except NothingDeclared:
        raise
    except DeclarationError as error:
        raise explained(error, alone) from error
    outcome = Outcome()
    for project in sorted({host.settings.project for host in topology.hosts}):
        part = Topology(tuple(host for host in topology.hosts if host.settings.project == project))
        planned, revision = _plan_project(project, part, given)
        for name, made in planned.plans.items():
            declared = pack_declared(variables[name])
            outcome.plans[name] = replace(made, declared=declared, alone=alone[name].packed())
        outcome.revisions.update(dict.fromkeys(planned.plans, revision))
        for name, reasons in planned.refusals.items():
            outcome.refusals[name] = [printable(" ".join([text, *whose(text, name, alone[name])])) for text in reasons]
        outcome.warnings.update({name: list(map(printable, found)) for name, found in planned.warnings.items()})
        outcome.shared.update(planned.shared)
        outcome.meshes.update(planned.meshes)
    return outcome


def plan_host(host: Host, facts: Facts, inventory_directory: str, now: str, remember: bool) -> tuple[Planned, int]:
    """Plan one host by itself; its plan still lacks what it was declared from."""
    planning = _Planning({host.name: facts}, inventory_directory, now, remember, whole=False)
    with _in_words():
        return _plan_project(host.settings.project, Topology((host,)), planning)


@dataclass(frozen=True)
class _Planning:
    """What planning needs beside the topology; see `make_plans`."""

    facts: Mapping[str, Facts]
    directory: str
    now: str
    remember: bool
    whole: bool
    connections: Mapping[str, str] = field(default_factory=dict)


def _plan_project(project: str, topology: Topology, given: _Planning) -> tuple[Planned, int]:
    settings = sorted({host.settings.leases for host in topology.hosts})
    if len(settings) > 1:
        raise LeaseError(
            f"cnm_leases of project {project} must be the same on all hosts, but it is {', '.join(settings)}"
        )
    store = open_store(settings[0], given.directory)
    names = {host.name for host in topology.hosts}
    for _attempt in range(_ATTEMPTS):
        read_revision, stored = store.read(project)
        known, leases = (adopt if given.whole else confirm)(read_revision, stored, _reported(topology, given.facts))
        planned = plan(topology, given.facts, leases, given.now, given.connections, given.whole)
        if not given.whole:
            planned.leases = _with_others(planned.leases, leases, names)
        revision = known if _same(planned.leases, leases) else known + 1
        if not given.remember or (_same(planned.leases, stored) and revision == read_revision):
            return planned, revision
        try:
            store.write(project, read_revision, revision, planned.leases)
        except Conflict:
            continue
        return planned, revision
    raise LeaseError(f"the leases of project {project} kept changing while this run planned: run it again")


def _with_others(leases: Leases, before: Leases, mine: set[str]) -> Leases:
    """The leases, with those of hosts that were not planned as they were."""
    parts, spanning = split(before)
    planned, changed = split(leases)
    spanning = {section: {**entries, **changed[section]} for section, entries in spanning.items()}
    spanning[SERVICES] = changed[SERVICES]
    return join({**{name: part for name, part in parts.items() if name not in mine}, **planned}, spanning)


def _reported(topology: Topology, facts: Mapping[str, Facts]) -> dict[str, tuple[int, Leases]]:
    result = {}
    for host in topology.hosts:
        known = facts.get(host.name)
        if known is not None and known.revision:
            result[host.name] = (known.revision, {section: dict(known.leases.get(section, {})) for section in SECTIONS})
    return result


def _same(one: Leases, other: Leases) -> bool:
    return all(one.get(section, {}) == other.get(section, {}) for section in SECTIONS)
