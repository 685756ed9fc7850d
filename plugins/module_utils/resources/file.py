# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Our files in directories that may hold files of others.  The mark is a comment in the first line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..kernel.host import Host
from ..plan import forms
from ..plan.base import Key
from ..plan.marks import role_of
from ..plan.settings import File
from ..state.files import (
    ETC_NETNS,
    HALF_WRITTEN,
    RUN,
    forget,
    make_directory,
    read_limited,
    remove_empty,
    write_atomically,
)
from .base import Difference, Found, Kind, Operation

FILES = "files"
"""What `look` is called among what is read ahead."""
_NO_COMMENTS = ("hostname",)
_HIDDEN = "the same, readable only by root"
_KNOWN = ("hosts", "nsswitch.conf", "resolv.conf")
"""Our files that carry a mark, unless a power failure has left them empty."""
_READ_AT_MOST = 64 << 20
"""In bytes: enough for the records of a million endpoints."""
_UNREAD = "(it cannot be read, or is too large to be ours)"


def _mark_in(text: str, project: str) -> str:
    first = text.partition("\n")[0]
    return (role_of(first[2:], project) or "") if first.startswith("# ") else ""


def _text_of(path: str) -> str:
    try:
        return read_limited(path, _READ_AT_MOST).decode(errors="replace")
    except OSError:
        return _UNREAD


def _is_half_written(directory: str, name: str) -> bool:
    """Whether an interrupted run left a partial file of ours."""
    if not name.endswith(HALF_WRITTEN):
        return False
    return name[: -len(HALF_WRITTEN)] in (*_NO_COMMENTS, *_KNOWN) or directory.startswith(f"{RUN}/")


def _is_left_empty(name: str, text: str) -> bool:
    """Whether it is a file of ours that was not on the disk yet when the power failed."""
    return not text and name in (*_NO_COMMENTS, *_KNOWN)


def _is_all_cut_off(found: File, want: File) -> bool:
    """Whether nothing is there but what an interrupted run or a power failure leaves of ours."""
    return all(
        _is_half_written(found.directory, name) or _is_left_empty(name, text) or text == want.files.get(name)
        for name, text in found.files.items()
    )


def _in_the_way(directory: str, found: File, want: File) -> Iterator[str]:
    """Paths of our files at which something else exists."""
    if os.path.islink(directory):
        yield directory
        return
    for name, text in want.files.items():
        target = f"{directory}/{name}"
        if name in found.files:  # then it is a file
            if not found.role and found.files[name] != text and not _is_left_empty(name, found.files[name]):
                yield target
        elif os.path.islink(target) or os.path.isdir(target):
            yield target


def _entries(directory: str) -> list[os.DirEntry[str]]:
    """What is in a directory, by name; nothing if there is none."""
    try:
        with os.scandir(directory) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(project: str, directory: str) -> File:
    """The files in a directory: ours if one is marked, else all of them without a role."""
    everything, ours, hidden, role = {}, {}, [], ""
    for entry in _entries(directory):
        if not entry.is_file(follow_symlinks=False):
            continue
        text = _text_of(entry.path)
        mark = _mark_in(text, project)
        role = mark or role
        everything[entry.name] = text
        known = entry.name in _NO_COMMENTS or _is_left_empty(entry.name, text)
        if mark or known or _is_half_written(directory, entry.name):
            ours[entry.name] = text
            if entry.stat().st_mode & 0o444 != 0o444:
                hidden.append(entry.name)
    return File(directory, role, ours if role else everything, tuple(hidden))


def _directories() -> set[str]:
    """Those of sandboxes."""
    return {entry.path for entry in _entries(str(ETC_NETNS)) if entry.is_dir(follow_symlinks=False)}


def look(project: str) -> dict[str, tuple[Any, ...]]:
    """The further fields of the `File` of each sandbox's directory; plain data, so that another process can look."""
    found = {directory: _read(project, directory) for directory in _directories()}
    return {directory: (item.role, item.files, item.hidden) for directory, item in found.items()}


class FileKind(Kind[File]):
    """``/etc/netns/<sandbox>`` and the files of names under ``/run/cnm``."""

    name = "file"
    # Before resolvers, which read them when they start.
    stages = (26,)

    def observe(self, host: Host, wanted: Sequence[File]) -> dict[Key, Found[File]]:
        wanted_by = {item.directory: item for item in wanted}
        directories = _directories() | {str(RUN / host.project / name) for name in ("names", "evpn")}
        ahead = host.take_ahead(FILES) or {}
        result: dict[Key, Found[File]] = {}
        directories = {directory for directory in directories if host.looks_at(("file", directory))}
        for directory in sorted(directories | set(wanted_by)):
            fields = ahead.get(directory)
            found = _read(host.project, directory) if fields is None else File(directory, *fields)
            want = wanted_by.get(directory)
            foreign = sorted(_in_the_way(directory, found, want)) if want is not None else []
            if want is not None and foreign:
                result[want.key] = Found(File(foreign[0]), ours=False, stale=False)
            elif found.role:
                result[found.key] = Found(found)
            elif want is not None and os.path.isdir(directory) and _is_all_cut_off(found, want):
                result[want.key] = Found(found, stale=False)
        return result

    def differences(self, wanted: File, found: File) -> list[Difference]:
        result = [] if wanted.role == found.role else [Difference("role", wanted.role, found.role)]
        for name in sorted(set(wanted.files) | set(found.files)):
            want, have = wanted.files.get(name), found.files.get(name)
            if want != have:
                result.append(Difference(name, want, have))
            elif (name in wanted.hidden) != (name in found.hidden):
                result.append(Difference(name, want, _HIDDEN))
        return result

    def create(self, host: Host, resources: Sequence[File]) -> None:
        for item in resources:
            directory = Path(forms.directory(item.directory))
            make_directory(directory)
            # Files that cannot carry a mark are written last, so that an interrupted run has left a marked one.
            for name in sorted(item.files, key=lambda name: (name in _NO_COMMENTS, name)):
                mode = 0o600 if name in item.hidden else 0o644
                write_atomically(directory / forms.file_name(name), forms.text(item.files[name]), mode)

    def change(self, host: Host, operations: Sequence[Operation[File]]) -> None:
        for operation in operations:
            wanted = operation.resource
            gone = [
                item.attribute for item in operation.differences if item.attribute != "role" and item.wanted is None
            ]
            changed = {item.attribute for item in operation.differences if item.wanted is not None} - {"role"}
            files = {name: wanted.files[name] for name in changed}
            self.create(host, [File(wanted.directory, wanted.role, files, wanted.hidden)])
            for name in gone:
                forget(Path(wanted.directory) / name)

    def delete(self, host: Host, resources: Sequence[File]) -> None:
        for item in resources:
            directory = Path(item.directory)
            # Marked files are removed last, for the same reason.
            for name in sorted(item.files, key=lambda name: (name not in _NO_COMMENTS, name)):
                forget(directory / name)
            remove_empty(directory, directory.parent)
