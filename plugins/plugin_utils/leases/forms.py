# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The form of leases, as hosts report them and as stores keep them.  Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from ...module_utils.plan import forms
from ...module_utils.plan.constants import LARGEST_VNI
from ..declaration import names
from ..forms import (
    Form,
    ReportErrors,
    Unfit,
    address,
    addresses,
    choice,
    like,
    listing,
    mapping,
    matching,
    number,
    optional,
    prefix,
    record,
    shown,
    text,
)

NEWEST = 2**53
"""The highest revision that a host may report or a store have; no store reaches it."""
_SMALLEST_MTU = 576
"""The lowest MTU of a link to other hosts (RFC 791: every host accepts packets of this size)."""

NAME = like(forms.object_name)
VNI, MTU = number(1, LARGEST_VNI), number(_SMALLEST_MTU, 2**31 - 1)
_TIME = matching(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", 20, "time")
_LOCAL = {"created": _TIME, "subnets": listing(prefix, 64), "vips": mapping(NAME, addresses)}
_NETWORK = record(_LOCAL)
OVERLAY = record({**_LOCAL, "vni": VNI})
"""A network that spans hosts."""
_TASK = matching(r"[1-9][0-9]{0,6}", 7, "number of a task")
_LONGEST_ENTRY = 100_000
"""Characters of what a service says of its tasks."""
SERVICE = record(
    {
        "tasks": mapping(_TASK, text(255)),
        "made": mapping(text(_LONGEST_ENTRY), listing(_TASK)),
        "resting": listing(_TASK),
    },
    ("tasks",),
)
_SEEN = record(
    {
        "underlay": address,
        "mtu": optional(MTU),
        "vnis": listing(VNI),
        "peer_digests": mapping(NAME, matching("[0-9a-f]{12}", 12, "digest")),
    }
)
_OBJECT = names.OBJECT.pattern.pattern


@lru_cache(maxsize=16)
def _names(count: int) -> re.Pattern[str]:
    sandbox = rf"(?:{_OBJECT}|@host)"
    return re.compile(_OBJECT if count == 1 else f"{_OBJECT}/{sandbox}")


def _own(host: str, count: int) -> Form:
    """A key of the host's own leases: its name, then ``count`` names separated by slashes.

    A sandbox that every host has, such as that of the ingress, has the host's name behind its own.
    """
    start, matches, end = f"{host}/", _names(count).fullmatch, f"@{host}"

    def read(value: Any, _errors: ReportErrors) -> str:
        if not isinstance(value, str) or not value.startswith(start):
            raise Unfit(f"{shown(value)} does not belong to this host")
        rest = str.__str__(value)[len(start) :]
        bare = rest[: -len(end)] if count > 1 and rest.endswith(end) else rest
        if len(bare) > 2 * names.OBJECT.longest + 1 or matches(bare) is None:
            raise Unfit(f"{shown(value)} is not a valid name")
        return start + rest

    return read


def of_host(host: str) -> dict[str, Form]:
    """By section, the form of a host's own part."""
    return {
        "networks": mapping(_own(host, 1), _NETWORK),
        "endpoints": mapping(_own(host, 2), addresses),
        "hosts": mapping(choice(host), _SEEN, 1),
    }
