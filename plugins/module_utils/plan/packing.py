# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The compact form of resources and of the model in a plan's text.

Much of a plan is the same object many times: twenty sandboxes have twenty links that differ in name and address.
Objects of one shape form a group ``[how many, column]``.  A column has a value for each object, as one of

- ``{"=": value}``: all have this value,
- ``{"{": {key: column, …}}``: all are objects with these keys,
- ``{":": [[column, column], …]}``: all are objects of this many keys; the keys and values of each place in order,
- ``{"[": [column, …]}``: all are lists of this length,
- ``{"\\n": [column, …]}``: all are texts of this many lines,
- ``{"~": [first, last, [rest, …]]}``: all are texts that begin with ``first`` and end with ``last``,
- ``[value, …]``: a value for each.

The model leaves out what follows from the rest: Docker's list of containers of each network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from .base import PlanError
from .marks import identifier

_MOST = 1 << 20
"""Objects of a group: a short text must not become a large list."""
_WORTH = 3
"""Characters that texts have in common, from which on it pays to write these once."""

Plain = Callable[[Any], Any]
"""A dataclass as the mapping that is written; other values as they are."""


def pack(items: Iterable[Any], plain: Plain) -> list[Any]:
    """The groups of some objects, in the order in which the first of each group occurs."""
    groups: dict[Any, list[Any]] = {}
    for item in items:
        data = plain(item)
        groups.setdefault(_shape(data), []).append(data)
    return [[len(group), _column(group)] for group in groups.values()]


def _shape(data: Mapping[str, Any]) -> Any:
    """What the objects of a group have in common: their kind, their keys, and how much is in each of their values."""
    return data.get("kind"), tuple(data), tuple([_size(value) for value in data.values() if type(value) in _LARGE])


_LARGE = (dict, list, tuple)


def _size(value: Any) -> Any:
    """The keys of an object if they are names of fields; otherwise how many keys or values there are."""
    return tuple(value) if isinstance(value, dict) and all(map(str.isidentifier, value)) else len(value)


def _column(values: Sequence[Any]) -> Any:
    first = values[0]
    if values.count(first) == len(values):
        return {"=": first}
    if isinstance(first, str):
        return _texts(values) if _all_are(str, values) else values
    if isinstance(first, dict):
        if not _all_are(dict, values):
            return values
        keys = [value.keys() for value in values]
        if keys.count(keys[0]) == len(keys):
            return {"{": {key: _column([value[key] for value in values]) for key in first}}
        if len(set(map(len, keys))) == 1:
            places = zip(*(sorted(value.items()) for value in values))
            return {":": [[_column(column) for column in zip(*place)] for place in places]}
    elif isinstance(first, (list, tuple)) and _all_are((list, tuple), values) and len(set(map(len, values))) == 1:
        return {"[": [_column(column) for column in zip(*values)]}
    return values


def _all_are(types: Any, values: Sequence[Any]) -> bool:
    return all(issubclass(each, types) for each in set(map(type, values)))


def _texts(values: Sequence[str]) -> Any:
    if "\n" in values[0] and len({value.count("\n") for value in values}) == 1:
        return {"\n": [_column(column) for column in zip(*(value.split("\n") for value in values))]}
    first = _common_start(values)
    rests = [value[len(first) :] for value in values] if first else values
    last = _common_start([rest[::-1] for rest in rests])[::-1]
    if len(first) + len(last) < _WORTH:
        return values
    return {"~": [first, last, [rest[: len(rest) - len(last)] for rest in rests] if last else rests]}


def _common_start(texts: Sequence[str]) -> str:
    least, largest = min(texts), max(texts)
    for at, letter in enumerate(least):
        if letter != largest[at]:
            return least[:at]
    return least


def unpack(groups: Any) -> list[Any]:
    """The objects of all groups, one group after the other.  Raises PlanError if the data has another form."""
    if not isinstance(groups, list):
        raise PlanError("the plan has no list of groups")
    try:
        return [item for number, column in groups for item in _values(number, column)]
    except (TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"the plan has a group that cannot be read: {error}") from error


