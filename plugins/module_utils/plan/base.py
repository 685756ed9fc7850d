# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What every resource of a plan has: its identity, what it is inside of, and its mark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

Key = tuple[str, ...]
"""Identity of an object on one host: kind first, then what finds it in the kernel."""


class PlanError(ValueError):
    """The text is not a plan this version can read; the message says why."""


@dataclass(frozen=True)
class Resource(ABC):
    """One kernel object (or file, or process) as it should be or as it was found."""

    kind: ClassVar[str] = ""

    @property
    @abstractmethod
    def key(self) -> Key:
        """What identifies the object on its host."""

    @property
    def inside(self) -> tuple[Key, ...]:
        """Keys of objects this one lives in: when one of them goes, it is gone too, without an operation of its own."""
        return ()

    @property
    def restorable(self) -> bool:
        """Whether an undone run puts it back; what is left of something is not."""
        return True

    @property
    def stays(self) -> bool:
        """Whether it is somebody else's: when nothing of ours wants it, our mark goes and the object stays."""
        return False

    @property
    def label(self) -> str:
        """Its name for people, as in an operation or an error."""
        return "/".join(part for part in self.key[1:] if part)
