# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The engine: observe → diff → order → apply → verify.

``difference`` and ``order`` are pure.  A check run is the same path with ``apply`` withheld.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ..kernel.host import Host
from ..kernel.netlink import NetlinkError
from ..kernel.netns_owners import OwnerError
from ..kernel.nft import NftError
from ..plan.base import Key, Resource
from ..plan.forms import FormError, printable_lines
from ..plan.links import Link, Namespace
from ..plan.marks import PORT
from ..resources.base import Found, Kind, Operation
from ..resources.registry import kinds
from ..resources.resolver import ResolverError
from ..state.files import Unsafe
from .journal import Journal
from .reporting import explain, namespaces_of, subject

_ROUNDS = 2

_OUTLIVING = ("link", "resolver")
"""Kinds of objects that are not gone with the name of a namespace that was ours: a process may hold it open."""

_METHODS = ("create", "change", "finish")
"""In the order they are called: what is made may be what something else is changed to."""


class EngineError(Exception):
    """The host cannot be brought to the plan; the message is for the person who reads it."""


class ForeignConflict(EngineError):
    """Objects of somebody else stand where ours belong; nothing was changed."""


class Broken(EngineError):
    """Sandboxes whose namespaces somebody else owns cannot be had; all else is as wanted.  ``operations`` were done."""

    def __init__(self, sentences: Mapping[str, str], operations: Sequence[Operation[Any]], check: bool) -> None:
        self.operations = list(operations)
        said = "; ".join(f"sandbox {name}: {sentence}" for name, sentence in sorted(sentences.items()))
        rest = "would be" if check else "was"
        super().__init__(f"{said}. All else {rest} brought to the plan; run again when that is mended.")


Observed = dict[Key, Found[Any]]

EXPECTED = (EngineError, FormError, NetlinkError, NftError, OwnerError, ResolverError, Unsafe, OSError)
"""What a host can make go wrong; anything else is a mistake of ours and keeps its traceback."""


def sentence(error: BaseException) -> str:
    """What went wrong, for the person who reads it."""
    said = printable_lines(str(error))
    if isinstance(error, NftError):
        return f"nftables refused a transaction: {said}"
    if isinstance(error, NetlinkError):
        return f"the kernel refused: {said}"
    if isinstance(error, OSError):
        return f"a system call failed: {said}"
    return said


@dataclass(frozen=True)
class Step:
    """One call of a kind: ``method`` is create, change, finish or delete; all operations are of one stage."""

    kind: str
    method: str
    operations: tuple[Operation[Any], ...]


def difference(
    wanted: Sequence[Resource],
    observed: Observed,
    registry: Mapping[str, Kind[Any]],
    only: Optional[Container[Key]] = None,
) -> list[Operation[Any]]:
    """What to do so that observed becomes wanted, sorted by key.  Raises Obstacles.  Pure.

    An object that lives in one that goes needs no operation of its own; a wanted one there is made anew.  A namespace
    that is somebody else's does not go, so what is ours in there does, piece by piece.  With
    ``only`` nothing but these keys is looked at, and what of them is ours and not wanted goes, stale or not.
    """
    if only is not None:
        observed = {key: replace(found, stale=found.ours) for key, found in observed.items() if key in only}
    found_by = dict(observed)
    _refuse_obstacles(wanted, found_by)
    wanted_keys = {item.key for item in wanted}
    gone: set[Key] = set()
    handed_over: set[str] = set()
    outliving: set[str] = set()
    operations: list[Operation[Any]] = []
    # In the registry's order what owns is settled before what is owned.
    for name, kind in registry.items():
        stale = [item for item in found_by.values() if item.resource.kind == name and item.stale]
        for found in sorted(stale, key=lambda item: item.resource.key):
            if found.resource.key not in wanted_keys and not gone.intersection(found.resource.inside):
                operations.append(Operation("delete", found.resource, found.resource))
                gone.update(_going(found.resource))
        for item in sorted((item for item in wanted if item.kind == name), key=lambda item: item.key):
            found_here = found_by.get(item.key)
            operation: Optional[Operation[Any]]
            where = getattr(item, "namespace", "")
            if found_here is not None and (where in handed_over or (where in outliving and name in _OUTLIVING)):
                operation = Operation("replace", item, found_here.resource)
            else:
                operation = _compare(kind, item, None if gone.intersection(item.inside) else found_here)
            if operation is None:
                continue
            operations.append(operation)
            if operation.action in ("create", "replace"):
                gone.add(item.key)
            if operation.action == "replace" and isinstance(item, Namespace):
                is_owned = item.owner or (operation.found is not None and operation.found.owner)
                (handed_over if is_owned else outliving).add(item.name)
    return operations


