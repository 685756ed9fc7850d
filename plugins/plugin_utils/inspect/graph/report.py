# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the graph is made from: what is declared for a host, and what it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..model import Model
from .attribution import Roles

EMPTY: Model = {"networks": [], "traits": {}, "sandboxes": {}}


@dataclass(frozen=True)
class HostReport:
    """What is known of a host.  ``problem`` says why nothing is known of what it has."""

    declared: Optional[Model] = None
    """The model of the plan that a run would give it; None if there is no such plan."""
    kept: Model = field(default_factory=lambda: EMPTY)
    """That of the plan that it keeps."""
    drift: Sequence[Mapping[str, Any]] = ()
    """The operations that would repair it."""
    problem: str = ""
    standing: str = "did not answer"
    """The same in two or three words."""
    refused: str = ""
    """Why a run would leave it alone."""
    roles: Roles = field(default_factory=dict)

    @property
    def wanted(self) -> Model:
        """What is declared, or else what it was given last."""
        return self.kept if self.declared is None else self.declared
