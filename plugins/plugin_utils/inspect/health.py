# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How a host and its sandboxes are, from what its probe reports as drift.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, Optional

from ...module_utils.plan.constants import shared_with
from ...module_utils.plan.records import dataclass
from ..declaration.ingress import SANDBOX as INGRESS_SANDBOX
from .model import Model

Reported = Sequence[Mapping[str, Any]]
"""Operations or changes as `reports.models` leaves them."""

UP, MISSING, WAITS, DIFFERS, READY, DRAINED = "up", "missing", "waits", "differs", "ready", "drained"
"""States of sandboxes; instead of ``up``, a task is ``ready``, or ``drained`` if it gets no new connections."""
GONE, EMPTY, SILENT, PLANNED = "nothing left", "no sandboxes", "no answer", "as planned"
"""States of hosts; of one that differs in some parts, their number."""

_KEEPING = ("change", "replace")
"""Operations on what is there."""
_FEW = 3


def natural(name: str) -> tuple[Any, ...]:
    """A key by which ``node10`` comes after ``node9``."""
    parts: list[Any] = re.split(r"([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return (parts, name)


def few(names: Sequence[str], most: Optional[int] = _FEW) -> str:
    """The first names, and how many more there are; all of them if ``most`` is None."""
    more = 0 if most is None else max(0, len(names) - most)
    return ", ".join(names[: len(names) - more]) + (f" and {more} more" if more else "")


def counted(count: int, noun: str) -> str:
    """``1 host``, ``2 hosts``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith(('x', 's')) else 's'}"


@dataclass(frozen=True)
class HostView:
    """A host as inspect sees it: the model of its kept plan, how it differs from that, and the part that is shown."""

    planned: Model
    drift: Reported = ()
    repairs: Reported = ()
    """What differs by sandbox and network, in words."""
    answered: bool = True
    selected: Optional[Model] = None
    counts: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    """By sandbox with policies and direction, what was counted."""

    @property
    def model(self) -> Model:
        """What is shown: all of the plan's, or the selected part."""
        return self.planned if self.selected is None else self.selected

    @cached_property
    def _created(self) -> set[tuple[str, str]]:
        return {(item["kind"], item["name"]) for item in self.drift if item["action"] == "create"}

    @cached_property
    def missing(self) -> set[str]:
        """Sandboxes that are planned and not there."""
        return {name for kind, name in self._created if kind == "namespace" and name in self.planned["sandboxes"]}

    def has_endpoint(self, sandbox: str, link: str) -> bool:
        """Whether a sandbox's link is there."""
        return sandbox not in self.missing and ("link", f"{sandbox}/{link}") not in self._created

    @cached_property
    def _states(self) -> dict[str, str]:
        states = {item["name"]: DIFFERS for item in self.repairs if item["kind"] == "sandbox"}
        states |= {name.partition("/")[0]: DIFFERS for kind, name in self._created if kind == "link" and "/" in name}
        states |= {item["name"]: WAITS for item in self.drift if item["action"] == "wait for"}
        return {**states, **dict.fromkeys(self.missing, MISSING)}

    def state_of(self, sandbox: str) -> str:
        """``up``, ``missing``, ``waits`` for another program's namespace, or ``differs``."""
        entry = self.planned["sandboxes"].get(sandbox)
        shared = shared_with(entry["network_mode"]) if entry else ""
        return self._states.get(shared or sandbox, UP)

    def is_there(self, sandbox: str) -> bool:
        """Whether a sandbox has its namespace."""
        return self.state_of(sandbox) not in (MISSING, WAITS)

    @cached_property
    def gone(self) -> bool:
        """Whether nothing of what was planned is left, as after a reboot."""
        modes = {name: entry["network_mode"] for name, entry in self.planned["sandboxes"].items()}
        own = {name for name, mode in modes.items() if mode in (None, "none") and self.state_of(name) != WAITS}
        guarded = any(kind == "nftables" and "/" not in name for kind, name in self._created)
        # What a run would remove is not planned: ends of links whose other end is gone.
        left = any(item["kind"] in ("namespace", "link") and item["action"] in _KEEPING for item in self.drift)
        return bool(own) and own == self.missing and guarded and not left

    @property
    def fine(self) -> bool:
        """Whether the host answered and is as planned."""
        return self.answered and not self.drift and not self.repairs

    @property
    def state(self) -> str:
        """In a few words."""
        if not self.answered:
            return SILENT
        if not self.fine:
            return GONE if self.gone else counted(len(self.repairs) or len(self.drift), "difference")
        return PLANNED if self.planned["sandboxes"] else EMPTY

    def problems(self, most: Optional[int] = _FEW, only: Optional[frozenset[str]] = None) -> list[str]:
        """What is not as planned, a clause a part; with ``only``, about sandboxes and networks of these names."""
        told = [item for item in self.repairs if only is None or item["name"] in only]
        if told and self.gone:
            sandboxes = counted(len(self.missing - {INGRESS_SANDBOX}), "sandbox")
            return [f"nothing of what was planned is left ({sandboxes}): did the host reboot?"]
        result = []
        for kind in ("sandbox", "network"):
            whole = {str(item["name"]) for item in told if _is_whole(item, kind)}
            if len(whole) > 1:
                result.append(f"{counted(0, kind)[2:]} {few(sorted(whole), most)} (missing)")
                told = [item for item in told if not _is_whole(item, kind)]
        return result + [f"{'waits: ' if item['action'] == 'wait' else ''}{item['text']}" for item in told]


def _is_whole(item: Mapping[str, Any], kind: str) -> bool:
    return bool(item["text"] == f"{kind} {item['name']} (missing)")