def _going(resource: Resource) -> list[Key]:
    """What a removed object takes along: itself, and what hangs on a link's addresses."""
    if resource.kind == "address":
        return [resource.key, ("addresses", resource.key[1], resource.key[2])]
    return [] if resource.stays else [resource.key]


def _compare(kind: Kind[Any], wanted: Resource, found: Any) -> Any:
    if found is None:
        return Operation("create", wanted)
    differences = tuple(kind.differences(wanted, found.resource))
    if not differences:
        return None
    fixed = tuple(item.attribute for item in differences if kind.recreates(item))
    return Operation("replace" if fixed else "change", wanted, found.resource, differences, fixed)


def _refuse_obstacles(wanted: Sequence[Resource], observed: Observed) -> None:
    in_the_way = sorted(
        f"{item.kind} {observed[item.key].resource.label}"
        for item in wanted
        if item.key in observed and not observed[item.key].ours
    )
    if in_the_way:
        raise ForeignConflict(
            f"in the way and not made by this project, so left alone: {', '.join(in_the_way)}. Nothing was changed "
            "on this host. Rename or remove what is there, or give ours another name."
        )


def order(operations: Sequence[Operation[Any]], registry: Mapping[str, Kind[Any]]) -> list[Step]:
    """Steps in the order they are taken: removals from the outside in, then the rest stage by stage.  Pure."""
    removals: dict[tuple[int, str], list[Operation[Any]]] = {}
    stages: dict[tuple[int, str, int], list[Operation[Any]]] = {}
    for operation in operations:
        kind = registry[operation.resource.kind]
        stage = kind.stage(operation.resource)
        if operation.action in ("delete", "replace"):
            removals.setdefault((stage, kind.name), []).append(operation)
        if operation.action == "delete":
            continue
        method = _METHODS.index("change" if operation.action == "change" else "create")
        stages.setdefault((stage, kind.name, method), []).append(operation)
        for later in kind.stages[1:] if kind.stages[0] == stage and _has_finish(kind) else ():
            stages.setdefault((later, kind.name, _METHODS.index("finish")), []).append(operation)
    steps = [Step(name, "delete", tuple(group)) for (_stage, name), group in sorted(removals.items(), reverse=True)]
    steps += [Step(name, _METHODS[method], tuple(group)) for (_stage, name, method), group in sorted(stages.items())]
    return steps


def _has_finish(kind: Kind[Any]) -> bool:
    return type(kind).finish is not Kind.finish


def state_before(operations: Sequence[Operation[Any]], observed: Observed) -> dict[Key, Optional[Resource]]:
    """What is where the operations will be at work, None for nothing; with what goes along with a removal.  Pure."""
    # What is made anew because it goes along with something is there all the same.
    keys = [operation.resource.key for operation in operations]
    result: dict[Key, Optional[Resource]] = {}
    for key in keys:
        was = observed[key].resource if key in observed else None
        result[key] = was if was is not None and was.restorable else None
    going = {
        key
        for operation in operations
        if operation.action in ("delete", "replace") and operation.found is not None
        for key in _going(operation.found)
    }
    for key, found in observed.items():
        if going.intersection(found.resource.inside):
            result.setdefault(key, found.resource)
    return result


