# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host's own values of sysctls that runs have changed, and which project needs each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Optional

from .files import HALF_WRITTEN, LIB, boot_id, forget, load, remove_empty, write_atomically

_BEFORE = "before.json"


def original_values() -> dict[str, dict[str, Any]]:
    """Original values of sysctls that projects have set: name to ``{"value": "0", "holders": ["default"]}``.

    A sysctl of a sandbox has the name ``<namespace>:<name>``.  A forwarding sysctl also has ``links``, those that
    forwarded before.  Values of an earlier boot say nothing about this one and are left out.
    """
    data = load(LIB / _BEFORE)
    if data.get("boot") != boot_id():
        return {}
    return {
        name: entry
        for name, entry in data.items()
        if isinstance(entry, dict) and isinstance(entry.get("value"), str) and isinstance(entry.get("holders"), list)
    }


def record_original(project: str, name: str, value: str, links: Sequence[str] = ()) -> None:
    """Record that a project changes a sysctl; ``value`` is the host's own, used if none is recorded yet."""
    values = original_values()
    entry = values.setdefault(name, {"value": value, "holders": [], **({"links": list(links)} if links else {})})
    entry["holders"] = sorted({*entry["holders"], project})
    _keep_original_values(values)


def original_if_last_holder(project: str, name: str) -> Optional[str]:
    """The host's own value if only this project holds the sysctl; restore it first, then release it."""
    entry = original_values().get(name)
    return str(entry["value"]) if entry is not None and entry["holders"] == [project] else None


def release_original(project: str, name: str) -> None:
    """Record that a project no longer holds it; the last one's release removes the record."""
    values = original_values()
    entry = values.get(name)
    if entry is None:
        return
    entry["holders"] = [holder for holder in entry["holders"] if holder != project]
    if not entry["holders"]:
        del values[name]
    _keep_original_values(values)


def remove_unused() -> None:
    """Remove a partial record that an interrupted run has left."""
    path = LIB / _BEFORE
    path.with_name(path.name + HALF_WRITTEN).unlink(missing_ok=True)
    remove_empty(LIB)


def forget_namespace(namespace: str) -> None:
    """Remove the records of a namespace that is gone."""
    values = original_values()
    left = {name: entry for name, entry in values.items() if not name.startswith(f"{namespace}:")}
    if left != values:
        _keep_original_values(left)


def _keep_original_values(values: dict[str, dict[str, Any]]) -> None:
    path = LIB / _BEFORE
    if values:
        write_atomically(path, json.dumps({"boot": boot_id(), **values}, sort_keys=True))
    else:
        forget(path)
        remove_empty(LIB)
