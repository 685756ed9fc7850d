# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A run on the controller: read the variables, plan, save the leases.  Takes plain data; imports no Ansible."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Optional, cast

from ...module_utils.plan.forms import FormError, printable
from ...module_utils.plan.plan import Plan
from ..declaration.errors import DeclarationError
from ..declaration.module_objects import ModuleState, module_removal_hint, pack_declared, settle
from ..declaration.placement import admits
from ..declaration.reading import read_all_settings
from ..declaration.topology import Host, Service, Topology
from ..facts import Facts
from ..ipam.addresses import networks_in_use
from ..leases.base import OVERLAYS, SECTIONS, SERVICES, Conflict, LeaseError, Leases, Store, join, split
from ..leases.belief import Belief, Claim, Part, believe
from ..leases.signing import revision_given, sign
from ..leases.stores import open_store
from ..module_state.reading import read_contained
from ..services.rolling import BEGIN, DONE, HOLD, STEP, Roll
from .checks import unused_networks
from .kept_outcome import KeptOutcome, digest_of
from .outcome import Outcome, SentPlan
from .plan import P, Planned, plan_hosts
from .processes import FEWEST

_ATTEMPTS = 20
Made = tuple[SentPlan, Plan]
"""A plan as it is sent, and a copy without its resources and its model."""


def make_plans(
    variables: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    facts: Mapping[str, Facts],
    inventory_directory: str,
    now: str,
    remember: bool,
    complete: bool = True,
    connections: Mapping[str, str] = MappingProxyType({}),
    failed: Collection[str] = (),
    rolling: str = DONE,
) -> Outcome:
    """Plan all probed hosts.  Raises DeclarationError for the variables, LeaseError for the store.

    ``remember`` false (check mode) leaves the lease store as it is; ``complete`` false says that these are not all
    hosts of the topology; ``connections`` is where Ansible reaches each; ``failed`` are hosts of this run that
    cannot be planned, as their probe failed; ``rolling`` is how far changes of services go (see `services.rolling`).
    """
    given = _Planning(facts, inventory_directory, now, remember, complete, connections, failed, rolling)
    with _uncollected(), _form_errors_as_lease_errors():
        if not complete or len(variables) < FEWEST:
            return _make_plans(variables, groups, given)[0]
        kept = KeptOutcome(inventory_directory, variables, groups, facts, connections, failed, rolling)
        found = kept.read(lambda: _leases_of(variables, inventory_directory))
        if found is not None:
            return found
        outcome, leases = _make_plans(variables, groups, given)
        if leases is not None:
            kept.write(outcome, leases)
        return outcome


def _leases_of(variables: Mapping[str, Mapping[str, Any]], inventory_directory: str) -> dict[str, str]:
    """A digest of the leases of each project and of their store's key.  Raises DeclarationError and LeaseError."""
    settings = read_all_settings(variables).values()
    with contextlib.closing(open_store(next(iter(settings)).leases, inventory_directory)) as store:
        return {
            project: digest_of((found.revision, found.leases, store.key()))
            for project in sorted({each.project for each in settings})
            for found in [store.read(project)]
        }


@contextlib.contextmanager
def _form_errors_as_lease_errors() -> Iterator[None]:
    """Stop the run if a reported or leased value does not have the form that the plan requires."""
    try:
        yield
    except FormError as error:
        raise LeaseError(
            f"a plan would get an invalid value: {error}. Nothing was changed. It is not from the variables "
            "but from a host's report or the lease store: correct it there."
        ) from error


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Turn the garbage collector off: it would scan a fleet's plans again and again, which have no cycles.

    The plans are frozen for it afterwards, as they live as long as the process.
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
) -> tuple[Outcome, Optional[dict[str, str]]]:
    """The outcome and, if it follows from what was given and from the leases as they are, the digests of these."""
    facts = given.facts
    leases: dict[str, str] = {}
    topology, module_state, refused = read_with_modules(variables, groups, facts, given.directory)
    # What such a host has, and its leases, stay as they are.
    given = replace(
        given,
        facts={host: known for host, known in facts.items() if host not in refused},
        failed=[*given.failed, *refused],
    )
    outcome = Outcome(refusals=dict(refused), unused=unused_networks(topology) if given.complete else [])
    outcome.all_or_nothing = given.rolling == STEP or any(host.settings.all_or_nothing for host in topology.hosts)
    for project in sorted({host.settings.project for host in topology.hosts}):
        part = Topology(tuple(host for host in topology.hosts if host.settings.project == project))

        def finish(made: Plan) -> Made:
            declared = pack_declared(variables[made.host])
            made = replace(made, declared=declared, module_state=module_state[made.host].packed())
            return SentPlan.of(made), replace(made, resources=(), model={})

        planned, stamp = _plan_project(project, part, given, finish)
        leases[project] = stamp.read
        for name, (sent, made) in planned.plans.items():
            outcome.plans[name] = sent
            outcome.revisions[name] = stamp.revision_of(made, facts[name])
            outcome.signatures[name] = stamp.signature_of(made)
            if stamp.key and stamp.given(name, facts[name]) is None:
                outcome.unsigned.add(name)
        for name, reasons in planned.refusals.items():
            outcome.refusals[name] = [
                printable(" ".join([text, *module_removal_hint(text, name, module_state[name])])) for text in reasons
            ]
        outcome.warnings.update({name: list(map(printable, found)) for name, found in planned.warnings.items()})
        outcome.shared.update(planned.shared)
        outcome.peer_tables.update(planned.peer_tables)
        _add_rolls(outcome, planned.rolls, planned.rolling)
    own = all("." not in network.driver for host in topology.hosts for network in host.networks)
    return outcome, leases if own and all(leases.values()) else None