class Engine:
    """One run on one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._registry = {kind.name: kind for kind in kinds()}
        self.warnings: list[str] = []
        """What the user should know of a run that went well."""

    def compare(self, wanted: Sequence[Resource]) -> list[Operation[Any]]:
        """Observe the host and say what would have to be done.  Changes nothing."""
        return self._difference(wanted, self._observe(wanted))

    def _difference(
        self, wanted: Sequence[Resource], observed: Observed, only: Optional[Container[Key]] = None
    ) -> list[Operation[Any]]:
        """`difference` without the sandboxes that cannot be had, to which those count where an owner is in the way."""
        in_the_way: dict[str, list[str]] = {}
        for item in wanted:
            place = getattr(item, "namespace", "")
            if place in self._host.attached and item.key in observed and not observed[item.key].ours:
                in_the_way.setdefault(place, []).append(f"{item.kind} {observed[item.key].resource.label}")
        for place, found in in_the_way.items():
            sentence = f"in the way in there and not made by this project: {', '.join(sorted(found))}"
            self._host.broken.setdefault(place, f"{sentence}; remove it, or give ours another name")
        apart = [item for item in wanted if self._is_apart(item)]
        ports = {PORT + item.role for item in apart if isinstance(item, Link)}
        return difference(
            [item for item in wanted if not self._is_apart(item)],
            {
                key: found
                for key, found in observed.items()
                if not self._is_apart(found.resource) and getattr(found.resource, "role", None) not in ports
            },
            self._registry,
            only,
        )

    def _is_apart(self, item: Resource) -> bool:
        """Whether it is, or is in, a sandbox that cannot be had."""
        if not self._host.broken:
            return False
        places = [item.name] if isinstance(item, Namespace) else namespaces_of(item)
        return not self._host.broken.keys().isdisjoint(places)

    def _observe(self, wanted: Sequence[Resource], journal: Optional[Journal] = None) -> Observed:
        """What is there, and what a run that was cut off had begun, though it had no time to mark it."""
        self._host.forget()
        observed: Observed = {}
        begun = journal.begun({item.key for item in wanted}) if journal else []
        for name, kind in self._registry.items():
            mine = self._those(name, wanted)
            kind.prepare(self._host, mine)
            observed.update(kind.observe(self._host, [*mine, *(item for item in begun if item.kind == name)]))
        for item in begun:
            if item.key in observed:
                observed[item.key] = replace(observed[item.key], stale=observed[item.key].ours)
        return observed

    def apply(self, operations: Sequence[Operation[Any]]) -> None:
        """Carry operations out.  Raises EngineError with what could not be done to which object, and why."""
        for step in order(operations, self._registry):
            try:
                self._take(step)
            except EXPECTED as error:
                raise EngineError(
                    f"{subject(step.method, step.operations, self._host, error)}: {sentence(error)}"
                ) from error

    def remove(self, operations: Sequence[Operation[Any]]) -> list[str]:
        """Carry removals out; what cannot be done keeps no other from being done.  Returns a sentence about each."""
        failed = []
        for step in order(operations, self._registry):
            try:
                self._take(step)
            except EXPECTED:
                failed += [
                    said for item in step.operations if (said := self._attempt(replace(step, operations=(item,))))
                ]
        return failed

    def _attempt(self, step: Step) -> str:
        """Take a step; "" or what went wrong."""
        try:
            self._take(step)
        except EXPECTED as error:
            return f"{subject(step.method, step.operations, self._host, error)}: {sentence(error)}"
        return ""

    def _take(self, step: Step) -> None:
        kind = self._registry[step.kind]
        if step.method == "change":
            kind.change(self._host, step.operations)
        elif step.method == "delete":
            kind.delete(self._host, [item.found for item in step.operations])
        else:
            getattr(kind, step.method)(self._host, [item.resource for item in step.operations])

    def _those(self, kind: str, wanted: Sequence[Resource]) -> list[Any]:
        return [item for item in wanted if item.kind == kind and not self._is_apart(item)]

    def _refuse(self, wanted: Sequence[Resource]) -> None:
        """Raise EngineError with every reason why the host cannot be as wanted, whatever is installed there."""
        found = [
            sentence
            for name, kind in self._registry.items()
            for sentence in kind.refuse(self._host, self._those(name, wanted))
        ]
        if found:
            raise EngineError(f"{'; '.join(found)}. Nothing was changed on this host.")

    def _require(self, wanted: Sequence[Resource]) -> None:
        """Raise EngineError with everything the host lacks, before anything is changed."""
        self._refuse(wanted)
        lacking = [
            sentence
            for name, kind in self._registry.items()
            if (sentence := kind.require(self._host, self._those(name, wanted)))
        ]
        if lacking:
            raise EngineError(f"{'; '.join(lacking)}. Nothing was changed on this host.")

    def converge(
        self, wanted: Sequence[Resource], check: bool, only: Optional[Container[Key]] = None
    ) -> list[Operation[Any]]:
        """Bring the host to what is wanted; returns the operations, in check mode those that would be done.

        ``only`` narrows the run to these keys; see `difference`.  Raises EngineError if the host, observed again, is
        still not as wanted, and Broken if all but somebody's sandboxes is.  What a run that was cut off had begun is
        finished, or if this one fails undone, with it.
        """
        if check:
            operations = self._difference(wanted, self._observe(wanted), only)
            self._refuse(wanted if operations else ())
            return self._whole(operations, check)
        journal = Journal(self._host.project, only)
        unfinished = bool(journal.places)
        try:
            operations = self._bring(wanted, only, journal)
            self._close(journal)
        except EXPECTED as error:
            if not journal.places:
                journal.close()
                raise
            whose = "this run and an earlier one that was cut off" if unfinished else "this run"
            raise EngineError(f"{sentence(error).rstrip('.')}. {self._undo(journal, whose)}") from error
        self.warnings += dict.fromkeys(self._host.warnings)
        if unfinished:
            self.warnings.append("An earlier run on this host was cut off; this run finished what it had begun.")
        return self._whole(operations, check)

    def _whole(self, operations: list[Operation[Any]], check: bool) -> list[Operation[Any]]:
        if self._host.broken:
            raise Broken(self._host.broken, operations, check)
        return operations

    def clear(self, check: bool) -> list[Operation[Any]]:
        """Remove all that is ours.  Goes on past errors, and then raises EngineError with all of them.

        Nothing is undone: what is gone was to go, and another run tries the rest again.
        """
        journal = Journal(self._host.project)
        observed = self._observe((), journal)
        operations = left = self._difference((), observed)
        if check:
            return operations
        unfinished = bool(journal.places)
        failed: list[str] = []
        for _round in range(_ROUNDS):
            if not left:
                break
            journal.note(state_before(left, observed), {})
            failed = self.remove(left)
            observed = self._observe((), journal)
            left = self._difference((), observed)
        self._close(journal)
        if left:
            raise EngineError("; ".join(failed or explain(left)) + ". All else that is ours was removed.")
        if unfinished:
            self.warnings.append("An earlier run on this host was cut off; this run finished what it had begun.")
        return operations

    def _bring(
        self, wanted: Sequence[Resource], only: Optional[Container[Key]], journal: Journal
    ) -> list[Operation[Any]]:
        observed = self._observe(wanted, journal)
        operations = left = self._difference(wanted, observed, only)
        if operations:
            self._require(wanted)
        lost = self._lost()
        # A change can take along what hung on it (routes go with a link that goes down): so look once more.
        rounds = _ROUNDS
        while left and rounds:
            journal.note(
                state_before(left, observed), {item.resource.key: item.resource for item in left if item.makes}
            )
            problem = self._try(left)
            observed = self._observe(wanted, journal)
            left = self._difference(wanted, observed, only)
            if problem is None:
                rounds -= 1
            elif self._lost() <= lost:
                raise problem
            lost |= self._lost()
        if left:
            raise EngineError("after the run the host is still not as planned: " + "; ".join(explain(left)))
        return operations

    def _try(self, operations: Sequence[Operation[Any]]) -> Optional[EngineError]:
        try:
            self.apply(operations)
        except EngineError as error:
            return error
        return None

    def _lost(self) -> set[str]:
        """Sandboxes that cannot be had, or have to be made anew, by what was done inside: a step that fails there is
        no reason to undo the run.
        """
        return self._host.broken.keys() | self._host.spoiled.keys()

    def _undo(self, journal: Journal, whose: str) -> str:
        """Bring what a failed run touched back to what it was; returns a sentence about how that went.

        The inverse of a run is the same comparison the other way round, so it does not matter how far the run came.
        """
        try:
            left = self._compare_back(journal)
            for _round in range(_ROUNDS):
                if left:
                    self.apply(left)
                    left = self._compare_back(journal)
            if not left:
                self._close(journal)
        except EXPECTED as error:
            return f"Undoing what {whose} had changed failed too ({sentence(error)}): run again when that is mended."
        if left:
            return f"What {whose} had changed was undone, but for: {'; '.join(explain(left))}."
        return f"What {whose} had changed was undone."

    def _close(self, journal: Journal) -> None:
        for item in journal.touched:
            self._registry[item.kind].clean(self._host, item)
        journal.close()

    def _compare_back(self, journal: Journal) -> list[Operation[Any]]:
        wanted = journal.before
        return self._difference(wanted, self._observe(wanted, journal), journal.places)
