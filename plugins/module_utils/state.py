# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a host keeps: its last plan, the values it had before us, and the lock.  Losing it loses no network.

Files are written as root, so only in directories that nobody else can write, and never through a link.  The names of
our own files beside the projects' directories have a dot in them, which no project's name has.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from .plan import content_digest

LIB = Path("/var/lib/cnm")
RUN = Path("/run/cnm")
ETC_NETNS = Path("/etc/netns")

HALF_WRITTEN = ".new"
READ_AT_MOST = 1 << 20
"""Bytes of a file that others can write, unless told otherwise."""

_BEFORE = "before.json"
_LOCK = "lock.json"
_DIRECTORY_MODE = 0o755
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Locked(Exception):
    """Another run holds the host; the message says who and since when."""


class Unsafe(Exception):
    """Somebody else can write where only root should; the message says where and what to do."""


def check_directory(path: Path) -> None:
    """Raise Unsafe unless the directory, and those of ours above it, are there and ours alone to write.

    FileNotFoundError if one is not there.
    """
    for step in _ours(path):
        status = os.lstat(step)
        if not stat.S_ISDIR(status.st_mode):
            raise Unsafe(f"{step} is no directory: remove it, and run again")
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            raise Unsafe(
                f"others than root can write in {step}, so nothing there can be relied on: look at what it holds, then "
                f"chown root:root {step} && chmod go-w {step}, and run again"
            )


def _ours(path: Path) -> list[str]:
    """The directory and those of ours above it, from the top."""
    text = str(path)
    for base in (RUN, LIB, ETC_NETNS):
        if text.startswith(f"{base}/"):
            steps = [str(base)]
            for name in text[len(steps[0]) + 1 :].split("/"):
                steps.append(f"{steps[-1]}/{name}")
            return steps
    return [text]


def make_directory(path: Path) -> None:
    """Make a directory that all can read and only root can write, if there is none.  Raises Unsafe."""
    try:
        check_directory(path)
    except FileNotFoundError:
        steps = _ours(path)
        os.makedirs(os.path.dirname(steps[0]), exist_ok=True)
        for step in steps:
            with contextlib.suppress(FileExistsError):
                os.mkdir(step, _DIRECTORY_MODE)
        check_directory(path)


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content in one step, so that no reader sees half of it.

    Makes its directory.  Raises Unsafe if others can write there.
    """
    make_directory(path.parent)
    temporary = path.with_name(path.name + HALF_WRITTEN)
    with os.fdopen(_open_new(temporary, mode), "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
    os.replace(temporary, path)


def _open_new(path: Path, mode: int) -> int:
    """A new file, never what a link leads to; what a killed run has left there goes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        path.unlink()
        return os.open(path, flags, mode)


def read_limited(path: Union[Path, str], limit: int = READ_AT_MOST) -> bytes:
    """A plain file's content, of a place where others may have written.

    OSError if there is none, with ELOOP for a link and EFBIG for more than ``limit`` bytes.
    """
    # A pipe must not be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "this is no plain file", str(path))
        content = b""
        while more := os.read(descriptor, min(status.st_size, limit) + 1):
            content += more
            if len(content) > limit:
                raise OSError(errno.EFBIG, f"this has more than {limit} bytes", str(path))
        return content
    finally:
        os.close(descriptor)


def forget(path: Path) -> None:
    """Remove a file, and what a killed run left of writing it."""
    path.unlink(missing_ok=True)
    path.with_name(path.name + HALF_WRITTEN).unlink(missing_ok=True)


def remove_empty(*directories: Path) -> None:
    """Remove those of the directories that are empty, in the order given."""
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()


def load(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none that can be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


class State:
    """One project's files: ``/var/lib/cnm/<project>`` for what outlives a reboot, else ``/run/cnm/<project>``."""

    def __init__(self, project: str) -> None:
        self.lib = LIB / project
        self.run = RUN / project

    @property
    def kept(self) -> dict[str, Any]:
        """The last plan as ``{"revision": 7, "digest": "…", "plan": "<json>"}``; empty if there is none to rely on.

        ``shared`` lists the digests of what it shares with other hosts, all of which are there.
        """
        data = load(self.lib / "plan.json")
        kinds = {"revision": int, "digest": str, "plan": str}
        whole = all(isinstance(data.get(name), kind) for name, kind in kinds.items())
        if not whole or content_digest(data["plan"]) != data["digest"]:
            return {}
        return data if self.shared().keys() >= set(data.get("shared", ())) else {}

    def shared(self) -> dict[str, str]:
        """The kept texts that are shared with other hosts, by digest; one that was tampered with is not there."""
        paths = sorted((self.lib / "shared").glob("*"))
        texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in paths}
        return {digest: text for digest, text in texts.items() if content_digest(text) == digest}

    def keep(self, plan: str, digest: str, revision: int, shared: Mapping[str, str], signature: str = "") -> None:
        """Remember a plan that has been put in place, with the texts it shares, and the lease store's signature."""
        envelope = {"revision": revision, "digest": digest, "plan": plan}
        if signature:
            envelope["signature"] = signature
        if shared:
            envelope["shared"] = sorted(shared)
        if envelope == self.kept:
            return
        folder = self.lib / "shared"
        for name in shared.keys() - self.shared().keys():
            write_atomically(folder / name, shared[name], 0o600)
        write_atomically(self.lib / "plan.json", json.dumps(envelope), 0o600)
        for path in folder.glob("*"):
            if path.name not in shared:
                path.unlink(missing_ok=True)
        remove_empty(folder)

    @property
    def settled_tables(self) -> dict[str, list[object]]:
        """As `Host.settled_tables`; empty after a boot, as it speaks of the running kernel."""
        data = load(self.run / "tables.json")
        tables = data.get("tables")
        return tables if data.get("boot") == boot_id() and isinstance(tables, dict) else {}

    def keep_settled_tables(self, tables: Mapping[str, list[object]]) -> None:
        """Remember them until the next boot."""
        path = self.run / "tables.json"
        if tables == self.settled_tables:
            return
        if not tables:
            forget(path)
            remove_empty(self.run)
            return
        write_atomically(path, json.dumps({"boot": boot_id(), "tables": tables}))

    def drop(self) -> None:
        """Forget the plan, and leave no directory behind."""
        for directory in (self.lib, self.run):
            shutil.rmtree(directory, ignore_errors=True)
        remove_empty(LIB)


