# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The entry points of modules: lock the host, read the plan, run the engine, keep the plan."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from .changes import Before, changes, removals, repairs
from .engine import engine, gratuitous_arp, narrowing, reporting
from .engine.expand_plan import expand_plan
from .engine.journal import Journal
from .hostd import telling
from .hostd.half import CLI
from .hostd.restore import kept_resources
from .hostd.rules import keep_rules
from .kernel import mounts, serving
from .kernel.host import Host
from .kernel.nft import RunCommand
from .plan.base import PlanError, Resource
from .plan.codec import content_digest
from .plan.esp import Way
from .plan.forms import printable_data, printable_lines
from .plan.plan import Plan, PlanText
from .probe import policy_counts, reader
from .probe.obstacles import Obstacles, stopped_owners
from .resources.base import Operation
from .resources.registry import read_ahead
from .resources.target import stop_targets
from .state.files import RUN
from .state.kept import State
from .state.lock import Locked, locked

if TYPE_CHECKING:
    from .hostd import cli  # noqa: F401  # so that Ansible sends it, which calls need not import


class Refused(Exception):
    """The run stops; the message says what to do and contains printable text only."""

    def __str__(self) -> str:
        return printable_lines(super().__str__())


class Overtaken(Refused):
    """Another run changed the host after this one had read it, so the plan is out of date."""


class Partly(Refused):
    """Everything is as planned except sandboxes in foreign namespaces; ``result`` is the module's result."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class Request:
    """What a module call asks of a host."""

    project: str
    plan: Optional[str] = None
    shared: Mapping[str, str] = field(default_factory=dict)
    """Shared texts by digest; those that the host has kept may be omitted."""
    pair_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The host's keys of encrypted overlays, in hex, by `Way.text`.  Only the kernel keeps them."""
    bgp_password: str = field(default="", repr=False)
    """Of the host's BGP sessions, if it has any."""
    digest: Optional[str] = None
    revision: int = 0
    signature: str = ""
    """The lease store's signature of the plan's leases; the store trusts leases that carry it."""
    based_on: Optional[str] = None
    seen: str = ""
    """What the probe of the same run has seen; see `narrowing`.  "" for a run that looks at everything."""
    strict: bool = False
    absent: bool = False
    check: bool = False
    force: bool = False
    """Whether sandboxes are removed although processes run in them."""
    lock_timeout: float = 60.0
    leaving: Mapping[str, int] = field(default_factory=dict)
    """By task, how many milliseconds its connections have to end before the plan is carried out."""
    ending: Sequence[str] = ()
    """Tasks that are removed with the units that are bound to them."""
    coming: Mapping[str, int] = field(default_factory=dict)
    """By task, how many milliseconds it has until something listens in it, or else the call fails."""
    tried: Mapping[str, int] = field(default_factory=dict)
    """The same, but the call does not fail."""


@contextlib.contextmanager
def in_words(work: str) -> Iterator[None]:
    """Turn every expected error into Refused with a sentence."""
    if os.geteuid() != 0:
        raise Refused(f"{work} needs root on the host: set ansible_become: true or connect as root")
    if mounts.are_private():
        raise Refused(f"{work} {mounts.REFUSAL}")
    try:
        yield
    except (PlanError, Locked, *engine.EXPECTED) as error:
        raise Refused(engine.sentence(error)) from error


def converge(request: Request, run_command: RunCommand) -> dict[str, Any]:
    """Carry out the request and return the module's result.  Raises Refused with a sentence for the user.

    What it changes, and why it fails, goes to the host's journal too.
    """
    what = "teardown" if request.absent else "site"
    try:
        if request.leaving and not request.check:
            with in_words("waiting for connections to end"):
                serving.until_idle(request.leaving)
        with working(request, run_command) as host:
            result = _converge(request, host)
        return result if request.check else _awaited(request, result)
    except Refused as refusal:
        if not request.check and os.geteuid() == 0:
            telling.tell_refusal(request.project, what, str(refusal))
        raise


