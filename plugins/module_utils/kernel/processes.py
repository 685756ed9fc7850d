# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Processes, identified only by properties that the process itself cannot choose.

A process can choose its command line, name and working directory, so these prove nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

from ..plan.constants import SEARCH_PATH
from ..plan.records import dataclass

_CLONE_NEWPID = 0x20000000
_SYS_PIDFD_GETFD = 438
_DELETED = " (deleted)"
_ENDED = b"ZX"
_STOPPED = b"Tt"
_POLL_S = 0.002
_OWN_IDS = "/proc/thread-self/ns/pid"
_CAUGHT = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
_ENVIRONMENT = {"PATH": SEARCH_PATH, "LC_ALL": "C"}
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Process:
    """A process.  Namespaces are their inodes."""

    pid: int
    started: int
    """Start time in clock ticks after the boot; together with the pid it identifies a process until the next boot."""
    uid: int
    net: int
    mounts: int
    ids: int
    """Its pid namespace."""
    program: str
    """The path of its executable."""


def read(pid: int) -> Optional[Process]:
    """Read a process; None if it has ended."""
    base = f"/proc/{pid}"
    try:
        started = _stat(pid)[1]
        program = os.path.basename(os.readlink(f"{base}/exe"))
        if program.endswith(_DELETED):
            program = program[: -len(_DELETED)]
        net, mounts, ids = (os.stat(f"{base}/ns/{kind}").st_ino for kind in ("net", "mnt", "pid"))
        return Process(pid, started, os.stat(base).st_uid, net, mounts, ids, program)
    except OSError:
        return None


def _stat(pid: int) -> tuple[bytes, int]:
    """The state of a process, and when it started.  OSError if there is none."""
    descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        fields = os.read(descriptor, 4096).rpartition(b") ")[2].split()
    finally:
        os.close(descriptor)
    return fields[0], int(fields[19])


def record(process: Process, boot: str) -> str:
    """The process id, for readers, then what distinguishes the process from all others that ever have its id.

    ``boot`` is the kernel's id of the present boot.
    """
    known = {**vars(process), "boot": boot}
    return f"{process.pid}\n{json.dumps(known, sort_keys=True)}\n"


def recorded(text: str, program: str, boot: str) -> Optional[Process]:
    """The process of a record, whether or not it still exists; None if it is of another boot or program."""
    try:
        known = json.loads(text.partition("\n")[2])
        if known.pop("boot") != boot:
            return None
        wanted = Process(**known)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return wanted if wanted.program == program else None


def in_namespaces(numbers: Iterable[int], but: Iterable[int] = ()) -> Iterator[Process]:
    """Processes in any of these network namespaces, without the process ids ``but``."""
    wanted, known = set(numbers), set(but)
    for name in os.listdir("/proc") if wanted else ():
        if not name.isdigit() or int(name) in known:
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            if os.stat(f"/proc/{name}/ns/net").st_ino in wanted:
                process = read(int(name))
                if process is not None:
                    yield process


def is_stopped(process: Process) -> bool:
    """Whether it is stopped."""
    try:
        return _stat(process.pid)[0] in _STOPPED
    except OSError:
        return False


def is_outdated(process: Process) -> bool:
    """Whether the file of its program was replaced or removed since it was started."""
    try:
        return os.readlink(f"/proc/{process.pid}/exe").endswith(_DELETED)
    except OSError:
        return False


def has_ended(process: Process) -> bool:
    """Whether it has ended and released its resources; its parent may not have waited for it yet."""
    try:
        state, started = _stat(process.pid)
    except OSError:
        return True
    return state in _ENDED or started != process.started


def send(process: Process, number: int) -> bool:
    """Send a signal to exactly this process, never to a later one with its id; returns whether it existed."""
    with _handle(process.pid) as handle:
        if read(process.pid) != process:
            return False
        try:
            if handle is None:
                os.kill(process.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        return True


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[Optional[int]]:
    """A pidfd of the process with that id; None if there is none or the kernel is too old."""
    try:
        handle = os.pidfd_open(pid)
    except (OSError, AttributeError):
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def end(processes: Iterable[Process], patience: float) -> list[Process]:
    """Kill processes and wait until they have ended, for at most ``patience`` seconds; returns those that have not.

    Also waits for processes that are already ending, as they keep their sockets until they have ended.
    """
    killed = left = list(processes)
    for process in killed:
        send(process, signal.SIGKILL)
    deadline = time.monotonic() + patience
    while (left := [process for process in left if not has_ended(process)]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for process in killed:
        reap(process.pid)
    return left


def reap(pid: int) -> None:
    """Reap the process if it is a child and has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def keep_descriptors_back() -> None:
    """Make inherited descriptors close on exec, so that programs started later do not get them."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)


@dataclass(frozen=True)
class Started:
    """A started program: its process id and its standard error."""

    pid: int
    errors: int

    def read_errors(self, deadline: float) -> str:
        """Its standard error until that is closed; TimeoutError if this takes too long."""
        text, poll = b"", select.poll()
        poll.register(self.errors, select.POLLIN)
        while True:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError("it neither got ready nor ended in time")
            more = os.read(self.errors, 4096)
            if not more:
                return text.decode(errors="replace").strip()
            text = (text + more)[-4096:]

    def close(self) -> None:
        os.close(self.errors)


def start_apart(arguments: Sequence[str]) -> Started:
    """Start a program in the calling thread's namespaces, but as pid 1 of a new pid namespace.

    So it can see and signal only its own children.  It gets a session of its own and no descriptors of ours; init
    becomes its parent when this process ends.  It must close its standard error when it is ready.
    """
    reading, writing = os.pipe()
    try:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            with _new_ids():
                pid = os.posix_spawn(
                    arguments[0],
                    list(arguments),
                    _ENVIRONMENT,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, nothing, 0),
                        (os.POSIX_SPAWN_DUP2, nothing, 1),
                        (os.POSIX_SPAWN_DUP2, writing, 2),
                    ],
                    setsid=True,
                    setsigmask=[],
                    setsigdef=_CAUGHT,
                )
        finally:
            os.close(nothing)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return Started(pid, reading)


@contextlib.contextmanager
def _new_ids() -> Iterator[None]:
    """Start children in a new pid namespace.  os.unshare exists since Python 3.12."""
    home = os.open(_OWN_IDS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(_libc.unshare(ctypes.c_int(_CLONE_NEWPID)), "unsharing process ids")
        try:
            yield
        finally:
            _call(_libc.setns(ctypes.c_int(home), ctypes.c_int(_CLONE_NEWPID)), _OWN_IDS)
    finally:
        os.close(home)


def _call(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def sockets(pid: int) -> dict[int, int]:
    """The inode and descriptor of each socket a process has open."""
    result = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    result[int(target[len("socket:[") : -1])] = int(name)
    return result


def keep_for_itself(process: Process, descriptors: Iterable[int]) -> None:
    """Clear SO_REUSEADDR on a process's UDP sockets, so that nobody else can bind their port; older kernels cannot."""
    number = ctypes.c_long(_SYS_PIDFD_GETFD)
    with _handle(process.pid) as handle, contextlib.suppress(OSError):
        if handle is None:
            return
        for descriptor in descriptors:
            copy = _libc.syscall(number, ctypes.c_int(handle), ctypes.c_int(descriptor), ctypes.c_uint(0))
            _call(copy, "getting a socket")
            with socket.socket(fileno=copy) as opened:
                # TCP sockets keep it, or a restarted process could not bind while old connections linger.
                if opened.type == socket.SOCK_DGRAM and opened.family in (socket.AF_INET, socket.AF_INET6):
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
