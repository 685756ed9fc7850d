# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``cnm exec`` and ``cnm logs``: they become another program."""

from __future__ import annotations

import argparse
import contextlib
import grp
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from ..kernel import namespaces
from ..kernel.journald import IDENTIFIER, SOCKET
from ..kernel.programs import find_program
from ..plan.constants import shared_with
from ..plan.forms import printable
from ..plan.marks import RESOLVER_USER
from .output import Usage
from .showing import no_sandbox, sandboxes
from .units import escape

_NOT_RUN, _NOT_FOUND = 126, 127
"""Exit statuses, as of a shell and of docker."""

_ago = re.compile(r"\d+ ?(s|sec|m|min|h|d)").fullmatch


class _User(NamedTuple):
    """Who a command runs as."""

    name: str
    number: int
    group: int


def _program(name: str, package: str) -> str:
    found = find_program(name)
    if found is None:
        raise Usage(f"this host has no {name}: install the package {package}")
    return found


def execute(arguments: argparse.Namespace) -> int:
    """``cnm exec``: as ``ip netns exec``, which mounts the sandbox's files of ``/etc/netns`` over those in ``/etc``."""
    name = arguments.sandbox
    modes = {item["name"]: item["network_mode"] for item in sandboxes(arguments.project)}
    if name not in modes:
        raise no_sandbox(name, modes, arguments.project)
    user = _user(arguments.user) if arguments.user else None
    privileges = [f"--reuid={user.number}", f"--regid={user.group}", "--init-groups"] if user else []
    command = [_program("setpriv", "util-linux"), *privileges, "--", *arguments.command]
    if modes[name] != "host":  # such a sandbox is the host itself
        namespace = shared_with(modes[name]) or name
        if not namespaces.exists(namespace):
            raise Usage(f"the sandbox {namespace} is missing: cnm restore brings it back")
        command = [_program("ip", "iproute2"), "netns", "exec", namespace, *command]
    for text in arguments.env or ():
        variable, separator, value = text.partition("=")
        if not variable:
            raise Usage(f"{text} is not NAME=VALUE")
        if separator:  # without a value it is the caller's, which is there already
            os.environ[variable] = value
    if arguments.workdir:
        try:
            os.chdir(arguments.workdir)
        except (FileNotFoundError, NotADirectoryError):
            raise Usage(f"this host has no directory {arguments.workdir}") from None
    with _as_user(user):
        _look_for_program(arguments.command, name)
    if arguments.detach and not _leaves_the_terminal():
        return 0
    os.execvp(command[0], command)


def _look_for_program(command: Sequence[str], sandbox: str) -> None:
    """Raise Usage, with docker's and a shell's exit status, unless there is a program that this user may run.

    With -d nobody would hear of it later.  A sandbox has files of its own in ``/etc`` alone, none of them a program.
    """
    name = command[0]
    if "/" in name:
        result = _how_it_would_end(name, _NOT_RUN)
    else:
        places = [os.path.join(folder, name) for folder in os.get_exec_path()] if name else []
        result = min((_how_it_would_end(path, _NOT_FOUND) for path in places), default=_NOT_FOUND)
    if result == _NOT_RUN:
        raise Usage(f"{name} cannot be run: it is no program, or not for this user", _NOT_RUN)
    if result == _NOT_FOUND:
        hint = ""
        if name.startswith("-"):
            hint = ": options of cnm exec stand before the sandbox"
        elif " " in name:
            hint = f": give the program and its arguments as separate words: cnm exec {sandbox} {' '.join(command)}"
        raise Usage(f"this host has no program `{name}`{hint}", _NOT_FOUND)


def _how_it_would_end(path: str, out_of_sight: int) -> int:
    """The exit status of what is to be the program at a path; 0 if it can be run."""
    try:
        os.stat(path)
    except PermissionError:
        return out_of_sight
    except (OSError, ValueError):
        return _NOT_FOUND
    return 0 if os.path.isfile(path) and os.access(path, os.X_OK, effective_ids=True) else _NOT_RUN


