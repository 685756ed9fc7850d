# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which named namespaces are ours: on record by the number by which the kernel knows each, in a file that only root
can write.

The alias of ``lo`` is no proof: root in a namespace writes what it likes there.  It is asked only where the record is
lost as a whole, and then of those alone that the kept plan names and that no other user namespace owns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..state.files import HALF_WRITTEN, RUN, boot_id, forget, load, remove_empty, write_atomically
from ..state.kept import State


@dataclass(frozen=True)
class Own:
    """One namespace that we made."""

    number: int
    role: str


def _path(project: str) -> Path:
    return RUN / project / "namespaces.json"


def recorded(project: str) -> Optional[dict[str, Own]]:
    """What is on record by name; None if there is no record of this boot."""
    data = load(_path(project))
    if data.get("boot") != boot_id():
        return None
    try:
        return {str(name): Own(int(entry["number"]), str(entry["role"])) for name, entry in data["names"].items()}
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def planned(project: str) -> set[str]:
    """Names of those that the kept plan has: what may be ours though the record is lost."""
    try:
        resources = json.loads(State(project).kept["plan"])["resources"]
        return {str(item["name"]) for item in resources if item["kind"] == "namespace" and not item.get("owner")}
    except (LookupError, TypeError, ValueError):
        return set()


def record(project: str, names: Mapping[str, Own]) -> None:
    """Put all of them on record, in the place of what was."""
    path = _path(project)
    if not names:
        forget(path)
        remove_empty(path.parent)
        return
    entries = {name: {"number": entry.number, "role": entry.role} for name, entry in sorted(names.items())}
    write_atomically(path, json.dumps({"boot": boot_id(), "names": entries}), 0o600)


def tidy(project: str) -> None:
    """Remove what a run that was killed while it wrote the record has left."""
    path = _path(project)
    path.with_name(path.name + HALF_WRITTEN).unlink(missing_ok=True)
    remove_empty(path.parent)


def drop(project: str, name: str) -> None:
    """Take one off the record."""
    names = recorded(project) or {}
    if names.pop(name, None) is not None:
        record(project, names)
