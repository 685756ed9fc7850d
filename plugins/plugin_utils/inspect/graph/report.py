# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the graph is made from: what is declared for a host, and what it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, Optional

from ....module_utils.plan.records import dataclass
from ...declaration.topology import PREDEFINED
from ..model import Document, Model
from .attribution import Roles

EMPTY: Model = {"networks": [], "traits": {}, "sandboxes": {}}


def documents_of(model: Model) -> dict[str, Document]:
    """The documents of the networks that are lanes: of the predefined ones only a bridge that has an endpoint."""
    used = {end["network"] for entry in model["sandboxes"].values() for end in entry["endpoints"]}
    return {
        document["Name"]: document
        for document in model["networks"]
        if document["Name"] not in PREDEFINED or document["Name"] in used
    }


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

    @cached_property
    def wanted_networks(self) -> dict[str, Document]:
        """The lanes of `wanted`."""
        return documents_of(self.wanted)

    @cached_property
    def kept_networks(self) -> dict[str, Document]:
        """Those of `kept`."""
        return documents_of(self.kept)

    @cached_property
    def macs(self) -> dict[str, dict[str, str]]:
        """MAC addresses by sandbox and network."""
        result: dict[str, dict[str, str]] = {}
        for document in (*self.kept["networks"], *self.wanted["networks"]):
            if document["Name"] not in PREDEFINED or document["Driver"] == "bridge":
                for container in document["Containers"].values():
                    result.setdefault(container["Name"], {})[document["Name"]] = container["MacAddress"]
        return result

    @cached_property
    def tasks(self) -> dict[str, tuple[str, int]]:
        """The service of each task, and its weight there."""
        return {
            task: (service, entry["weight"])
            for model in (self.kept, self.wanted)
            for service, found in reversed(model.get("services", {}).items())
            for task, entry in found["tasks"].items()
        }
