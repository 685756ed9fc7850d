# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the command ``cnm`` reads for all its verbs, and how it prints."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..plan.forms import printable, printable_lines
from ..plan.plan import plan_data
from ..state.kept import State, keeping_projects

Row = dict[str, str]
"""What is printed of a network or sandbox, by column."""


class Usage(Exception):
    """The command cannot be carried out as given; the message says why."""


def line(text: str) -> None:
    """Print a line, made printable."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def show(data: Any) -> None:
    """Print data as JSON, in which every character that a terminal could obey is escaped."""
    sys.stdout.write(f"{json.dumps(data, indent=2)}\n")


def table(lines: Sequence[Sequence[str]]) -> None:
    """Print a table; its first line is its head."""
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(lines[0]))]
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
    return {name: plan_data(found["plan"]) for name, found in kept.items()}


def closest(name: str, names: Iterable[str], listing: str) -> str:
    """The question whether the closest of these was meant; without one, which command lists them."""
    import difflib  # noqa: PLC0415  # takes time to load

    close = difflib.get_close_matches(name, sorted(names), 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"{listing} lists what there is"


def unknown(noun: str, name: str, names: Iterable[str], listing: str) -> Usage:
    """That this host has nothing of that name, with the closest that it has."""
    return Usage(f"this host has no {noun} {name}: {closest(name, names, listing)}")


_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}", re.ASCII)


def keep_matching(rows: Sequence[Row], filters: Iterable[str], fields: Mapping[str, str]) -> Sequence[Row]:
    """Rows that every filter ``FIELD=VALUE`` holds for; ``fields`` has the column of each.  Raises Usage."""
    for text in filters:
        field, separator, value = text.partition("=")
        if not separator or field not in fields:
            raise Usage(f"cannot filter by {text}: write FIELD=VALUE, with a field of {', '.join(fields)}")
        rows = [row for row in rows if value in row[fields[field]]]
    return rows


def print_rows(rows: Sequence[Row], template: str, heads: Mapping[str, str]) -> None:
    """Print rows as a table, or each by a template as docker has it; ``heads`` are columns with their heads.

    Raises Usage.
    """
    if template == "json":
        for row in rows:
            sys.stdout.write(f"{json.dumps(row)}\n")
        return
    as_table = template in ("", "table") or template.startswith("table ")
    text = template[len("table") :].strip() if as_table else template
    text = (text or "\t".join(f"{{{{.{name}}}}}" for name in heads)).replace("\\t", "\t").replace("\\n", "\n")
    unheard = [name for name in _FIELD.findall(text) if name not in heads]
    if unheard or "{{" in _FIELD.sub("", text):
        what = f"{{{{.{unheard[0]}}}}}" if unheard else text
        raise Usage(f"--format cannot have {what}: it has {{{{.{'}}, {{.'.join(heads)}}}}}, table and json")

    def filled(row: Mapping[str, str]) -> str:
        return _FIELD.sub(lambda found: printable(row[found[1]]), text)

    if as_table:
        table([cells.split("\t") for cells in map(filled, (heads, *rows))])
    else:
        for row in rows:
            sys.stdout.write(f"{printable_lines(filled(row))}\n")
