# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What every kind of resource brings: how it is found, compared, made, changed and removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Optional, TypeVar, cast

from ..kernel.host import Host
from ..plan.base import Key, Resource

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class Difference:
    """One attribute that is not as it should be; ``peer.master``-like dotted names."""

    attribute: str
    wanted: Any
    found: Any


@dataclass(frozen=True)
class Found(Generic[R]):
    """An object as the kernel has it.

    ``ours`` says that it may be changed, ``stale`` that it is ours to remove when nothing wants it.
    """

    resource: R
    ours: bool = True
    stale: bool = True


@dataclass(frozen=True)
class Operation(Generic[R]):
    """One step from what is to what should be: ``action`` is create, change, replace or delete."""

    action: str
    resource: R
    found: Optional[R] = None
    differences: tuple[Difference, ...] = ()
    fixed: tuple[str, ...] = ()
    """Of a replacement, the attributes that call for one."""

    @property
    def makes(self) -> bool:
        """Whether the object is there afterwards."""
        return self.action != "delete"

    @property
    def reason(self) -> str:
        """Why an object is replaced, or stays though it is removed from what is ours; "" for other operations."""
        if self.action == "delete" and self.resource.stays:
            return "it is somebody else's: only what this project has put there goes"
        if not self.fixed:
            return ""
        return f"the kernel cannot change the {' and the '.join(self.fixed)} of a {self.resource.kind} in place"

    @property
    def text(self) -> str:
        """For people: ``change link c1/eth0 (up)``."""
        names = ", ".join(difference.attribute for difference in self.differences)
        return f"{self.action} {self.resource.kind} {self.resource.label}" + (f" ({names})" if names else "")


class Kind(ABC, Generic[R]):
    """One kind of resource: the only code that reads and writes its objects.

    Adding one: a file here, its dataclass in ``plan.py``, its line in ``registry.py``.
    """

    name: str = ""
    stages: tuple[int, ...] = (0,)
    """Places of its steps in a run, ascending; removals run in the opposite order.  Stage 0 is before any link."""
    recreated_by: frozenset[str] = frozenset()
    """Attributes the kernel cannot change in place: a difference in one of them replaces the object."""

    def recreates(self, difference: Difference) -> bool:
        """Whether a difference replaces the object."""
        return difference.attribute in self.recreated_by

    def stage(self, resource: R) -> int:
        """Where the resource is made; most kinds have one place for all of theirs."""
        del resource
        return self.stages[0]

    def prepare(self, host: Host, wanted: Sequence[R]) -> None:
        """Learn what comparing needs, before anything is observed or changed; what cannot be had is an error here."""

    def refuse(self, host: Host, wanted: Sequence[R]) -> list[str]:
        """Why these cannot be, as sentences; asked before anything is changed, and in check mode too."""
        del host, wanted
        return []

    def require(self, host: Host, wanted: Sequence[R]) -> Optional[str]:
        """What the host lacks to put these in place, as a sentence; asked before anything is changed."""
        del host, wanted
        return None

    @abstractmethod
    def observe(self, host: Host, wanted: Sequence[R]) -> dict[Key, Found[R]]:
        """All objects of ours, and those in the place of a wanted one, whoever they belong to.  Changes nothing."""

    def differences(self, wanted: R, found: R) -> list[Difference]:
        """What differs between the two, in order of the fields; a wanted None is never compared."""
        return compare_fields(wanted, found)

    @abstractmethod
    def create(self, host: Host, resources: Sequence[R]) -> None:
        """Make objects that are not there; all of them in one stage and namespace."""

    @abstractmethod
    def change(self, host: Host, operations: Sequence[Operation[R]]) -> None:
        """Bring existing objects to what is wanted, in place."""

    def finish(self, host: Host, resources: Sequence[R]) -> None:
        """The second stage, for kinds that have two: bring links up."""

    @abstractmethod
    def delete(self, host: Host, resources: Sequence[R]) -> None:
        """Remove objects as found; one that is gone already is no error."""

    def clean(self, host: Host, resource: R) -> None:
        """Remove what a run that was killed while it made, changed or removed an object has left, and is none."""
        del host, resource


def compare_fields(wanted: Any, found: Any, prefix: str = "") -> list[Difference]:
    """Field by field, nested dataclasses with dotted names."""
    result: list[Difference] = []
    for spec in fields(wanted):
        want, have = getattr(wanted, spec.name), getattr(found, spec.name)
        if want is None or want == have:
            continue
        if hasattr(want, "__dataclass_fields__") and have is not None:
            result += compare_fields(want, have, f"{prefix}{spec.name}.")
        else:
            result.append(Difference(prefix + spec.name, want, have))
    return result


def by_namespace(resources: Iterable[R]) -> Mapping[str, list[R]]:
    """Group resources by the namespace they are in, names sorted, order within kept."""
    groups: dict[str, list[R]] = {}
    for resource in resources:
        groups.setdefault(cast(Any, resource).namespace, []).append(resource)
    return dict(sorted(groups.items()))
