# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The verbs of ``cnm`` that show the kept plan's model: ls, ps, inspect, and names for the completion."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ..kernel import namespaces
from ..plan.constants import shared_with
from ..state.kept import State
from .output import Row, Usage, keep_matching, line, plans, print_filled, print_rows, show, unknown
from .verbs import NETWORK_FIELDS, NETWORK_FILTERS, NETWORKS, SANDBOX_FIELDS, SANDBOX_FILTERS, SANDBOXES

_is_word = re.compile(r"[A-Za-z0-9_.-]+").fullmatch

_BEGINNING = 3
"""A network's ID may be given by its beginning of so many digits, as with Docker."""


def networks(project: str) -> list[dict[str, Any]]:
    """Documents like those of ``docker network inspect``, with the project of each, and its policies if it has any.

    Raises Usage.
    """
    return [
        {"Project": name, **document, **({"Policies": policies} if policies else {})}
        for name, plan in plans(project).items()
        for document in plan["model"].get("networks", ())
        for policies in (plan["model"].get("traits", {}).get(document["Name"], {}).get("policies"),)
    ]


def sandboxes(project: str) -> list[dict[str, Any]]:
    """The sandboxes, with the project of each, and whether they are there.  Raises Usage."""
    there = set(namespaces.names())

    def runs(name: str, mode: Optional[str]) -> bool:
        return mode == "host" or (shared_with(mode) or name) in there

    return [
        {
            "name": name,
            "project": owner,
            "running": runs(name, entry["network_mode"]),
            "network_mode": entry["network_mode"],
            "endpoints": {item["network"]: item["addresses"] for item in entry["endpoints"]},
            "ports": entry["ports"],
            **({"policies": policies} if policies else {}),
        }
        for owner, plan in plans(project).items()
        for name, entry in plan["model"].get("sandboxes", {}).items()
        for policies in (entry.get("policy", {}).get("policies"),)
    ]


def no_sandbox(name: str, names: Iterable[str], project: str) -> Usage:
    """That this host has no sandbox of that name, and what it has of that name."""
    if any(item["Name"] == name for item in networks(project)):
        return Usage(f"{name} is a network: cnm ps lists the sandboxes")
    return _if_a_service(name, project) or unknown("sandbox", name, names, "cnm ps lists")


def _if_a_service(name: str, project: str) -> Optional[Usage]:
    """That this is a service, and which of its tasks are here; None if it is none."""
    for plan in plans(project).values():
        model = plan["model"]
        if name in model.get("services", {}):
            tasks = sorted(task for task in model["services"][name]["tasks"] if task in model.get("sandboxes", {}))
            here = f"its task{'s' if len(tasks) > 1 else ''} here: {', '.join(tasks) or 'none'}"
            return Usage(f"{name} is a service: {here}; cnm.fabric.inspect, on the controller, shows it")
    return None


def _with_counts(boxes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sandboxes, those with policies with what was counted of them."""
    counts = {project: _counts(project) for project in {item["project"] for item in boxes if "policies" in item}}
    return [
        {**item, "policy_counts": counts[item["project"]].get(item["name"], {})} if "policies" in item else item
        for item in boxes
    ]


def _counts(project: str) -> Any:
    # Their imports take longer than all else that this file does.
    from ..kernel.host import Host  # noqa: PLC0415
    from ..kernel.programs import run_command  # noqa: PLC0415
    from ..probe import policy_counts  # noqa: PLC0415
    from .restore import kept_resources  # noqa: PLC0415

    with Host(project, run_command) as host:
        return policy_counts.counted(host, kept_resources(project, State(project).kept))


def list_networks(arguments: argparse.Namespace) -> int:
    """``cnm ls``."""
    documents = networks(arguments.project)
    rows = [
        {
            "ID": document["Id"] if arguments.no_trunc else document["Id"][:12],
            "Name": document["Name"],
            "Driver": document["Driver"],
            "Scope": document["Scope"],
            "Subnets": ", ".join(item.get("Subnet", "") for item in document["IPAM"]["Config"]),
            "Sandboxes": str(len(document["Containers"])),
        }
        for document in documents
    ]
    _print(arguments, documents, rows, "Name", NETWORK_FIELDS, NETWORK_FILTERS)
    return 0


def _print(
    arguments: argparse.Namespace,
    items: Sequence[dict[str, Any]],
    rows: Sequence[Row],
    name: str,
    heads: Mapping[str, str],
    filters: Mapping[str, str],
) -> None:
    """Print items as JSON, or their rows; ``name`` is the column of their names.  Raises Usage."""
    wanted = keep_matching(rows, arguments.filter or (), filters)
    if arguments.json:
        show([item for item, row in zip(items, rows) if row in wanted])
    elif arguments.quiet:
        for row in wanted:
            line(row[name])
    else:
        print_rows(wanted, arguments.format or "", heads)


def list_sandboxes(arguments: argparse.Namespace) -> int:
    """``cnm ps``."""
    found = sandboxes(arguments.project)
    names = {item["name"] for item in found}
    for name in arguments.sandboxes:
        if name not in names:
            raise no_sandbox(name, names, arguments.project)
    found = [item for item in found if not arguments.sandboxes or item["name"] in arguments.sandboxes]
    rows = [
        {
            "Names": item["name"],
            "Status": "up" if item["running"] else "missing",
            "Networks": ", ".join(
                f"{net} {' '.join(addresses)}".strip() for net, addresses in item["endpoints"].items()
            )
            or str(item["network_mode"] or ""),
            "Ports": ", ".join(item["ports"]),
        }
        for item in found
    ]
    _print(arguments, found, rows, "Names", SANDBOX_FIELDS, SANDBOX_FILTERS)
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """``cnm inspect``."""
    documents, boxes = networks(arguments.project), sandboxes(arguments.project)
    found: list[dict[str, Any]] = []
    for name in arguments.names:
        here = [item for item in documents if name == item["Name"]] + [item for item in boxes if name == item["name"]]
        here = here or _by_id(documents, name)
        if not here:
            names = {item["Name"] for item in documents} | {item["name"] for item in boxes}
            raise _if_a_service(name, arguments.project) or unknown(
                "network or sandbox", name, names, "cnm ls and cnm ps list"
            )
        found += here
    found = _with_counts(found)
    if arguments.format:
        print_filled(found, arguments.format)
    else:
        show(found)
    return 0


def _by_id(documents: list[dict[str, Any]], beginning: str) -> list[dict[str, Any]]:
    found = [item for item in documents if item["Id"].startswith(beginning)] if len(beginning) >= _BEGINNING else []
    if len(found) > 1:
        raise Usage(f"several networks have an ID that begins with {beginning}: give more of it")
    return found


def list_names(arguments: argparse.Namespace) -> int:
    """``cnm names``: for the completion, so without names that a shell could take for more than a word."""
    for plan in plans(arguments.project).values():
        model = plan["model"]
        names = [] if arguments.which == NETWORKS else list(model.get("sandboxes", {}))
        names += [] if arguments.which == SANDBOXES else [item["Name"] for item in model.get("networks", ())]
        for name in names:
            if _is_word(name):
                line(name)
    return 0
