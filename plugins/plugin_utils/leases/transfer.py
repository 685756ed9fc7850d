# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Leases from one store to another, and to and from a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..forms import ReportErrors, Unfit, mapping, number, printable, record
from .base import LeaseError, Leases, empty
from .forms import NAME, NEWEST
from .parts import PartStore, parts_of, read_parts

_FORMAT = 1


def _any(value: Any, _errors: ReportErrors) -> Any:
    return value  # checked part by part


_FILE = record(
    {
        "format": number(_FORMAT, _FORMAT),
        "projects": mapping(NAME, record({"revision": number(0, NEWEST), "parts": _any}, ("revision", "parts"))),
    },
    ("format", "projects"),
)


def move(source: PartStore, target: PartStore, project: str, to: str, on: str, remember: bool) -> int:
    """Take a project and the key that signs its leases to the store called ``to``, and say so in the old one.

    Returns its revision, or 0 if nothing had to be done.  ``on`` is the day.  What is there already is brought up to
    date if it came from the same store.  Raises LeaseError if it did not.
    """
    found, there = source.read(project, moved=True), target.read(project, moved=True)
    key, own = source.key(), target.key()
    if found.root.moved:
        if found.root.moved["to"] != to:
            source.read(project)  # says where they are, as LeaseError
        if own == key and there.revision >= found.revision and not there.root.moved:
            return 0
    if there.revision and (own != key or (there.revision > found.revision and there.leases != found.leases)):
        raise LeaseError(
            f"the new store has leases of project {project} already (revision {there.revision}), which are not from "
            f"the old one (revision {found.revision}). Take another prefix, or remove `{project}/` there"
        )
    if found.revision and remember:
        if not own:
            target.adopt_key(key)
        if there.root.moved or there.revision < found.revision or there.leases != found.leases:
            target.write(project, there, found.leases, found.revision)
        if not source.leave(project, found, to, on):
            raise LeaseError(
                f"another run has changed the leases of project {project} meanwhile (revision "
                f"{source.read(project).revision}, and {found.revision} was moved): move again"
            )
    return found.revision


def exported(store: PartStore, projects: Iterable[str]) -> str:
    """The leases of projects as a text for a file, also if they have moved to another store since.

    The key is not in it: who can read the file cannot sign leases.
    """
    found = {project: store.read(project, moved=True) for project in projects}
    document = {
        "format": _FORMAT,
        "projects": {
            project: {"revision": snapshot.revision, "parts": parts_of(snapshot.leases)}
            for project, snapshot in sorted(found.items())
        },
    }
    return json.dumps(document, sort_keys=True, indent=1) + "\n"


def read_export(text: str) -> dict[str, tuple[int, Leases]]:
    """Revision and leases by project, of such a text.  Raises LeaseError."""
    errors: ReportErrors = []
    try:
        data: Any = _FILE(json.loads(text), errors)
    except (ValueError, RecursionError):
        raise LeaseError("the file is not JSON: it is not an export of leases") from None
    except Unfit as problem:
        raise LeaseError(f"the file is not an export of leases: {printable(str(problem), 200)}") from None
    if errors:
        raise LeaseError(f"the file is not an export of leases: {printable(': '.join(errors[0]), 200)}")
    return {project: (entry["revision"], read_parts(entry["parts"])) for project, entry in data["projects"].items()}


def import_into(store: PartStore, project: str, revision: int, leases: Leases, remember: bool) -> bool:
    """Write what was exported; whether there was anything to do.  Raises LeaseError if the store has other leases.

    Those that have moved to another store count as none.
    """
    there = store.read(project, moved=True)
    if not revision or (there.leases == leases and not there.root.moved):
        return False
    if there.leases != empty() and not there.root.moved:
        raise LeaseError(
            f"the store has other leases of project {project} already (revision {there.revision}, and the file has "
            f"revision {revision}). Import into an empty one, or remove `{project}/` there"
        )
    if remember:
        store.write(project, there, leases, revision)
    return True
