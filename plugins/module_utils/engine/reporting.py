# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a run found, did or failed to do, as text and as module results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, Optional

from ..kernel.host import Host
from ..plan.base import Resource
from ..plan.codec import encode
from ..plan.forms import printable_data
from ..resources.base import Operation

_DOING = {"create": "creating", "change": "changing", "bring_up": "bringing up", "delete": "removing"}
_NAMED_AT_MOST = 3
_ENTRIES_AT_MOST = 10


def subject(method: str, operations: Sequence[Operation[Any]], host: Host, error: BaseException) -> str:
    """What a step was doing when it failed: the objects the error concerns, if it names any, and what was wanted."""
    here = [item for item in operations if host.failed_in in namespaces_of(item.resource)] or operations
    about = [item for item in here if any(name in str(error) for name in _names_of(item.resource))] or here
    shown = "; ".join(explain(about[:_NAMED_AT_MOST], {"create": "{wanted}"}))
    more = f" and {len(about) - _NAMED_AT_MOST} more" if len(about) > _NAMED_AT_MOST else ""
    return f"{_DOING[method]} {shown}{more}"


def _ends_of(resource: Any) -> list[Any]:
    return [end for end in (resource, getattr(resource, "peer", None)) if end is not None]


def namespaces_of(resource: Resource) -> list[str]:
    """The namespaces that hold an end of the resource, or of the port that it is about."""
    behind = getattr(resource, "sandbox", "")
    return [getattr(end, "namespace", "") for end in _ends_of(resource)] + ([behind] if behind else [])


def _names_of(resource: Resource) -> list[str]:
    return [getattr(end, "name", resource.key[-1]) for end in _ends_of(resource)]


_STATES = {"create": "missing", "delete": "still exists"}


def _in_short(resource: Resource) -> str:
    """An object's simple attributes that are not part of its name."""
    simple = {name: value for name, value in _described(resource).items() if isinstance(value, (str, int))}
    shown = ", ".join(f"{name} {value}" for name, value in simple.items() if str(value) not in resource.key)
    return f"wanted: {shown}" if shown else ""


def explain(operations: Iterable[Operation[Any]], states: Optional[Mapping[str, str]] = None) -> list[str]:
    """One line for each object: its name, and the attributes that differ, wanted and found."""
    lines = []
    for operation in operations:
        details = ", ".join(f"{d.attribute}: wanted {d.wanted!r}, found {d.found!r}" for d in operation.differences)
        state = details or (states or _STATES).get(operation.action, "").format(wanted=_in_short(operation.resource))
        lines.append(f"{operation.resource.kind} {operation.resource.label}" + (f" ({state})" if state else ""))
    return lines


def report(operations: Sequence[Operation[Any]], broken: Mapping[str, str] = MappingProxyType({})) -> list[Any]:
    """Operations as modules return them: action, kind, name; for a change also both values of each attribute.

    Found values may come from untrusted users, so everything is made printable.  Each unavailable sandbox adds an
    operation "wait for" with the reason.
    """
    result: list[dict[str, Any]] = [
        {"action": "wait for", "kind": "sandbox", "name": name, "reason": why} for name, why in sorted(broken.items())
    ]
    for operation in operations:
        entry: dict[str, Any] = {
            "action": operation.action,
            "kind": operation.resource.kind,
            "name": operation.resource.label,
        }
        if operation.reason:
            entry["reason"] = operation.reason
        if operation.differences:
            entry["differences"] = [
                {"attribute": item.attribute, "found": _shown(item.found), "wanted": _shown(item.wanted)}
                for item in operation.differences
            ]
        result.append(entry)
    return [printable_data(entry) for entry in result]


def diff(operations: Sequence[Operation[Any]]) -> dict[str, dict[str, Any]]:
    """Before and after for ``--diff``: the objects and attributes that differ, by ``kind name``."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for operation in operations:
        name = f"{operation.resource.kind} {operation.resource.label}"
        if operation.action == "create":
            after[name] = _described(operation.resource)
        elif operation.action == "delete":
            before[name] = _described(operation.resource)
            if operation.reason:
                after[name] = {"kept because": operation.reason}
        else:
            before[name] = {item.attribute: _shown(item.found) for item in operation.differences}
            after[name] = {item.attribute: _shown(item.wanted) for item in operation.differences}
            if operation.reason:
                after[name]["recreated because"] = operation.reason
    return {"before": printable_data(before), "after": printable_data(after)}


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else encode_value(value)


def encode_value(value: Any) -> Any:
    """A field's value as JSON data."""
    if isinstance(value, Resource):
        return encode(value)
    return {**vars(value)} if hasattr(value, "__dataclass_fields__") else value


def _described(resource: Resource) -> dict[str, Any]:
    return {name: _in_brief(value) for name, value in encode(resource).items() if name != "kind"}


def _in_brief(value: Any) -> Any:
    """The first few entries of a table and a count of the others."""
    if not isinstance(value, dict) or len(value) <= _ENTRIES_AT_MOST:
        return value
    return {**dict(islice(value.items(), _ENTRIES_AT_MOST)), "…": f"and {len(value) - _ENTRIES_AT_MOST:,} more"}
