# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which files of names the resolvers have loaded: one record for all of them.

A run writes files of names before it starts resolvers, and here sends SIGHUP to those that read a file that has changed
since.  The record has each file's inode and time of change: so a run that was interrupted before, and a file that
somebody changed by hand, are noticed by it, and nothing need be noted before a file is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..kernel.host import Host
from ..plan.base import Key
from ..plan.settings import LoadedNames
from ..state.files import HALF_WRITTEN, RUN, forget, load, remove_empty, write_atomically
from .base import Found, Kind, Operation
from .resolver import Version, load_names, names_directory, versions

_RECORD = "loaded.json"


def _path(project: str) -> Path:
    return RUN / project / _RECORD


def _recorded(project: str) -> dict[str, tuple[str, Version]]:
    """Of each file the plan's digest and what it was when the resolvers loaded it."""
    result = {}
    for name, entry in load(_path(project)).items():
        if isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str):
            result[name] = (entry[0], (entry[1], entry[2]))
    return result


def _loaded(project: str, now: Mapping[str, Version]) -> dict[str, str]:
    """The digests of files that have not changed since they were loaded."""
    return {name: digest for name, (digest, then) in sorted(_recorded(project).items()) if now.get(name) == then}


class NamesKind(Kind[LoadedNames]):
    """What the resolvers of a project have loaded, recorded in ``/run/cnm/<project>/loaded.json``."""

    name = "names"
    stages = (85,)

    def observe(self, host: Host, wanted: Sequence[LoadedNames]) -> dict[Key, Found[LoadedNames]]:
        del wanted
        if not _path(host.project).exists():
            return {}
        found = LoadedNames(str(names_directory(host.project)), _loaded(host.project, versions(host.project)))
        return {found.key: Found(found)}

    def create(self, host: Host, resources: Sequence[LoadedNames]) -> None:
        for item in resources:
            now = versions(host.project)
            loaded = _loaded(host.project, now)
            load_names(host, {name for name, digest in item.loaded.items() if loaded.get(name) != digest}, now)
            record = {name: [digest, *now[name]] for name, digest in item.loaded.items() if name in now}
            write_atomically(_path(host.project), json.dumps(record, sort_keys=True), 0o600)

    def change(self, host: Host, operations: Sequence[Operation[LoadedNames]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[LoadedNames]) -> None:
        if resources:
            forget(_path(host.project))
            remove_empty(RUN / host.project)

    def remove_partial_files(self, host: Host, resource: LoadedNames) -> None:
        path = _path(host.project)
        path.with_name(f"{path.name}{HALF_WRITTEN}").unlink(missing_ok=True)
        remove_empty(RUN / host.project)
