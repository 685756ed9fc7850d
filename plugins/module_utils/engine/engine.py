# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The engine: observe → diff → order → apply → verify.

``difference`` and ``order`` are pure.  A check run is the same path with ``apply`` withheld.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from ..hostd.half import BootError
from ..kernel.host import Host
from ..kernel.netlink import NetlinkError
from ..kernel.netns_owners import OwnerError
from ..kernel.nft import NftError
from ..kernel.systemd import SystemdError
from ..plan.base import Key, Resource
from ..plan.forms import FormError, printable_lines
from ..plan.links import Link, Namespace
from ..plan.marks import PORT
from ..plan.records import dataclass
from ..resources.base import Found, Kind, Operation
from ..resources.frr import FrrError
from ..resources.registry import kinds
from ..resources.resolver import ResolverError
from ..state.files import Unsafe
from .journal import Journal
from .reporting import explain, namespaces_of, subject

_ROUNDS = 2

_OUTLIVING = ("link", "resolver")
"""Kinds whose objects may outlive a namespace's name, as a process may keep the namespace open."""

_METHODS = ("create", "change", "bring_up")
"""In the order they are called: changes may refer to objects just created."""


class EngineError(Exception):
    """The host cannot be brought to the plan; the message is meant for users."""


class ForeignConflict(EngineError):
    """Objects that are not ours have the names of planned ones; nothing was changed."""


class Broken(EngineError):
    """Sandboxes in foreign namespaces are unavailable; the rest is as planned.  ``operations`` were carried out."""

    def __init__(self, sentences: Mapping[str, str], operations: Sequence[Operation[Any]], check: bool) -> None:
        self.operations = list(operations)
        problems = "; ".join(f"sandbox {name}: {sentence}" for name, sentence in sorted(sentences.items()))
        rest = "would be" if check else "was"
        super().__init__(f"{problems}. Everything else {rest} brought to the plan. Fix this and run again.")


Observed = dict[Key, Found[Any]]

EXPECTED = (
    EngineError,
    FormError,
    NetlinkError,
    NftError,
    OwnerError,
    ResolverError,
    FrrError,
    BootError,
    SystemdError,
    Unsafe,
    OSError,
)
"""Errors that a host can cause; any other exception is a bug and keeps its traceback."""


def sentence(error: BaseException) -> str:
    """The error as a sentence for the user."""
    text = printable_lines(str(error))
    if isinstance(error, NftError):
        return f"nftables refused a transaction: {text}"
    if isinstance(error, NetlinkError):
        return f"the kernel refused: {text}"
    if isinstance(error, OSError):
        return f"a system call failed: {text}"
    return text


@dataclass(frozen=True)
class Step:
    """One call of a kind: ``method`` is create, change, bring_up or delete; all operations belong to one stage."""

    kind: str
    method: str
    operations: tuple[Operation[Any], ...]


def difference(
    wanted: Sequence[Resource],
    observed: Observed,
    registry: Mapping[str, Kind[Any]],
    only: Optional[Container[Key]] = None,
) -> list[Operation[Any]]:
    """The operations that turn observed into wanted, sorted by key.  Raises ForeignConflict.  Pure.

    Removing an object removes its dependents without operations of their own; wanted ones are then created again.  A
    foreign namespace is never removed, so each object of ours in it is removed by itself.  ``only`` limits the
    comparison to these keys; objects of ours among them that are not wanted are removed, stale or not.
    """
    if only is not None:
        observed = {key: replace(found, stale=found.ours) for key, found in observed.items() if key in only}
    found_by = dict(observed)
    _refuse_foreign(wanted, found_by)
    wanted_keys = {item.key for item in wanted}
    gone: set[Key] = set()
    handed_over: set[str] = set()
    outliving: set[str] = set()
    operations: list[Operation[Any]] = []
    stale_by, wanted_of = dict[str, list[Found[Any]]](), dict[str, list[Any]]()
    for found in found_by.values():
        if found.stale:
            stale_by.setdefault(found.resource.kind, []).append(found)
    for item in wanted:
        wanted_of.setdefault(item.kind, []).append(item)
    # The registry lists parents before their dependents.
    for name, kind in registry.items():
        for found in sorted(stale_by.get(name, ()), key=lambda item: item.resource.key):
            if found.resource.key not in wanted_keys and not gone.intersection(found.resource.parents):
                operations.append(Operation("delete", found.resource, found.resource))
                gone.update(_removed_keys(found.resource))
        for item in sorted(wanted_of.get(name, ()), key=lambda item: item.key):
            found_here = found_by.get(item.key)
            operation: Optional[Operation[Any]]
            where = getattr(item, "namespace", "")
            if found_here is not None and (where in handed_over or (where in outliving and name in _OUTLIVING)):
                operation = Operation("replace", item, found_here.resource)
            else:
                operation = _compare(kind, item, None if gone.intersection(item.parents) else found_here)
            if operation is None:
                continue
            operations.append(operation)
            if operation.action in ("create", "replace"):
                gone.add(item.key)
            if operation.action == "replace" and isinstance(item, Namespace):
                is_owned = item.owner or (operation.found is not None and operation.found.owner)
                (handed_over if is_owned else outliving).add(item.name)
    return operations