def _awaited(request: Request, result: dict[str, Any]) -> dict[str, Any]:
    """The result, once something listens in the tasks that are to serve next.  Raises Partly if that takes too long."""
    silent = serving.until_listening({**request.tried, **request.coming})
    for task in silent:
        if task not in request.coming:
            result["warnings"] = [
                *result["warnings"],
                f"nothing listens in {task}, which gets connections all the same",
            ]
    needed = [task for task in silent if task in request.coming]
    if needed:
        raise Partly(
            f"nothing listens in {', '.join(needed)} after {max(request.coming[task] for task in needed) / 1000:g} s: "
            "the roll-out stops here, and these tasks get no connections. Start what serves in them and run again",
            result,
        )
    return result


@contextlib.contextmanager
def working(request: Request, run_command: RunCommand) -> Iterator[Host]:
    """The host, locked for a run that may change it; expected errors become Refused."""
    # Resolvers do not run as root and must be able to read their files.
    os.umask(0o022)
    with in_words("changing networks"), _lock(request), Host(request.project, run_command) as host:
        host.command = CLI
        host.include_module_objects = request.absent
        host.spares_processes = not request.force
        host.pair_keys = {Way.from_text(way): bytes.fromhex(key) for way, key in request.pair_keys.items()}
        host.bgp_password = request.bgp_password
        yield host


def probe(
    project: str,
    live: bool,
    declared: bool,
    run_command: RunCommand,
    encryption: bool = False,
    ask_resolvers: bool = False,
    obstacles: Optional[Obstacles] = None,
) -> dict[str, Any]:
    """Read the host, and whether it matches its kept plan.  ``live`` adds the plan's model and the differences from it,
    ``declared`` the variables of the plan, ``encryption`` whether the host supports encrypted networks,
    ``ask_resolvers`` which of its upstream resolvers do not answer, ``obstacles`` what may be in a plan's way.

    Raises Refused.
    """
    more = ("model", "declared") if declared else ("model",) if live else ()
    with in_words("reading networks"), Host(project, run_command) as host:
        read_ahead(host)
        state = State(project)
        host.command = CLI
        if not live:
            host.verified_tables = state.verified_tables
        result = reader.probe(host, more, encryption, ask_resolvers, obstacles)
        wanted, drift = _drift(project, host, strict=live)
        if obstacles is not None:
            result["absent_owners"] += stopped_owners(host)
        result["settled"] = drift is not None and not (drift or host.broken or Journal(project).entries)
        result["seen"] = narrowing.seen(host, state.kept.get("digest", "")) if result["settled"] else ""
        if result["settled"] and state.run.is_dir():
            # Keep them now: a host that is as planned gets no converge run.  A teardown may be in progress.
            with contextlib.suppress(OSError):
                state.keep_verified_tables(host.verified_tables)
                state.keep_user_rules(host.user_rules)
        if live:
            result["drift"] = reporting.report(drift or (), host.broken)
            result["repairs"] = printable_data(repairs(drift or (), wanted, host.broken))
            result["policy_counts"] = policy_counts.counted(host, wanted)
        return result


def _drift(project: str, host: Host, strict: bool) -> tuple[list[Resource], Optional[list[Operation[Any]]]]:
    """The kept plan's resources and the differences from them.

    The latter is None without a plan or, unless ``strict``, if the differences cannot be determined.
    """
    kept = State(project).kept
    try:
        wanted = kept_resources(project, kept) if kept else []
        return wanted, engine.Engine(host).compare(wanted) if kept else None
    except (PlanError, *engine.EXPECTED):
        if strict:
            raise
        return [], None


@contextlib.contextmanager
def _lock(request: Request) -> Iterator[None]:
    if request.check and not RUN.is_dir():
        # Without objects of ours there is nothing to protect, and a check must not create the directory.
        yield
        return
    with locked(f"project {request.project}", request.lock_timeout, last_out=request.absent):
        yield


