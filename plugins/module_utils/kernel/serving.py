# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whether something serves in sandboxes, and whether connections to it are open (proc(5), /proc/net/tcp)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from . import listening_sockets, namespaces

_LOOK_AGAIN_S = 0.05


def until_idle(tasks: Mapping[str, int]) -> None:
    """Wait until nobody is connected to any of the tasks, at most so many milliseconds each."""
    _until(tasks, _is_idle)


def until_listening(tasks: Mapping[str, int]) -> list[str]:
    """Wait until something listens in each task, at most so many milliseconds each → where nothing does."""
    return _until(tasks, _listens)


def _until(tasks: Mapping[str, int], is_so: Callable[[str], bool]) -> list[str]:
    begun, left = time.monotonic(), dict(tasks)
    while True:
        left = {task: limit for task, limit in left.items() if not is_so(task)}
        passed = (time.monotonic() - begun) * 1000
        if all(limit <= passed for limit in left.values()):
            return sorted(left)
        time.sleep(_LOOK_AGAIN_S)


def _listens(task: str) -> bool:
    try:
        return bool(namespaces.run(task, listening_sockets.served_ports))
    except OSError:  # there is no such namespace
        return False


def _is_idle(task: str) -> bool:
    try:
        return not namespaces.run(task, _has_callers)
    except OSError:
        return True


def _has_callers() -> bool:
    return listening_sockets.has_callers(listening_sockets.served_ports())
