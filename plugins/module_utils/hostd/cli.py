# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The command ``cnm`` on a host: from the plan the host keeps and the kernel, without a controller."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

from ..engine import engine, reporting
from ..kernel import namespaces
from ..kernel.host import Host
from ..kernel.programs import find_program
from ..plan.base import PlanError
from ..plan.forms import printable
from ..resources.boot import projects
from ..state.kept import State, keeping_projects
from ..state.lock import Locked
from .restore import Restoration, Restored, kept_resources, last_failures
from .rules import keep_user_rules
from .units import PARTLY

_ERRORS = (PlanError, Locked, *engine.EXPECTED)


class _Usage(Exception):
    """The command cannot be carried out as given; the message says why."""


def run_command(arguments: Sequence[str], data: Optional[str] = None) -> tuple[int, str, str]:
    """Run a program; its exit status, output and errors, as Ansible's modules do it."""
    done = subprocess.run(
        arguments,
        input=data if data is not None else "",
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"cnm: {text}\n")


def _say(text: str, level: int = 6) -> None:
    """A line of output; in a unit of systemd's with its level in front, which the journal takes for its own."""
    prefix = f"<{level}>" if "JOURNAL_STREAM" in os.environ else ""
    _line(f"{prefix}{printable(text)}")


def _show(data: Any) -> None:
    _line(json.dumps(data, indent=2))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        _line("   ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


# --- what is kept ---


def _plans(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The kept plans by project, as plain data; those the arguments ask for."""
    names = [arguments.project] if arguments.project else keeping_projects()
    kept = {name: State(name).kept for name in names}
    missing = [name for name, found in kept.items() if not found]
    if missing or not kept:
        of_project = f" of project {', '.join(missing)}" if missing else ""
        raise _Usage(f"this host keeps no plan{of_project}: run cnm.fabric.site on it")
    return {name: json.loads(found["plan"]) for name, found in kept.items()}


def _networks(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Documents like those of ``docker network inspect``, with the project of each."""
    return [
        {"Project": project, **document}
        for project, plan in _plans(arguments).items()
        for document in plan["model"].get("networks", ())
    ]


# --- commands ---


def _ls(arguments: argparse.Namespace) -> int:
    documents = _networks(arguments)
    if arguments.json:
        _show(documents)
        return 0
    rows = [
        (
            document["Id"][:12],
            document["Name"],
            document["Driver"],
            document["Scope"],
            ", ".join(item.get("Subnet", "") for item in document["IPAM"]["Config"]),
            str(len(document["Containers"])),
        )
        for document in documents
    ]
    _table(("NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNETS", "SANDBOXES"), rows)
    return 0


def _sandboxes(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    there = set(namespaces.names())
    return [
        {
            "name": name,
            "project": project,
            "running": name in there or entry["network_mode"] == "host",
            "network_mode": entry["network_mode"],
            "endpoints": {item["network"]: item["addresses"] for item in entry["endpoints"]},
            "ports": entry["ports"],
        }
        for project, plan in _plans(arguments).items()
        for name, entry in plan["model"].get("sandboxes", {}).items()
    ]


def _ps(arguments: argparse.Namespace) -> int:
    found = _sandboxes(arguments)
    if arguments.json:
        _show(found)
        return 0
    rows = [
        (
            item["name"],
            "up" if item["running"] else "missing",
            ", ".join(f"{net} {' '.join(addresses)}".strip() for net, addresses in item["endpoints"].items())
            or str(item["network_mode"] or ""),
            ", ".join(item["ports"]),
        )
        for item in found
    ]
    _table(("SANDBOX", "STATUS", "NETWORKS", "PORTS"), rows)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    found = [item for item in _networks(arguments) if arguments.network in (item["Name"], item["Id"])]
    if not found:
        raise _Usage(f"this host has no network {arguments.network}: cnm ls lists what it has")
    _show(found)
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    names = {item["name"] for item in _sandboxes(arguments)}
    if arguments.sandbox not in names:
        raise _Usage(f"this host has no sandbox {arguments.sandbox}: cnm ps lists what it has")
    program = find_program("ip")
    if program is None:
        raise _Usage("this host has no ip: install the package iproute2")
    os.execv(program, [program, "netns", "exec", arguments.sandbox, *arguments.command])


def _drift(project: str) -> list[dict[str, Any]]:
    """Operations that would bring the host back to its kept plan.  Raises what `engine.EXPECTED` has, and PlanError."""
    state = State(project)
    with Host(project, run_command) as host:
        host.command = __name__
        host.pair_keys = state.pair_keys
        host.verified_tables = state.verified_tables
        operations = engine.Engine(host).compare(kept_resources(project, state.kept))
        return reporting.report(operations, host.broken)


def _status(arguments: argparse.Namespace) -> int:
    drift = {project: _drift(project) for project in _plans(arguments)}
    failures = {project: last_failures(project) if drift[project] else {} for project in drift}
    if arguments.json:
        _show({name: {"drift": drift[name], "not_restored": failures[name]} for name in drift})
        return 1 if any(drift.values()) else 0
    for project, operations in drift.items():
        state = "as planned" if not operations else f"{len(operations)} differences from the plan"
        _line(f"project {project}: {state}")
        for item in operations:
            _line(printable(f"  {_in_words(item)}"))
        for name, why in failures[project].items():
            _line(printable(f"  {name} could not be restored: {why}"))
    return 1 if any(drift.values()) else 0


_WORDS = {"create": "is missing", "delete": "is no longer wanted", "replace": "has to be recreated"}


def _in_words(item: Mapping[str, Any]) -> str:
    differing = ", ".join(difference["attribute"] for difference in item.get("differences", ()))
    state = _WORDS.get(item["action"]) or f"differs: {differing or item.get('reason', '')}"
    return f"{item['kind']} {item['name']} {state}"


def _restore(arguments: argparse.Namespace) -> int:
    names = [arguments.project] if arguments.project else projects()
    results: dict[str, Restored] = {}
    problems: dict[str, str] = {}
    for project in names:
        try:
            results[project] = Restoration(project, run_command, __name__).run(arguments.rules)
        except _ERRORS as error:
            problems[project] = engine.sentence(error)
    if arguments.json:
        _show(
            {
                **{name: vars(result) for name, result in results.items()},
                **{n: {"error": why} for n, why in problems.items()},
            }
        )
    else:
        for name, result in results.items():
            _tell(name, result)
        for name, why in problems.items():
            _say(f"project {name}: nothing could be restored: {why}", 3)
    if problems:
        return 1
    return PARTLY if any(result.failed for result in results.values()) else 0


def _keep_user_rules(arguments: argparse.Namespace) -> int:
    for project in [arguments.project] if arguments.project else projects():
        keep_user_rules(project, run_command)
    return 0


def _tell(project: str, result: Restored) -> None:
    """What was restored and what could not be, a line each."""
    where = "" if project == "default" else f" of project {project}"
    for name in sorted(result.changed):
        _say(f"restored {name}{where}")
    for name, why in sorted(result.failed.items()):
        _say(f"{name}{where} could not be restored: {why}", 3)
    for text in result.warnings:
        _say(text, 4)
    if not result.changed and not result.failed:
        _say(f"everything{where} was as planned")


# --- the command line ---


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="for programs")
    common.add_argument("--project", metavar="NAME", help="of this project alone (cnm_project)")
    parser = argparse.ArgumentParser(prog="cnm", description="Networks of cnm.fabric on this host.")
    commands = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def add(name: str, carry_out: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, parents=[common], help=words, description=words)
        found.set_defaults(carry_out=carry_out)
        return found

    add("ls", _ls, "list networks")
    add("ps", _ps, "list sandboxes with their addresses")
    add("inspect", _inspect, "show a network as docker network inspect does").add_argument("network")
    execute = add("exec", _exec, "run a command in a sandbox")
    execute.add_argument("sandbox")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="command")
    add("status", _status, "say what is not as planned; exit status 1 if anything is not")
    restore = add("restore", _restore, "bring everything back to the kept plan")
    restore.add_argument("--rules", action="store_true", help="the rules of the host's firewall alone")
    # Without help: for units, which run it before the rules are flushed.
    commands.add_parser("keep-user-rules", parents=[common]).set_defaults(carry_out=_keep_user_rules)
    return parser


def main(argv: Sequence[str]) -> int:
    """Carry out the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.verb == "exec" and not arguments.command:
        _complain("say which command to run: cnm exec SANDBOX COMMAND…")
        return 2
    if os.geteuid() != 0:
        _complain("this needs root")
        return 1
    os.umask(0o022)
    try:
        result: int = arguments.carry_out(arguments)
        return result
    except _Usage as problem:
        _complain(f"{printable(problem)}")
    except _ERRORS as error:
        _complain(f"{engine.sentence(error)}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 1
