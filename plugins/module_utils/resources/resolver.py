# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The DNS server of each sandbox: a dnsmasq in its network namespace and in a pid namespace of its own.

A file beside its configuration, which only root can write, identifies the process in a way that no other process ever
matches; see `processes.record`.  At SIGHUP, which `names` sends, dnsmasq rereads names (``addn-hosts``,
``servers-file``) between two queries, so no query is lost.  Watching directories would need an inotify instance for
each process, and the 129th would fail.

A supervised one is handed to systemd as soon as it is recorded, in a scope: so it outlives the session or unit of the
run that started it, and has limits.  When it ends, the scope ends too and starts `RESOLVER_RESTART`, whose
`start_again` starts it as a run does: alone on its port and recorded, so that the next run finds nothing to do.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..hostd.units import RESOLVER_RESTART, escape
from ..kernel import namespaces, processes, scopes
from ..kernel.host import Host
from ..kernel.listening_sockets import holders
from ..kernel.processes import Process, Started
from ..kernel.programs import find_program
from ..kernel.scopes import Handover, Scope, ScopeError, guarded
from ..plan.base import Key
from ..plan.forms import one_line
from ..plan.marks import RESOLVER_USER
from ..plan.settings import Resolver
from ..state.files import (
    HALF_WRITTEN,
    RUN,
    boot_id,
    check_directory,
    forget,
    read_limited,
    remove_empty,
    write_atomically,
)
from .base import Difference, Found, Kind, Operation

_PROGRAM = "dnsmasq"
_PATIENCE_S = 10.0
_POLL_S = 0.0005
_AT_ONCE = 400
"""How many are started before the first is waited for; each keeps a descriptor open until then, of 1,024."""
_HANDED_OVER = 100
"""How many systemd is asked to take over while others are waited for."""
_CONF, _PID = ".conf", ".pid"
_OF_HOST, _OF_LAN = "@host", "@lan"
"""What the files of those in the host's namespace are called; no sandbox can have such a name."""
_HOSTS = {_OF_HOST: "Resolver of the host", _OF_LAN: "Resolver of the host for the LAN"}
_READS = ("addn-hosts=", "servers-file=")
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,62}}|{_OF_HOST}|{_OF_LAN}", re.ASCII)
"""The form of sandbox names, and those of `_HOSTS`; files of other names are not ours."""
_RUNNING = ("keep-in-foreground", "pid-file=", f"user={RESOLVER_USER}", f"group={RESOLVER_USER}")
_NO_IDENT = "no-ident"
"""Hides version.bind and the like; dnsmasq has the option in 2.90 and not in 2.85."""
_MEMORY_AT_MOST = 128 << 20
"""Octets; one with 10,000 names has some 5 MB."""
_TASKS_AT_MOST = 64
"""It forks for each of at most 20 TCP connections."""

RESOLVERS = "resolvers"
"""What `look` is called among what is read ahead."""

Version = tuple[int, int]
"""A file's inode and time of change, in nanoseconds: another after each time that it is written."""


class ResolverError(Exception):
    """A resolver did not start or stop; the message says which and why."""


def user() -> Optional[int]:
    """The uid that resolvers run as; None if the host lacks the user or the group."""
    try:
        grp.getgrnam(RESOLVER_USER)
        return pwd.getpwnam(RESOLVER_USER).pw_uid
    except KeyError:
        return None


def _text(config: Sequence[str]) -> str:
    return "".join(f"{one_line(line)}\n" for line in config)


def _called(item: Resolver) -> str:
    """What its files are called."""
    return _OF_LAN if item.lan else item.namespace or _OF_HOST


def _namespace(name: str) -> str:
    """The namespace of the one whose files are called so."""
    return "" if name in _HOSTS else name


def _key(name: str) -> Key:
    """The key of the one whose files are called so."""
    return Resolver(_namespace(name), lan=name == _OF_LAN).key


def _directory(project: str) -> Path:
    return RUN / project / "resolvers"


