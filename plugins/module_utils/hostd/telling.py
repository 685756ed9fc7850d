# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What runs and restores do, a line each in the journal, with the sandbox, the network and the project as fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..kernel import journald
from ..plan.base import Resource
from ..resources.base import Operation
from .restore import PartNames

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_match_part = re.compile(
    rf"(?:network (?P<network>{_NAME})(?: in )?|applications in )?(?:sandbox (?P<sandbox>{_NAME}))?"
).fullmatch

_DONE = {"create": "created", "delete": "removed"}

MOST_LINES = 200
"""A run that changes more parts than this tells of the others by their number: the journal limits a unit's lines."""


def parts_of_operations(operations: Iterable[Operation[Any]], wanted: Sequence[Resource]) -> dict[str, list[Any]]:
    """Operations by the part of the plan that they concern, sorted by its name."""
    operations = list(operations)
    keys = {item.key for item in wanted}
    gone = [item.resource for item in operations if item.resource.key not in keys]
    return PartNames([*wanted, *gone]).grouped(operations)


def in_words(operations: Sequence[Operation[Any]]) -> str:
    """What was done to a part: created, changed or removed."""
    actions = {item.action for item in operations}
    return _DONE.get(actions.pop(), "changed") if len(actions) == 1 else "changed"


def tell(project: str, part: str, text: str, priority: int = journald.INFO) -> bool:
    """Write a line about a part of a project to the journal; returns whether there is one."""
    found = _match_part(part)
    about: Mapping[str, str] = {name: value or "" for name, value in found.groupdict().items()} if found else {}
    return journald.write(
        text,
        priority,
        CNM_PROJECT=project,
        CNM_SANDBOX=about.get("sandbox", ""),
        CNM_NETWORK=about.get("network", ""),
    )


def of_project(project: str) -> str:
    """Words that name a project, if it is not the usual one."""
    return "" if project == "default" else f" of project {project}"


def tell_run(project: str, what: str, operations: Sequence[Operation[Any]], wanted: Sequence[Resource]) -> None:
    """Write to the journal what a run has done: a line for each part it changed, and one of the whole."""
    parts = parts_of_operations(operations, wanted)
    for part, done in list(parts.items())[:MOST_LINES]:
        tell(project, part, f"{in_words(done)} {part}{of_project(project)}")
    more = f", of which the last {len(parts) - MOST_LINES} are not named" if len(parts) > MOST_LINES else ""
    noun = "part" if len(parts) == 1 else "parts"
    result = f"changed {len(parts)} {noun}{more}" if parts else "found everything as planned"
    tell(project, "", f"{what}{of_project(project)} {result}", journald.NOTICE)


def tell_refusal(project: str, what: str, why: str) -> None:
    """Write to the journal why a run came to nothing."""
    tell(project, "", f"{what}{of_project(project)} failed: {' '.join(why.split())}", journald.ERROR)
