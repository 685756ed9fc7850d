# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads in another process, while this one does something else."""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_LENGTH = struct.Struct("=Q")
_SET_SIZE = 1031
"""F_SETPIPE_SZ, which `fcntl` has from Python 3.10 on."""
_PIPE = 1 << 20
"""Octets that the other process has room for before it waits for this one."""


class Ahead:
    """What functions return, as plain data: a process is forked that calls them in their order.

    Where that does not pay (one processor) or is not safe (other threads may hold locks), nothing is read ahead.
    Whoever gets None has to call the function.
    """

    def __init__(self, calls: Mapping[str, Callable[[], Any]]) -> None:
        self._process, self._waiting = 0, list(calls)
        self._results: dict[str, Any] = {}
        if len(os.sched_getaffinity(0)) == 1 or threading.active_count() > 1:
            return
        reading, writing = os.pipe()
        with contextlib.suppress(OSError):  # a user's pipes have a limit
            fcntl.fcntl(writing, _SET_SIZE, _PIPE)
        self._process = os.fork()
        if not self._process:
            _be_the_fork(calls.values(), writing)
        os.close(writing)
        self._file = os.fdopen(reading, "rb")

    def take(self, name: str) -> Any:
        """What the function of that name returned, which is waited for; None if it failed, and at a second call."""
        while self._process and name in self._waiting:
            self._read()
        return self._results.pop(name, None)

    def _read(self) -> None:
        header = self._file.read(_LENGTH.size)
        data = self._file.read(_LENGTH.unpack(header)[0]) if len(header) == _LENGTH.size else b""
        try:
            self._results[self._waiting.pop(0)] = marshal.loads(data)  # from our own fork
        except (EOFError, ValueError, TypeError):  # it has ended
            self.end()
        if not self._waiting:
            self.end()

    def end(self) -> None:
        """End it if it has not ended; what it has not told yet is not wanted."""
        process, self._process = self._process, 0
        if process:
            self._file.close()
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _be_the_fork(calls: Iterable[Callable[[], Any]], writing: int) -> None:
    """Never returns, and runs nothing that the parent has registered for its end."""
    status = 1
    try:
        with os.fdopen(writing, "wb") as file:
            for call in calls:
                found = None
                with contextlib.suppress(Exception):
                    found = call()
                data = marshal.dumps(found)
                file.write(_LENGTH.pack(len(data)) + data)
                file.flush()
        status = 0
    finally:
        os._exit(status)