def names_directory(project: str) -> Path:
    """Where the files of names are."""
    return RUN / project / "names"


def versions(project: str) -> dict[str, Version]:
    """What the files of names are at present, by their names."""
    try:
        with os.scandir(names_directory(project)) as entries:
            found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name: (status.st_ino, status.st_ctime_ns) for name, status in found.items()}


def load_names(host: Host, names: Collection[str], now: Mapping[str, Version]) -> None:
    """Have files of names loaded by each resolver that reads one of them and was not started with them in this run.

    ``now`` is what `versions` has returned.
    """
    directory = _directory(host.project)
    for sandbox, process in sorted(_records(directory).items()) if names else ():
        lines = _read(directory, f"{sandbox}{_CONF}").splitlines()
        reads = {line.rpartition("/")[2] for line in lines if line.startswith(_READS)}.intersection(names)
        had = host.names_at_start.get(sandbox, {})
        if any(had.get(name) != now.get(name) for name in reads):
            processes.send(process, signal.SIGHUP)


def _read(directory: Path, name: str) -> str:
    try:
        return read_limited(f"{directory}/{name}").decode(errors="replace")
    except OSError:
        return ""


def _unit(name: str, pid: int) -> str:
    """The scope of a sandbox's resolver; another for each process, as the former one may not have ended yet."""
    return f"cnm-resolver-{escape(name)}-{pid}.scope"


def _scope(name: str, pid: int) -> Scope:
    words = _HOSTS.get(name) or f"Resolver of sandbox {name}"
    again = RESOLVER_RESTART.replace("@", f"@{escape(name)}")
    limits = [("TasksMax", "t", _TASKS_AT_MOST)]
    return guarded(f"resolver-{escape(name)}", pid, words, _MEMORY_AT_MOST, again, limits)


def _names(directory: Path) -> set[str]:
    """Sandboxes that have files.  Raises Unsafe if anyone but root can write there."""
    with contextlib.suppress(FileNotFoundError):
        check_directory(directory)
        found = map(os.path.splitext, os.listdir(directory))
        return {name for name, suffix in found if suffix in (_CONF, _PID) and _NAME.fullmatch(name)}
    return set()


def _records(directory: Path, names: Optional[set[str]] = None) -> dict[str, Process]:
    """The recorded processes by sandbox: of these, or of all."""
    boot, names = boot_id(), _names(directory) if names is None else names
    found = {name: processes.recorded(_read(directory, f"{name}{_PID}"), _PROGRAM, boot) for name in names}
    return {name: process for name, process in found.items() if process is not None}


def _known(directory: Path, names: Optional[set[str]] = None) -> dict[str, Process]:
    """Recorded processes that still run; any other process with a recorded id is not ours."""
    found = _records(directory, names)
    return {name: process for name, process in found.items() if processes.read(process.pid) == process}


class _Seen(NamedTuple):
    """What files and /proc say of a resolver."""

    config: str = ""
    process: tuple[Any, ...] = ()
    """The fields of the `Process` that is recorded and runs."""
    stopped: bool = False
    unit: str = ""
    outdated: bool = False


def look(project: str, is_due: Callable[[str], bool] = lambda _name: True) -> dict[str, tuple[Any, ...]]:
    """The fields of `_Seen` of resolvers that have files, by name; plain data, so that another process can look.

    Raises Unsafe if anyone but root can write there.
    """
    directory = _directory(project)
    names = set(filter(is_due, _names(directory)))
    known = _known(directory, names)
    found = {}
    for name in names:
        item, process = _Seen(_read(directory, f"{name}{_CONF}")), known.get(name)
        if process is not None:
            state = processes.is_stopped(process), scopes.unit_of(process.pid), processes.is_outdated(process)
            item = _Seen(item.config, tuple(vars(process).values()), *state)
        found[name] = tuple(item)
    return found


