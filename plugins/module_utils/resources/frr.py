# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""FRR of our own, beside what the host may have of it: a zebra in the namespace of the overlays, a bgpd in the host's.

Between them is a socket in the file system, so zebra never sees a link or a route of the host.

Since FRR 9 zebra speaks to mgmtd, and without one it fills the log from 10.3 on (FRRouting/frr issue 17931), so that is
started first where there is one.  It would read what the host's own FRR is configured with, so it does not see that.

In ``/run/cnm/<project>/frr`` are ``bgpd.conf`` and ``zebra.conf``, which root alone can write and FRR's group can read,
``applied.json`` (what the daemons were told, without the password) and a record of each daemon, as a resolver has one.
Below it, in ``sockets``, is what the daemons make.

What bgpd knows is compared with what it was told, line by line.  Reflectors and prefixes that differ it is told by
vtysh, so that no other session ends; for whatever else differs it is started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..hostd.units import RESTORE
from ..kernel import namespaces, netlink, processes
from ..kernel.host import Host
from ..kernel.listening_sockets import holders
from ..kernel.processes import Process
from ..kernel.programs import find_program
from ..kernel.scopes import ScopeError, guarded, hand_over
from ..plan.base import Key, PlanError
from ..plan.codec import decode, encode
from ..plan.constants import FRR
from ..plan.frr import ADDRESS_FAMILY, GROUP, UNKNOWN, Frr, bgp_lines, bgpd_text, evpn_lines
from ..state.files import (
    RUN,
    boot_id,
    check_directory,
    forget,
    load,
    make_directory,
    read_limited,
    remove_empty,
    write_atomically,
)
from .base import Difference, Found, Kind, Operation, compare_fields

DIRECTORIES = ("/usr/lib/frr", "/usr/libexec/frr")
"""Where distributions have the daemons: Debian, Fedora."""
MGMTD, ZEBRA, BGPD = "mgmtd", "zebra", "bgpd"
_NEEDED = (ZEBRA, BGPD)
_ALL = (MGMTD, *_NEEDED)
_OF_MGMTD = Path("/var/run/frr")
"""Where mgmtd makes its sockets, below the name of its instance: nothing moves them."""
_WITHOUT_ITS_FILES = (
    "[ ! -d /etc/frr ] || mount -t tmpfs -o mode=755 cnm /etc/frr || exit 1; "
    f'umount -l {namespaces.DIRECTORY}/* 2>/dev/null; exec "$@"'
)
"""Starts a program that does not see ``/etc/frr``, and keeps no namespace of the host alive by seeing its mount."""
_QUIETLY = 'errors=$1; shift; exec "$@" >"$errors" 2>&1 </dev/null'
"""Starts a program that keeps its standard output open when it has gone into the background."""
_VTYSH = "vtysh"
_CONF, _PID, _ERRORS, _APPLIED, _TOLD = ".conf", ".pid", ".errors", "applied.json", "told.conf"
_START_S = 60
"""Seconds within which a daemon has gone into the background."""
_PATIENCE_S = 20
_PORT = 179
_VTYSH_S = "10"
"""Seconds that bgpd has for an answer."""
_MEMORY_AT_MOST = 2 << 30
"""Octets of one daemon."""
_ASKED = "show running-config"
_NEITHER = ("!", "")
_WORDS_OF_OURS = 3
"""``router bgp 65000``; one of a VRF has more words."""
_ENDS, _DUMB = "does not run", "does not answer"
_LIVE = re.compile(
    rf"neighbor (?:\S+ peer-group {GROUP}|{GROUP} password .*)"
    rf"|bgp listen (?:range \S+ peer-group {GROUP}|limit \d+)"
)
"""Lines that bgpd can be told to forget while it runs."""
_SHOWN = 300
_PID_AT_MOST = 64


class FrrError(Exception):
    """A daemon did not start, end or take its configuration; the message says which and why."""


def directory() -> Optional[str]:
    """The directory of the daemons; None if the host has no FRR."""
    return next((path for path in DIRECTORIES if all(os.access(f"{path}/{name}", os.X_OK) for name in _NEEDED)), None)


def _daemons() -> tuple[str, ...]:
    """Those that there are, in the order in which they are started."""
    return _ALL if os.access(f"{directory()}/{MGMTD}", os.X_OK) else _NEEDED


