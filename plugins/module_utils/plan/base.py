# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What every resource of a plan has: its identity, its parents and its mark."""

from __future__ import annotations

from typing import ClassVar

from .records import dataclass

Key = tuple[str, ...]
"""Identity of an object on one host: its kind, then what identifies it in the kernel."""


class PlanError(ValueError):
    """The text is not a plan that this version can read; the message says why."""


@dataclass(frozen=True)
class Resource:
    """One kernel object (or file, or process) as it should be or as it was found.

    Not an abstract base class: `isinstance`, of which planning makes thousands of calls a host, is slow with these.
    """

    kind: ClassVar[str] = ""

    @property
    def key(self) -> Key:
        """What identifies the object on its host."""
        raise NotImplementedError

    @property
    def parents(self) -> tuple[Key, ...]:
        """Keys of the objects whose removal removes this one too, without an operation of its own."""
        return ()

    @property
    def restorable(self) -> bool:
        """Whether undoing a run restores it; remains of an incomplete object are not restored."""
        return True

    @property
    def foreign(self) -> bool:
        """Whether others own it: when no plan wants it, our mark is removed and the object stays."""
        return False

    @property
    def label(self) -> str:
        """Its name in operations and errors."""
        return "/".join(part for part in self.key[1:] if part)
