# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Pure work on many items, in as many processes as there are processors."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any, Optional, TypeVar

FEWEST = 64
"""Items from which on it pays to fork."""

_T = TypeVar("_T")
_R = TypeVar("_R")


def results_of(work: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """What a pure function gives for each item, in order.

    With many items, processes are forked that each take a share and send back what the function gave, pickled.  They
    are plain forks: Ansible's workers may not have processes of `multiprocessing`.  If one of them fails, its share is
    done here, so an exception is raised as it is without them.
    """
    number = _processors() if len(items) >= FEWEST else 1
    if number == 1:
        return [work(item) for item in items]
    gc.freeze()  # a collection in a fork would copy every page
    shares = [items[first::number] for first in range(number)]
    forks = [_Fork(work, share) for share in shares[1:]]
    result: list[Any] = [None] * len(items)
    try:
        result[::number] = [work(item) for item in shares[0]]
        for first, (fork, share) in enumerate(zip(forks, shares[1:]), 1):
            found = fork.results()
            result[first::number] = [work(item) for item in share] if found is None else found
    finally:
        for fork in forks:
            fork.end()
    return result


def _processors() -> int:
    """How many processes to use; one where a fork is not safe, as other threads may hold locks."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return len(os.sched_getaffinity(0))


class _Fork:
    """A process that works on a share."""

    def __init__(self, work: Callable[[Any], Any], share: Sequence[Any]) -> None:
        # Without a name, so that it is gone with the processes whatever happens to them.
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = os.fork()
        if not self._process:
            self._run(work, share)

    def _run(self, work: Callable[[Any], Any], share: Sequence[Any]) -> None:
        """In the fork; never returns, and runs nothing that its parent has registered for its end."""
        status = 1
        try:
            for item in share:
                pickle.dump(work(item), self._file, pickle.HIGHEST_PROTOCOL)
            self._file.flush()
            status = 0
        finally:
            os._exit(status)

    def results(self) -> Optional[list[Any]]:
        """What it made; None if it failed."""
        process, self._process = self._process, 0
        _pid, status = os.waitpid(process, 0)
        if status:
            return None
        self._file.seek(0)
        found = []
        while True:
            try:
                found.append(pickle.load(self._file))  # written by our own fork, into a file without a name
            except EOFError:
                return found

    def end(self) -> None:
        """End it if it has not ended; its results are not wanted."""
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        self._file.close()