def _lost(host: Host, known: Mapping[str, Process], names: Collection[str] = ()) -> Iterator[tuple[str, Process]]:
    """Unrecorded resolvers in our namespaces: a run was interrupted before recording one, or the record is lost.

    In the host's namespace only if one of those there is among ``names``, those that have files: then it may be any of
    them.
    """
    uid, mounts = user(), os.stat("/proc/self/ns/mnt").st_ino
    by_number = {}
    for name in host.own_namespaces | host.attached:
        with contextlib.suppress(OSError):
            by_number[host.number(name)] = [name]
    if there := [name for name in _HOSTS if name in names]:
        by_number[os.stat("/proc/self/ns/net").st_ino] = there
    families = {process.ids for process in known.values()}  # a resolver forks for TCP queries
    others: Optional[set[Process]] = None
    for process in processes.in_namespaces(by_number, [process.pid for process in known.values()]):
        who = (process.uid, process.program, process.mounts)
        if who != (uid, _PROGRAM, mounts) or process.ids in families:
            continue
        if others is None:
            others = {item for directory in RUN.glob("*/resolvers") for item in _known(directory).values()}
        if process not in others:
            yield from ((name, process) for name in by_number[process.net])


class ResolverKind(Kind[Resolver]):
    """dnsmasq processes, recorded in ``/run/cnm/<project>/resolvers``."""

    name = "resolver"
    # Most of the time goes into dnsmasq's own start, so it is started before the links are made, and waited for when
    # all else is there.
    stages = (27, 80)

    def __init__(self) -> None:
        self._starting: Optional[_Starting] = None

    def observe(self, host: Host, wanted: Sequence[Resolver]) -> dict[Key, Found[Resolver]]:
        del wanted
        self._give_up()

        def is_due(name: str) -> bool:
            return host.looks_at(_key(name))

        fields = host.take_ahead(RESOLVERS)
        if fields is None:
            fields = look(host.project, is_due)
        seen = {name: _Seen(*fields[name]) for name in filter(is_due, fields)}
        known = {name: Process(*item.process) for name, item in seen.items() if item.process}
        lost = {name for name, _process in _lost(host, known, seen) if is_due(name)}
        uid = user()
        result: dict[Key, Found[Resolver]] = {}
        for name in sorted(seen.keys() | lost):
            namespace, item = _namespace(name), seen.get(name, _Seen())
            config = tuple(line for line in item.config.splitlines() if line not in (*_RUNNING, _NO_IDENT))
            # Unless it is exactly one process in the present namespace, it is stopped and restarted.
            process = known.get(name)
            running = process is not None and name not in lost and process.uid == uid and not item.stopped
            running = running and process is not None and _is_in(host, process, namespace)
            supervised = process is not None and item.unit == _unit(name, process.pid)
            found = Resolver(
                namespace, config, running, running and supervised, running and item.outdated, name == _OF_LAN
            )
            result[found.key] = Found(found)
        return result

    def differences(self, wanted: Resolver, found: Resolver) -> list[Difference]:
        if not found.running:
            return [Difference("running", True, False)]
        result = [item for item in super().differences(wanted, found) if item.attribute != "outdated"]
        return [*result, Difference("outdated", False, True)] if found.outdated and not wanted.outdated else result

    def check_dependencies(self, host: Host, wanted: Sequence[Resolver]) -> Optional[str]:
        if wanted and find_program(_PROGRAM) is None:
            return "this host has no dnsmasq: install the package dnsmasq-base (or dnsmasq)"
        if wanted and user() is None:
            return (
                f"this host has no system user {RESOLVER_USER}, which resolvers run as: use the role cnm.fabric.host, "
                f"or run useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin "
                f"{RESOLVER_USER}"
            )
        return None

    def create(self, host: Host, resources: Sequence[Resolver]) -> None:
        """Start them; `bring_up` waits for them."""
        host.names_at_start.update(dict.fromkeys(map(_called, resources), versions(host.project)))
        if resources:
            processes.keep_descriptors_back()
            self._starting = self._starting or _Starting(host)
            self._starting.start(resources)

    def bring_up(self, host: Host, resources: Sequence[Resolver]) -> None:
        """Wait for all that were started, record them and have systemd supervise them."""
        del host, resources
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.finish()

    def _give_up(self) -> None:
        """Leave those that a failed run has started to whoever looks for processes without a record."""
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.close()

    def change(self, host: Host, operations: Sequence[Operation[Resolver]]) -> None:
        restarted = [operation.resource for operation in operations]
        _stop(host, set(map(_called, restarted)))
        self.create(host, restarted)

    def delete(self, host: Host, resources: Sequence[Resolver]) -> None:
        directory = _directory(host.project)
        _stop(host, set(map(_called, resources)))
        for item in resources:
            for suffix in (_PID, _CONF):
                forget(directory / f"{_called(item)}{suffix}")
        remove_empty(directory, directory.parent)

    def remove_partial_files(self, host: Host, resource: Resolver) -> None:
        directory = _directory(host.project)
        for suffix in (_PID, _CONF):
            (directory / f"{_called(resource)}{suffix}{HALF_WRITTEN}").unlink(missing_ok=True)
        remove_empty(directory, directory.parent)


