# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the command ``cnm`` reads for all its verbs, and how it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ..plan.forms import printable
from ..state.kept import State, keeping_projects


class Usage(Exception):
    """The command cannot be carried out as given; the message says why."""


def line(text: str) -> None:
    """Print a line, made printable."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def show(data: Any) -> None:
    """Print data as JSON, in which every character that a terminal could obey is escaped."""
    sys.stdout.write(f"{json.dumps(data, indent=2)}\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(head))]
    for cells in lines:
        line("   ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())


def no_plan(project: str = "") -> Usage:
    """That this host keeps no plan, of a project or at all."""
    of_project = f" of project {project}" if project else ""
    return Usage(f"this host keeps no plan{of_project}: run cnm.fabric.site on it")


def plans(project: str) -> dict[str, dict[str, Any]]:
    """The kept plans by project, as plain data: that of one project, or all.  Raises Usage."""
    names = [project] if project else keeping_projects()
    kept = {name: State(name).kept for name in names}
    missing = [name for name, found in kept.items() if not found]
    if missing or not kept:
        raise no_plan(", ".join(missing))
    return {name: json.loads(found["plan"]) for name, found in kept.items()}


def unknown(noun: str, name: str, names: Iterable[str], listing: str) -> Usage:
    """That this host has nothing of that name, with the closest that it has."""
    import difflib  # noqa: PLC0415  # takes time to load

    close = difflib.get_close_matches(name, sorted(names), 1, 0.5)
    hint = f"did you mean {close[0]}?" if close else f"{listing} lists what it has"
    return Usage(f"this host has no {noun} {name}: {hint}")