def _removed_keys(resource: Resource) -> list[Key]:
    """The keys removed with an object: its own; for an address also those that depend on any address of its link."""
    if resource.kind == "address":
        return [resource.key, ("addresses", resource.key[1], resource.key[2])]
    return [] if resource.foreign else [resource.key]


def _compare(kind: Kind[Any], wanted: Resource, found: Any) -> Any:
    if found is None:
        return Operation("create", wanted)
    differences = tuple(kind.differences(wanted, found.resource))
    if not differences:
        return None
    fixed = tuple(item.attribute for item in differences if kind.recreates(item))
    return Operation("replace" if fixed else "change", wanted, found.resource, differences, fixed)


def _refuse_foreign(wanted: Sequence[Resource], observed: Observed) -> None:
    foreign = sorted(
        f"{item.kind} {observed[item.key].resource.label}"
        for item in wanted
        if item.key in observed and not observed[item.key].ours
    )
    if foreign:
        raise ForeignConflict(
            f"already on this host and not created by this project: {', '.join(foreign)}. Nothing was changed on "
            "this host. Rename or remove these objects, or choose other names for yours."
        )


def order(operations: Sequence[Operation[Any]], registry: Mapping[str, Kind[Any]]) -> list[Step]:
    """The steps in order: removals in descending stages, then everything else in ascending ones.  Pure."""
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
        for later in kind.stages[1:] if kind.stages[0] == stage and _has_bring_up(kind) else ():
            stages.setdefault((later, kind.name, _METHODS.index("bring_up")), []).append(operation)
    steps = [Step(name, "delete", tuple(group)) for (_stage, name), group in sorted(removals.items(), reverse=True)]
    steps += [Step(name, _METHODS[method], tuple(group)) for (_stage, name, method), group in sorted(stages.items())]
    return steps


def _has_bring_up(kind: Kind[Any]) -> bool:
    return type(kind).bring_up is not Kind.bring_up


def state_before(operations: Sequence[Operation[Any]], observed: Observed) -> dict[Key, Optional[Resource]]:
    """The objects that operations will touch, None for absent ones, and those removed with them.  Pure."""
    # An object recreated because its parent is replaced still exists now.
    keys = [operation.resource.key for operation in operations]
    result: dict[Key, Optional[Resource]] = {}
    for key in keys:
        was = observed[key].resource if key in observed else None
        result[key] = was if was is not None and was.restorable else None
    going = {
        key
        for operation in operations
        if operation.action in ("delete", "replace") and operation.found is not None
        for key in _removed_keys(operation.found)
    }
    for key, found in observed.items():
        if going.intersection(found.resource.parents):
            result.setdefault(key, found.resource)
    return result


