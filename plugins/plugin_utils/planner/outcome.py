# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What planning comes to for a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import Any, Optional

from ...module_utils.plan.encryption import Xfrm
from ...module_utils.plan.plan import Plan
from ...module_utils.plan.records import dataclass


@dataclass(frozen=True)
class SentPlan:
    """A host's plan as it is sent, with what the run has to know of it."""

    host: str
    project: str
    text: str
    digest: str
    shared: frozenset[str]
    """Digests of the shared texts that it names."""
    encryption: Optional[Xfrm]
    bgp: bool
    """Whether it needs the password of BGP sessions."""
    empty: bool
    """Whether nothing is to be on the host."""

    @classmethod
    def of(cls, plan: Plan) -> SentPlan:
        return cls(
            plan.host,
            plan.project,
            plan.to_json(),
            plan.digest,
            frozenset(plan.shared),
            plan.encryption,
            plan.frr is not None,
            not plan.resources,
        )

    @cached_property
    def plan(self) -> Plan:
        """The plan, read again from its text."""
        return Plan.from_json(self.text)

    @property
    def leases(self) -> Mapping[str, Any]:
        """The leases in the plan."""
        return self.plan.leases

    @property
    def module_state(self) -> Mapping[str, Any]:
        """What modules made, as the plan has it."""
        return self.plan.module_state


@dataclass
class Outcome:
    """Plans of all projects together, and their lease revisions by host."""

    plans: dict[str, SentPlan] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    """What the store writes under each plan (see `leases.signing`)."""
    unsigned: set[str] = field(default_factory=set)
    """Hosts that keep a plan without this store's signature, though the store has a key."""
    refusals: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Texts that plans name by digest."""
    peer_tables: dict[str, list[str]] = field(default_factory=dict)
    """As `Planned.peer_tables`."""
    unused: list[str] = field(default_factory=list)
    """Networks that are declared, and that nothing on any host uses."""
    rolls: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By service, how its change is rolled out (`services.rolling.Roll.told`)."""
    held: list[str] = field(default_factory=list)
    """Services whose change waits, as a host is left out."""
    leaving: dict[str, dict[str, int]] = field(default_factory=dict)
    """By host and task, how many milliseconds connections have to end before the plan is carried out."""
    ending: dict[str, list[str]] = field(default_factory=dict)
    """By host, tasks whose units are stopped before."""
    coming: dict[str, dict[str, int]] = field(default_factory=dict)
    """By host and task, how many milliseconds it has until something listens in it."""
    tried: dict[str, dict[str, int]] = field(default_factory=dict)
    """The same of tasks for which the run goes on if nothing does."""
    all_or_nothing: bool = False
    """Whether no host is to be changed unless all can be."""
