# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the kernel has, or can load as a module.  Loads nothing."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import namespaces
from .netlink import Netlink, NetlinkError, new_link, traffic
from .nft import RunCommand
from .programs import find_program

_MODULES = "/lib/modules"
_LOADS = re.compile(r"^(?:insmod|builtin) ", re.MULTILINE)
_DENIED = re.compile(r"^install (?:/usr)?/bin/(?:false|true)\b", re.MULTILINE)
"""What modprobe says of a module that modprobe.d(5) keeps from being loaded; of one in a blacklist it says nothing."""


SHAPING = {
    "netem": ("sch_netem",),
    "police": ("sch_ingress", "cls_matchall", "act_police"),
    "tbf": ("sch_tbf",),
}
"""The modules of what endpoints are shaped by."""
_LOOPBACK = 1


def may_load() -> bool:
    """Whether the kernel loads modules at all."""
    try:
        return Path("/proc/sys/kernel/modules_disabled").read_text(encoding="ascii").strip() == "0"
    except OSError:
        return False


def missing_link_types(types: Iterable[str], run_command: RunCommand) -> list[str]:
    """Those of these types of links that the kernel neither has nor can load, sorted.

    modprobe says what can be loaded, as it does when the kernel asks it; the rest is tried in a temporary namespace.
    """
    left = _not_to_be_loaded({kind: (f"rtnl-link-{kind}",) for kind in types}, run_command)
    return namespaces.run_in_new(_refused, left) if left else []


def missing_shaping(run_command: RunCommand) -> list[str]:
    """What of `SHAPING` the kernel neither has nor can load, sorted; found out as for types of links."""
    left = _not_to_be_loaded(SHAPING, run_command)
    return namespaces.run_in_new(_refused_shaping, left) if left else []


def _refused_shaping(names: Iterable[str]) -> list[str]:
    messages = {
        "netem": [traffic.new_netem(_LOOPBACK, delay_us=1), traffic.del_root(_LOOPBACK)],
        "police": [traffic.new_clsact(_LOOPBACK), traffic.new_policer(_LOOPBACK, 10**6)],
        "tbf": [traffic.new_tbf(_LOOPBACK, 10**6), traffic.del_root(_LOOPBACK)],
    }
    with Netlink() as netlink:
        return [name for name in names if any(netlink.try_send(messages[name]))]


def _not_to_be_loaded(modules: Mapping[str, Sequence[str]], run_command: RunCommand) -> list[str]:
    """What modprobe cannot load all modules for, sorted; all of it if there is nothing to ask."""
    left = sorted(modules)
    if may_load() and os.path.isdir(f"{_MODULES}/{os.uname().release}") and find_program("modprobe") is not None:
        left = [name for name in left if not all(_can_load(module, run_command) for module in modules[name])]
    return left


def _can_load(name: str, run_command: RunCommand) -> bool:
    arguments = [str(find_program("modprobe")), "--show-depends", "--quiet", "--", name]
    code, output, _errors = run_command(arguments)
    return code == 0 and _LOADS.search(output) is not None and _DENIED.search(output) is None


def _refused(types: Sequence[str]) -> list[str]:
    """The unknown types: one that the kernel knows is made, or refused for what the message lacks."""
    result = []
    with Netlink() as netlink:
        for kind in types:
            try:
                netlink.send([new_link(f"try-{kind}", kind)])
            except NetlinkError as error:
                result += [kind] if error.errno == errno.EOPNOTSUPP else []
    return result
