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
from collections.abc import Sequence

from ..kernel import namespaces
from ..kernel.journald import IDENTIFIER, SOCKET
from ..kernel.programs import find_program
from ..plan.constants import shared_with
from ..plan.forms import printable
from ..plan.marks import RESOLVER_USER
from .output import Usage, unknown
from .showing import sandboxes
from .units import escape

_ago = re.compile(r"\d+ ?(s|sec|m|min|h|d)").fullmatch


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
        raise unknown("sandbox", name, modes, "cnm ps")
    # setpriv also gives the exit status: 127 for a command that is not found, 126 for one that cannot be run.
    privileges = _of_user(arguments.user) if arguments.user else []
    command = [_program("setpriv", "util-linux"), *privileges, "--", *arguments.command]
    if modes[name] != "host":  # such a sandbox is the host itself
        namespace = shared_with(modes[name]) or name
        if not namespaces.exists(namespace):
            raise Usage(f"the sandbox {namespace} is missing: cnm restore brings it back")
        command = [_program("ip", "iproute2"), "netns", "exec", namespace, *command]
    for text in arguments.env or ():
        variable, separator, value = text.partition("=")
        if not variable or not separator:
            raise Usage(f"{text} is not NAME=VALUE")
        os.environ[variable] = value
    if arguments.workdir:
        os.chdir(arguments.workdir)
    if arguments.detach and not _leaves_the_terminal():
        return 0
    os.execvp(command[0], command)


def _leaves_the_terminal() -> bool:
    """Go on as another process, without this terminal; whether this is that one."""
    if os.fork():
        return False
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    return True


def _of_user(text: str) -> list[str]:
    """Options of setpriv for that user, whose home and name are in the environment from now on."""
    user, _colon, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        number = entry.pw_gid if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except (KeyError, OverflowError):
        raise Usage(f"this host has no user or group {text}") from None
    os.environ.update(HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name)
    return [f"--reuid={entry.pw_uid}", f"--regid={number}", "--init-groups"]


def show_logs(arguments: argparse.Namespace) -> int:
    """``cnm logs``."""
    if not os.path.exists(SOCKET):
        raise Usage("this host has no journal: cnm logs needs systemd")
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
                sys.stderr.write(printable(f"cnm: {unknown('sandbox', name, names, 'cnm ps')}") + "\n")


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
