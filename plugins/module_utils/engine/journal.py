# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The journal of a run: the state of every object it will touch, written before it touches them.

A run that succeeds or is completely undone removes its journal, so an existing one is that of an interrupted run.  It
is kept under ``/run`` because it describes the running kernel and is void after a boot.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, Optional

from ..plan.base import Key, PlanError, Resource
from ..plan.codec import can_be_put_back, decode, encode
from ..plan.plan import SCHEMA
from ..plan.records import dataclass
from ..state.files import RUN, forget, load, remove_empty, write_atomically


@dataclass(frozen=True)
class JournalEntry:
    """An object before the run, and as the run wants it; None for an absent one."""

    before: Optional[Resource]
    meant: Optional[Resource] = None


class Journal:
    """The entries of the present run and of an interrupted one, if there was one; one file for each project."""

    def __init__(self, project: str, only: Optional[Container[Key]] = None) -> None:
        """Read what an interrupted run has left.  Entries outside ``only`` are kept for a run that covers them."""
        self._path = RUN / project / "journal.json"
        self.entries: dict[Key, JournalEntry] = {}
        self._waiting: dict[Key, JournalEntry] = {}
        for key, entry in _read(self._path).items():
            around = entry.before.parents if entry.before is not None else ()
            covered = only is None or any(one in only for one in (key, *around))
            (self.entries if covered else self._waiting)[key] = entry

    @property
    def before(self) -> list[Resource]:
        """The objects that existed before."""
        return [entry.before for entry in self.entries.values() if entry.before is not None]

    def begun(self, wanted: Container[Key]) -> list[Resource]:
        """Objects that were to be created and are not wanted now."""
        return [
            entry.meant
            for key, entry in self.entries.items()
            if entry.before is None and entry.meant is not None and key not in wanted
        ]

    @property
    def touched(self) -> list[Resource]:
        """The object of each entry, as meant or as it was before."""
        both = (entry.meant or entry.before for entry in self.entries.values())
        return [item for item in both if item is not None]

    def note(self, before: Mapping[Key, Optional[Resource]], meant: Mapping[Key, Resource]) -> None:
        """Add entries before their objects are touched; only the first entry of an object counts.

        An object that somebody changed so that it cannot be restored is recorded as absent: undoing the run removes
        it, and the other entries stay valid.
        """
        for key, resource in before.items():
            was = resource if resource is not None and can_be_put_back(resource) else None
            known = self.entries.get(key, JournalEntry(was))
            self.entries[key] = JournalEntry(known.before, meant.get(key, known.meant))
        self._write()

    def close(self) -> None:
        """Remove the journal: the run has succeeded or was undone."""
        self.entries = {}
        self._write()

    def _write(self) -> None:
        entries = {**self._waiting, **self.entries}
        if not entries:
            forget(self._path)
            remove_empty(self._path.parent)
            return
        rows = [[key, _plain(entry.before), _plain(entry.meant)] for key, entry in entries.items()]
        write_atomically(self._path, json.dumps({"schema": SCHEMA, "places": rows}), 0o600)


def _read(path: Path) -> dict[Key, JournalEntry]:
    """The entries in a file; unreadable ones and files of other versions are ignored."""
    data = load(path)
    rows = data.get("places") if data.get("schema") == SCHEMA else None
    result = {}
    for row in rows if isinstance(rows, list) else ():
        with contextlib.suppress(PlanError, TypeError, ValueError):
            key, before, meant = row
            result[tuple(key)] = JournalEntry(_resource(before), _resource(meant))
    return result


def _plain(resource: Optional[Resource]) -> Any:
    return None if resource is None else encode(resource)


def _resource(data: Any) -> Optional[Resource]:
    return None if data is None else decode(data, found=True)
