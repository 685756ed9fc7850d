# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whether the host forwards for itself, whatever the present value of the kernel's parameter.

That value says nothing once we have turned forwarding on: an engine or an administrator who wants it finds it on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..plan.families import FORWARDING
from .files import overriding
from .netfilter import has_iptables_chain

_ALIASES = {"net.ipv4.conf.all.forwarding": FORWARDING[4]}

_SETTINGS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
"""Folders of settings, of the highest precedence first (sysctl.d(5))."""

_LAST = "/etc/sysctl.conf"
"""Read after them (sysctl(8))."""

DOCKER_CHAIN = "DOCKER-USER"
"""The chain that a Docker Engine makes for its users' rules."""
_DOCKER_LINK = "/sys/class/net/docker0"


def forwards_for_itself(family: int) -> bool:
    """Whether the host's own settings turn forwarding on."""
    return _is_set(FORWARDING[family])


def is_wanted(family: int) -> bool:
    """Whether forwarding has to stay on without us: by the host's settings, or for IPv4 by a Docker Engine."""
    return forwards_for_itself(family) or (family == 4 and _has_docker())


def _has_docker() -> bool:
    return os.path.exists(_DOCKER_LINK) or has_iptables_chain(4, DOCKER_CHAIN)


def _is_set(name: str, folders: Sequence[str] = _SETTINGS, last: str = _LAST) -> bool:
    """Whether the last setting of a parameter is 1."""
    found = [value for key, value in _settings(folders, last) if _ALIASES.get(key, key) == name]
    return found[-1:] == ["1"]


def _settings(folders: Sequence[str], last: str) -> Iterator[tuple[str, str]]:
    for path in (*overriding(folders), Path(last)):
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            key, equals, value = (part.strip() for part in line.partition("="))
            if equals and not key.startswith(("#", ";")):
                yield key.lstrip("-").replace("/", "."), value