def _is_in(host: Host, process: Process, namespace: str) -> bool:
    """Whether it is in the namespace that has the name now; the namespace may have been recreated by hand."""
    try:
        return process.net == (host.number(namespace) if namespace else os.stat("/proc/self/ns/net").st_ino)
    except OSError:
        return False


def _knows_no_ident(host: Host, program: str) -> bool:
    return f"--{_NO_IDENT}" in host.run_command([program, "--help"])[1]


def _stop(host: Host, names: set[str]) -> None:
    """Stop the processes of sandboxes and wait until their ports are free."""
    if not names:
        return
    directory = _directory(host.project)
    found = [*_records(directory).items(), *_lost(host, _known(directory), names)]
    # It is not to be started again: the unit that does that looks for the record.
    for name in names:
        forget(directory / f"{name}{_PID}")
    left = processes.end((process for name, process in found if name in names), _PATIENCE_S)
    if left:
        raise ResolverError(f"a resolver did not end after SIGKILL: process {left[0].pid}")


def start_again(host: Host, wanted: Sequence[Resolver], first: str) -> list[str]:
    """Start the resolver of the sandbox ``first`` if it has ended or its program was replaced, then all others so.

    Returns the sandboxes.  Raises ResolverError about the first; each of the others has a unit of its own that does the
    same.  The host must be locked.
    """
    directory = _directory(host.project)
    known = _known(directory)
    due = {}
    for item in wanted:
        name = _called(item)
        process = known.get(name)
        serves = (
            process is not None
            and _is_in(host, process, item.namespace)
            and not processes.is_stopped(process)
            and not processes.is_outdated(process)
        )
        there = not item.namespace or namespaces.exists(item.namespace)
        if not serves and there and (directory / f"{name}{_PID}").exists():
            due[name] = item
    kind = ResolverKind()
    batches = [{first: due.pop(first)}, due] if first in due else []
    for batch in filter(None, batches):
        # The records stay until there are new ones: without its record nobody would try again.
        processes.end((known[name] for name in batch if name in known), _PATIENCE_S)
        try:
            kind.create(host, list(batch.values()))
            kind.bring_up(host, list(batch.values()))
        except ResolverError:
            if first in batch:
                raise
    return sorted(name for batch in batches for name in batch)


