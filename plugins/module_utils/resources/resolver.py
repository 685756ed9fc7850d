# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The DNS server of each sandbox: one dnsmasq in its namespace.

Beside its configuration stands a ``.loaded`` file: the digests of the names it was told to read.  So a run that died
between writing names and telling the process is seen by the next.  Names are read with ``addn-hosts`` and
``servers-file`` at SIGHUP, between two questions, so none is lost; watched directories would take an inotify instance
each, and the 129th process would fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..kernel.host import Host
from ..plan import Key, Resolver
from ..state import HALF_WRITTEN, RUN, forget, remove_empty, write_atomically
from .base import Difference, Found, Kind, Operation

_SEARCH_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"
_PATIENCE = 5.0
_CONF = ".conf"
_STOPPED = "Tt"


class ResolverError(Exception):
    """A resolver did not start; the message says whose and why."""


def _directory(host: Host) -> Path:
    return RUN / host.project / "resolvers"


def _text(config: Sequence[str], pid_file: Path) -> str:
    return "".join(f"{line}\n" for line in (*config, f"pid-file={pid_file}"))


def _processes(directory: Path) -> dict[str, list[int]]:
    """The process ids of all our resolvers by sandbox, from what runs: a lost file loses no process."""
    prefix = f"--conf-file={directory}/".encode()
    result: dict[str, list[int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            arguments = Path(f"/proc/{entry.name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        for argument in arguments[1:2]:
            if argument.startswith(prefix) and argument.endswith(_CONF.encode()):
                name = argument[len(prefix) : -len(_CONF)].decode(errors="replace")
                result.setdefault(name, []).append(int(entry.name))
    return result


def _serves(host: Host, pid: int, namespace: str) -> bool:
    """Whether the process runs, in the namespace that has the name now: it may have been made anew by hand."""
    try:
        state = _read(Path(f"/proc/{pid}/stat")).rpartition(") ")[2][:1]
        return state not in _STOPPED and os.stat(f"/proc/{pid}/ns/net").st_ino == host.number(namespace)
    except OSError:
        return False


class ResolverKind(Kind[Resolver]):
    """dnsmasq processes, by their files under ``/run/cnm/<project>/resolvers``."""

    name = "resolver"
    stages = (80,)

    def observe(self, host: Host, wanted: Sequence[Resolver]) -> dict[Key, Found[Resolver]]:
        del wanted
        directory = _directory(host)
        processes = _processes(directory)
        names = {path.name[: -len(_CONF)] for path in directory.glob(f"*{_CONF}")}
        result: dict[Key, Found[Resolver]] = {}
        for namespace in sorted(names | set(processes)):
            pid_file = directory / f"{namespace}.pid"
            lines = _read(directory / f"{namespace}{_CONF}").splitlines()
            config = tuple(line for line in lines if line != f"pid-file={pid_file}")
            try:
                loaded = json.loads(_read(directory / f"{namespace}.loaded"))
            except ValueError:
                loaded = {}
            # One process, in the namespace that has the name: anything else is stopped and started anew.
            pids = processes.get(namespace, [])
            running = len(pids) == 1 and _serves(host, pids[0], namespace)
            found = Resolver(namespace, config, loaded if isinstance(loaded, dict) else {}, running)
            result[found.key] = Found(found)
        return result

    def differences(self, wanted: Resolver, found: Resolver) -> list[Difference]:
        if not found.running:
            return [Difference("running", True, False)]
        return super().differences(wanted, found)

    def require(self, host: Host, wanted: Sequence[Resolver]) -> Optional[str]:
        if wanted and shutil.which("dnsmasq", path=_SEARCH_PATH) is None:
            return "this host has no dnsmasq: install the package dnsmasq-base (or dnsmasq)"
        return None

    def create(self, host: Host, resources: Sequence[Resolver]) -> None:
        program = shutil.which("dnsmasq", path=_SEARCH_PATH) or "dnsmasq"
        directory = _directory(host)
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for item in resources:
            self._note_loaded(directory, item, None)
            config = directory / f"{item.namespace}{_CONF}"
            write_atomically(config, _text(item.config, directory / f"{item.namespace}.pid"))
            arguments = [program, f"--conf-file={config}"]
            code, output, errors = host.run_in(item.namespace, host.run_command, arguments)
            if code:
                reason = (errors or output).strip() or f"exit code {code}"
                raise ResolverError(f"the resolver of {item.namespace} did not start: {reason}")
            self._note_loaded(directory, item, item.names)

    @staticmethod
    def _note_loaded(directory: Path, item: Resolver, names: Optional[dict[str, str]]) -> None:
        """Note what it has loaded; None, before it is told, so that a run killed meanwhile leaves no old note."""
        path = directory / f"{item.namespace}.loaded"
        if names is None:
            forget(path)
        else:
            write_atomically(path, json.dumps(names, sort_keys=True))

    def change(self, host: Host, operations: Sequence[Operation[Resolver]]) -> None:
        directory = _directory(host)
        processes = _processes(directory)
        anew = []
        for operation in operations:
            item = operation.resource
            names_only = {difference.attribute for difference in operation.differences} == {"names"}
            if names_only:
                self._note_loaded(directory, item, None)
                for pid in processes.get(item.namespace, ()):
                    os.kill(pid, signal.SIGHUP)
                self._note_loaded(directory, item, item.names)
            else:
                anew.append(item)
        _stop(directory, {item.namespace for item in anew})
        self.create(host, anew)

    def delete(self, host: Host, resources: Sequence[Resolver]) -> None:
        directory = _directory(host)
        _stop(directory, {item.namespace for item in resources})
        for item in resources:
            for suffix in (".pid", ".loaded", _CONF):
                forget(directory / f"{item.namespace}{suffix}")
        remove_empty(directory, directory.parent)

    def clean(self, host: Host, resource: Resolver) -> None:
        directory = _directory(host)
        for suffix in (".loaded", _CONF):
            (directory / f"{resource.namespace}{suffix}{HALF_WRITTEN}").unlink(missing_ok=True)
        remove_empty(directory, directory.parent)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _stop(directory: Path, names: set[str]) -> None:
    """End processes and wait until they are gone: their ports must be free for those that follow."""

    def running() -> list[int]:
        return [pid for name, pids in _processes(directory).items() if name in names for pid in pids]

    for kind in (signal.SIGTERM, signal.SIGKILL) if names else ():
        for pid in running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, kind)
                os.kill(pid, signal.SIGCONT)  # a stopped process ends when it goes on
        deadline = time.monotonic() + _PATIENCE
        while running() and time.monotonic() < deadline:
            time.sleep(0.005)
