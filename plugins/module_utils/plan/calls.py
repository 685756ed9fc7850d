# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Calls of the host half: their arguments, and how an answer is marked in what a host prints.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Mapping[str, Any]]
"""Arguments by name, as AnsibleModule takes them."""

PROBE: dict[str, dict[str, Any]] = {
    "project": {"type": "str", "default": "default"},
    "live": {"type": "bool", "default": False},
    "declared": {"type": "bool", "default": False},
    "encryption": {"type": "bool", "default": False},
    "ask_resolvers": {"type": "bool", "default": False},
    "obstacles": {"type": "bool", "default": True},
    "owners": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"owner": {"type": "str", "required": True}, "reference": {"type": "str", "required": True}},
    },
    "staying": {"type": "list", "elements": "str"},
    "shaping": {"type": "bool", "default": False},
}

CONVERGE: dict[str, dict[str, Any]] = {
    "project": {"type": "str", "default": "default"},
    "plan": {"type": "str"},
    "shared": {"type": "dict", "default": {}},
    "pair_keys": {"type": "dict", "no_log": True, "default": {}},
    "bgp_password": {"type": "str", "no_log": True, "default": ""},
    "digest": {"type": "str"},
    "revision": {"type": "int", "default": 0},
    "signature": {"type": "str", "default": ""},
    "based_on": {"type": "str"},
    "seen": {"type": "str", "default": ""},
    "strict": {"type": "bool", "default": False},
    "planned": {"type": "str", "default": "fabric_plan"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "force": {"type": "bool", "default": False},
    "lock_timeout": {"type": "int", "default": 60},
    "leaving": {"type": "dict", "default": {}},
    "ending": {"type": "list", "elements": "str", "default": []},
    "coming": {"type": "dict", "default": {}},
    "tried": {"type": "dict", "default": {}},
}

VERIFY: dict[str, dict[str, Any]] = {
    "checks": {"type": "str"},
    "digest": {"type": "str", "default": ""},
    "explain": {"type": "bool", "default": True},
    "project": {"type": "str", "default": "default"},
    "pairs": {"type": "int", "default": 100},
    "planned": {"type": "str", "default": "fabric_plan"},
}

SPECS: Mapping[str, Spec] = {"probe": PROBE, "converge": CONVERGE, "verify": VERIFY}
"""By name of the module."""

NOT_KEPT = 83
"""Exit status of a call if the host does not keep that host half."""

BEGIN, END = "<cnm-answer>", "</cnm-answer>"
"""Lines before and after the answer; the first is printed before anything is done."""


def secrets_of(spec: Spec, arguments: Mapping[str, Any]) -> set[str]:
    """The texts of arguments that no answer may contain."""
    secret = (arguments[name] for name, about in spec.items() if about.get("no_log"))
    return {text for value in secret for text in _texts(value)} - {"", "None"}


def _texts(value: Any) -> Iterator[str]:
    """The texts of whatever is in a value; of mappings, the values alone."""
    if isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
    else:
        yield str(value)


def without(secrets: set[str], value: Any) -> Any:
    """The same with these texts censored, as AnsibleModule does it."""
    if not secrets:
        return value
    if isinstance(value, Mapping):
        return {without(secrets, key): without(secrets, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without(secrets, item) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "********")
    return value
