# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lock of a host: one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from .files import RUN, make_directory, remove_empty

_LOCK = "lock.json"


class Locked(Exception):
    """Another run holds the lock; the message says which and since when."""


@contextlib.contextmanager
def locked(holder: str, wait: float, last_out: bool = False) -> Iterator[None]:
    """Hold the host's lock.  Waits at most ``wait`` seconds, then raises Locked.

    ``last_out`` removes the lock's file and directory afterwards, unless files of a project are left there.
    """
    path = RUN / _LOCK
    stream = _acquire(path, time.monotonic() + wait)
    try:
        stream.truncate(0)
        stream.seek(0)
        json.dump({"holder": holder, "pid": os.getpid(), "since": time.strftime("%H:%M:%S UTC", time.gmtime())}, stream)
        stream.flush()
        yield
    finally:
        if last_out and [entry.name for entry in RUN.iterdir()] == [_LOCK]:
            path.unlink(missing_ok=True)
            remove_empty(RUN)
        stream.close()


def _acquire(path: Path, deadline: float) -> Any:
    while True:
        stream = _open_lock(path)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                stream.close()
                time.sleep(0.1)
                continue
            raise Locked(_who_holds(stream)) from None
        # The file may have been removed by a teardown between open and lock.
        if _same_file(stream.fileno(), path):
            return stream
        stream.close()


def _open_lock(path: Path) -> Any:
    """The lock file.  Only root can open it, as anybody who can open it could lock it."""
    make_directory(path.parent)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    stream = os.fdopen(os.open(path, flags, 0o600), "r+", encoding="utf-8")
    os.fchmod(stream.fileno(), 0o600)
    return stream


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _who_holds(stream: Any) -> str:
    stream.seek(0)
    try:
        who: Optional[dict[str, Any]] = json.loads(stream.read())
    except ValueError:
        who = None
    stream.close()
    if not who:
        return "another run is working on this host. Run again when it has finished"
    return (
        f"another run is working on this host: {who['holder']}, process {who['pid']}, since {who['since']}. "
        "Run again when it has finished"
    )
