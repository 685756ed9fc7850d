# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The plan: all that passes from the controller to a host.

A plan is a host's complete desired state as a flat, sorted list of resources, plus what the host remembers for the
controller.  As JSON::

    {
      "schema": 1,              # version of this format; a host refuses one it does not know
      "host": "node1",          # inventory name of the host it was made for
      "project": "default",     # cnm_project: part of every ownership mark
      "resources": [            # groups of objects of one shape, see `packing`; fields with their default are left out
        [2, {"{": {"kind": {"=": "namespace"}, "name": ["c1", "c2"], "role": {"~": ["sandbox/c", "", ["1", "2"]]}}}], …
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

from collections.abc import Container
from dataclasses import field
from functools import cached_property
from typing import Any, Optional

from .base import PlanError, Resource
from .codec import content_digest, decode, parsed, plain, to_text, uncollected
from .encryption import Xfrm
from .fields import ENVELOPE, checked
from .forms import FormError, printable
from .frr import Frr
from .kinds import shared_by
from .packing import pack, pack_model, unpack, unpack_model
from .records import dataclass

SCHEMA = 1


@dataclass(frozen=True)
class PlanText:
    """A plan's text, taken apart and not checked yet."""

    data: dict[str, Any]
    """All but the resources, as JSON data; the model as `packing` has it."""
    raws: list[Any]
    """Each resource's JSON data."""

    @classmethod
    def read(cls, text: str) -> PlanText:
        """Take a text apart.  PlanError if it is not a plan's."""
        with uncollected():
            data = parsed(text, "plan")
            if not isinstance(data, dict):
                _refuse_schema(None)
            if "resources" not in data:
                _refuse_schema(data.get("schema"))
            return cls(data, unpack(data.pop("resources", None)))

    @cached_property
    def resources(self) -> list[tuple[str, Any]]:
        """Each resource's JSON data, with a text that equal resources have in common."""
        return [(repr(item), item) for item in self.raws]  # keys are in order in the text, so they are in each resource

    @cached_property
    def model(self) -> dict[str, Any]:
        """The complete model.  PlanError if it has another form."""
        return unpack_model(self.data.get("model"), str(self.data.get("host")), str(self.data.get("project")))


def plan_data(text: str) -> dict[str, Any]:
    """A kept plan as plain data, without a check of its fields.  Raises PlanError."""
    read = PlanText.read(text)
    return {**read.data, "resources": read.raws, "model": read.model}


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
            "resources": pack(sorted(self.resources, key=lambda item: item.key), plain),
            "model": pack_model(self.model),
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
            raws = text.raws if only is None else [item for own, item in text.resources if own in only]
            resources = [decode(item) for item in raws]
        resources.sort(key=lambda item: item.key)
        try:
            return cls(resources=tuple(resources), **checked(ENVELOPE, {**data, "model": text.model}))
        except (FormError, TypeError) as error:
            raise PlanError(f"the plan cannot be read: {error}") from error