def is_installed() -> bool:
    """Whether the host has FRR and its user."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(FRR) is not None and directory() is not None and find_program(_VTYSH) is not None
    return False


def is_present(project: str) -> bool:
    """Whether the project has an FRR of ours on the host, or a text for one of others."""
    return any((RUN / project / name).is_dir() for name in ("frr", "evpn"))


def _place(project: str) -> Path:
    return RUN / project / "frr"


def _instance(project: str) -> str:
    """The name of this FRR beside others on the host."""
    return f"cnm-{project}"


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


def _place_of(host: Host, zebra: Optional[Process], item: Frr) -> str:
    """Where zebra is: "" if the namespace of that name is another by now."""
    with contextlib.suppress(OSError):
        return item.namespace if zebra is None or zebra.net == host.number(item.namespace) else ""
    return ""


def _as_started(item: Frr) -> tuple[object, ...]:
    """What a running bgpd cannot be told otherwise."""
    return item.asn, item.local, bool(item.clients)


class FrrKind(Kind[Frr]):
    """zebra and bgpd of ours."""

    name = "frr"
    # When all links are there, so that the first that it tells is complete; removed before they go.
    stages = (70,)
    # A zebra in a namespace that is gone keeps that, and the VNIs in it: it ends before anything is made.
    recreated_by = frozenset({"namespace"})

    def __init__(self) -> None:
        self._before = ("", "")

    def observe(self, host: Host, wanted: Sequence[Frr]) -> dict[Key, Found[Frr]]:
        try:
            check_directory(_place(host.project))
        except FileNotFoundError:
            return {}
        found = _applied(host.project)
        if found is None:
            # A run was killed before the record, or it is damaged.
            found = replace(wanted[0] if wanted else Frr(1, "0.0.0.0"), flaws={UNKNOWN: "missing"})
            return {found.key: Found(found)}
        self._before = (found.fingerprint, _password_told(host.project))
        flaws = {name: _ENDS for name in _daemons() if not _is_serving(_running(host.project, name))}
        if not flaws and wanted:
            flaws = self._forgotten(host, found)
        place = _place_of(host, _running(host.project, ZEBRA), found)
        found = replace(found, flaws=flaws, namespace=place)
        return {found.key: Found(found)}

    def _forgotten(self, host: Host, told: Frr) -> dict[str, str]:
        """What bgpd knows otherwise than it was told; empty if nothing."""
        try:
            less, more = _changes(told, self._password(host, told), _known(host))
        except FrrError:
            return {BGPD: _DUMB}
        words = [f"lacks {len(less)} lines"] * bool(less) + [f"has {len(more)} lines of others"] * bool(more)
        return {BGPD: " and ".join(words)} if words else {}

    def _password(self, host: Host, item: Frr) -> str:
        """That of the item: what the daemons had before this run, which undoes to it, or what this run was given."""
        fingerprint, password = self._before
        if password and (not host.bgp_password or item.fingerprint == fingerprint):
            return password
        return host.bgp_password or _password_told(host.project)

    def differences(self, wanted: Frr, found: Frr) -> list[Difference]:
        result = compare_fields(replace(wanted, flaws=found.flaws, fingerprint=found.fingerprint), found)
        if wanted.fingerprint != found.fingerprint:
            # Who reads of it must not be able to try passwords.
            result.append(Difference("fingerprint", "as planned", "of another password"))
        return [*result, *(Difference(name, "as planned", flaw) for name, flaw in found.flaws.items())]

    def check_dependencies(self, host: Host, wanted: Sequence[Frr]) -> Optional[str]:
        if wanted and not is_installed():
            return (
                "this host has no FRR, which `cnm_control_plane: evpn` takes: use the role cnm.fabric.host, or install "
                "the package frr"
            )
        if wanted and not self._password(host, wanted[0]):
            return "the password of BGP sessions is not kept on this host (cnm_keep_keys): run cnm.fabric.site"
        return None

    def check_conflicts(self, host: Host, wanted: Sequence[Frr]) -> list[str]:
        # Who is no reflector leaves the port to whoever wants it.
        if not wanted or not wanted[0].clients:
            return []
        own = _ours(host.project, BGPD)
        sockets = {inode for process in own for inode in processes.sockets(process.pid)}
        users = holders(wanted[0].local, _PORT, sockets, ("tcp", "tcp6"))
        problem = (
            f"port {_PORT} of this route reflector is in use by {', '.join(users)}: choose other hosts for "
            "route_reflectors of cnm_evpn, or write `manage: false` there and use the FRR that this host has"
        )
        return [problem] if users else []

    def create(self, host: Host, resources: Sequence[Frr]) -> None:
        for item in resources:
            self._write(host, item)
            for name in _daemons():
                if _is_serving(_running(host.project, name)):
                    continue
                _stop(host.project, name)
                if name == ZEBRA:
                    # bgpd tells each route once: a new zebra would not hear of those that the last one has heard.
                    _stop(host.project, BGPD)
                    _remove_remote_entries(host, item.namespace)
                self._start(host, name, item)
            write_atomically(_place(host.project) / _APPLIED, json.dumps(encode(replace(item, flaws={}))), 0o600)

    def change(self, host: Host, operations: Sequence[Operation[Frr]]) -> None:
        for operation in operations:
            item, found = operation.resource, operation.found
            anew = found is None or UNKNOWN in found.flaws or _as_started(item) != _as_started(found)
            if not anew and _is_serving(_running(host.project, BGPD)):
                anew = not self._tell(host, item)
            if anew:
                _stop(host.project, BGPD)
            self.create(host, [item])

    def delete(self, host: Host, resources: Sequence[Frr]) -> None:
        if resources:
            _stop(host.project, *reversed(_ALL))
            import shutil  # noqa: PLC0415  # only here, and slow to load

            for place in (_place(host.project), _OF_MGMTD / _instance(host.project)):
                shutil.rmtree(place, ignore_errors=True)
            remove_empty(RUN / host.project)

    def remove_partial_files(self, host: Host, resource: Frr) -> None:
        forget(_place(host.project) / _TOLD)

    def _write(self, host: Host, item: Frr) -> None:
        """Write what the daemons read when they start."""
        place, user = _place(host.project), pwd.getpwnam(FRR)
        make_directory(place)
        sockets = _sockets(host.project)
        with contextlib.suppress(FileExistsError):
            sockets.mkdir(mode=0o700)
        os.chown(sockets, user.pw_uid, user.pw_gid)
        for name, text in ((ZEBRA, ""), (BGPD, bgpd_text(item, self._password(host, item)))):
            path = place / f"{name}{_CONF}"
            write_atomically(path, f"log syslog informational\n{text}", 0o640)
            os.chown(path, 0, user.pw_gid)

    def _start(self, host: Host, name: str, item: Frr) -> None:
        place, sockets = _place(host.project), _sockets(host.project)
        pid_file = sockets / f"{name}.pid"
        pid_file.unlink(missing_ok=True)
        # A reflector is called; others call, and leave the port to whoever wants it.
        own = () if name != BGPD else ("-l", item.local) if item.clients else ("-p", "0")
        enter = {
            MGMTD: (
                *(find_program("unshare") or "unshare", "--mount", "--propagation", "slave"),
                *("sh", "-c", _WITHOUT_ITS_FILES, "sh"),
            ),
            ZEBRA: (find_program("nsenter") or "nsenter", f"--net={namespaces.DIRECTORY}/{item.namespace}"),
        }
        read = ("-z", str(sockets / "zserv.api"), "-f", str(place / f"{name}{_CONF}"))
        errors = place / f"{name}{_ERRORS}"
        arguments = [
            *("sh", "-c", _QUIETLY, "sh", str(errors)),
            *(find_program("timeout") or "timeout", str(_START_S)),
            *enter.get(name, ()),
            f"{directory()}/{name}",
            "-d",
            *("-N", _instance(host.project)),
            *("-i", str(pid_file)),
            *("--vty_socket", str(sockets)),
            *("-u", FRR, "-g", FRR),
            *("-A", "127.0.0.1", "-P", "0"),
            *(("--log", "syslog", "--log-level", "informational") if name == MGMTD else (*read, *own)),
        ]
        processes.keep_descriptors_back()
        code, _output, _errors = host.run_command(arguments)
        process = _reported(host.project, name)
        if code or process is None:
            said = errors.read_text(encoding="utf-8", errors="replace").strip()[-_SHOWN:]
            raise FrrError(f"{name} did not start: {said or 'see the system log'}")
        errors.unlink()
        write_atomically(place / f"{name}{_PID}", processes.record(process, boot_id()), 0o600)
        _hand_over(host.project, name, process.pid)

    def _tell(self, host: Host, item: Frr) -> bool:
        """Tell a running bgpd what is new and what is no more; false if it has to be started again for that."""
        try:
            less, more = _changes(item, self._password(host, item), _known(host))
        except FrrError:
            return False
        if not all(section == "bgp" and _LIVE.fullmatch(line) for section, line in more):
            return False
        path = _place(host.project) / _TOLD
        lines = [*_told(item.asn, [(where, f"no {_without_value(line)}") for where, line in more])]
        lines += _told(item.asn, less)
        write_atomically(path, "".join(f"{line}\n" for line in lines), 0o600)
        try:
            _ask(host, "-f", str(path))
        except FrrError:
            return False
        finally:
            forget(path)
        return True


def _remove_remote_entries(host: Host, namespace: str) -> None:
    """Remove what a zebra that has ended left for endpoints of other hosts: the next one does not touch it."""
    host.remove(namespace, host.run_in(namespace, _removals))


def _removals() -> list[netlink.Message]:
    with netlink.Netlink() as socket:
        bridges = {link["index"]: link["master"] for link in socket.links() if link["kind"] == "vxlan"}
        neighbours = [
            netlink.del_neighbour(entry["index"], entry["address"])
            for entry in socket.neighbours()
            if entry["index"] in bridges.values() and not entry["permanent"]
        ]
        return neighbours + [
            netlink.del_fdb(entry["index"], entry["mac"], dst=entry["dst"], master=not entry["self"])
            for entry in socket.fdb()
            if entry["index"] in bridges and (entry["self"] or entry["extern_learn"])
        ]


def _ask(host: Host, *arguments: str) -> str:
    """What vtysh prints for bgpd.  What it says of errors may have the password in it, and is not passed on."""
    programs = [find_program("timeout") or "timeout", _VTYSH_S, find_program(_VTYSH) or _VTYSH]
    code, output, _errors = host.run_command(
        [*programs, "--vty_socket", str(_sockets(host.project)), "-d", BGPD, *arguments]
    )
    if code:
        raise FrrError(f"bgpd does not answer vtysh (exit code {code})")
    return output


def _ours(project: str, name: str) -> list[Process]:
    """The daemon that was recorded, and one that a killed run has started and not recorded."""
    return [process for process in (_running(project, name), _reported(project, name)) if process is not None]


def _stop(project: str, *names: str) -> None:
    """Stop daemons and wait until they have ended."""
    found = {process.pid: process for name in names for process in _ours(project, name)}
    # They are not to be started again: what does that looks for the records.
    for name in names:
        forget(_place(project) / f"{name}{_PID}")
    left = processes.end(found.values(), _PATIENCE_S)
    if left:
        raise FrrError(f"{left[0].program} did not end after SIGKILL: process {left[0].pid}")


_Line = tuple[str, str]
"""A line of a configuration: ``bgp`` or ``evpn`` for where it stands, and its text."""


def _wanted(item: Frr, password: str) -> list[_Line]:
    return [*(("bgp", line) for line in bgp_lines(item, password)), *(("evpn", line) for line in evpn_lines(item))]


def _changes(item: Frr, password: str, known: Iterable[_Line]) -> tuple[list[_Line], list[_Line]]:
    """The lines that bgpd lacks, in their order, and those that it has beside."""
    wanted, known = _wanted(item, password), list(known)
    return [line for line in wanted if line not in known], [line for line in known if line not in wanted]


def _known(host: Host) -> Iterator[_Line]:
    """The lines that bgpd has at present, but for those of the whole program."""
    section = ""
    for line in map(str.rstrip, _ask(host, "-c", _ASKED).splitlines()):
        text = line.strip()
        if line.startswith("router bgp "):
            section = "bgp" if len(text.split()) == _WORDS_OF_OURS else text
        elif text.startswith("address-family "):
            section = "evpn" if (section, text) == ("bgp", ADDRESS_FAMILY) else f"{section} {text}"
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
            yield ADDRESS_FAMILY
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


def _reported(project: str, name: str) -> Optional[Process]:
    """The daemon whose number is in its own file, if it is that program and the user's."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        process = processes.read(int(read_limited(_sockets(project) / f"{name}.pid", _PID_AT_MOST)))
        if process is not None and (process.program, process.uid) == (name, pwd.getpwnam(FRR).pw_uid):
            return process
    return None


def _hand_over(project: str, name: str, pid: int) -> None:
    """Have systemd look after it: so it outlives the session that started it, and is started again when it ends."""
    try:
        hand_over(guarded(name, pid, f"{name} of cnm.fabric, project {project}", _MEMORY_AT_MOST, RESTORE))
    except ScopeError as error:
        raise FrrError(str(error)) from error
