# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``cnm_control_plane`` and ``cnm_evpn`` → `Evpn`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Optional

from .errors import ValidationError, VarPath
from .topology import Evpn, Host
from .validation import did_you_mean
from .values import flag

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
    if not _PASSWORD.fullmatch(str(text)) or len(str(text)) > LONGEST_PASSWORD:
        (path / "password").wrong(
            f"A password of BGP is one word of at most {LONGEST_PASSWORD} letters, digits and signs of ASCII.",
            "Make one, for example with `openssl rand -hex 20`, and keep it in a vault.",
        )
    return str(text)


def reflector_errors(hosts: Sequence[Host]) -> Iterator[tuple[str, ValidationError]]:
    """An error for each route reflector that is neither an address nor a host of the topology, as (host, error)."""
    names = {host.name for host in hosts}
    for host in hosts:
        for index, name in enumerate(host.settings.evpn.route_reflectors if host.settings.evpn else ()):
            if name not in names and not _is_address(name):
                remedy = did_you_mean(name, sorted(names), "Name a host of the topology, or write an address.")
                path = f"cnm_evpn.route_reflectors[{index}]"
                yield host.name, ValidationError(path, f"There is no host `{name[:63]}` in the topology.", remedy)


def _is_address(text: str) -> bool:
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False
