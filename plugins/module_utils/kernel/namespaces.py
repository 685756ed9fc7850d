# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Named network namespaces, as ``ip netns`` has them: bind mounts of namespaces in one directory.

Whatever has to happen inside one happens in the calling thread, which goes there and comes back: nothing is forked, and
another thread would take ten times as long to hear of it and to answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import Any, Optional, TypeVar

DIRECTORY = "/run/netns"

T = TypeVar("T")

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
    try:
        _call(_libc.setns, path, ctypes.c_int(descriptor), ctypes.c_int(_CLONE_NEWNET))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, "no network namespace is mounted here", path) from None
        raise


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


@contextlib.contextmanager
def _and_back() -> Iterator[None]:
    """When the block ends, the thread is in the namespace again that it was in."""
    home = os.open(_OWN, os.O_RDONLY)
    try:
        yield
    finally:
        _setns(home, _OWN)
        os.close(home)


def run(namespace: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in that namespace and return its result or raise what it raises.

    The namespace is a name, a path (with a slash: ``/proc/1/ns/net``), or "" for the one the thread is in.
    FileNotFoundError if there is none.
    """
    if not namespace:
        return function(*arguments)
    path = namespace if "/" in namespace else _path(namespace)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such network namespace", path) from None
    with _and_back():
        try:
            _setns(descriptor, path)
        finally:
            os.close(descriptor)
        return function(*arguments)


def run_in_new(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a new network namespace without a name and return its result or raise what it raises."""
    with _and_back():
        _call(_libc.unshare, _OWN, ctypes.c_int(_CLONE_NEWNET))
        return function(*arguments)


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
