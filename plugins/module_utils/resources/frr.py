# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""FRR of our own: a zebra and a bgpd beside those that the host may have, with files and sockets of their own.

In ``/run/cnm/<project>/frr`` are ``bgpd.conf`` and ``zebra.conf``, which root alone can write, ``applied.json`` (what
the daemons were told, without the password) and a record of each daemon, as a resolver has one.  Below it, in
``sockets``, is what the daemons make; nothing of that is believed.

What bgpd knows is compared with what it was told, line by line, and what differs is told it by vtysh: no session but
those concerned ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..hostd.units import RESTORE
from ..kernel import processes, systemd
from ..kernel.host import Host
from ..kernel.listening_sockets import holders
from ..kernel.processes import Process
from ..kernel.programs import find_program
from ..kernel.scopes import UNKNOWN_PROPERTY, Handover, Scope, ScopeError
from ..plan.base import Key, PlanError
from ..plan.codec import decode, encode
from ..plan.constants import FRR
from ..plan.frr import Frr, bgp_lines, bgpd_text, evpn_lines
from ..state.files import RUN, boot_id, check_directory, forget, load, make_directory, remove_empty, write_atomically
from .base import Difference, Found, Kind, Operation, compare_fields

DIRECTORIES = ("/usr/lib/frr", "/usr/libexec/frr")
"""Where distributions have the daemons: Debian, Fedora."""
ZEBRA, BGPD = "zebra", "bgpd"
_DAEMONS = (ZEBRA, BGPD)
_VTYSH = "vtysh"
_CONF, _PID, _APPLIED, _TOLD = ".conf", ".pid", "applied.json", "told.conf"
_PATIENCE_S = 20
_PORT = 179
_MEMORY_AT_MOST = 2 << 30
"""Octets of one daemon; with 20,000 endpoints bgpd has some 60 MB."""
_ASKED = "show running-config"
_NEITHER = ("!", "")
_ENDS = "does not run"
_SHOWN = 300


class FrrError(Exception):
    """A daemon did not start, end or take its configuration; the message says which and why."""


def directory() -> Optional[str]:
    """The directory of the daemons; None if the host has no FRR."""
    return next((path for path in DIRECTORIES if all(os.access(f"{path}/{name}", os.X_OK) for name in _DAEMONS)), None)


