# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads untrusted files: up to a size, without blocking, and without following symlinks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Optional, Union

AT_MOST = 1 << 20
"""The largest file that is read, in octets."""

_OPENING = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Refused(OSError):
    """A file that we refuse to read or write; the message says why."""


def read_text(path: str) -> Optional[str]:
    """A file's text, invalid octets as ``\\\\xff``; None if it is missing, not a regular file or too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _OPENING)
    except OSError:
        return None
    try:
        return read_open(descriptor).decode(errors="backslashreplace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_open(descriptor: int) -> bytes:
    """The content of an open file.  Raises Refused if it is not a regular file or is too large."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Refused("it is not a regular file")
    parts, left = [], AT_MOST + 1
    while left and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    if not left:
        raise Refused(f"it is larger than {AT_MOST >> 20} MB")
    return b"".join(parts)


def open_guarded(path: str, flags: int) -> int:
    """Open a file by a path that only root can change: without symlinks, in directories that only root can write to.

    Each directory is opened relative to the one before it, so nothing can change between check and use.  Raises Refused
    if another user could change the path, or if it is not a regular file with a single name.
    """
    *folders, name = [part for part in path.split("/") if part]
    if not path.startswith("/") or {".", ".."}.intersection([*folders, name]):
        raise Refused(f"{path} is not an absolute path")
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            _check_folder(directory, path)
            below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = below
        _check_folder(directory, path)
        descriptor = os.open(name, flags | os.O_NOFOLLOW | _OPENING, dir_fd=directory)
    finally:
        os.close(directory)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise Refused(f"{path} is not a regular file with a single name")
    return descriptor


def _check_folder(descriptor: int, path: str) -> None:
    status = os.fstat(descriptor)
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    if status.st_uid != os.geteuid() or others:
        raise Refused(f"users other than root can write to a directory of {path}")


def overriding(folders: Iterable[Union[str, Path]], pattern: str = "*.conf") -> list[Path]:
    """Files of several folders in the order of their names; of one name that of the first folder alone.

    So systemd and its like read what is in ``/etc``, ``/run`` and ``/usr/lib`` (systemd.unit(5), sysctl.d(5)).
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in Path(folder).glob(pattern):
            found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]
