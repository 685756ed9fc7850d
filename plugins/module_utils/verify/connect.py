# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Opens TCP connections to many ports at once."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Sequence

from ..plan.families import family_of
from .echo import FAMILIES

_CONNECT_SECONDS = 4.0
"""The kernel retries after one second and after three."""

_ENDS = (0, errno.ECONNREFUSED)


def unconnected(targets: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Addresses and ports that do not answer TCP connections from the thread's namespace, and why.

    A refused connection counts as an answer: it arrived at the task, where nothing listens on that port.
    """
    found: dict[tuple[str, int], str] = {}
    waiting: dict[socket.socket, tuple[str, int]] = {}
    with contextlib.ExitStack() as stack:
        for target in dict.fromkeys(targets):
            opened = stack.enter_context(socket.socket(FAMILIES[family_of(target[0])].domain, socket.SOCK_STREAM))
            opened.setblocking(False)
            code = opened.connect_ex(target)
            if code == errno.EINPROGRESS:
                waiting[opened] = target
            elif code not in _ENDS:
                found[target] = os.strerror(code)
        poll = select.poll()
        by_number = {opened.fileno(): opened for opened in waiting}
        for number in by_number:
            poll.register(number, select.POLLOUT)
        deadline = time.monotonic() + _CONNECT_SECONDS
        while waiting and (left := deadline - time.monotonic()) > 0:
            for number, _events in poll.poll(left * 1000):
                opened = by_number[number]
                poll.unregister(number)
                target, code = waiting.pop(opened), opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code not in _ENDS:
                    found[target] = os.strerror(code)
        found.update(dict.fromkeys(waiting.values(), "none"))
    return found