class Engine:
    """One run on one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._registry = {kind.name: kind for kind in kinds()}
        self.warnings: list[str] = []
        """Warnings of a run that succeeded."""

    def compare(self, wanted: Sequence[Resource]) -> list[Operation[Any]]:
        """Observe the host and return the operations it needs.  Changes nothing.

        What the host has read of its own namespace since it was last changed is not read again.
        """
        return self._difference(wanted, self._observe(wanted, changed=False))

    def _difference(
        self, wanted: Sequence[Resource], observed: Observed, only: Optional[Container[Key]] = None
    ) -> list[Operation[Any]]:
        """`difference` without unavailable sandboxes, such as those with foreign objects under planned names."""
        conflicts: dict[str, list[str]] = {}
        for item in wanted:
            namespace = getattr(item, "namespace", "")
            if namespace in self._host.attached and item.key in observed and not observed[item.key].ours:
                conflicts.setdefault(namespace, []).append(f"{item.kind} {observed[item.key].resource.label}")
        for namespace, found in conflicts.items():
            sentence = f"already in its namespace and not created by this project: {', '.join(sorted(found))}"
            self._host.broken.setdefault(namespace, f"{sentence}; remove it, or choose another name for yours")
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
        """Whether the resource is an unavailable sandbox or lies in one."""
        if not self._host.broken:
            return False
        namespaces = [item.name] if isinstance(item, Namespace) else namespaces_of(item)
        return not self._host.broken.keys().isdisjoint(namespaces)

    def _observe(self, wanted: Sequence[Resource], journal: Optional[Journal] = None, changed: bool = True) -> Observed:
        """Objects that exist, among them unmarked ones that an interrupted run had begun to create.

        ``changed``: whether the host may be another one than was read before.
        """
        self._host.forget(but_own=not changed)
        observed: Observed = {}
        begun = journal.begun({item.key for item in wanted}) if journal else []
        for name, kind in self._registry.items():
            resources = self._those(name, wanted)
            kind.prepare(self._host, resources)
            observed.update(kind.observe(self._host, [*resources, *(item for item in begun if item.kind == name)]))
        for item in begun:
            if item.key in observed:
                observed[item.key] = replace(observed[item.key], stale=observed[item.key].ours)
        return observed

    def apply(self, operations: Sequence[Operation[Any]]) -> None:
        """Carry out operations.  Raises EngineError, which names the object that failed and why."""
        for step in order(operations, self._registry):
            try:
                self._run_step(step)
            except EXPECTED as error:
                raise EngineError(
                    f"{subject(step.method, step.operations, self._host, error)}: {sentence(error)}"
                ) from error

    def remove(self, operations: Sequence[Operation[Any]]) -> list[str]:
        """Carry out removals, continuing after failures; returns a sentence for each failure."""
        failed = []
        for step in order(operations, self._registry):
            try:
                self._run_step(step)
            except EXPECTED:
                failed += [
                    problem for item in step.operations if (problem := self._attempt(replace(step, operations=(item,))))
                ]
        return failed

    def _attempt(self, step: Step) -> str:
        """Run a step; returns "" or an error as a sentence."""
        try:
            self._run_step(step)
        except EXPECTED as error:
            return f"{subject(step.method, step.operations, self._host, error)}: {sentence(error)}"
        return ""

    def _run_step(self, step: Step) -> None:
        kind = self._registry[step.kind]
        if step.method == "change":
            kind.change(self._host, step.operations)
        elif step.method == "delete":
            kind.delete(self._host, [item.found for item in step.operations])
        else:
            getattr(kind, step.method)(self._host, [item.resource for item in step.operations])

    def _those(self, kind: str, wanted: Sequence[Resource]) -> list[Any]:
        return [item for item in wanted if item.kind == kind and not self._is_apart(item)]

    def _check(self, wanted: Sequence[Resource], operations: Sequence[Operation[Any]], dependencies: bool) -> None:
        """Raise EngineError with all that keeps the run from the plan, before anything is changed.

        That is conflicts with the host, and only without them ``dependencies``, which the host lacks.
        """
        found, lacking = list[str](), list[Optional[str]]()
        for name, kind in self._registry.items():
            those = self._those(name, wanted)
            found += kind.check_operations(self._host, [each for each in operations if each.resource.kind == name])
            found += kind.check_conflicts(self._host, those)
            if dependencies and not found:
                lacking.append(kind.check_dependencies(self._host, those))
        sentences = found or list(filter(None, lacking))
        if sentences:
            raise EngineError(f"{'; '.join(sentences)}. Nothing was changed on this host.")

    def converge(
        self, wanted: Sequence[Resource], check: bool, only: Optional[Container[Key]] = None
    ) -> list[Operation[Any]]:
        """Bring the host to the wanted state; returns the operations carried out, or in check mode needed.

        ``only`` limits the run to these keys; see `difference`.  Raises EngineError if the host, observed again, still
        differs, and Broken if only sandboxes in foreign namespaces do.  The work of an interrupted run is completed
        by this one, or undone with it if it fails.
        """
        self._host.keys = only
        if check:
            operations = self._difference(wanted, self._observe(wanted), only)
            if operations:
                self._check(wanted, operations, dependencies=False)
            return self._unless_broken(operations, check)
        journal = Journal(self._host.project, only)
        unfinished = bool(journal.entries)
        try:
            operations = self._apply_until_converged(wanted, only, journal)
            self._close(journal)
        except EXPECTED as error:
            if not journal.entries:
                journal.close()
                raise
            runs = "this run and an earlier interrupted one" if unfinished else "this run"
            raise EngineError(f"{sentence(error).rstrip('.')}. {self._undo(journal, runs)}") from error
        self.warnings += dict.fromkeys(self._host.warnings)
        if unfinished:
            self.warnings.append("An earlier run on this host was interrupted; this run completed its work.")
        return self._unless_broken(operations, check)

    def _unless_broken(self, operations: list[Operation[Any]], check: bool) -> list[Operation[Any]]:
        if self._host.broken:
            raise Broken(self._host.broken, operations, check)
        return operations

    def clear(self, check: bool) -> list[Operation[Any]]:
        """Remove everything of ours.  Continues after errors, then raises EngineError with all of them.

        Nothing is undone; the next run retries what failed.
        """
        journal = Journal(self._host.project)
        observed = self._observe((), journal)
        operations = left = self._difference((), observed)
        self._check((), operations, dependencies=False)
        if check:
            return operations
        unfinished = bool(journal.entries)
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
            raise EngineError("; ".join(failed or explain(left)) + ". Everything else of this project was removed.")
        if unfinished:
            self.warnings.append("An earlier run on this host was interrupted; this run completed its work.")
        return operations

    def _apply_until_converged(
        self, wanted: Sequence[Resource], only: Optional[Container[Key]], journal: Journal
    ) -> list[Operation[Any]]:
        observed = self._observe(wanted, journal)
        operations = left = self._difference(wanted, observed, only)
        if operations:
            self._check(wanted, operations, dependencies=True)
        lost = self._lost()
        # A change can remove dependent objects (routes go when a link goes down), so compare again.
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
            raise EngineError("the host still differs from the plan after the run: " + "; ".join(explain(left)))
        return operations

    def _try(self, operations: Sequence[Operation[Any]]) -> Optional[EngineError]:
        try:
            self.apply(operations)
        except EngineError as error:
            return error
        return None

    def _lost(self) -> set[str]:
        """Sandboxes that are unavailable or must be recreated; a step that fails there does not undo the run."""
        return self._host.broken.keys() | self._host.spoiled.keys()

    def _undo(self, journal: Journal, runs: str) -> str:
        """Restore what a failed run touched; returns a sentence about the outcome.

        The journal is compared with the host like a plan, so it does not matter where the run failed.
        """
        self._host.keys = None  # it has what went with its parents, too
        try:
            left = self._compare_back(journal)
            for _round in range(_ROUNDS):
                if left:
                    self.apply(left)
                    left = self._compare_back(journal)
            if not left:
                self._close(journal)
        except EXPECTED as error:
            return f"Undoing the changes of {runs} failed too: {sentence(error).rstrip('.')}. Fix this and run again."
        if left:
            return f"The changes of {runs} were undone, except: {'; '.join(explain(left))}."
        return f"The changes of {runs} were undone."

    def _close(self, journal: Journal) -> None:
        for item in journal.touched:
            self._registry[item.kind].remove_partial_files(self._host, item)
        journal.close()

    def _compare_back(self, journal: Journal) -> list[Operation[Any]]:
        wanted = journal.before
        return self._difference(wanted, self._observe(wanted, journal), journal.entries)
