# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Processes in our namespaces that are not ours: nobody's network is taken from under them unasked."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..kernel import processes
from ..plan.forms import printable
from ..plan.marks import SINGLE_OBJECT
from . import resolver

_SHOWN = 3
_LONGEST = 64
_PAUSE_S = 0.05
SANDBOX = "sandbox/"
"""What roles of sandboxes' namespaces begin with."""


def is_for_users(role: str) -> bool:
    """Whether users run processes in a namespace of that role, as in sandboxes."""
    return role.startswith((SANDBOX, SINGLE_OBJECT))


def occupants(numbers: Mapping[str, int]) -> dict[str, str]:
    """By name of a namespace in which processes run, these processes: ``sleep (412), nginx (99) and 2 more``.

    ``numbers`` are the namespaces' inodes by name.  Resolvers do not count: nothing else runs as their user.
    """
    names = {number: name for name, number in numbers.items()}
    there = _users_processes(names)
    if there:
        # Who only looks in, or announces addresses there, will have gone.
        time.sleep(_PAUSE_S)
        there &= _users_processes(names)
    found: dict[str, list[processes.Process]] = {}
    for process in there:
        found.setdefault(names[process.net], []).append(process)
    return {name: _words(sorted(group, key=lambda item: item.pid)) for name, group in sorted(found.items())}


def _users_processes(names: Mapping[int, str]) -> set[processes.Process]:
    own = resolver.user()
    # One that has moved meanwhile is in none of them.
    return {each for each in processes.in_namespaces(names) if each.uid != own and each.net in names}


def _words(group: list[processes.Process]) -> str:
    # Root in a sandbox chooses the names of programs there.
    shown = ", ".join(f"{printable(item.program, _LONGEST)} ({item.pid})" for item in group[:_SHOWN])
    return f"{shown} and {len(group) - _SHOWN} more" if len(group) > _SHOWN else shown
