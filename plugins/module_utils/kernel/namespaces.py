# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Named network namespaces as ``ip netns`` keeps them: bind mounts in one directory.

Functions run in a namespace by moving the calling thread there and back.  That needs no fork, and a tenth of the time
that another thread would take.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Optional, TypeVar

DIRECTORY = "/run/netns"

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_NS_GET_USERNS, _NS_GET_NSTYPE = 0xB701, 0xB703
_PATIENCE_S = 10.0
_PAUSE_S = 0.05
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: Callable[..., int], path: str, *arguments: Any) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _mount(source: str, target: str, flags: int) -> None:
    _call(_libc.mount, target, os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None)


def _setns(descriptor: int, path: str) -> None:
    # os.setns exists since Python 3.12.
    try:
        _call(_libc.setns, path, ctypes.c_int(descriptor), ctypes.c_int(_CLONE_NEWNET))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, "no network namespace is mounted here", path) from None
        raise


def _path(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not a valid name for a network namespace")
    return f"{DIRECTORY}/{name}"


@functools.cache
def _device() -> int:
    """The device number of the kernel's nsfs, on which nothing but namespaces are."""
    return os.stat(_OWN).st_dev


def _is_namespace(path: str) -> bool:
    """Whether a namespace is mounted at the path."""
    try:
        return os.stat(path).st_dev == _device()
    except FileNotFoundError:
        return False


def names(directory: str = DIRECTORY) -> list[str]:
    """The names of all namespaces, sorted; without empty files that a crash has left."""
    return list(numbers(directory))


def numbers(directory: str = DIRECTORY) -> dict[str, int]:
    """The inode of each namespace by name, sorted."""
    try:
        entries = sorted(os.listdir(directory))
    except FileNotFoundError:
        return {}
    device = _device()
    result = {}
    for name in entries:
        with contextlib.suppress(OSError):
            status = os.stat(f"{directory}/{name}")
            if status.st_dev == device:
                result[name] = status.st_ino
    return result


def is_of_another_user(name: str) -> bool:
    """Whether another user namespace owns it, as with rootless containers."""
    descriptor = os.open(_path(name), os.O_RDONLY | os.O_NONBLOCK)
    try:
        owner = fcntl.ioctl(descriptor, _NS_GET_USERNS)
        try:
            return not os.path.samestat(os.fstat(owner), os.stat("/proc/self/ns/user"))
        finally:
            os.close(owner)
    except OSError:
        return True
    finally:
        os.close(descriptor)


def exists(name: str) -> bool:
    """Whether a namespace of that name exists."""
    return _is_namespace(_path(name))


def inode(name: str) -> int:
    """The inode of the namespace, as in ``/proc/<pid>/ns/net``.  FileNotFoundError if there is none."""
    path = _path(name)
    status = os.stat(path)
    if status.st_dev != _device():
        raise FileNotFoundError(errno.ENOENT, "no network namespace is mounted here", path)
    return status.st_ino


@contextlib.contextmanager
def _and_back() -> Iterator[None]:
    """Return the thread to its namespace at the end of the block."""
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


def make(prepare: Callable[[], None]) -> int:
    """Create a namespace without a name; it lasts while the returned descriptor is open.  See `name_it`.

    ``prepare`` is called inside it.  So a run that is killed never leaves a named namespace that is not prepared.
    """

    def prepare_and_open() -> int:
        prepare()
        return os.open(_OWN, os.O_RDONLY)

    return run_in_new(prepare_and_open)


def name_it(name: str, descriptor: int) -> None:
    """Name an open namespace.  FileExistsError if the name is in use."""
    attach(name, f"/proc/self/fd/{descriptor}")


def create(name: str, prepare: Callable[[], None] = lambda: None) -> None:
    """Create a namespace; it is named once prepared.  FileExistsError if the name is in use."""
    _refuse_existing(_path(name))
    descriptor = make(prepare)
    try:
        name_it(name, descriptor)
    finally:
        os.close(descriptor)


def number(path: str) -> Optional[int]:
    """The inode of the network namespace at a path; None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        # Other kinds of namespaces are on the same file system.
        of_a_kind = status.st_dev == _device() and fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
        return status.st_ino if of_a_kind else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


_SO_NETNS_COOKIE = 71


def cookie(path: str) -> Optional[int]:
    """A number that no other namespace of this boot has or will have, unlike its inode.

    None if there is none at the path, or from a kernel older than 5.14.
    """
    try:
        return run(path, _own_cookie)
    except OSError:
        return None


def _own_cookie() -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        return int.from_bytes(one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)


def own_number() -> int:
    """The inode of the calling thread's namespace."""
    return os.stat(_OWN).st_ino


def attach(name: str, source: str) -> None:
    """Give the namespace at a path another name.  FileExistsError if the name is in use."""
    path = _path(name)
    with _locked_directory():
        _refuse_existing(path)
        _mount_on(path, source)


def _mount_on(path: str, source: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444))
    try:
        _mount(source, path, _MS_BIND)
    except OSError:
        os.unlink(path)
        raise


def delete(name: str) -> None:
    """Remove the name, and the namespace unless a process or socket still uses it."""
    path = _path(name)
    try:
        _call(_libc.umount2, path, os.fsencode(path), ctypes.c_int(_MNT_DETACH | _UMOUNT_NOFOLLOW))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):  # absent, or a file with nothing mounted on it
            raise
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _refuse_existing(path: str) -> None:
    if _is_namespace(path):
        raise FileExistsError(errno.EEXIST, "a network namespace already has this name", path)


@contextlib.contextmanager
def _locked_directory() -> Iterator[None]:
    """Lock the directory and make it a shared mount, as ``ip netns`` does, so that mounts and unmounts in it reach all
    mount namespaces.  Otherwise the first ``ip netns add`` would mount everything twice, and no name could be removed.
    """
    os.makedirs(DIRECTORY, 0o755, exist_ok=True)
    descriptor = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor)
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


def _lock(descriptor: int) -> None:
    """Lock the directory, which others may hold locked.  TimeoutError names the holder."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                who = _holder(descriptor)
                reason = (
                    f"{who} has held its lock for more than {_PATIENCE_S:.0f} seconds: end that process and run again"
                )
                raise TimeoutError(errno.ETIMEDOUT, reason, DIRECTORY) from None
        time.sleep(_PAUSE_S)


def _holder(descriptor: int) -> str:
    """The holder of a lock on an open file, from /proc/locks (proc(5)): ``sshd (process 7)``."""
    status = os.fstat(descriptor)
    file_id = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii", errors="replace") as lines:
        for words in map(str.split, lines):
            if len(words) > 5 and words[1] != "->" and words[5] == file_id:
                with contextlib.suppress(OSError), open(f"/proc/{words[4]}/comm", errors="replace") as comm:
                    return f"{comm.read().strip()} (process {words[4]})"
                return f"process {words[4]}"
    return "a process"