def _values(number: int, column: Any) -> Sequence[Any]:
    if isinstance(column, list):
        if len(column) != number:
            raise ValueError(f"{len(column)} values for {number} objects")
        return column
    ((form, content),) = column.items()
    if isinstance(number, bool) or not 0 < number <= _MOST:
        raise ValueError("its number of objects is too large")
    if form == "=":
        return [content] * number
    if form == "{":
        columns = [_values(number, each) for each in content.values()]
        return [dict(zip(content, row)) for row in zip(*columns)] if columns else [{}] * number
    if form == ":" and content:
        places = [list(zip(*(_values(number, column) for column in place))) for place in content]
        return [dict(row) for row in zip(*places)]
    if form == "[" and content:
        return [list(row) for row in zip(*(_values(number, each) for each in content))]
    if form == "\n" and content:
        return ["\n".join(row) for row in zip(*(_values(number, each) for each in content))]
    if form == "~":
        first, last, rests = content
        return [f"{first}{rest}{last}" for rest in _values(number, rests)]
    raise ValueError(f"it has a column of the form {form!r}")


def pack_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model as the text has it: each endpoint with its MAC address, and networks without their containers."""
    macs = {
        (document["Name"], container["Name"]): container["MacAddress"]
        for document in model.get("networks", ())
        for container in document["Containers"].values()
    }
    sandboxes = [
        {
            "name": name,
            **entry,
            "endpoints": [{**each, "mac": macs[each["network"], name]} for each in entry["endpoints"]],
        }
        for name, entry in model.get("sandboxes", {}).items()
    ]
    documents = [{**each, "Containers": {}} for each in model.get("networks", ())]
    traits = [{"name": name, **each} for name, each in model.get("traits", {}).items()]
    if not model:
        return {}
    parts = {"networks": documents, "sandboxes": sandboxes, "traits": traits}
    return {**model, **{name: pack(part, _as_is) for name, part in parts.items()}}


def _as_is(data: Any) -> Any:
    return data


def unpack_model(data: Any, host: str, project: str) -> dict[str, Any]:
    """The model of a host from its form in the text.  Raises PlanError if the data has another form."""
    if not isinstance(data, dict):
        raise PlanError("the plan's model is not an object")
    if not data:
        return {}
    try:
        documents = sorted(unpack(data["networks"]), key=lambda item: item["Name"])
        rows = sorted(unpack(data["sandboxes"]), key=lambda item: item["name"])
        sandboxes = {each.pop("name"): each for each in rows}
        traits = {each.pop("name"): each for each in unpack(data["traits"])}
        members: dict[str, dict[str, Any]] = {}
        for name, entry in sandboxes.items():
            key = identifier("sandbox", project, host, name)
            entry["endpoints"] = [dict(each) for each in entry["endpoints"]]
            for each in entry["endpoints"]:
                members.setdefault(each["network"], {})[key] = _container(host, project, name, each)
            if entry["network_mode"]:
                nowhere = {"network": entry["network_mode"], "addresses": (), "mac": ""}
                members.setdefault(entry["network_mode"], {})[key] = _container(host, project, name, nowhere)
        networks = [{**each, "Containers": dict(sorted(members.get(each["Name"], {}).items()))} for each in documents]
        return {**data, "networks": networks, "sandboxes": sandboxes, "traits": traits}
    except (LookupError, TypeError, AttributeError) as error:
        raise PlanError(f"the plan's model cannot be read: {error}") from error


def _container(host: str, project: str, name: str, endpoint: dict[str, Any]) -> dict[str, str]:
    """A sandbox in the list of containers of a network's document."""
    found = {":" in each: each for each in reversed(endpoint["addresses"])}
    return {
        "Name": name,
        "EndpointID": identifier("endpoint", project, host, endpoint["network"], name),
        "MacAddress": endpoint.pop("mac"),
        "IPv4Address": found.get(False, ""),
        "IPv6Address": found.get(True, ""),
    }
