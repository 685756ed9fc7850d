# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Work on untrusted input in a child process: a crash, a hang or an endless answer affects only that item."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
import select
import signal
import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

_HEADER = struct.Struct("=?Q")
_PATIENCE_S = 30.0
_LONGEST = 64 << 20
_MEMORY = 2 << 30
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Answer(NamedTuple):
    """The outcome of an item: a text, or what went wrong."""

    text: str = ""
    error: str = ""
    """The exception it raised."""
    broken: str = ""
    """How its process ended without an answer."""


def each(work: Callable[[T], str], items: Sequence[T], patience: float = _PATIENCE_S) -> list[Answer]:
    """The outcome of ``work`` for each item.  One child does all; if it breaks, another does the rest.

    ``patience`` is in seconds, for each item.  The child's memory is lost: only the returned texts remain.
    """
    answers: list[Answer] = []
    while len(answers) < len(items):
        answers += _in_a_child(work, items[len(answers) :], patience)
    return answers


def _in_a_child(work: Callable[[T], str], items: Sequence[T], patience: float) -> list[Answer]:
    """A child's answers, up to and including the first item that breaks it.

    One that has answered everything is not waited for: when it closes its sockets, the kernel frees what transactions
    have removed, which takes tens of milliseconds.
    """
    _leaving[:] = filter(_is_leaving, _leaving)
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _be_the_child(work, items, writing, parent)
    os.close(writing)
    answers: list[Answer] = []
    try:
        for _item in items:
            answers.append(_hear(reading, time.monotonic() + patience))
            if answers[-1].broken:
                break
    finally:
        os.close(reading)
        complete = len(answers) == len(items) and not answers[-1].broken
        status = 0
        if complete:
            _leaving.append(child)
        else:
            status = _end(child)
    if answers[-1].broken == _ENDED and os.WIFSIGNALED(status):
        answers[-1] = Answer(broken=f"{_ENDED} ({signal.Signals(os.WTERMSIG(status)).name})")
    return answers


_ENDED = "it crashed"


_leaving: list[int] = []
"""Children that have nothing to do any more and may not have ended yet."""


def _is_leaving(child: int) -> bool:
    """Whether it is a child that has not ended; a process that is forked inherits the list and not the children."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def _end(child: int) -> int:
    """Wait for a child and return its status; it is killed if it still runs after a moment."""
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _hear(reading: int, deadline: float) -> Answer:
    head = _read(reading, _HEADER.size, deadline)
    if len(head) < _HEADER.size:
        return Answer(broken=_ENDED if head is not _LATE else "it does not finish")
    good, size = _HEADER.unpack(head)
    if size > _LONGEST:
        return Answer(broken=f"its output is larger than {_LONGEST >> 20} MB")
    data = _read(reading, size, deadline)
    if len(data) < size:
        return Answer(broken=_ENDED)
    text = data.decode(errors="backslashreplace")
    return Answer(text) if good else Answer(error=text)


_LATE = b"-"
"""Returned instead of data when time is up; shorter than any header."""


def _read(reading: int, size: int, deadline: float) -> bytes:
    parts, left = [], size
    while left:
        if not select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return _LATE
        part = os.read(reading, min(left, 1 << 20))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _be_the_child(work: Callable[[T], str], items: Sequence[T], writing: int, parent: int) -> None:
    """Never returns."""
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        faulthandler.disable()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        with os.fdopen(writing, "wb") as stream:
            for item in items:
                try:
                    good, text = True, work(item)
                except Exception as error:
                    good, text = False, str(error)
                data = text.encode(errors="backslashreplace")
                stream.write(_HEADER.pack(good, len(data)) + data)
                stream.flush()
    finally:
        # Leave without running the parent's exit handlers or writing its buffers a second time.
        os._exit(0)