def _add_rolls(outcome: Outcome, rolls: Mapping[str, tuple[Service, Roll]], rolling: str) -> None:
    for name, (service, roll) in rolls.items():
        if rolling == HOLD:
            outcome.held.append(name)
            continue
        outcome.rolls[name] = roll.told(service)
        for host, tasks in roll.waiting.leaving.items():
            outcome.leaving.setdefault(host, {}).update(tasks)
        for host, names in roll.waiting.ending.items():
            outcome.ending.setdefault(host, []).extend(names)
        for host, tasks in roll.waiting.coming.items():
            places = outcome.tried if service.update is not None and service.update.goes_on else outcome.coming
            places.setdefault(host, {}).update(tasks)


def read_with_modules(
    variables: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    facts: Mapping[str, Facts],
    inventory_directory: str,
) -> tuple[Topology, dict[str, ModuleState], Mapping[str, list[str]]]:
    """The topology of the variables and of what modules made, these objects, and the hosts refused for theirs."""
    unpacked = {
        host: settle(ModuleState.unpacked(facts[host].module_state), variables[host])
        if host in facts
        else ModuleState()
        for host in variables
    }
    return read_contained(variables, groups, unpacked, _Vouching(variables, facts, inventory_directory))


def plan_host(
    host: Host, facts: Facts, inventory_directory: str, now: str, remember: bool
) -> tuple[Planned[Plan], Stamp]:
    """Plan one host by itself; its plan still lacks what it was declared from."""
    planning = _Planning({host.name: facts}, inventory_directory, now, remember, complete=False)
    with _form_errors_as_lease_errors():
        return _plan_project(host.settings.project, Topology((host,)), planning, lambda made: made)


class _Vouching:
    """Whether a host keeps what the lease store of the variables gave it; of none if these are not right."""

    def __init__(
        self, variables: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Facts], inventory_directory: str
    ) -> None:
        self._variables = variables
        self._facts = facts
        self._directory = inventory_directory

    def __call__(self, host: str) -> bool:
        project = str(self._variables[host].get("cnm_project") or "default")
        return Stamp(project, 0, self._key).given(host, self._facts[host]) is not None

    @cached_property
    def _key(self) -> bytes:
        # Variables are checked after this: no store is asked that they may name by mistake.
        try:
            settings = read_all_settings(self._variables)
        except DeclarationError:
            return b""
        store = next(iter(settings.values())).leases
        with contextlib.closing(open_store(store, self._directory)) as opened:
            return opened.key()


@dataclass(frozen=True)
class Stamp:
    """What is sent beside a project's plans: a revision, and the lease store's signature."""

    project: str
    revision: int
    key: bytes = field(repr=False)
    read: str = ""
    """A digest of the leases that were read, if planning left them as they are."""

    def revision_of(self, made: Plan, facts: Facts) -> int:
        """One that the host takes: no older than what it keeps.  A host's own count is its own affair: no other host's
        plan, and no store, counts on from it."""
        changed = made.leases != facts.leases
        return max(self.revision, facts.revision + (1 if changed and facts.revision else 0))

    def signature_of(self, made: Plan) -> str:
        """The signature under a plan's leases and what modules made."""
        return sign(self.key, self.project, made.host, self.revision, made.leases, made.module_state)

    def given(self, host: str, facts: Facts) -> Optional[int]:
        """The revision at which this store gave out what the host keeps; None if it did not."""
        return revision_given(self.key, self.project, host, facts.signature, facts.leases, facts.module_state)


@dataclass(frozen=True)
class _Planning:
    """What planning needs beside the topology; see `make_plans`."""

    facts: Mapping[str, Facts]
    directory: str
    now: str
    remember: bool
    complete: bool
    connections: Mapping[str, str] = field(default_factory=dict)
    failed: Collection[str] = ()
    rolling: str = DONE

    def rolling_of(self, names: Collection[str]) -> str:
        """How far changes of services of these hosts go: they stay as they are while a host is left out."""
        if self.rolling == DONE or not self.complete:
            return DONE
        return self.rolling if all(name in self.facts for name in names) else HOLD


