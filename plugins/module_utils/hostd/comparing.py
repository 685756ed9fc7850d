# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The verbs of ``cnm`` that compare the host with its kept plan: status and restore."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

from ..engine import engine, reporting
from ..kernel import journald
from ..kernel.host import Host
from ..kernel.programs import run_command
from ..object_names import what_differs
from ..plan.forms import printable
from ..plan.nftables import SIDES
from ..probe import policy_counts
from ..resources.base import Operation
from ..resources.boot import projects
from ..resources.registry import read_ahead
from ..state.kept import State, keeping_projects
from . import output, telling
from .half import CLI
from .owners import reconnect
from .resolvers import restart_resolver
from .restore import ERRORS, Restoration, Restored, kept_resources, last_failures
from .rules import keep_user_rules
from .units import PARTLY

_HEADS = ("namespace", "link")
"""Kinds without which the part of the plan is not there at all."""


class _Drift:
    """What differs from a project's kept plan, or would be waited for.  Raises `ERRORS`."""

    def __init__(self, project: str) -> None:
        with Host(project, run_command) as host:
            read_ahead(host)
            state = State(project)
            kept = state.kept
            if not kept:
                raise output.no_plan(project)
            host.command = CLI
            host.pair_keys, host.bgp_password = state.pair_keys, state.bgp_password
            host.verified_tables = state.verified_tables
            wanted = kept_resources(project, kept)
            operations = engine.Engine(host).compare(wanted)
            self.broken = dict(host.broken)
            self.dropped = policy_counts.dropped_lately(host, wanted)
        self.parts = telling.parts_of_operations(operations, wanted)
        self.report = reporting.report(operations, self.broken)
        self.failures = last_failures(project) if self.report else {}

    def by_part(self) -> list[str]:
        """A line for each part that differs."""
        lines = [f"sandbox {name} waits: {why}" for name, why in sorted(self.broken.items())]
        for part, operations in self.parts.items():
            lines.append(f"{part} {_state(part, operations)}")
        return lines + [f"{name} could not be restored: {why}" for name, why in self.failures.items()]


_MOST_DROPPED = 10


def _of_policies(dropped: Sequence[policy_counts.Lately], most: int) -> Iterator[str]:
    """A line for each sandbox and direction, those first whose last packet was dropped last."""
    for item in sorted(dropped, key=lambda item: item.seconds)[:most]:
        packets = "1 packet" if item.packets == 1 else f"{item.packets} packets"
        ago = f"{item.seconds} s" if item.seconds < 120 else f"{item.seconds // 60} min"
        yield f"policies dropped {packets} {SIDES[item.direction]} sandbox {item.sandbox}, the last {ago} ago"
    if len(dropped) > most:
        yield f"and packets to or from {len({item.sandbox for item in dropped})} sandboxes in all: cnm status -v"


def _state(part: str, operations: Sequence[Operation[Any]]) -> str:
    if any(item.action == "create" and item.resource.kind in _HEADS for item in operations):
        return "is missing"
    if {item.resource.kind for item in operations} == {"target"}:
        return "are not started"
    return f"differs: {what_differs(part, operations)}"


def status(arguments: argparse.Namespace) -> int:
    """``cnm status``.  Raises `ERRORS` and Usage."""
    names = [arguments.project] if arguments.project else keeping_projects()
    if not names:
        raise output.no_plan()
    drift = {name: _Drift(name) for name in names}
    code = 1 if any(found.report for found in drift.values()) else 0
    if arguments.json:
        output.show(
            {
                name: {
                    "drift": found.report,
                    "not_restored": found.failures,
                    "dropped": [item._asdict() for item in found.dropped],
                }
                for name, found in drift.items()
            }
        )
        return code
    for project, found in drift.items():
        lines = found.by_part()
        state = f"{len(lines)} differences from the plan" if len(lines) > 1 else "a difference from the plan"
        output.line(f"project {project}: {state if lines else 'as planned'}")
        for text in lines:
            output.line(f"  {text}")
        if arguments.verbose:
            for operations in found.parts.values():
                for item in operations:
                    output.line(f"  {item.text}")
        for text in _of_policies(found.dropped, len(found.dropped) if arguments.verbose else _MOST_DROPPED):
            output.line(f"  {text}")
    return code


def restore(arguments: argparse.Namespace) -> int:
    """``cnm restore``."""
    names = [arguments.project] if arguments.project else projects()
    results: dict[str, Restored] = {}
    problems: dict[str, str] = {}
    for project in names:
        try:
            if arguments.resolver:
                results[project] = restart_resolver(project, arguments.resolver, run_command)
            elif arguments.owners:
                results[project] = reconnect(project, run_command, CLI)
            else:
                results[project] = Restoration(project, run_command, CLI).run(arguments.rules, arguments.own)
        except ERRORS as error:
            problems[project] = engine.sentence(error)
    if arguments.json:
        output.show(
            {
                **{name: {**vars(result), "removed": sorted(result.removed)} for name, result in results.items()},
                **{name: {"error": why} for name, why in problems.items()},
            }
        )
    for name, result in results.items():
        _tell(name, result, arguments.json, quietly=bool(arguments.owners or arguments.resolver))
    for name, why in problems.items():
        _say(name, "", f"project {name}: nothing could be restored: {why}", journald.ERROR, arguments.json)
    if problems:
        return 1
    return PARTLY if any(result.failed for result in results.values()) else 0


def keep_rules_of_users(arguments: argparse.Namespace) -> int:
    """``cnm keep-user-rules``.  Raises `ERRORS`."""
    for project in [arguments.project] if arguments.project else projects():
        keep_user_rules(project, run_command)
    return 0


def _say(project: str, part: str, text: str, priority: int = journald.INFO, quiet: bool = False) -> None:
    """Write a line to the journal, and print it unless a unit's output is the journal, or ``quiet``."""
    told = telling.tell(project, part, text, priority)
    if not quiet and not (told and "JOURNAL_STREAM" in os.environ):
        output.line(printable(text))


def _tell(project: str, result: Restored, quiet: bool, quietly: bool) -> None:
    """What was restored and what could not be, a line each; ``quietly`` nothing if there is nothing to tell."""
    where = telling.of_project(project)
    for name in sorted(result.changed):
        _say(project, name, f"restored {name}{where}", quiet=quiet)
    for name, why in sorted(result.failed.items()):
        if name in result.removed:
            _say(project, name, f"removed the networks of {name}{where}: {why}", journald.NOTICE, quiet)
        else:
            _say(project, name, f"{name}{where} could not be restored: {why}", journald.ERROR, quiet)
    for text in result.warnings:
        _say(project, "", text, journald.WARNING, quiet)
    if not result.changed and not result.failed and not quietly:
        _say(project, "", f"everything{where} was as planned", quiet=quiet)
