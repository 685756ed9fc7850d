# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controllers of lease stores that die: processes of their own, killed between two of their requests."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, Optional

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store

Work = Callable[[PartStore], Any]


class _Counting:
    """A backend whose process is killed before the request of a number, which begins at 0."""

    def __init__(self, backend: Any, dies_at: int) -> None:
        self._backend, self._left = backend, dies_at

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._backend, name)
        if name == "close":
            return method

        def call(*arguments: Any) -> Any:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            return method(*arguments)

        return call


def in_a_process(store: LeaseStore, work: Work, dies_at: Optional[int] = None) -> tuple[bool, Any]:
    """Whether a controller in a process of its own came to its end, and what it then returns."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            opened = open_store(store, "/")
            if dies_at is not None:
                opened._backend = _Counting(opened._backend, dies_at)  # type: ignore[assignment]
            with contextlib.closing(opened):
                found = work(opened)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(found, pipe)
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False, None
    assert status == 0, "the controller failed; its own words are above"
    return True, pickle.loads(data)
