# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``namespace`` of sandboxes and services: whose network namespace it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

from ...module_utils.plan.records import dataclass
from .errors import VarPath
from .topology import TASK, Namespace

_MOST_PIDS = 2**22


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    problem: str
    remedy: str


_CONTAINER = _Rule(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*"),
    "A container's name has letters, digits, `_`, `.` and `-`, and begins with a letter or digit.",
    "Write it as `docker ps` or `podman ps` shows it, or the container's id.",
)
_RULES = {
    "docker": _CONTAINER,
    "podman": _CONTAINER,
    "pid": _Rule(re.compile(r"[1-9][0-9]{0,6}"), "This is no process id.", "Write the number that `ps` shows."),
    "machine": _Rule(
        re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"),
        "A machine's name has letters, digits, `_`, `.` and `-`, and begins with a letter or digit.",
        "Write it as `machinectl list` shows it.",
    ),
    "path": _Rule(
        re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/\x00\n]+)+"),
        "A namespace's path is absolute, without `.` and `..` in it.",
        "Write it like `/run/netns/other`.",
    ),
}
"""By kind of owner what a reference looks like."""


def read_namespace(value: Optional[Mapping[str, Any]], path: VarPath) -> Namespace:
    """Whose namespace a sandbox is in; every error is noted at its place."""
    found = _one(value, path)
    if found is None:
        return Namespace()
    owner, reference = found
    return Namespace(owner, reference) if _fits(owner, reference, reference, path / owner) else Namespace()


def read_task_namespace(value: Optional[Mapping[str, Any]], mode: str, replicas: int, path: VarPath) -> Namespace:
    """The same for the tasks of a service: each has one of its own."""
    found = _one(value, path)
    if found is None:
        return Namespace()
    owner, reference = found
    if not _fits(owner, reference, reference.replace(TASK, "1"), path / owner):
        return Namespace()
    if TASK not in reference and mode == "replicated" and replicas > 1:
        (path / owner).wrong(
            f"The service has {replicas} tasks, and each needs a namespace of its own.",
            f"Write {TASK} where the task's number goes, as in `redis-{TASK}`.",
            reference,
        )
    return Namespace(owner, reference)


def _one(value: Optional[Mapping[str, Any]], path: VarPath) -> Optional[tuple[str, str]]:
    given = [(owner, str(reference)) for owner, reference in (value or {}).items() if reference is not None]
    if len(given) > 1:
        path.wrong(
            f"A namespace has one owner; here are {' and '.join(owner for owner, _reference in given)}.",
            "Keep one of them.",
        )
    return given[0] if len(given) == 1 else None


def _fits(owner: str, written: str, reference: str, path: VarPath) -> bool:
    rule = _RULES[owner]
    fits = rule.pattern.fullmatch(reference) is not None and (owner != "pid" or int(reference) <= _MOST_PIDS)
    if not fits:
        path.wrong(rule.problem, rule.remedy, written)
    return fits
