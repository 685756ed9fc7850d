# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The plan: all that passes from the controller to a host.

A plan is a host's complete desired state as a flat, sorted list of resources, plus what the host remembers for the
controller.  As JSON::

    {
      "schema": 1,              # version of this format; a host refuses one it does not know
      "host": "node1",          # inventory name of the host it was made for
      "project": "default",     # cnm_project: part of every ownership mark
      "resources": [            # one object a resource, "kind" first, fields that have their default left out
        {"kind": "link", "namespace": "", "name": "cnm-b2f0c…", "type": "bridge", "role": "network/ps-bridge", …}, …
      ],
      "model": {…},             # what `inspect` shows, in Docker's words; the engine never reads it
      "leases": {…},            # this host's part of the lease store, so that a lost store can be rebuilt
      "declared": {…},          # the inventory's variables it follows from, and
      "module_state": {…}       # what modules made beside them; each left out if there is nothing
    }

Its digest is the SHA-256 of that text; the same inventory gives the same text, byte for byte.  The lease store's
revision travels beside the plan, not in it: it orders plans in time and must not make equal plans differ.

Conventions: ``namespace`` is the name under ``/run/netns``, ``""`` the host's own; addresses are ``10.0.0.2/24``,
prefixes ``10.0.0.0/24`` or ``default``; MAC addresses lower case; MTUs in bytes.  A field that is ``None`` is neither
compared nor set.  Every field that is read is checked: see `fields` and `forms`.  Both halves use these files, which
import only the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

from .base import PlanError, Resource
from .codec import LARGEST, content_digest, decode, parsed, to_text, uncollected
from .encryption import Xfrm
from .fields import ENVELOPE, checked
from .forms import FormError, printable
from .frr import Frr
from .kinds import shared_by

SCHEMA = 1

_value_at = json.JSONDecoder().raw_decode


@dataclass(frozen=True)
class PlanText:
    """A plan's text, taken apart and not checked yet."""

    data: dict[str, Any]
    """All but the resources, as JSON data."""
    resources: list[tuple[str, Any]]
    """Each resource's own text and its JSON data.  Equal resources have equal texts."""

    @classmethod
    def read(cls, text: str) -> PlanText:
        """Take a text apart.  PlanError if it is not a plan's."""
        with uncollected():
            try:
                return cls(*_taken_apart(text))
            except (ValueError, IndexError, RecursionError):
                data = parsed(text, "plan")
            resources = data.pop("resources", None) if isinstance(data, dict) else None
            if not isinstance(data, dict) or not isinstance(resources, list):
                _refuse_schema(data.get("schema") if isinstance(data, dict) else None)
                raise PlanError("the plan has no list of resources")
            return cls(data, [(to_text(item), item) for item in resources])


def _taken_apart(text: str) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """A text as `Plan.to_json` writes it.  Raises ValueError, IndexError or RecursionError for any other."""
    if text[0] != "{" or len(text) > LARGEST:
        raise ValueError
    data: dict[str, Any] = {}
    resources: list[tuple[str, Any]] = []
    at = 0
    while text[at] in "{,":
        name, at = _value_at(text, at + 1)
        if text[at] != ":" or not isinstance(name, str):
            raise ValueError
        if name == "resources" and text[at + 1] == "[" and text[at + 2] == "{" and not resources:
            at += 1
            while text[at] in "[,":
                start = at + 1
                item, at = _value_at(text, start)
                resources.append((text[start:at], item))
            if text[at] != "]":
                raise ValueError
            at += 1
        else:
            data[name], at = _value_at(text, at + 1)
    if text[at:] != "}":
        raise ValueError
    if not resources and data.pop("resources", None) != []:
        raise ValueError
    return data, resources


def _refuse_schema(schema: Any) -> None:
    if schema != SCHEMA:
        raise PlanError(
            f"the plan's format is {printable(schema)}, and this version reads {SCHEMA}: "
            "use the same version of the collection on both"
        )


@dataclass(frozen=True)
class Plan:
    """A host's plan; see the module's text for its JSON."""

    host: str
    project: str = "default"
    resources: tuple[Resource, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    leases: dict[str, Any] = field(default_factory=dict)
    declared: dict[str, Any] = field(default_factory=dict)
    module_state: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The plan as one line of JSON, the same for equal plans."""
        return self._text

    @cached_property
    def _text(self) -> str:
        data = {
            "schema": SCHEMA,
            "host": self.host,
            "project": self.project,
            "resources": sorted(self.resources, key=lambda item: item.key),
            "model": self.model,
            "leases": self.leases,
            **{name: part for name, part in (("declared", self.declared), ("module_state", self.module_state)) if part},
        }
        return to_text(data)

    @property
    def shared(self) -> set[str]:
        """Digests of the shared texts that its resources name."""
        return {digest for resource in self.resources for digest in shared_by(resource)}

    @property
    def encryption(self) -> Optional[Xfrm]:
        """The resource that needs keys, which are not in the plan, or None."""
        return next((resource for resource in self.resources if isinstance(resource, Xfrm)), None)

    @property
    def frr(self) -> Optional[Frr]:
        """The resource that needs the password of BGP sessions, which is not in the plan, or None."""
        return next((resource for resource in self.resources if isinstance(resource, Frr)), None)

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's JSON, in hex."""
        return content_digest(self.to_json())

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan; PlanError says what is wrong with the text."""
        return cls.from_text(PlanText.read(text))

    @classmethod
    def from_text(cls, text: PlanText, only: Optional[Container[str]] = None) -> Plan:
        """The plan with the resources that have these texts; None for all.  Raises PlanError."""
        data = dict(text.data)
        _refuse_schema(data.pop("schema", None))
        missing = {"host", "project", "model", "leases"} - data.keys()
        if missing:
            raise PlanError(f"the plan has no {' and no '.join(sorted(missing))}")
        with uncollected():
            resources = tuple([decode(item) for own, item in text.resources if only is None or own in only])
        try:
            return cls(resources=resources, **checked(ENVELOPE, data))
        except (FormError, TypeError) as error:
            raise PlanError(f"the plan cannot be read: {error}") from error
