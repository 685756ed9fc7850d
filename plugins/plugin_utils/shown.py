# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How much the playbooks print: ``cnm_show`` and ``cnm_only``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..module_utils.plan.records import dataclass
from .forms import shown as in_words

QUIET, SUMMARY, FULL = LEVELS = ("quiet", "summary", "full")


class UnknownLevel(ValueError):
    """``cnm_show`` or ``cnm_only`` has a value of the wrong form; the message says what to write."""


@dataclass(frozen=True)
class Shown:
    """How much is printed, and of what: of all if ``only`` is empty."""

    level: str = SUMMARY
    only: frozenset[str] = frozenset()
    """Names of networks, sandboxes, services and hosts."""

    def includes(self, *names: str) -> bool:
        """Whether something with these names is to be shown."""
        return not self.only or not self.only.isdisjoint(names)


def read_shown(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Shown:
    """Read both variables; raises UnknownLevel.  ``cnm_only`` is a name, several with commas, or a list."""
    level, only = (template(variables.get(name)) for name in ("cnm_show", "cnm_only"))
    if level is not None and level not in LEVELS:
        raise UnknownLevel(f"cnm_show: {in_words(level)} is none of {', '.join(LEVELS)}")
    names = only.split(",") if isinstance(only, str) else only or []
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UnknownLevel(f"cnm_only: {in_words(only)} is neither a name nor a list of names")
    return Shown(str(level or SUMMARY), frozenset(name.strip() for name in names if name.strip()))
