# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a run found, did or failed to do, as text and as module results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Optional

from ..kernel.host import Host
from ..plan.base import Resource
from ..plan.codec import encode, to_text
from ..plan.forms import printable, printable_data
from ..resources.base import Operation

_DOING = {"create": "creating", "change": "changing", "bring_up": "bringing up", "delete": "removing"}
_NAMED_AT_MOST = 3
_NOT_SHOWN = ("kind", "fingerprint")
"""Attributes that are said elsewhere, or by which secrets could be tried."""
_BRIEF = 60
"""Characters of a list or mapping that is shown whole among an object's attributes."""


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
    simple = {
        name: value
        for name, value in encode(resource).items()
        if name not in _NOT_SHOWN and isinstance(value, (str, int))
    }
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


def diff(operations: Sequence[Operation[Any]]) -> dict[str, str]:
    """Before and after for ``--diff``, as lines: an object that is created or removed is one, with its attributes; one
    that changes has a line for each value that only one side has.
    """
    before: list[str] = []
    after: list[str] = []
    for operation in operations:
        name = f"{operation.resource.kind} {operation.resource.label}"
        if operation.action == "create":
            after.append(_line(name, operation.resource))
            continue
        if operation.action == "delete":
            before.append(_line(name, operation.resource))
            if operation.reason:
                after.append(f"{name}  kept because {operation.reason}")
            continue
        before.append(name)
        after.append(name)
        for item in operation.differences:
            found, wanted = _values(item.found), _values(item.wanted)
            for side, values, others in ((before, found, {*wanted}), (after, wanted, {*found})):
                side += [f"  {item.attribute}: {value}" for value in values if value not in others]
        if operation.reason:
            after.append(f"  recreated because {operation.reason}")
    return {
        side: "".join(f"{printable(line)}\n" for line in lines)
        for side, lines in (("before", before), ("after", after))
    }


def _line(name: str, resource: Resource) -> str:
    """An object with the attributes that are not in its name; of long ones how much they hold."""
    data = encode(resource)
    shown = [
        f"{attribute}={_in_brief(value)}"
        for attribute, value in data.items()
        if attribute not in _NOT_SHOWN and not (isinstance(value, str) and value in resource.key)
    ]
    return f"{name}  {' '.join(shown)}".rstrip()


def _values(value: Any) -> list[str]:
    """The values of an attribute, each as text: a list's items, a mapping's entries, a text's lines."""
    value = _shown(value)
    if isinstance(value, dict):
        return [f"{key}: {_in_brief(item)}" for key, item in value.items()]
    if isinstance(value, list):
        return [str(_in_brief(item)) for item in value]
    return str(value).splitlines() or [""]


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else encode_value(value)


def encode_value(value: Any) -> Any:
    """A field's value as JSON data."""
    if isinstance(value, Resource):
        return encode(value)
    return {**vars(value)} if hasattr(value, "__dataclass_fields__") else value


def _in_brief(value: Any) -> Any:
    """The value as one line; of a long list or mapping the number of its entries."""
    if isinstance(value, str):
        rows = value.splitlines()
        return value if len(rows) <= 1 else f"({len(rows)} lines)"
    if isinstance(value, (dict, list)):
        text = to_text(value)
        return text if len(text) <= _BRIEF else f"({len(value):,} entries)"
    return value
