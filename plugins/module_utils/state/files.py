# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Our files, written as root: only in directories that only root can write to, and never through a symlink."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, Union

LIB = Path("/var/lib/cnm")

RUN = Path("/run/cnm")

ETC_NETNS = Path("/etc/netns")

HALF_WRITTEN = ".new"

READ_AT_MOST = 1 << 20
"""The default limit, in bytes, for reading a file that other users can write to."""

_DIRECTORY_MODE = 0o755

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Unsafe(Exception):
    """Users other than root can write to a directory of ours; the message says which and what to do."""


def check_directory(path: Path) -> None:
    """Raise Unsafe unless only root can write to the directory and to those of ours above it.

    Raises FileNotFoundError if one of them does not exist.
    """
    for step in _ours(path):
        status = os.lstat(step)
        if not stat.S_ISDIR(status.st_mode):
            raise Unsafe(f"{step} is not a directory: remove it and run again")
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            raise Unsafe(
                f"users other than root can write to {step}, so its content cannot be trusted. Check its content, then "
                f"chown root:root {step} && chmod go-w {step}, and run again"
            )


def _ours(path: Path) -> list[str]:
    """The directory and those of ours above it, from the top."""
    text = str(path)
    for base in (RUN, LIB, ETC_NETNS):
        if text.startswith(f"{base}/"):
            steps = [str(base)]
            for name in text[len(steps[0]) + 1 :].split("/"):
                steps.append(f"{steps[-1]}/{name}")
            return steps
    return [text]


def make_directory(path: Path) -> None:
    """Make a directory that all can read and only root can write to, if there is none.  Raises Unsafe."""
    try:
        check_directory(path)
    except FileNotFoundError:
        steps = _ours(path)
        os.makedirs(os.path.dirname(steps[0]), exist_ok=True)
        for step in steps:
            with contextlib.suppress(FileExistsError):
                os.mkdir(step, _DIRECTORY_MODE)
        check_directory(path)


def write_atomically(path: Path, text: str, mode: int = 0o644, lasting: bool = False) -> None:
    """Replace a file's content in one step, so that no reader sees half of it.

    A ``lasting`` file is what a boot reads: after a power cut it has the content before or this one, and never none
    (rename(2) alone promises nothing of what is not on the disk yet; see `sync_directory`).  Makes its directory.
    Raises Unsafe if users other than root can write there.
    """
    make_directory(path.parent)
    temporary = path.with_name(path.name + HALF_WRITTEN)
    with os.fdopen(_open_new(temporary, mode), "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        if lasting:
            stream.flush()
            os.fsync(stream.fileno())
    os.replace(temporary, path)


def sync_directory(path: Path) -> None:
    """Wait until files that were renamed in the directory have their new names on the disk, too."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_new(path: Path, mode: int) -> int:
    """Open a new file, never through a symlink; replaces one that an interrupted run has left."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        path.unlink()
        return os.open(path, flags, mode)


def read_limited(path: Union[Path, str], limit: int = READ_AT_MOST) -> bytes:
    """The content of a regular file in a directory where other users may write.

    Raises OSError if there is none, with ELOOP for a symlink and EFBIG for more than ``limit`` bytes.
    """
    # Do not block on a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = b""
        size = min(status.st_size, limit) + 1
        while more := os.read(descriptor, size):
            content += more
            if len(content) > limit:
                raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
            if len(more) < size:
                break  # a regular file ends there
        return content
    finally:
        os.close(descriptor)


def forget(path: Path) -> None:
    """Remove a file and its partial copy, which an interrupted run may have left."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + HALF_WRITTEN).unlink(missing_ok=True)


def remove_empty(*directories: Path) -> None:
    """Remove the directories that are empty, in the given order."""
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()


def load(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if it is missing or unreadable."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def boot_id() -> str:
    """The kernel's id of the present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
