# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The DNS server of each sandbox: one dnsmasq in its namespace.

Beside its configuration stands a ``.loaded`` file: the digests of the names it was told to read.  So a run that died
between writing names and telling the process is seen by the next.  Names are read with ``addn-hosts`` and SIGHUP:
watched directories would take an inotify instance each, and the 129th process would fail.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..kernel import namespaces
from ..kernel.host import Host
from ..plan import Key, Resolver
from ..state import RUN, remove_empty, write_atomically
from .base import Difference, Found, Kind, Operation

_SEARCH_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin"
_PATIENCE = 5.0


class ResolverError(Exception):
    """A resolver did not start; the message says whose and why."""


def _directory(host: Host) -> Path:
    return RUN / host.project / "resolvers"


def _text(config: Sequence[str], pid_file: Path) -> str:
    return "".join(f"{line}\n" for line in (*config, f"pid-file={pid_file}"))


def _process(directory: Path, namespace: str) -> Optional[int]:
    """The process id of the resolver started for that sandbox, None if it is gone."""
    config = str(directory / f"{namespace}.conf").encode()
    try:
        pid = int((directory / f"{namespace}.pid").read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"--conf-file=" + config in arguments.split(b"\0") else None


def _serves(pid: Optional[int], namespace: str) -> bool:
    """Whether the process is in the namespace that has the name now: it may have been made anew by hand."""
    try:
        return pid is not None and os.stat(f"/proc/{pid}/ns/net").st_ino == namespaces.inode(namespace)
    except OSError:
        return False


class ResolverKind(Kind[Resolver]):
    """dnsmasq processes, by their files under ``/run/cnm/<project>/resolvers``."""

    name = "resolver"
    stages = (80,)

    def observe(self, host: Host, wanted: Sequence[Resolver]) -> dict[Key, Found[Resolver]]:
        del wanted
        directory = _directory(host)
        result: dict[Key, Found[Resolver]] = {}
        for path in sorted(directory.glob("*.conf")):
            namespace = path.name[: -len(".conf")]
            pid_file = directory / f"{namespace}.pid"
            lines = tuple(path.read_text(encoding="utf-8").splitlines())
            config = tuple(line for line in lines if line != f"pid-file={pid_file}")
            try:
                names = json.loads((directory / f"{namespace}.loaded").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                names = {}
            found = Resolver(namespace, config, names, _serves(_process(directory, namespace), namespace))
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
            config = directory / f"{item.namespace}.conf"
            write_atomically(config, _text(item.config, directory / f"{item.namespace}.pid"))
            arguments = [program, f"--conf-file={config}"]
            code, output, errors = host.run_in(item.namespace, host.run_command, arguments)
            if code:
                reason = (errors or output).strip() or f"exit code {code}"
                raise ResolverError(f"the resolver of {item.namespace} did not start: {reason}")
            self._note_loaded(directory, item)

    @staticmethod
    def _note_loaded(directory: Path, item: Resolver) -> None:
        write_atomically(directory / f"{item.namespace}.loaded", json.dumps(item.names, sort_keys=True))

    def change(self, host: Host, operations: Sequence[Operation[Resolver]]) -> None:
        directory = _directory(host)
        anew = []
        for operation in operations:
            item = operation.resource
            pid = _process(directory, item.namespace)
            names_only = {difference.attribute for difference in operation.differences} == {"names"}
            if names_only and pid is not None:
                os.kill(pid, signal.SIGHUP)
                self._note_loaded(directory, item)
            else:
                anew.append(item)
        self._stop(directory, [item.namespace for item in anew])
        self.create(host, anew)

    def delete(self, host: Host, resources: Sequence[Resolver]) -> None:
        directory = _directory(host)
        self._stop(directory, [item.namespace for item in resources])
        for item in resources:
            for suffix in ("pid", "loaded", "conf"):
                (directory / f"{item.namespace}.{suffix}").unlink(missing_ok=True)
        remove_empty(directory, directory.parent)

    @staticmethod
    def _stop(directory: Path, names: Sequence[str]) -> None:
        """End processes and wait until they are gone: their ports must be free for those that follow."""
        running = {name: pid for name in names if (pid := _process(directory, name)) is not None}
        for pid in running.values():
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while running and time.monotonic() < deadline:
            running = {name: pid for name, pid in running.items() if _process(directory, name) is not None}
            time.sleep(0.005 if running else 0)
        for pid in running.values():
            os.kill(pid, signal.SIGKILL)
