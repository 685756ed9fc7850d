# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""To which sandbox or network a kernel object belongs that differs, and what to say of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

SANDBOX, NETWORK, HOST = "sandbox", "network", "host"

Owner = tuple[str, str]
"""``("sandbox", "c1")``, ``("network", "front")``, or ``("host", "")`` for what belongs to none of them."""

Roles = Mapping[tuple[str, str], str]
"""Roles of a plan's objects, such as ``network/front``, by kind and label."""

_WORDS = {
    "create": "is missing",
    "change": "differs",
    "replace": "differs, and has to be made again",
    "delete": "should not be there",
    "wait for": "waits for its namespace",
}
_LONGEST_VALUE = 120


def roles_of(resources: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """The roles of links and namespaces in a plan's JSON."""
    result = {}
    for item in resources:
        role = item.get("role")
        if item.get("kind") not in ("link", "namespace") or not role:
            continue
        label = "/".join(part for part in (item.get("namespace", ""), item["name"]) if part)
        result[(item["kind"], label)] = role
        port = (item.get("peer") or {}).get("name")
        if port:
            result[("link", port)] = role
    return result


def owner_of(operation: Mapping[str, Any], roles: Roles, sandboxes: Collection[str]) -> Owner:
    """Whose object the operation is about."""
    kind, label = operation["kind"], operation["name"]
    what, _slash, rest = roles.get((kind, label), "").partition("/")
    if what == "endpoint" and "/" in rest:
        return SANDBOX, rest.partition("/")[2]
    if what in (SANDBOX, NETWORK):
        return what, rest
    first = label.partition("/")[0]
    if first in sandboxes:
        return SANDBOX, first
    directory, _slash, last = label.rpartition("/")
    if directory == "/etc/netns" and last in sandboxes:
        return SANDBOX, last
    role = roles.get(("namespace", first), "")
    return (NETWORK, role.partition("/")[2]) if role.startswith(("network/", "overlay/")) else (HOST, "")


def in_words(operation: Mapping[str, Any]) -> str:
    """``link c1/eth0 is missing``."""
    reason = f" ({operation['reason']})" if operation.get("reason") else ""
    if operation["kind"] == SANDBOX:
        return f"{_WORDS.get(operation['action'], 'differs')}{reason}"
    return f"{operation['kind']} {operation['name']} {_WORDS.get(operation['action'], 'differs')}{reason}"


def values(operation: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Its attributes, with what is found and what is wanted."""
    return tuple(
        (item["attribute"], _shown(item["found"]), _shown(item["wanted"])) for item in operation.get("differences", ())
    )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
