# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Named network namespaces, as ``ip netns`` has them: bind mounts of namespaces in one directory.

Whatever has to happen inside one happens in a thread of its own: a thread can change its network namespace, nothing is
forked, and the caller's namespace never changes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Optional, TypeVar

DIRECTORY = "/run/netns"

T = TypeVar("T")
_Identity = tuple[int, int]
_Outcome = tuple[Any, Optional[BaseException]]

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_NS_GET_NSTYPE = 0xB703
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: Callable[..., int], path: str, *arguments: Any) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _mount(source: str, target: str, flags: int) -> None:
    _call(_libc.mount, target, os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None)


def _setns(descriptor: int, path: str) -> None:
    # os.setns came with Python 3.12.
    _call(_libc.setns, path, ctypes.c_int(descriptor), ctypes.c_int(_CLONE_NEWNET))


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _path(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not a name for a network namespace")
    return f"{DIRECTORY}/{name}"


def _is_namespace(path: str) -> bool:
    """Whether a namespace is mounted there: all of them, and nothing else, are on one file system of the kernel's."""
    try:
        return os.stat(path).st_dev == os.stat(_OWN).st_dev
    except FileNotFoundError:
        return False


def names(directory: str = DIRECTORY) -> list[str]:
    """The names of the namespaces there, sorted; plain files left by a crash are not among them."""
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name for name in entries if _is_namespace(f"{directory}/{name}"))


def exists(name: str) -> bool:
    """Whether a namespace has that name."""
    return _is_namespace(_path(name))


def inode(name: str) -> int:
    """The number by which the kernel knows the namespace, as in ``/proc/<pid>/ns/net``.  FileNotFoundError if none."""
    path = _path(name)
    status = os.stat(path)
    if status.st_dev != os.stat(_OWN).st_dev:
        raise FileNotFoundError(errno.ENOENT, "no network namespace is mounted here", path)
    return status.st_ino


def run_in_new(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a new thread that is in a new network namespace without a name; returns its result."""

    def inside() -> T:
        _call(_libc.unshare, _OWN, ctypes.c_int(_CLONE_NEWNET))
        return function(*arguments)

    replies: SimpleQueue[_Outcome] = SimpleQueue()
    thread = threading.Thread(target=lambda: replies.put(_outcome(inside)), daemon=True)
    thread.start()
    reply = replies.get()
    thread.join()
    result: T = _result(reply)
    return result


def create(name: str, prepare: Optional[Callable[[], None]] = None) -> None:
    """Make a namespace; it gets its name when ``prepare``, called inside it, has returned.

    So a run that is killed leaves none that is half prepared.  FileExistsError if the name is taken.
    """
    path = _path(name)
    _refuse_taken(path)

    def inside() -> None:
        if prepare is not None:
            prepare()
        with _locked_directory():
            _refuse_taken(path)
            _mount_on(path, _OWN)

    run_in_new(inside)


def number(path: str) -> Optional[int]:
    """The number of the network namespace at any path, as `inode`; None if there is something else, or nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        # Namespaces of other kinds are on the same file system.
        of_a_kind = status.st_dev == os.stat(_OWN).st_dev and fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
        return status.st_ino if of_a_kind else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def own_number() -> int:
    """The number of the one the calling thread is in."""
    return os.stat(_OWN).st_ino


def attach(name: str, source: str) -> None:
    """Give the namespace at a path a name besides.  FileExistsError if the name is taken."""
    path = _path(name)
    with _locked_directory():
        _refuse_taken(path)
        _mount_on(path, source)


def _mount_on(path: str, source: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))
    try:
        _mount(source, path, _MS_BIND)
    except OSError:
        os.unlink(path)
        raise


def delete(name: str) -> None:
    """Take the name away, and the namespace with it unless a process or socket is still inside."""
    path = _path(name)
    try:
        _call(_libc.umount2, path, os.fsencode(path), ctypes.c_int(_MNT_DETACH | _UMOUNT_NOFOLLOW))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):  # absent, or a file with nothing mounted on it
            raise
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _refuse_taken(path: str) -> None:
    if _is_namespace(path):
        raise FileExistsError(errno.EEXIST, "a network namespace has this name already", path)


@contextlib.contextmanager
def _locked_directory() -> Iterator[None]:
    """The directory as ``ip netns`` wants it, locked as it does: a shared mount, so that mounts on it and their ends
    reach all mount namespaces.  Else the first ``ip netns add`` would double what is mounted and no name could go.
    """
    os.makedirs(DIRECTORY, 0o755, exist_ok=True)
    descriptor = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            _mount("", DIRECTORY, _MS_SHARED | _MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is not a mount point yet
                raise
            _mount(DIRECTORY, DIRECTORY, _MS_BIND | _MS_REC)
            _mount("", DIRECTORY, _MS_SHARED | _MS_REC)
        yield
    finally:
        os.close(descriptor)


def _outcome(function: Callable[..., Any], *arguments: Any) -> _Outcome:
    try:
        return function(*arguments), None
    except BaseException as error:
        return None, error


def _result(outcome: _Outcome) -> Any:
    result, error = outcome
    if error is not None:
        raise error
    return result


class Worker:
    """A thread that calls functions inside namespaces, one at a time; a context manager.

    It starts in the namespace of the thread that enters it, and changes over only when the next call is for another.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Optional[tuple[Callable[[], Any], SimpleQueue[_Outcome]]]] = SimpleQueue()
        self._thread: Optional[threading.Thread] = None
        self._home = -1
        self._current: _Identity = (0, 0)

    def __enter__(self) -> Worker:
        self._home = os.open(_OWN, os.O_RDONLY)
        self._current = _identity(os.fstat(self._home))
        self._thread = threading.Thread(target=self._work, name="namespace worker", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
            os.close(self._home)

    def run(self, namespace: Optional[str], function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in that namespace and return its result or raise what it raises.

        The namespace is a name, a path (with a slash: ``/proc/1/ns/net``), or None or "" for the one the worker
        started in.  FileNotFoundError if there is none.
        """
        if self._thread is None or self._thread is threading.current_thread():
            raise RuntimeError("a worker runs functions while it is entered, and not from within another it runs")
        replies: SimpleQueue[_Outcome] = SimpleQueue()
        self._jobs.put((lambda: self._run(namespace, function, arguments), replies))
        result: T = _result(replies.get())
        return result

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            function, replies = job
            replies.put(_outcome(function))

    def _run(self, namespace: Optional[str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if not namespace:
            self._enter(self._home, _OWN)
        else:
            path = namespace if "/" in namespace else _path(namespace)
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise FileNotFoundError(errno.ENOENT, "there is no such network namespace", path) from None
            try:
                self._enter(descriptor, path)
            finally:
                os.close(descriptor)
        return function(*arguments)

    def _enter(self, descriptor: int, path: str) -> None:
        """By the namespace's identity, not its name: another may have the name by now."""
        wanted = _identity(os.fstat(descriptor))
        if wanted == self._current:
            return
        if wanted[0] != self._current[0]:
            raise FileNotFoundError(errno.ENOENT, "no network namespace is mounted here", path)
        _setns(descriptor, path)
        self._current = wanted
