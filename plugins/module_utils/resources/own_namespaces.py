# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The record of our named namespaces, by inode, in a file that only root can write.

The alias of ``lo`` proves nothing, as root in a namespace can set it.  It is used only if the whole record is lost, and
then only for namespaces that are in the kept plan and not owned by another user namespace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from ..plan.plan import plan_data
from ..plan.records import dataclass
from ..state.files import HALF_WRITTEN, RUN, boot_id, forget, load, remove_empty, write_atomically
from ..state.kept import State


@dataclass(frozen=True)
class Own:
    """A namespace that we created."""

    number: int
    role: str


def _path(project: str) -> Path:
    return RUN / project / "namespaces.json"


def recorded(project: str) -> Optional[dict[str, Own]]:
    """The record by name; None if there is none of this boot."""
    data = load(_path(project))
    if data.get("boot") != boot_id():
        return None
    try:
        return {str(name): Own(int(entry["number"]), str(entry["role"])) for name, entry in data["names"].items()}
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def planned(project: str) -> set[str]:
    """Names of namespaces in the kept plan, which may be ours if the record is lost."""
    return {name for name, (owner, _reference) in _planned(project).items() if not owner}


def planned_owners(project: str) -> dict[str, tuple[str, str]]:
    """Owner and reference of each namespace of others in the kept plan."""
    return {name: known for name, known in _planned(project).items() if known[0]}


def _planned(project: str) -> dict[str, tuple[str, str]]:
    """Owner and reference of each namespace in the kept plan; both are empty for one of ours."""
    try:
        resources = plan_data(State(project).kept["plan"])["resources"]
        return {
            str(item["name"]): (str(item.get("owner", "")), str(item.get("reference", "")))
            for item in resources
            if item["kind"] == "namespace"
        }
    except (LookupError, TypeError, ValueError):
        return {}


def record(project: str, names: Mapping[str, Own]) -> None:
    """Replace the record."""
    path = _path(project)
    if not names:
        forget(path)
        remove_empty(path.parent)
        return
    entries = {name: {"number": entry.number, "role": entry.role} for name, entry in sorted(names.items())}
    write_atomically(path, json.dumps({"boot": boot_id(), "names": entries}), 0o600)


def remove_partial_files(project: str) -> None:
    """Remove a partial record that an interrupted run has left."""
    path = _path(project)
    path.with_name(path.name + HALF_WRITTEN).unlink(missing_ok=True)
    remove_empty(path.parent)


def drop(project: str, name: str) -> None:
    """Remove a namespace from the record."""
    names = recorded(project) or {}
    if names.pop(name, None) is not None:
        record(project, names)