def _converge(request: Request, host: Host) -> dict[str, Any]:
    state, worker = State(request.project), engine.Engine(host)
    if request.absent:
        removed = worker.clear(request.check)
        result = {**outcome(worker, removed), "changes": printable_data(removals(state.kept.get("plan", ""), removed))}
        if not request.check:
            result["changed"] = result["changed"] or bool(state.kept)
            state.drop()
            telling.tell_run(request.project, "teardown", removed, ())
        return result
    kept = state.kept
    text, digest = _plan_text(request, kept)
    if request.ending and not request.check:
        stop_targets(host, request.ending)
    kept_texts = state.shared()
    new, before = PlanText.read(text), Before.of(str(kept.get("plan", "")), kept_texts)
    host.verified_tables = state.verified_tables
    scope = _scope(request, kept, before, new, host)
    plan = Plan.from_text(new, scope.texts if scope else None)
    if plan.project != request.project:
        raise Refused(f"the plan is for project {plan.project}, the call for {request.project}")
    texts = _shared_texts(request, kept_texts, scope.shared if scope else plan.shared)
    resources = expand_plan(plan, texts)
    if scope is not None:
        host.within = scope.namespaces
    broken: Optional[engine.Broken] = None
    with contextlib.nullcontext() if request.check else state.underway(digest, request.revision, kept):
        try:
            operations = worker.converge(resources, request.check, scope.keys if scope else None)
        except engine.Broken as error:
            broken, operations = error, error.operations
        if not request.check:
            # Before the plan: a run that is killed in between is followed by one that comes here again.
            keep_rules(request.project, resources)
            state.keep(text, digest, request.revision, texts, request.signature)
            state.drop_keys(pair_keys=plan.encryption is None, bgp_password=plan.frr is None)
    if not request.check:
        state.keep_user_rules(host.user_rules)
        state.keep_verified_tables(host.verified_tables)
        gratuitous_arp.announce(gratuitous_arp.due(operations, resources))
        telling.tell_run(request.project, "site", operations, resources)
    told = changes(before, plan, new, texts, operations, resources, host.broken)
    result = {**outcome(worker, operations), "changes": printable_data(told), "digest": digest}
    if broken is not None:
        raise Partly(str(broken), result)
    return result


def _scope(
    request: Request, kept: Mapping[str, Any], before: Before, new: PlanText, host: Host
) -> Optional[narrowing.Scope]:
    """What the run can leave unseen, as the probe has just seen it; None if it looks at everything."""
    if not request.seen or request.check or before.text is None or Journal(request.project).entries:
        return None
    if request.seen != narrowing.seen(host, str(kept.get("digest", ""))):
        return None
    return narrowing.scope(before.text, new)


def _shared_texts(request: Request, kept: Mapping[str, str], wanted: Container[str]) -> dict[str, str]:
    """The plan's shared texts: those in the request, else those the host has kept."""
    for digest, text in request.shared.items():
        if content_digest(text) != digest:
            raise Refused("the digest of a peer table does not match its text. Run again")
    return {digest: text for digest, text in {**kept, **request.shared}.items() if digest in wanted}


def _plan_text(request: Request, kept: dict[str, Any]) -> tuple[str, str]:
    newest = int(kept.get("revision", 0))
    if request.revision < newest:
        raise Overtaken(
            f"this host already has a newer plan (revision {newest}) than this run's (revision {request.revision}), "
            "from another controller. Run again to make a new plan."
        )
    if request.plan is None:
        if not kept or kept.get("digest") != request.digest:
            raise Refused("this host does not have the plan with that digest. Send the plan itself")
        return str(kept["plan"]), str(kept["digest"])
    digest = content_digest(request.plan)
    if request.digest is not None and digest != request.digest:
        raise Refused("the plan's digest does not match its text. Run again")
    if request.based_on is not None and kept.get("digest", "") not in (request.based_on, digest):
        _refuse_overtaken(request.strict, str(kept.get("plan", "{}")), request.plan)
    return request.plan, digest


def _refuse_overtaken(strict: bool, kept: str, text: str) -> None:
    """Raise Overtaken if the plan would undo what a module changed after this run read the host."""
    module_state, wanted = (json.loads(plan).get("module_state", {}) for plan in (kept, text))
    if strict or module_state != wanted:
        raise Overtaken("another run changed this host after this one had read it. Run again.")


def outcome(worker: engine.Engine, operations: Sequence[Operation[Any]]) -> dict[str, Any]:
    """A run's result as modules return it."""
    return {
        "changed": bool(operations),
        "operations": reporting.report(operations),
        "diff": reporting.diff(operations),
        "warnings": printable_data(worker.warnings),
    }
