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

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

from .base import PlanError, Resource
from .codec import content_digest, decode, parsed, to_text, uncollected
from .encryption import Xfrm
from .fields import ENVELOPE, checked
from .forms import FormError, printable
from .frr import Frr
from .kinds import shared_by

SCHEMA = 1


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
        with uncollected():
            return cls._read(text)

    @classmethod
    def _read(cls, text: str) -> Plan:
        data = parsed(text, "plan")
        schema = data.pop("schema", None) if isinstance(data, dict) else None
        if schema != SCHEMA:
            raise PlanError(
                f"the plan's format is {printable(schema)}, and this version reads {SCHEMA}: "
                "use the same version of the collection on both"
            )
        missing = {"host", "project", "resources", "model", "leases"} - data.keys()
        resources = data.pop("resources", None)
        if missing or not isinstance(resources, list):
            raise PlanError(f"the plan has no {' and no '.join(sorted(missing)) or 'list of resources'}")
        try:
            return cls(resources=tuple([decode(item) for item in resources]), **checked(ENVELOPE, data))
        except (FormError, TypeError) as error:
            raise PlanError(f"the plan cannot be read: {error}") from error
