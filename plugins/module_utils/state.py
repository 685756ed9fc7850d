# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a host keeps: its last plan, the values it had before us, and the lock.  Losing it loses no network."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from .plan import content_digest

LIB = Path("/var/lib/cnm")
RUN = Path("/run/cnm")

HALF_WRITTEN = ".new"


class Locked(Exception):
    """Another run holds the host; the message says who and since when."""


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content in one step, so that no reader sees half of it."""
    temporary = path.with_name(path.name + HALF_WRITTEN)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
    os.replace(temporary, path)


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
        texts = {path.name: path.read_text(encoding="utf-8") for path in sorted((self.lib / "shared").glob("*"))}
        return {digest: text for digest, text in texts.items() if content_digest(text) == digest}

    def keep(self, plan: str, digest: str, revision: int, shared: Mapping[str, str]) -> None:
        """Remember a plan that has been put in place, with the texts it shares."""
        envelope = {"revision": revision, "digest": digest, "plan": plan}
        if shared:
            envelope["shared"] = sorted(shared)
        if envelope == self.kept:
            return
        folder = self.lib / "shared"
        (folder if shared else self.lib).mkdir(mode=0o755, parents=True, exist_ok=True)
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
        return tables if data.get("boot") == _boot() and isinstance(tables, dict) else {}

    def keep_settled_tables(self, tables: Mapping[str, list[object]]) -> None:
        """Remember them until the next boot."""
        path = self.run / "tables.json"
        if tables == self.settled_tables:
            return
        if not tables:
            forget(path)
            remove_empty(self.run)
            return
        self.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"boot": _boot(), "tables": tables}))

    def drop(self) -> None:
        """Forget the plan, and leave no directory behind."""
        for directory in (self.lib, self.run):
            shutil.rmtree(directory, ignore_errors=True)
        remove_empty(LIB)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def former_values() -> dict[str, dict[str, Any]]:
    """The former values of the sysctls that projects set: name to ``{"value": "0", "holders": ["default"]}``.

    The name of one in a sandbox is ``<namespace>:<name>``.  ``links`` of a forwarding have it all the same.
    """
    data = load(LIB / "before.json")
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
    path = LIB / "before.json"
    path.with_name(path.name + HALF_WRITTEN).unlink(missing_ok=True)
    remove_empty(LIB)


def forget_inside(namespace: str) -> None:
    """Forget the former values of a namespace that is gone."""
    values = former_values()
    left = {place: entry for place, entry in values.items() if not place.startswith(f"{namespace}:")}
    if left != values:
        _keep_former_values(left)


def _keep_former_values(values: dict[str, dict[str, Any]]) -> None:
    path = LIB / "before.json"
    if values:
        LIB.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomically(path, json.dumps(values, sort_keys=True))
    else:
        forget(path)
        remove_empty(LIB)


@contextlib.contextmanager
def locked(holder: str, wait: float, last_out: bool = False) -> Iterator[None]:
    """Hold the host's lock.  Waits at most ``wait`` seconds, then raises Locked.

    ``last_out`` removes the lock's file and directory afterwards if nothing of any project is left there.
    """
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = RUN / "lock"
    stream = _acquire(path, time.monotonic() + wait)
    try:
        stream.truncate(0)
        stream.seek(0)
        json.dump({"holder": holder, "pid": os.getpid(), "since": time.strftime("%H:%M:%S UTC", time.gmtime())}, stream)
        stream.flush()
        yield
    finally:
        if last_out and [entry.name for entry in RUN.iterdir()] == ["lock"]:
            path.unlink(missing_ok=True)
            remove_empty(RUN)
        stream.close()


def _acquire(path: Path, deadline: float) -> Any:
    while True:
        stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - it is the lock
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
