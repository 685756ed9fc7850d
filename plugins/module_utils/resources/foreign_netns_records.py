# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Records of attached foreign namespaces, and changes to their owners' resolv.conf and hosts.

A mount cannot carry a mark, so an attached namespace is recorded with its name, owner and inode.  The record outlives a
reboot, as it keeps the original content of the owner's files.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Optional

from ..kernel import namespaces
from ..kernel.files import AT_MOST, open_guarded, read_open
from ..kernel.netns_owners import Owned
from ..plan.links import Namespace
from ..plan.records import dataclass
from ..state.files import HALF_WRITTEN, LIB, forget, load, remove_empty, write_atomically

_APPENDED = ("hosts",)
"""Files that keep their original content, after ours."""


@dataclass(frozen=True)
class OwnersFile:
    """A file of the owner's: its path and original content."""

    path: str
    original: str


@dataclass(frozen=True)
class Record:
    """An attached namespace."""

    role: str
    owner: str
    reference: str
    number: int
    named: bool = True
    """Whether we named it; False if it had the name before."""
    files: Mapping[str, OwnersFile] = field(default_factory=dict)

    def is_of(self, number: Optional[int]) -> bool:
        """Whether the namespace with that inode (None for none) is the recorded one."""
        return not self.named or number in (None, self.number)


def mounted(name: str) -> Optional[int]:
    """The inode of the namespace of that name; None if there is none."""
    try:
        return namespaces.inode(name)
    except FileNotFoundError:
        return None


def _directory(project: str) -> Path:
    return LIB / project / "attached"


def records(project: str) -> dict[str, Record]:
    """All records by name; unreadable ones are ignored."""
    result = {}
    for path in sorted(_directory(project).glob("*.json")):
        data = load(path)
        with contextlib.suppress(KeyError, TypeError):
            files = {name: OwnersFile(**item) for name, item in data["files"].items()}
            result[path.name[: -len(".json")]] = Record(**{**data, "files": files})
    return result


def keep(project: str, name: str, record: Record) -> None:
    """Write a record."""
    directory = _directory(project)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(directory / f"{name}.json", json.dumps(asdict(record), sort_keys=True), 0o600)


def drop(project: str, name: str) -> None:
    """Remove a record."""
    directory = _directory(project)
    forget(directory / f"{name}.json")
    remove_empty(directory, directory.parent, LIB)


def remove_partial_files(project: str, name: str) -> None:
    """Remove a partial record that an interrupted run has left."""
    directory = _directory(project)
    (directory / f"{name}.json{HALF_WRITTEN}").unlink(missing_ok=True)
    remove_empty(directory, directory.parent, LIB)


def read(path: str) -> Optional[str]:
    """An owner's file; None if it is missing or cannot be written."""
    try:
        descriptor = open_guarded(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return read_open(descriptor).decode(errors="surrogateescape")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _write(path: str, text: str) -> None:
    """Write in place, as a container's file is mounted by inode; no reader ever sees it empty."""
    descriptor = open_guarded(path, os.O_WRONLY)
    try:
        data = text.encode(errors="surrogateescape")
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def too_large(path: str) -> bool:
    """Whether an owner's file is too large to be read."""
    try:
        return os.stat(path, follow_symlinks=False).st_size > AT_MOST
    except OSError:
        return False


def found_files(paths: Mapping[str, str], record: Record) -> dict[str, str]:
    """Our part of each file as it is, in the form of `Namespace.files`."""
    result = {}
    for name, path in paths.items():
        text = read(path)
        if text is not None:
            known = record.files.get(name)
            appended = known is not None and name in _APPENDED and _is_marked(text)
            behind = known.original if known is not None and appended else ""
            result[name] = text[: len(text) - len(behind)] if text.endswith(behind) else text
    return result


def put(owned: Owned, wanted: Namespace, before: Mapping[str, OwnersFile]) -> dict[str, OwnersFile]:
    """The record of the owner's files as it will be when `write` has put our texts into them.

    If a file lacks our mark, its owner has rewritten it: its present content becomes the original content.
    """
    result = {}
    for name in wanted.files:
        path = owned.files.get(name)
        text = read(path) if path is not None else None
        if path is None or text is None:
            continue
        known = before.get(name)
        ours = known is not None and known.path == path and _is_marked(text)
        result[name] = known if ours and known is not None else OwnersFile(path, text)
    return result


def _is_marked(text: str) -> bool:
    return text.startswith("# cnm:")


def write(files: Mapping[str, OwnersFile], wanted: Mapping[str, str]) -> None:
    """Write our texts into the owner's files."""
    for name, item in files.items():
        if name in wanted:
            behind = item.original if name in _APPENDED and _is_marked(wanted[name]) else ""
            _write(item.path, wanted[name] + behind)


def put_back(files: Mapping[str, OwnersFile]) -> None:
    """Restore the files' original content; files that the owner has rewritten since are left as they are."""
    for item in files.values():
        text = read(item.path)
        if text is not None and _is_marked(text):
            _write(item.path, item.original)
