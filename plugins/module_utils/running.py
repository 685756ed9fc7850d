# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A run on one host: lock, read the plan, let the engine work, keep the plan."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import engine, probing, verifying
from .kernel import namespaces
from .kernel.host import Host
from .kernel.nft import RunCommand
from .plan import Namespace, Plan, PlanError, Resource, content_digest
from .state import RUN, Locked, State, locked


class Refused(Exception):
    """The run stops; the message says what to do about it."""


@dataclass(frozen=True)
class Request:
    """What is asked of a host."""

    project: str
    plan: Optional[str] = None
    digest: Optional[str] = None
    revision: int = 0
    absent: bool = False
    check: bool = False
    lock_timeout: float = 60.0


@contextlib.contextmanager
def _in_words(work: str) -> Iterator[None]:
    """Whatever goes wrong on a host becomes a sentence."""
    if os.geteuid() != 0:
        raise Refused(f"{work} needs root on the host: set ansible_become: true or connect as root")
    try:
        yield
    except (PlanError, Locked, *engine.EXPECTED) as error:
        raise Refused(engine.sentence(error)) from error


def converge(request: Request, run_command: RunCommand) -> dict[str, Any]:
    """Carry the request out; returns the module's result.  Raises Refused, with a sentence, for whatever goes wrong."""
    # The resolvers run as nobody and must read what is written for them.
    os.umask(0o022)
    with _in_words("changing networks"), _lock(request), Host(request.project, run_command) as host:
        return _converge(request, host)


def probe(project: str, live: bool, run_command: RunCommand) -> dict[str, Any]:
    """Read the host; ``live`` adds the kept plan's model and what differs from it.  Raises Refused."""
    with _in_words("reading networks"), Host(project, run_command) as host:
        result = probing.probe(host, live)
        kept = State(project).kept
        if live:
            plan = Plan.from_json(kept["plan"]) if kept else None
            drift = engine.Engine(host).compare(plan.resources) if plan else []
            result["drift"] = engine.report(drift)
        return result


@contextlib.contextmanager
def _lock(request: Request) -> Iterator[None]:
    if request.check and not RUN.is_dir():
        # Nothing of ours is there to be changed by another run, and a check leaves no directory behind.
        yield
        return
    with locked(f"project {request.project}", request.lock_timeout, last_out=request.absent):
        yield


def _converge(request: Request, host: Host) -> dict[str, Any]:
    state = State(request.project)
    if request.absent:
        operations = engine.Engine(host).converge((), request.check)
        result = _result(operations)
        if not request.check:
            result["changed"] = bool(operations) or bool(state.kept)
            _remove_leftovers(state.kept, ())
            state.drop()
        return result
    text, digest = _plan_text(request, state.kept)
    plan = Plan.from_json(text)
    if plan.project != request.project:
        raise Refused(f"the plan is for project {plan.project}, the call for {request.project}")
    operations = engine.Engine(host).converge(plan.resources, request.check)
    if not request.check:
        _remove_leftovers(state.kept, plan.resources)
        state.keep(text, digest, request.revision)
    return {**_result(operations), "digest": digest}


def _remove_leftovers(kept: Mapping[str, Any], wanted: Sequence[Resource]) -> None:
    """Remove the empty file a run killed between unmounting a namespace and removing its name has left."""
    try:
        former = Plan.from_json(kept["plan"]).resources if kept else ()
    except PlanError:
        return  # of another version's format: what it left is for its own time
    names = {item.name for item in former if isinstance(item, Namespace)}
    names -= {item.name for item in wanted if isinstance(item, Namespace)}
    for name in sorted(names - set(namespaces.names())):
        path = Path(namespaces.DIRECTORY) / name
        if path.is_file() and path.stat().st_size == 0:
            namespaces.delete(name)


def _plan_text(request: Request, kept: dict[str, Any]) -> tuple[str, str]:
    newest = int(kept.get("revision", 0))
    if request.revision < newest:
        raise Refused(
            f"this host already has a newer plan (revision {newest}) than the one that came (revision "
            f"{request.revision}): another controller has been here. Run again, so that the plan is made anew."
        )
    if request.plan is None:
        if not kept or kept.get("digest") != request.digest:
            raise Refused("this host has no plan of that digest: send the plan itself")
        return str(kept["plan"]), str(kept["digest"])
    digest = content_digest(request.plan)
    if request.digest is not None and digest != request.digest:
        raise Refused("the plan that came is not the one that was made: its digest differs")
    return request.plan, digest


def _result(operations: Any) -> dict[str, Any]:
    return {
        "changed": bool(operations),
        "operations": engine.report(operations),
        "diff": engine.diff(operations),
    }


def verify(project: str, digest: str, checks: Sequence[Mapping[str, Any]], run_command: RunCommand) -> dict[str, Any]:
    """Prove that the host is as planned and that its data plane works; see `verifying.verify`.  Raises Refused."""
    with _in_words("verifying networks"), Host(project, run_command) as host:
        result = verifying.verify(host, checks)
        kept = State(project).kept
        if kept.get("digest") != digest:
            drift = ["the host was not brought to what is declared now: run cnm.fabric.site"]
        else:
            drift = [item.text for item in engine.Engine(host).compare(Plan.from_json(kept["plan"]).resources)]
        for text in drift:
            miss = {"check": "plan", "target": "host", "wanted": "nothing to do", "found": text}
            result["misses"].append({"sandbox": "host", **miss})
        return result