def boot_id() -> str:
    """What the kernel calls the time since it booted."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def former_values() -> dict[str, dict[str, Any]]:
    """The former values of the sysctls that projects set: name to ``{"value": "0", "holders": ["default"]}``.

    The name of one in a sandbox is ``<namespace>:<name>``.  ``links`` of a forwarding have it all the same.
    """
    data = load(LIB / _BEFORE)
    return {
        name: entry
        for name, entry in data.items()
        if isinstance(entry, dict) and isinstance(entry.get("value"), str) and isinstance(entry.get("holders"), list)
    }


def hold(project: str, name: str, value: str, links: Sequence[str] = ()) -> None:
    """Note that a project needs a sysctl changed; ``value`` is the host's own, if nobody has noted one before."""
    values = former_values()
    entry = values.setdefault(name, {"value": value, "holders": [], **({"links": list(links)} if links else {})})
    entry["holders"] = sorted({*entry["holders"], project})
    _keep_former_values(values)


def owed(project: str, name: str) -> Optional[str]:
    """The host's own value if nobody but this project needs another: to be put back, and only then to be released."""
    entry = former_values().get(name)
    return str(entry["value"]) if entry is not None and entry["holders"] == [project] else None


def release(project: str, name: str) -> None:
    """Note that a project needs it no more; the last one's going forgets the host's own value."""
    values = former_values()
    entry = values.get(name)
    if entry is None:
        return
    entry["holders"] = [holder for holder in entry["holders"] if holder != project]
    if not entry["holders"]:
        del values[name]
    _keep_former_values(values)


def tidy() -> None:
    """Remove what a run that was killed while it wrote former values has left."""
    path = LIB / _BEFORE
    path.with_name(path.name + HALF_WRITTEN).unlink(missing_ok=True)
    remove_empty(LIB)


def forget_inside(namespace: str) -> None:
    """Forget the former values of a namespace that is gone."""
    values = former_values()
    left = {place: entry for place, entry in values.items() if not place.startswith(f"{namespace}:")}
    if left != values:
        _keep_former_values(left)


def _keep_former_values(values: dict[str, dict[str, Any]]) -> None:
    path = LIB / _BEFORE
    if values:
        write_atomically(path, json.dumps(values, sort_keys=True))
    else:
        forget(path)
        remove_empty(LIB)


@contextlib.contextmanager
def locked(holder: str, wait: float, last_out: bool = False) -> Iterator[None]:
    """Hold the host's lock.  Waits at most ``wait`` seconds, then raises Locked.

    ``last_out`` removes the lock's file and directory afterwards if nothing of any project is left there.
    """
    path = RUN / _LOCK
    stream = _acquire(path, time.monotonic() + wait)
    try:
        stream.truncate(0)
        stream.seek(0)
        json.dump({"holder": holder, "pid": os.getpid(), "since": time.strftime("%H:%M:%S UTC", time.gmtime())}, stream)
        stream.flush()
        yield
    finally:
        if last_out and [entry.name for entry in RUN.iterdir()] == [_LOCK]:
            path.unlink(missing_ok=True)
            remove_empty(RUN)
        stream.close()


def _acquire(path: Path, deadline: float) -> Any:
    while True:
        stream = _open_lock(path)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                stream.close()
                time.sleep(0.1)
                continue
            raise Locked(_who_holds(stream)) from None
        # The file may have been removed by a teardown between open and lock.
        if _same_file(stream.fileno(), path):
            return stream
        stream.close()


def _open_lock(path: Path) -> Any:
    """The lock's file, which only root can open: whoever can open it can lock it."""
    make_directory(path.parent)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    stream = os.fdopen(os.open(path, flags, 0o600), "r+", encoding="utf-8")
    os.fchmod(stream.fileno(), 0o600)
    return stream


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _who_holds(stream: Any) -> str:
    stream.seek(0)
    try:
        who: Optional[dict[str, Any]] = json.loads(stream.read())
    except ValueError:
        who = None
    stream.close()
    if not who:
        return "another run works on this host; run again when it is done"
    return (
        f"another run works on this host: {who['holder']}, process {who['pid']}, since {who['since']}; "
        "run again when it is done"
    )