class _Starting:
    """Resolvers that have been started and not yet been waited for, in that order."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._program = find_program(_PROGRAM) or _PROGRAM
        self._running = (*_RUNNING, _NO_IDENT) if _knows_no_ident(host, self._program) else _RUNNING
        self._directory = _directory(host.project)
        self._boot = boot_id()
        self._uid = user()
        self._waiting: deque[tuple[Resolver, Started]] = deque()
        self._supervised: list[Scope] = []
        """Of processes that run and systemd does not have yet."""
        self._failed: list[str] = []
        self._deadline = 0.0

    def start(self, resources: Sequence[Resolver]) -> None:
        """Start them, and wait for the first ones if they become too many."""
        for item in resources:
            while len(self._waiting) >= _AT_ONCE:
                self._settle_first()
            self._waiting.append((item, self._start(item)))
            self._deadline = time.monotonic() + _PATIENCE_S

    def finish(self) -> None:
        """Wait for all.  Raises ResolverError, which names each that failed; the others run and are recorded."""
        try:
            with Handover() as handover:
                while self._waiting:
                    self._settle_first()
                    if len(self._supervised) >= _HANDED_OVER or not self._waiting:
                        handover.ask(self._supervised)
                        self._supervised = []
                handover.finish()
        except ScopeError as error:
            self._failed.append(str(error))
        finally:
            self.close()
        if self._failed:
            raise ResolverError("; ".join(self._failed))

    def close(self) -> None:
        """Wait for no more of them."""
        while self._waiting:
            self._waiting.popleft()[1].close()

    def _settle_first(self) -> None:
        item, started = self._waiting.popleft()
        try:
            problem = self._settle(item, started, self._deadline)
        finally:
            started.close()
        if problem:
            self._host.failed_in = item.namespace
            self._failed.append(f"the resolver of {item.label} did not start: {problem}")
            return
        # All share one patience, which begins anew whenever one is ready.
        self._deadline = time.monotonic() + _PATIENCE_S
        if item.supervised:
            self._supervised.append(_scope(_called(item), started.pid))

    def _start(self, item: Resolver) -> Started:
        path = self._directory / f"{_called(item)}{_CONF}"
        write_atomically(path, _text((*item.config, *self._running)))
        arguments = [self._program, f"--conf-file={path}"]
        return self._host.run_in(item.namespace, processes.start_apart, arguments)

    def _settle(self, item: Resolver, started: Started, deadline: float) -> str:
        """Wait until a resolver is ready and record it; otherwise stop it and return why it failed."""
        try:
            problem = started.read_errors(deadline)
            process = None if problem else self._as_itself(started.pid, deadline)
        except TimeoutError as error:
            problem, process = str(error), None
        if process is not None:
            in_use = self._others_on_port(item, process)
            if not in_use:
                write_atomically(
                    self._directory / f"{_called(item)}{_PID}", processes.record(process, self._boot), 0o600
                )
                return ""
            problem = in_use
        left = processes.read(started.pid)
        processes.end([left] if left else [], _PATIENCE_S)
        processes.reap(started.pid)
        return self._others_on_port(item, None) or problem or "it ended at once; see the system's log"

    def _as_itself(self, pid: int, deadline: float) -> Optional[Process]:
        """The process once it runs as its user; None if it has ended."""
        while (process := processes.read(pid)) is not None and process.uid != self._uid:
            if time.monotonic() > deadline:
                raise TimeoutError(f"it did not switch to the user {RESOLVER_USER} in time")
            time.sleep(_POLL_S)
        return process

    def _others_on_port(self, item: Resolver, process: Optional[Process]) -> str:
        """Other processes on its port, as a sentence; if there are none, no other can bind the port from now on."""
        config = dict(line.partition("=")[::2] for line in item.config)
        address, port = config.get("listen-address", ""), int(config.get("port", "0"))
        own = processes.sockets(process.pid) if process is not None else {}
        if process is not None:
            processes.keep_for_itself(process, own.values())
        # The resolver itself has the TCP port, for which the kernel permits only one listener.
        tables = ("udp",) if process is not None else ("tcp", "tcp6", "udp", "udp6")
        others = self._host.run_in(item.namespace, holders, address, port, own, tables)
        return (
            f"{address} port {port} is in use there by {', '.join(others)}: end that process and run again"
            if others
            else ""
        )
