# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The changes of a run over all hosts as lines: what several hosts have in common is one line.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...module_utils.plan.records import dataclass
from ..shown import FULL, QUIET, Shown
from .health import counted, natural

_SIGNS = {"add": "+", "change": "~", "remove": "-", "repair": "! repair:", "wait": "… waits:"}
_KINDS = ("network", "service", "sandbox", "host")
_COUNTED = {"add": "added", "change": "changed", "remove": "removed", "repair": "repaired", "wait": "waiting"}
_NAMED = 3
"""How many hosts a line names."""
MOST_LINES = 60
"""How many lines a summary has."""


@dataclass(frozen=True)
class Line:
    """A line of a summary; ``action`` is that of a change, ``failed`` for a host, or "" for a count."""

    action: str
    text: str


@dataclass(frozen=True)
class _Told:
    action: str
    kind: str
    name: str
    text: str
    about: tuple[str, ...]


def change_lines(
    changes: Mapping[str, Sequence[Mapping[str, Any]]],
    failures: Mapping[str, str],
    shown: Shown,
    check: bool = False,
    absent: bool = False,
) -> list[Line]:
    """The lines of a run: one a change, one a host that failed, and the counts.

    ``changes`` has the list of each host that came to its plan, empty if it was as declared; ``failures`` the sentence
    of each other host.  With ``check`` it is told what would be done; with ``absent`` everything was to be removed.
    """
    hosts_of: dict[_Told, list[str]] = {}
    for host, told in sorted(_with_moves(changes).items(), key=lambda each: natural(each[0])):
        # Once a host: it must not count for others.
        for item in dict.fromkeys(told):
            hosts_of.setdefault(item, []).append(host)
    if shown.level != FULL:
        hosts_of = _without_echoes(hosts_of)
    lines = [
        Line(item.action, f"{_hosts(hosts, len(changes))}{_SIGNS[item.action]} {item.text}")
        for item, hosts in sorted(hosts_of.items(), key=lambda each: _order(*each))
        if shown.includes(*hosts, item.name, *item.about)
    ]
    counts = _counts([item.action for item in hosts_of], changes, check, absent)
    failed = [
        Line("failed", f"{host}: failed: {why}")
        for host, why in sorted(failures.items(), key=lambda each: natural(each[0]))
    ]
    if shown.level == QUIET:
        return [*failed, counts]
    if shown.level != FULL and len(lines) > MOST_LINES:
        more = f"and {len(lines) - MOST_LINES} more changes: -e cnm_show=full prints them all"
        lines = [*lines[:MOST_LINES], Line("", more)]
    return [*lines, *failed, counts]


def _without_echoes(hosts_of: Mapping[_Told, list[str]]) -> dict[_Told, list[str]]:
    """Without what other hosts hear of sandboxes that this run tells of itself."""
    told = {item.name for item in hosts_of if item.kind == "sandbox"}
    return {
        item: hosts
        for item, hosts in hosts_of.items()
        if item.kind != "network" or item.action != "change" or not item.about or not told.issuperset(item.about)
    }


def _order(item: _Told, hosts: Sequence[str]) -> tuple[Any, ...]:
    later = ("repair", "wait").index(item.action) + 1 if item.action in ("repair", "wait") else 0
    return later, _KINDS.index(item.kind), natural(item.name), natural(hosts[0]), item.text


def _with_moves(changes: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[_Told]]:
    """The changes by host; a sandbox that is removed from one host and added on another moves."""
    told = {
        host: [
            _Told(item["action"], item["kind"], item["name"] or "", item["text"], tuple(item.get("about", ())))
            for item in items
        ]
        for host, items in changes.items()
    }
    left = {_whole(item): host for host, items in told.items() for item in items if item.action == "remove"}
    result: dict[str, list[_Told]] = {}
    moved = set()
    for host, items in told.items():
        result[host] = []
        for item in items:
            old = left.get(_whole(item)) if item.action == "add" else None
            if old is None or old == host or not _whole(item):
                result[host].append(item)
                continue
            moved.add((old, _whole(item)))
            noun, _space, rest = item.text.partition(" ")
            text = f"{noun} {item.name} moves here from {old}{rest[len(item.name) :]}"
            result[host].append(_Told("change", item.kind, item.name, text, (*item.about, old)))
    return {
        host: [item for item in items if item.action != "remove" or (host, _whole(item)) not in moved]
        for host, items in result.items()
    }


def _whole(item: _Told) -> str:
    """The sandbox that is added or removed as a whole; "" for anything else."""
    whole = item.kind == "sandbox" and item.text.startswith((f"sandbox {item.name}", f"task {item.name}"))
    return item.name if whole else ""


def _hosts(hosts: Sequence[str], every: int) -> str:
    if len(hosts) == every > _NAMED:
        return f"all {every} hosts: "
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    return f"{', '.join(hosts[:_NAMED])}{more}: "


def _counts(actions: Sequence[str], changes: Mapping[str, Sequence[Any]], check: bool, absent: bool) -> Line:
    changed = sum(1 for items in changes.values() if any(item["action"] != "wait" for item in items))
    same = sum(1 for items in changes.values() if not items)
    parts = ", ".join(f"{actions.count(action)} {word}" for action, word in _COUNTED.items() if action in actions)
    rest = f"; {counted(same, 'host')} {'had nothing of the project' if absent else 'as declared'}" if same else ""
    if changed:
        return Line("", f"{counted(changed, 'host')} {'would be ' if check else ''}changed: {parts}{rest}.")
    if parts or not same:
        return Line("", f"Nothing {'would be' if check else 'was'} changed{f': {parts}{rest}' if parts else ''}.")
    if absent:
        return Line("", f"{counted(same, 'host')} {'has' if same == 1 else 'have'} nothing of the project to remove.")
    return Line("", f"{counted(same, 'host')} {'is' if same == 1 else 'are'} as declared: nothing to change.")