def _plan_project(
    project: str, topology: Topology, given: _Planning, finish: Callable[[Plan], P]
) -> tuple[Planned[P], Stamp]:
    with contextlib.closing(open_store(topology.hosts[0].settings.leases, given.directory)) as store:
        return _plan_from(store, project, topology, given, finish)


def _plan_from(
    store: Store, project: str, topology: Topology, given: _Planning, finish: Callable[[Plan], P]
) -> tuple[Planned[P], Stamp]:
    names = frozenset(host.name for host in topology.hosts)
    parts = Parts(topology)
    for _attempt in range(_ATTEMPTS):
        found = store.read(project)
        read_revision, stored = found.revision, found.leases
        key = store.key()
        belief = believe(
            read_revision,
            stored,
            claims_of(topology, given.facts, Stamp(project, read_revision, key)),
            parts.of,
            parts.shared,
            signed=bool(key),
            complete=given.complete,
        )
        leases = belief.leases

        def planned_to(rolling: str, leases: Leases = leases) -> Planned[P]:
            how = (given.now, given.connections, given.complete, finish, rolling)
            return plan_hosts(topology, given.facts, leases, *how)

        planned = planned_to(given.rolling_of(names))
        if planned.rolling == BEGIN and planned.rolls and planned.refusals:
            planned = planned_to(HOLD)
        if not given.complete:
            planned.leases = _with_others(planned.leases, leases, names)
        _say(belief, planned)
        revision = belief.revision if _same(planned.leases, leases) else belief.revision + 1
        # A step that some hosts do not go is not gone by the others either.
        together = topology.hosts[0].settings.all_or_nothing or planned.rolling == STEP
        held = together and bool(planned.refusals or given.failed)
        if given.remember and not held and not (_same(planned.leases, stored) and revision == read_revision):
            try:
                own = None if given.complete else names
                revision = store.write(project, found, planned.leases, revision, own)
            except Conflict:
                continue
            key = store.key()
        same = _same(planned.leases, stored) and revision == read_revision
        return planned, Stamp(project, revision, key, digest_of((read_revision, stored, key)) if same else "")
    raise LeaseError(f"the leases of project {project} kept changing while this run planned: run it again")


def _say(belief: Belief, planned: Planned[Any]) -> None:
    """Tell beside the plans what of hosts' reports was not believed; who is refused for it gets none."""
    for host, sentences in belief.warnings.items():
        planned.warnings[host] = [*sentences, *planned.warnings.get(host, ())]
    for host, sentences in belief.refusals.items():
        planned.plans.pop(host, None)
        planned.refusals.setdefault(host, []).extend(sentences)


class Parts:
    """What each host is declared to have a part in, worked out for those that are asked for."""

    def __init__(self, topology: Topology) -> None:
        self._hosts = {host.name: host for host in topology.hosts}

    def of(self, name: str) -> Part:
        """That of a host."""
        host = self._hosts[name]
        sandboxes = {
            network: frozenset(sandbox.name for sandbox, _endpoint in pairs)
            for network, pairs in networks_in_use(host).items()
            if (known := host.network(network)) is not None and known.traits.spans_hosts
        }
        services = [service for service in host.services if admits(service, host)]
        for service in services:
            for attachment in service.networks:
                network = host.network(attachment.network)
                if network is not None and network.traits.spans_hosts:
                    sandboxes.setdefault(attachment.network, frozenset())
        return Part(sandboxes, frozenset(service.name for service in services))

    def shared(self) -> frozenset[str]:
        """The networks that span hosts, of all."""
        return frozenset(
            network.name for host in self._hosts.values() for network in host.networks if network.traits.spans_hosts
        )


def _with_others(leases: Leases, before: Leases, own: frozenset[str]) -> Leases:
    """The leases, with those of hosts that were not planned as they were."""
    parts, spanning = split(before)
    planned, changed = split(leases)
    overlays = {**spanning[OVERLAYS], **changed[OVERLAYS]}
    left = {name: part for name, part in parts.items() if name not in own}
    return join({**left, **planned}, {OVERLAYS: overlays, SERVICES: changed[SERVICES]})


def claims_of(topology: Topology, facts: Mapping[str, Facts], stamp: Stamp) -> dict[str, Claim]:
    """What the hosts say that they keep."""
    return {
        host.name: Claim(known.revision, cast("Leases", known.leases), stamp.given(host.name, known))
        for host in topology.hosts
        if (known := facts.get(host.name)) is not None and known.revision
    }


def _same(one: Leases, other: Leases) -> bool:
    return all(one.get(section, {}) == other.get(section, {}) for section in SECTIONS)
