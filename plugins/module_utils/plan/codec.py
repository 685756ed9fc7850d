# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Converts resources to JSON and back."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar

from .base import PlanError, Resource
from .fields import checked
from .forms import FormError, printable, quoted
from .kinds import FOUND_CHECKS, KINDS, PARTS, PLANNED_CHECKS


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Turn the garbage collector off for the block.  While a large plan is read it would scan the new objects again and
    again, which takes as long as checking every field, and it would find no garbage.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


LARGEST = 1 << 28


def parsed(text: str, what: str) -> Any:
    """The JSON data of a text of at most a quarter of a gigabyte."""
    try:
        if len(text) > LARGEST:
            raise PlanError(f"the {what} is larger than {LARGEST >> 20} MB")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the {what} is not JSON: {printable(error)}") from error


def content_digest(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _defaults(cls: type[Any]) -> dict[str, Any]:
    """The default of each field of a dataclass, `MISSING` where it has none."""
    result = {}
    for spec in fields(cls):
        made = spec.default_factory() if spec.default_factory is not MISSING else MISSING
        result[spec.name] = spec.default if spec.default is not MISSING else made
    return result


@cache
def _required(cls: type[Any]) -> frozenset[str]:
    return frozenset(spec.name for spec in fields(cls) if spec.default is MISSING and spec.default_factory is MISSING)


def _json_data(value: Any) -> dict[str, Any]:
    """A resource, or a part of one, as JSON data: its fields without those that have their default value."""
    defaults = _defaults(value.__class__)
    values = {name: item for name, item in vars(value).items() if item is not defaults[name] and item != defaults[name]}
    kind = getattr(value, "kind", "")
    return {"kind": kind, **values} if kind else values


def plain(resource: Resource) -> dict[str, Any]:
    """A resource as JSON data, with its parts as JSON data too."""
    data = _json_data(resource)
    for name in _parts(resource.kind):
        part = data.get(name)
        if isinstance(part, tuple):
            data[name] = [_json_data(each) for each in part]
        elif part is not None:
            data[name] = _json_data(part)
    return data


@cache
def _parts(kind: str) -> list[str]:
    """The fields of a kind that have parts."""
    return [name for of, name in PARTS if of == kind]


# Skip the check for circular references, which is slow for large plans: resources contain none.
to_text = json.JSONEncoder(default=_json_data, sort_keys=True, separators=(",", ":"), check_circular=False).encode


def encode(resource: Resource) -> dict[str, Any]:
    """A resource as JSON data; fields with their default value are left out."""
    data: dict[str, Any] = json.loads(to_text(resource))
    return data


_R = TypeVar("_R", bound=Resource)


def _made(cls: type[_R], values: Mapping[str, Any]) -> _R:
    """The resource with these fields.  The constructor of a frozen dataclass makes a call for each field; for thousands
    of resources that takes as long as all checks.
    """
    of: Any = cls  # a class can be hashed, though mypy asks its instances
    required = _required(of)
    if not required <= values.keys():
        raise FormError(f"it has no {' and no '.join(sorted(required - values.keys()))}")
    made = object.__new__(cls)
    vars(made).update(_defaults(of))
    vars(made).update(values)
    return made


def decode(data: Any, found: bool = False) -> Resource:
    """Read a resource from JSON data: one of a plan or, with ``found``, one from a host's journal.

    Raises PlanError if the kind is unknown, or a field is missing or has the wrong form (see `fields`).
    """
    kind = data.get("kind") if isinstance(data, dict) else None
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise PlanError(f"the plan has a resource of kind {quoted(kind)}, which this version does not know")
    try:
        values = checked((FOUND_CHECKS if found else PLANNED_CHECKS)[cls.kind], data)
        del values["kind"]
        return _made(cls, values)
    except (FormError, TypeError) as error:
        raise PlanError(f"the plan has a {kind} that cannot be read: {error}") from error


def can_be_put_back(found: Resource) -> bool:
    """Whether a found resource can be written to the journal and restored.

    If somebody changed an object of ours, it may contain names or texts that our forms do not permit.
    """
    try:
        decode(encode(found), found=True)
    except (PlanError, UnicodeError):
        return False
    return True
