# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What was at every place a run is going to touch, written down before it touches them.

A run that succeeds, or is undone wholly, removes its journal: so one that is there is that of a run that was cut off.
It lies under ``/run`` because it speaks of the running kernel, and goes with it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..plan.base import Key, PlanError, Resource
from ..plan.codec import can_be_put_back, decode, encode
from ..plan.plan import SCHEMA
from ..state.files import RUN, forget, load, remove_empty, write_atomically


@dataclass(frozen=True)
class JournalEntry:
    """What was at a place before, and what a run meant to be there; None for nothing."""

    before: Optional[Resource]
    meant: Optional[Resource] = None


class Journal:
    """The places of a run in progress, those that an earlier one has left among them; one file a project."""

    def __init__(self, project: str, only: Optional[Container[Key]] = None) -> None:
        """Read what a run that was cut off has left.  What lies outside ``only`` waits for a run that is about it."""
        self._path = RUN / project / "journal.json"
        self.entries: dict[Key, JournalEntry] = {}
        self._waiting: dict[Key, JournalEntry] = {}
        for key, place in _read(self._path).items():
            around = place.before.parents if place.before is not None else ()
            mine = only is None or any(one in only for one in (key, *around))
            (self.entries if mine else self._waiting)[key] = place

    @property
    def before(self) -> list[Resource]:
        """What was there."""
        return [place.before for place in self.entries.values() if place.before is not None]

    def begun(self, wanted: Container[Key]) -> list[Resource]:
        """What was to be made where nothing was, and is not wanted now."""
        return [
            place.meant
            for key, place in self.entries.items()
            if place.before is None and place.meant is not None and key not in wanted
        ]

    @property
    def touched(self) -> list[Resource]:
        """What was to be, or was, at each place."""
        both = (place.meant or place.before for place in self.entries.values())
        return [item for item in both if item is not None]

    def note(self, before: Mapping[Key, Optional[Resource]], meant: Mapping[Key, Resource]) -> None:
        """Add places, before any of them is touched; what was noted first is what was there.

        What somebody else made of an object of ours so that it cannot be made again is noted as nothing: it goes when
        the run is undone, and no other place is lost for it.
        """
        for key, resource in before.items():
            was = resource if resource is not None and can_be_put_back(resource) else None
            known = self.entries.get(key, JournalEntry(was))
            self.entries[key] = JournalEntry(known.before, meant.get(key, known.meant))
        self._write()

    def close(self) -> None:
        """The run has done what it was to do, or was undone."""
        self.entries = {}
        self._write()

    def _write(self) -> None:
        places = {**self._waiting, **self.entries}
        if not places:
            forget(self._path)
            remove_empty(self._path.parent)
            return
        entries = [[key, _plain(place.before), _plain(place.meant)] for key, place in places.items()]
        write_atomically(self._path, json.dumps({"schema": SCHEMA, "places": entries}), 0o600)


def _read(path: Path) -> dict[Key, JournalEntry]:
    """The places in a file; one that cannot be read, or a file of another version's format, is as good as none."""
    data = load(path)
    places = data.get("places") if data.get("schema") == SCHEMA else None
    result = {}
    for entry in places if isinstance(places, list) else ():
        with contextlib.suppress(PlanError, TypeError, ValueError):
            key, before, meant = entry
            result[tuple(key)] = JournalEntry(_resource(before), _resource(meant))
    return result


def _plain(resource: Optional[Resource]) -> Any:
    return None if resource is None else encode(resource)


def _resource(data: Any) -> Optional[Resource]:
    return None if data is None else decode(data, found=True)
