# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the command ``cnm`` reads for all its verbs, and how it prints."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ..plan.forms import printable, printable_lines
from ..plan.plan import plan_data
from ..state.kept import State, keeping_projects

Row = dict[str, str]
"""What is printed of a network or sandbox, by column."""


class Usage(Exception):
    """The command cannot be carried out as given; the message says why, ``code`` is the exit status."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def line(text: str) -> None:
    """Print a line, made printable."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def show(data: Any) -> None:
    """Print data as JSON, in which every character that a terminal could obey is escaped."""
    sys.stdout.write(f"{json.dumps(data, indent=2)}\n")


_ENTRIES = ", "
"""What stands between the entries of a cell."""


def table(lines: Sequence[Sequence[str]]) -> None:
    """Print a table; its first line is its head.  What is too wide for the terminal has a line for each entry."""
    printed = _in_columns(lines)
    if max(map(len, printed)) > _terminal_width():
        entries = [[cell.split(_ENTRIES) for cell in cells] for cells in lines]
        printed = _in_columns([cells for row in entries for cells in zip_longest(*row, fillvalue="")])
    for text in printed:
        line(text)


def _in_columns(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(lines[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip() for cells in lines]


def _terminal_width() -> float:
    """How many columns there are; no end of them if the output is no terminal, or one that does not know."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or float("inf")
    except (OSError, ValueError):
        return float("inf")


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


_SHORT = 4
_CLOSE, _CLOSE_IF_SHORT = 0.6, 0.8


def closest(name: str, names: Iterable[str]) -> str:
    """The one of these names that was probably meant; "" if there is none."""
    import difflib  # noqa: PLC0415  # takes time to load

    meant = name.lower()
    by_word = {known.lower(): known for known in sorted(names)}
    swapped = [word for word in by_word if sorted(word) == sorted(meant)]
    cutoff = _CLOSE if len(name) > _SHORT else _CLOSE_IF_SHORT
    found = swapped or difflib.get_close_matches(meant, list(by_word), 1, cutoff)
    return by_word[found[0]] if found else ""


_of_a_task = re.compile(r"(.+\.)\d+").fullmatch


def unknown(noun: str, name: str, names: Iterable[str], listing: str) -> Usage:
    """That this host has nothing of that name, with the closest that it has, or else what lists them."""
    task, near = _of_a_task(name), closest(name, names)
    if task and (not near or any(_of_a_task(known) and known.startswith(task[1]) for known in names)):
        known = "a task may be on another host; cnm.fabric.inspect, on the controller, says where"
    else:
        known = f"did you mean {near}?" if near else f"{listing} what there is"
    return Usage(f"this host has no {noun} {name}: {known}")


_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}", re.ASCII)
_PART = re.compile(r"\{\{\s*(json\s+)?\.([\w.-]*)\s*\}\}", re.ASCII)


def keep_matching(rows: Sequence[Row], filters: Iterable[str], fields: Mapping[str, str]) -> Sequence[Row]:
    """Rows that every filter ``FIELD=VALUE`` holds for; ``fields`` has the column of each.  Raises Usage."""
    for text in filters:
        field, separator, value = text.partition("=")
        if not separator or field not in fields:
            raise Usage(f"cannot filter by {text}: write FIELD=VALUE, with a field of {', '.join(fields)}")
        rows = [row for row in rows if value in row[fields[field]]]
    return rows


def print_filled(items: Iterable[Mapping[str, Any]], template: str) -> None:
    """Print each item by a template of docker's with fields of it; what is no text as JSON.  Raises Usage."""
    text = "{{json .}}" if template == "json" else _with_tabs(template)
    if "{{" in _PART.sub("", text):
        raise Usage(f"--format has {{{{.FIELD}}}} and {{{{json .FIELD}}}} alone, not {text}: for more, give JSON to jq")
    for item in items:

        def value(found: re.Match[str], item: Mapping[str, Any] = item) -> str:
            part = _field(item, found[2])
            return printable(part) if isinstance(part, str) and not found[1] else json.dumps(part)

        sys.stdout.write(f"{printable_lines(_PART.sub(value, text))}\n")


def _field(item: Any, path: str) -> Any:
    """What is at a path like ``IPAM.Driver``, the item itself at an empty one; capitals do not matter."""
    for name in path.split(".") if path else ():
        known = {key.lower(): key for key in item} if isinstance(item, Mapping) else {}
        if name.lower() not in known:
            raise Usage(f"there is no {{{{.{path}}}}}: it has {', '.join(known.values()) or 'no fields'}")
        item = item[known[name.lower()]]
    return item


def _with_tabs(template: str) -> str:
    return template.replace("\\t", "\t").replace("\\n", "\n")


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
    text = _with_tabs(text or "\t".join(f"{{{{.{name}}}}}" for name in heads))
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