def is_installed() -> bool:
    """Whether the host has FRR and its user."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(FRR) is not None and directory() is not None and find_program(_VTYSH) is not None
    return False


def _place(project: str) -> Path:
    return RUN / project / "frr"


def _sockets(project: str) -> Path:
    return _place(project) / "sockets"


def _applied(project: str) -> Optional[Frr]:
    """What the daemons were told last; None if there is no record that can be read."""
    with contextlib.suppress(PlanError):
        found = decode(load(_place(project) / _APPLIED), found=True)
        return found if isinstance(found, Frr) else None
    return None


def _running(project: str, name: str) -> Optional[Process]:
    """The daemon that was recorded, if it still runs."""
    with contextlib.suppress(OSError):
        text = (_place(project) / f"{name}{_PID}").read_text(encoding="utf-8")
        wanted = processes.recorded(text, name, boot_id())
        return wanted if wanted is not None and processes.read(wanted.pid) == wanted else None
    return None


def _is_serving(process: Optional[Process]) -> bool:
    return process is not None and not processes.is_stopped(process) and not processes.is_outdated(process)


def _as_started(item: Frr) -> tuple[object, ...]:
    """What a running bgpd cannot be told otherwise."""
    return item.asn, item.local, item.router_id, bool(item.clients)


class FrrKind(Kind[Frr]):
    """zebra and bgpd of ours."""

    name = "frr"
    # When all links are there, so that the first that it tells is complete; removed before they go.
    stages = (70,)

    def observe(self, host: Host, wanted: Sequence[Frr]) -> dict[Key, Found[Frr]]:
        place = _place(host.project)
        try:
            check_directory(place)
        except FileNotFoundError:
            return {}
        found = _applied(host.project)
        if found is None:
            # Interrupted before it was recorded, or damaged: begun again.
            if not wanted:
                found = Frr(1, "0.0.0.0", "0.0.0.0")
            else:
                found = replace(wanted[0], flaws={"record": "missing"})
            return {found.key: Found(found)}
        flaws = {name: _ENDS for name in _DAEMONS if not _is_serving(_running(host.project, name))}
        if not flaws and wanted:
            flaws = self._forgotten(host, found)
        found = replace(found, flaws=flaws)
        return {found.key: Found(found)}

    def _forgotten(self, host: Host, told: Frr) -> dict[str, str]:
        """What bgpd knows otherwise than it was told; empty if nothing."""
        less, more = _changes(told, self._password(host), _known(host))
        words = [f"lacks {len(less)} lines"] * bool(less) + [f"has {len(more)} lines of others"] * bool(more)
        return {BGPD: " and ".join(words)} if words else {}

    @staticmethod
    def _password(host: Host) -> str:
        """That of this run; else the one that was told last, of which bgpd has a file."""
        return host.bgp_password or _password_told(host.project)

    def differences(self, wanted: Frr, found: Frr) -> list[Difference]:
        result = compare_fields(replace(wanted, flaws=found.flaws), found)
        return [*result, *(Difference(name, "as planned", flaw) for name, flaw in found.flaws.items())]

    def check_dependencies(self, host: Host, wanted: Sequence[Frr]) -> Optional[str]:
        if wanted and not is_installed():
            return (
                "this host has no FRR, which `cnm_control_plane: evpn` takes: use the role cnm.fabric.host, or install "
                "the package frr"
            )
        if wanted and not self._password(host):
            return "the password of BGP sessions is not kept on this host (cnm_keep_keys): run cnm.fabric.site"
        return None

    def check_conflicts(self, host: Host, wanted: Sequence[Frr]) -> list[str]:
        others = [path.parent.name for path in RUN.glob("*/frr") if path.parent.name != host.project]
        found = [f"the project {name} has an FRR on this host, and a host has one: use one project" for name in others]
        own = _running(host.project, BGPD)
        sockets = processes.sockets(own.pid) if own is not None else {}
        for item in wanted if wanted and wanted[0].clients else ():
            users = holders(item.local, _PORT, sockets, ("tcp", "tcp6"))
            if users:
                found.append(
                    f"port {_PORT} of this route reflector is in use by {', '.join(users)}: choose other hosts for "
                    "route_reflectors of cnm_evpn, or write `manage: false` there and use the FRR that this host has"
                )
        return found

    def create(self, host: Host, resources: Sequence[Frr]) -> None:
        for item in resources:
            self._write(host, item)
            if not all(_is_serving(_running(host.project, name)) for name in _DAEMONS):
                # Without zebra, bgpd waits for it; one that has another zebra than before begins again.
                for name in _DAEMONS:
                    if not _is_serving(_running(host.project, name)):
                        self._stop(host, name)
                        self._start(host, name, item)
            _record(host.project, item)

    def change(self, host: Host, operations: Sequence[Operation[Frr]]) -> None:
        for operation in operations:
            item, found = operation.resource, operation.found
            runs = _is_serving(_running(host.project, BGPD))
            if found is None or _as_started(item) != _as_started(found):
                self._stop(host, BGPD)
            elif runs:
                self._tell(host, item)
            self.create(host, [item])

    def delete(self, host: Host, resources: Sequence[Frr]) -> None:
        if not resources:
            return
        for name in reversed(_DAEMONS):
            self._stop(host, name)
        shutil.rmtree(_place(host.project), ignore_errors=True)
        remove_empty(RUN / host.project)

    def remove_partial_files(self, host: Host, resource: Frr) -> None:
        forget(_place(host.project) / _TOLD)

    def _write(self, host: Host, item: Frr) -> None:
        """Write what the daemons read when they start."""
        place, password = _place(host.project), self._password(host)
        user = pwd.getpwnam(FRR)
        make_directory(place)
        sockets = _sockets(host.project)
        with contextlib.suppress(FileExistsError):
            sockets.mkdir(mode=0o700)
        os.chown(sockets, user.pw_uid, user.pw_gid)
        for name, text in ((ZEBRA, ""), (BGPD, bgpd_text(item, password))):
            path = place / f"{name}{_CONF}"
            write_atomically(path, f"log syslog informational\n{text}", 0o600)
            os.chown(path, user.pw_uid, -1)

    def _start(self, host: Host, name: str, item: Frr) -> None:
        place, sockets = _place(host.project), _sockets(host.project)
        pid_file = sockets / f"{name}.pid"
        pid_file.unlink(missing_ok=True)
        arguments = [
            f"{directory()}/{name}",
            "-d",
            *("-N", f"cnm-{host.project}"),
            *("-i", str(pid_file)),
            *("-z", str(sockets / "zserv.api")),
            *("--vty_socket", str(sockets)),
            *("-f", str(place / f"{name}{_CONF}")),
            *("-u", FRR, "-g", FRR),
            *("-A", "127.0.0.1", "-P", "0"),
            # A reflector is called; others call, and leave the port to whoever wants it.
            *(() if name == ZEBRA else ("-l", item.local) if item.clients else ("-p", "0")),
        ]
        processes.keep_descriptors_back()
        code, _output, errors = host.run_command(arguments)
        process = _reported(pid_file, name)
        if code or process is None:
            raise FrrError(f"{name} did not start: {errors.strip()[-_SHOWN:] or 'see the system log'}")
        write_atomically(place / f"{name}{_PID}", processes.record(process, boot_id()), 0o600)
        _hand_over(host.project, name, process.pid)

    @staticmethod
    def _stop(host: Host, name: str) -> None:
        record = _place(host.project) / f"{name}{_PID}"
        process = _running(host.project, name)
        # It is not to be started again: what does that looks for the record.
        forget(record)
        left = processes.end([process] if process is not None else [], _PATIENCE_S)
        if left:
            raise FrrError(f"{name} did not end after SIGKILL: process {left[0].pid}")

    def _tell(self, host: Host, item: Frr) -> None:
        """Tell a running bgpd what is new and what is no more."""
        less, more = _changes(item, self._password(host), _known(host))
        if not less and not more:
            return
        path = _place(host.project) / _TOLD
        # Undone first, in the reverse order of `bgp_lines`: a group goes after its members.
        lines = [*_told(item.asn, [(where, f"no {_without_value(line)}") for where, line in more])]
        lines += _told(item.asn, less)
        write_atomically(path, "".join(f"{line}\n" for line in lines), 0o600)
        try:
            arguments = ["--vty_socket", str(_sockets(host.project)), "-d", BGPD, "-f", str(path)]
            code, output, errors = host.run_command([find_program(_VTYSH) or _VTYSH, *arguments])
        finally:
            forget(path)
        if code:
            said = (errors.strip() or output.strip()).replace(self._password(host), "***")
            raise FrrError(f"bgpd did not take its new configuration: {said[-_SHOWN:]}")


_Line = tuple[str, str]
"""A line of a configuration: ``bgp`` or ``evpn`` for where it stands, and its text."""


def _wanted(item: Frr, password: str) -> list[_Line]:
    return [*(("bgp", line) for line in bgp_lines(item, password)), *(("evpn", line) for line in evpn_lines(item))]


def _changes(item: Frr, password: str, known: Iterable[_Line]) -> tuple[list[_Line], list[_Line]]:
    """The lines that bgpd lacks, in their order, and those that it has beside."""
    wanted, known = _wanted(item, password), list(known)
    return [line for line in wanted if line not in known], [line for line in known if line not in wanted]


def _known(host: Host) -> Iterator[_Line]:
    """The lines below ``router bgp`` that bgpd has at present."""
    arguments = ["--vty_socket", str(_sockets(host.project)), "-d", BGPD, "-c", _ASKED]
    code, output, errors = host.run_command([find_program(_VTYSH) or _VTYSH, *arguments])
    if code:
        raise FrrError(f"bgpd does not say what it was told: {(errors.strip() or output.strip())[-_SHOWN:]}")
    section = ""
    for line in map(str.rstrip, output.splitlines()):
        text = line.strip()
        if line.startswith("router bgp "):
            section = "bgp"
        elif text.startswith("address-family "):
            section = "evpn" if text == "address-family l2vpn evpn" else "other"
        elif text == "exit-address-family":
            section = "bgp"
        elif text not in _NEITHER and not line.startswith(" "):
            section = ""
        elif section and text not in _NEITHER:
            yield section, text


def _told(asn: int, lines: Sequence[_Line]) -> Iterator[str]:
    """Commands that enter each line where it stands."""
    for section, line in lines:
        yield f"router bgp {asn}"
        if section == "evpn":
            yield "address-family l2vpn evpn"
        yield line
        if section == "evpn":
            yield "exit-address-family"
        yield "exit"


def _without_value(line: str) -> str:
    """What follows ``no`` to take a line back."""
    words = line.split()
    if words[:1] == ["no"]:
        return " ".join(words[1:])
    return " ".join(words[:3]) if words[:1] == ["neighbor"] and words[2:3] == ["password"] else line


def _password_told(project: str) -> str:
    """The password in the file that bgpd has read."""
    with contextlib.suppress(OSError):
        for line in (_place(project) / f"{BGPD}{_CONF}").read_text(encoding="utf-8").splitlines():
            before, _password, text = line.partition(" password ")
            if _password and before.strip().startswith("neighbor "):
                return text.strip()
    return ""


def _record(project: str, item: Frr) -> None:
    write_atomically(_place(project) / _APPLIED, json.dumps(encode(replace(item, flaws={}))), 0o600)


def _reported(path: Path, name: str) -> Optional[Process]:
    """The daemon whose number is in its own file, if it is the program and the user's."""
    with contextlib.suppress(OSError, ValueError):
        process = processes.read(int(path.read_text(encoding="ascii")))
        if process is not None and process.program == name and process.uid == pwd.getpwnam(FRR).pw_uid:
            return process
    return None


def _hand_over(project: str, name: str, pid: int) -> None:
    """Have systemd look after it: so it outlives the session that started it, and is started again when it ends."""
    if not systemd.is_running():
        return
    properties: list[tuple[str, str, object]] = [
        ("Description", "s", f"{name} of cnm.fabric, project {project}"),
        ("CollectMode", "s", "inactive-or-failed"),
        ("MemoryMax", "t", _MEMORY_AT_MOST),
    ]
    again = [(what, "as", [RESTORE]) for what in ("OnSuccess", "OnFailure")]
    unit = f"cnm-{name}-{pid}.scope"
    for more in (again, []):
        try:
            with Handover() as handover:
                handover.ask([Scope(unit, pid, (*properties, *more))])  # type: ignore[arg-type]
                handover.finish()
            return
        except ScopeError as error:
            if error.name != UNKNOWN_PROPERTY or not more:
                raise FrrError(str(error)) from error
