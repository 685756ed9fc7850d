# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``cnm_control_plane`` and ``cnm_evpn`` → `Evpn`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, Optional

from .errors import ValidationError, VarPath
from .keys import did_you_mean
from .topology import Evpn, Host
from .values import SHORTEST_SECRET, flag

LONGEST_PASSWORD = 80
"""Octets: what Linux takes for a TCP session (TCP_MD5SIG_MAXKEYLEN)."""
_PASSWORD = re.compile(r"[!-~]+")
"""A word: FRR reads a password up to the next space."""


def read_evpn(value: Mapping[str, Any], path: VarPath) -> Optional[Evpn]:
    """Read both variables; None for the control plane ``static``.  Every error is noted at its variable."""
    given, path = value.get("cnm_evpn") or {}, path / "cnm_evpn"
    if (value.get("cnm_control_plane") or "static") == "static":
        return None
    manage = flag(given.get("manage"), True)
    reflectors = tuple(dict.fromkeys(str(item) for item in given.get("route_reflectors") or () if item is not None))
    if not reflectors and manage:
        path.wrong(
            "With `cnm_control_plane: evpn` the hosts learn of endpoints from route reflectors, and none is named.",
            "Write `route_reflectors: [node1, node2]`: two hosts of the topology or more, which do not fail together.",
        )
    return Evpn(int(given.get("asn") or Evpn.asn), reflectors, _password(given, manage, path), manage)


def _password(given: Mapping[str, Any], manage: bool, path: VarPath) -> Optional[str]:
    text = given.get("password")
    if text is None:
        if manage:
            path.wrong(
                "There is no password, so whoever reaches a host's port 179 could tell it where endpoints are.",
                "Write `password:` with one from a vault, such as `openssl rand -hex 20` makes.",
            )
        return None
    if not _PASSWORD.fullmatch(str(text)) or not SHORTEST_SECRET <= len(str(text)) <= LONGEST_PASSWORD:
        (path / "password").wrong(
            f"The password of BGP is one word of {SHORTEST_SECRET} to {LONGEST_PASSWORD} letters, digits and signs.",
            "Make one, for example with `openssl rand -hex 20`, and keep it in a vault.",
        )
    return str(text)


def check_reflectors(hosts: Sequence[Host]) -> Iterator[tuple[str, ValidationError]]:
    """Errors of hosts that do not agree on EVPN, or name what is no reflector, as (host, error)."""
    taking_part = {host.name: host for host in hosts if host.settings.evpn is not None}
    told = {(host.settings.project, host.settings.evpn) for host in taking_part.values()}
    if len(told) > len({project for project, _evpn in told}):
        remedy = "Set it once, in the group_vars of a group that has all these hosts."
        error = ValidationError("cnm_evpn", "All hosts with `cnm_control_plane: evpn` must have it in common.", remedy)
        yield from ((name, error) for name in taking_part)
    names = {host.name for host in hosts}
    for host in taking_part.values():
        for index, name in enumerate(host.settings.evpn.route_reflectors if host.settings.evpn else ()):
            path = f"cnm_evpn.route_reflectors[{index}]"
            if name in names and name not in taking_part:
                remedy = "Set it in the group_vars of a group that has the reflectors, too."
                yield host.name, ValidationError(path, f"{name} itself is without `cnm_control_plane: evpn`.", remedy)
            elif name not in names and not _is_address(name):
                remedy = did_you_mean(
                    name, sorted(names), "Name a host of the topology (cnm_hosts), or write an address."
                )
                yield host.name, ValidationError(path, f"There is no host `{name[:63]}` in the topology.", remedy)


def _is_address(text: str) -> bool:
    try:
        return not IPv4Address(text).is_unspecified
    except ValueError:
        return False