@contextlib.contextmanager
def _as_user(user: Optional[_User]) -> Iterator[None]:
    """Do what is done meanwhile with the rights of that user, if there is one."""
    if user is None:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(user.name, user.group))
    os.setegid(user.group)
    os.seteuid(user.number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _leaves_the_terminal() -> bool:
    """Go on as another process, without this terminal; whether this is that one."""
    if os.fork():
        return False
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    return True


def _user(text: str) -> _User:
    """That user of the host, whose home and name are in the environment from now on."""
    user, _colon, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        number = entry.pw_gid if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except (KeyError, OverflowError):
        raise Usage(f"this host has no user or group {text}") from None
    os.environ.update(HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name)
    return _User(entry.pw_name, entry.pw_uid, number)


def show_logs(arguments: argparse.Namespace) -> int:
    """``cnm logs``."""
    if not os.path.exists(SOCKET):
        raise Usage(
            "this host has no journal, which cnm logs reads: cnm status says what differs and what could not be "
            "restored, and a run says on the controller what it did"
        )
    program = _program("journalctl", "systemd")
    options = ["--no-hostname", "--quiet", *_options(arguments)]
    _tell_of_unknown(arguments)
    units = _units(program) if arguments.sandboxes else []
    matches = selected(arguments.sandboxes, units, _resolvers_user(), arguments.project)
    os.execv(program, [program, *options, *matches])


def _tell_of_unknown(arguments: argparse.Namespace) -> None:
    """Sandboxes that are no more have lines too, so an unknown name is no error."""
    with contextlib.suppress(Usage):  # for a host without a plan
        names = {item["name"] for item in sandboxes(arguments.project)}
        for name in arguments.sandboxes:
            if name not in names:
                sys.stderr.write(printable(f"cnm: {no_sandbox(name, names, arguments.project)}") + "\n")


def _units(program: str) -> list[str]:
    """All units that the journal has lines of."""
    done = subprocess.run(
        [program, "--field=_SYSTEMD_UNIT"], capture_output=True, text=True, errors="replace", check=False
    )
    return done.stdout.splitlines()


def _resolvers_user() -> str:
    """The number of the user that resolvers run as; "" without it."""
    try:
        return str(pwd.getpwnam(RESOLVER_USER).pw_uid)
    except KeyError:
        return ""


def _options(arguments: argparse.Namespace) -> list[str]:
    result = ["--output=json"] if arguments.json else []
    result += ["--follow"] if arguments.follow else []
    if arguments.tail is not None:
        if arguments.tail != "all" and not arguments.tail.isdigit():
            raise Usage(f"{arguments.tail} is not a number of lines")
        result.append(f"--lines={arguments.tail}")
    elif arguments.follow:
        result.append("--lines=all")
    if arguments.since:
        since = f"-{arguments.since}" if _ago(arguments.since) else arguments.since
        result.append(f"--since={since}")
    return result


def selected(wanted: Sequence[str], units: Sequence[str], user: str, project: str = "") -> list[str]:
    """What journalctl selects: root's lines about these sandboxes, or all; and those of their resolvers.  Pure.

    ``units`` are the names of units, ``user`` is the number of the resolvers' user.
    """
    ours = ["_UID=0", f"SYSLOG_IDENTIFIER={IDENTIFIER}", *([f"CNM_PROJECT={project}"] if project else [])]
    groups = [[*ours, f"CNM_SANDBOX={name}"] for name in wanted] or [ours]
    if not wanted and user:
        groups.append([f"_UID={user}"])
    for name in wanted:
        # A scope for each process, systemd.scope(5), which ends with its id.
        of_resolver = re.compile(rf"cnm-resolver-{re.escape(escape(name))}-\d+\.scope", re.ASCII)
        groups += [[f"_SYSTEMD_UNIT={unit}"] for unit in units if of_resolver.fullmatch(unit)]
    result: list[str] = []
    for group in groups:
        result += ["+", *group] if result else group
    return result
