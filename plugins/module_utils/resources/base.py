# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The base class of resource kinds: how objects are observed, compared, created, changed and removed."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic, Optional, TypeVar, cast

from ..kernel.host import Host
from ..plan.base import Key, Resource
from ..plan.records import dataclass

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class Difference:
    """An attribute that differs; nested ones have dotted names such as ``peer.master``."""

    attribute: str
    wanted: Any
    found: Any


@dataclass(frozen=True)
class Found(Generic[R]):
    """An object as found in the kernel.

    ``ours``: it may be changed.  ``stale``: it is removed if the plan does not want it.
    """

    resource: R
    ours: bool = True
    stale: bool = True


@dataclass(frozen=True)
class Operation(Generic[R]):
    """A change to one object; ``action`` is create, change, replace or delete."""

    action: str
    resource: R
    found: Optional[R] = None
    differences: tuple[Difference, ...] = ()
    fixed: tuple[str, ...] = ()
    """For a replacement, the attributes that the kernel cannot change in place."""

    @property
    def makes(self) -> bool:
        """Whether the object exists afterwards."""
        return self.action != "delete"

    @property
    def reason(self) -> str:
        """Why an object is replaced, or why a removal leaves it in place; "" for other operations."""
        if self.action == "delete" and self.resource.foreign:
            return "it is not this project's: only what this project added to it is removed"
        if not self.fixed:
            return ""
        return f"the kernel cannot change the {' and the '.join(self.fixed)} of a {self.resource.kind} in place"

    @property
    def text(self) -> str:
        """A short description: ``change link c1/eth0 (up)``."""
        names = ", ".join(difference.attribute for difference in self.differences)
        return f"{self.action} {self.resource.kind} {self.resource.label}" + (f" ({names})" if names else "")


class Kind(ABC, Generic[R]):
    """One kind of resource: the only code that reads and writes its objects in the kernel.

    To add one: a file here, its dataclass in ``plan/``, a line in ``registry.py``.
    """

    name: str = ""
    stages: tuple[int, ...] = (0,)
    """When its steps run, ascending; removals run in descending order.  Stage 0 is before all links."""
    recreated_by: frozenset[str] = frozenset()
    """Attributes that the kernel cannot change in place; a difference in one replaces the object."""

    def recreates(self, difference: Difference) -> bool:
        """Whether a difference replaces the object."""
        return difference.attribute in self.recreated_by

    def stage(self, resource: R) -> int:
        """The stage in which the resource is created; the same for all in most kinds."""
        del resource
        return self.stages[0]

    def prepare(self, host: Host, wanted: Sequence[R]) -> None:
        """Collect what the comparison needs, before anything is observed or changed; raises if that fails."""

    def check_conflicts(self, host: Host, wanted: Sequence[R]) -> list[str]:
        """Conflicts with the host, as sentences; checked before anything is changed, in check mode too."""
        del host, wanted
        return []

    def check_operations(self, host: Host, operations: Sequence[Operation[R]]) -> list[str]:
        """What keeps a run from carrying out operations, as sentences; checked as conflicts are, at a teardown too."""
        del host, operations
        return []

    def check_dependencies(self, host: Host, wanted: Sequence[R]) -> Optional[str]:
        """What the host lacks for these, as a sentence, or None; checked before anything is changed."""
        del host, wanted
        return None

    @abstractmethod
    def observe(self, host: Host, wanted: Sequence[R]) -> dict[Key, Found[R]]:
        """All objects of ours, and any object with the key of a wanted one.  Changes nothing."""

    def differences(self, wanted: R, found: R) -> list[Difference]:
        """The differences, in the order of fields; a wanted None is not compared."""
        return compare_fields(wanted, found)

    @abstractmethod
    def create(self, host: Host, resources: Sequence[R]) -> None:
        """Create objects that do not exist; all belong to one stage."""

    @abstractmethod
    def change(self, host: Host, operations: Sequence[Operation[R]]) -> None:
        """Change existing objects in place."""

    def bring_up(self, host: Host, resources: Sequence[R]) -> None:
        """The second stage of kinds that have two: bring links up, wait for resolvers."""

    @abstractmethod
    def delete(self, host: Host, resources: Sequence[R]) -> None:
        """Remove objects; one that is already gone is not an error."""

    def remove_partial_files(self, host: Host, resource: R) -> None:
        """Remove temporary files that an interrupted run left for an object."""
        del host, resource


@functools.cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    """Of the fields of a dataclass: to ask for them takes longer than to compare them."""
    return tuple(spec.name for spec in fields(kind))


def compare_fields(wanted: Any, found: Any, prefix: str = "") -> list[Difference]:
    """The differences of two dataclasses by field; nested ones get dotted names."""
    result: list[Difference] = []
    for name in _names(cast(Any, type(wanted))):
        want, have = getattr(wanted, name), getattr(found, name)
        if want is None or want == have:
            continue
        if hasattr(want, "__dataclass_fields__") and have is not None:
            result += compare_fields(want, have, f"{prefix}{name}.")
        else:
            result.append(Difference(prefix + name, want, have))
    return result


def by_namespace(resources: Iterable[R]) -> Mapping[str, list[R]]:
    """Resources by namespace, sorted by its name; the order within each is kept."""
    groups: dict[str, list[R]] = {}
    for resource in resources:
        groups.setdefault(cast(Any, resource).namespace, []).append(resource)
    return dict(sorted(groups.items()))
