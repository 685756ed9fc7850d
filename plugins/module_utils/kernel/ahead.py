# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads in another process, while this one does something else."""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

FEWEST = 64
"""Items from which on it pays to fork."""


class Ahead:
    """What a function gives for each item, as plain data: a process is forked that calls it.

    Where that does not pay (few items, one processor) or is not safe (other threads may hold locks), nothing is read
    ahead.  The results lack items for which the function raised an exception, and all of them if the process failed:
    whoever needs those calls the function.
    """

    def __init__(self, read: Callable[[str], Any], items: Sequence[str]) -> None:
        self._process, self._items = 0, frozenset(items)
        if len(items) < FEWEST or len(os.sched_getaffinity(0)) == 1 or threading.active_count() > 1:
            return
        self._reading, writing = os.pipe()
        self._process = os.fork()
        if not self._process:
            _be_the_fork(read, items, writing)
        os.close(writing)

    def has(self, item: str) -> bool:
        """Whether it is among those to be read."""
        return item in self._items

    def results(self) -> dict[str, Any]:
        """What was read, by item; waits for it.  A second call returns nothing."""
        if not self._process:
            return {}
        with os.fdopen(self._reading, "rb") as file:
            data = file.read()
        process, self._process = self._process, 0
        if os.waitpid(process, 0)[1]:
            return {}
        found: dict[str, Any] = marshal.loads(data)  # from our own fork
        return found

    def end(self) -> None:
        """End it if it has not ended; its results are not wanted."""
        process, self._process = self._process, 0
        if process:
            os.close(self._reading)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _be_the_fork(read: Callable[[str], Any], items: Sequence[str], writing: int) -> None:
    """Never returns, and runs nothing that the parent has registered for its end."""
    status = 1
    try:
        found = {}
        for item in items:
            with contextlib.suppress(Exception):
                found[item] = read(item)
        with os.fdopen(writing, "wb") as file:
            marshal.dump(found, file)
        status = 0
    finally:
        os._exit(status)
