# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The engine: observe → diff → order → apply → verify.

``difference`` and ``order`` are pure.  A check run is the same path with ``apply`` withheld.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from .kernel.host import Host
from .kernel.netlink import NetlinkError
from .kernel.nft import NftError
from .plan import Key, Resource, encode
from .resources.base import Found, Kind, Operation
from .resources.registry import kinds
from .resources.resolver import ResolverError

_ROUNDS = 2

_METHODS = ("create", "change", "finish")
"""In the order they are called: what is made may be what something else is changed to."""


class EngineError(Exception):
    """The host cannot be brought to the plan; the message is for the person who reads it."""


class Obstacles(EngineError):
    """Objects of somebody else stand where ours belong; nothing was changed."""


Observed = dict[Key, Found[Any]]

EXPECTED = (EngineError, NetlinkError, NftError, ResolverError, OSError)
"""What a host can make go wrong; anything else is a mistake of ours and keeps its traceback."""


def sentence(error: BaseException) -> str:
    """What went wrong, for the person who reads it."""
    if isinstance(error, NftError):
        return f"nftables refused a transaction: {error}"
    if isinstance(error, NetlinkError):
        return f"the kernel refused: {error}"
    if isinstance(error, OSError):
        return f"a system call failed: {error}"
    return str(error)


@dataclass(frozen=True)
class Step:
    """One call of a kind: ``method`` is create, change, finish or delete; all operations are of one stage."""

    kind: str
    method: str
    operations: tuple[Operation[Any], ...]


def difference(
    wanted: Sequence[Resource], observed: Observed, registry: Mapping[str, Kind[Any]]
) -> list[Operation[Any]]:
    """What to do so that observed becomes wanted, sorted by key.  Raises Obstacles.  Pure.

    An object that lives in one that goes needs no operation of its own; a wanted one there is made anew.
    """
    found_by = dict(observed)
    _refuse_obstacles(wanted, found_by)
    wanted_keys = {item.key for item in wanted}
    gone: set[Key] = set()
    operations: list[Operation[Any]] = []
    # In the registry's order what owns is settled before what is owned.
    for name, kind in registry.items():
        stale = [item for item in found_by.values() if item.resource.kind == name and item.stale]
        for found in sorted(stale, key=lambda item: item.resource.key):
            if found.resource.key not in wanted_keys and not gone.intersection(found.resource.inside):
                operations.append(Operation("delete", found.resource, found.resource))
                gone.update(_going(found.resource))
        for item in sorted((item for item in wanted if item.kind == name), key=lambda item: item.key):
            operation = _compare(kind, item, None if gone.intersection(item.inside) else found_by.get(item.key))
            if operation is None:
                continue
            operations.append(operation)
            if operation.action in ("create", "replace"):
                gone.add(item.key)
    return operations


def _going(resource: Resource) -> list[Key]:
    """What a removed object takes along: itself, and what hangs on a link's addresses."""
    if resource.kind == "address":
        return [resource.key, ("addresses", resource.key[1], resource.key[2])]
    return [resource.key]


def _compare(kind: Kind[Any], wanted: Resource, found: Any) -> Any:
    if found is None:
        return Operation("create", wanted)
    differences = tuple(kind.differences(wanted, found.resource))
    if not differences:
        return None
    replaced = any(item.attribute in kind.recreated_by for item in differences)
    return Operation("replace" if replaced else "change", wanted, found.resource, differences)


def _refuse_obstacles(wanted: Sequence[Resource], observed: Observed) -> None:
    in_the_way = sorted(
        f"{item.kind} {observed[item.key].resource.label}"
        for item in wanted
        if item.key in observed and not observed[item.key].ours
    )
    if in_the_way:
        raise Obstacles(
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


def former(operations: Sequence[Operation[Any]], observed: Observed) -> dict[Key, Optional[Resource]]:
    """What is where the operations will be at work, None for nothing; with what goes along with a removal.  Pure."""
    result: dict[Key, Optional[Resource]] = {operation.resource.key: operation.found for operation in operations}
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

    def compare(self, wanted: Sequence[Resource]) -> list[Operation[Any]]:
        """Observe the host and say what would have to be done.  Changes nothing."""
        return difference(wanted, self._observe(wanted), self._registry)

    def _observe(self, wanted: Sequence[Resource]) -> Observed:
        self._host.forget()
        observed: Observed = {}
        for name, kind in self._registry.items():
            mine = [item for item in wanted if item.kind == name]
            kind.prepare(self._host, mine)
            observed.update(kind.observe(self._host, mine))
        return observed

    def apply(self, operations: Sequence[Operation[Any]]) -> None:
        """Carry operations out.  The journal's place is here: what was there before, before the first step."""
        for step in order(operations, self._registry):
            kind = self._registry[step.kind]
            if step.method == "change":
                kind.change(self._host, step.operations)
            elif step.method == "delete":
                kind.delete(self._host, [item.found for item in step.operations])
            else:
                getattr(kind, step.method)(self._host, [item.resource for item in step.operations])

    def _require(self, wanted: Sequence[Resource]) -> None:
        """Raise EngineError with everything the host lacks, before anything is changed."""
        lacking = [
            sentence
            for name, kind in self._registry.items()
            if (sentence := kind.require(self._host, [item for item in wanted if item.kind == name]))
        ]
        if lacking:
            raise EngineError(f"{'; '.join(lacking)}. Nothing was changed on this host.")

    def converge(self, wanted: Sequence[Resource], check: bool) -> list[Operation[Any]]:
        """Bring the host to what is wanted; returns the operations, in check mode those that would be done.

        Raises EngineError if the host, observed again, is still not as wanted.
        """
        observed = self._observe(wanted)
        operations = difference(wanted, observed, self._registry)
        if check or not operations:
            return operations
        self._require(wanted)
        before: dict[Key, Optional[Resource]] = {}
        try:
            left: Sequence[Operation[Any]] = operations
            # A change can take along what hung on it (routes go with a link that goes down): so look once more.
            for _round in range(_ROUNDS):
                before = {**former(left, observed), **before}
                self.apply(left)
                observed = self._observe(wanted)
                left = difference(wanted, observed, self._registry)
                if not left:
                    return operations
            raise EngineError("after the run the host is still not as planned: " + "; ".join(_explain(left)))
        except EXPECTED as error:
            raise EngineError(f"{sentence(error)}. {self._undo(before)}") from error

    def _undo(self, before: Mapping[Key, Optional[Resource]]) -> str:
        """Bring what a failed run touched back to what it was; returns a sentence about how that went.

        The inverse of a run is the same comparison the other way round, so it does not matter how far the run came.
        """
        wanted = [resource for resource in before.values() if resource is not None]
        try:
            for _round in range(_ROUNDS):
                left = self._compare_some(wanted, before)
                if not left:
                    return "What this run had changed was undone."
                self.apply(left)
            left = self._compare_some(wanted, before)
        except EXPECTED as error:
            return f"Undoing what this run had changed failed too ({sentence(error)}): run again when that is mended."
        return "What this run had changed was undone" + (f", but for: {'; '.join(_explain(left))}." if left else ".")

    def _compare_some(self, wanted: Sequence[Resource], keys: Container[Key]) -> list[Operation[Any]]:
        observed = self._observe(wanted)
        some = {key: found for key, found in observed.items() if key in keys}
        return difference(wanted, some, self._registry)


def _explain(operations: Iterable[Operation[Any]]) -> list[str]:
    lines = []
    for operation in operations:
        details = ", ".join(f"{d.attribute}: wanted {d.wanted!r}, found {d.found!r}" for d in operation.differences)
        missing = {"create": "missing", "delete": "still there"}.get(operation.action, "")
        lines.append(f"{operation.resource.kind} {operation.resource.label} ({details or missing})")
    return lines


def report(operations: Sequence[Operation[Any]]) -> list[dict[str, Any]]:
    """Operations as the modules return them: action, kind, name; of a change each attribute's two values."""
    result = []
    for operation in operations:
        entry: dict[str, Any] = {
            "action": operation.action,
            "kind": operation.resource.kind,
            "name": operation.resource.label,
        }
        if operation.differences:
            entry["differences"] = [
                {"attribute": item.attribute, "found": _shown(item.found), "wanted": _shown(item.wanted)}
                for item in operation.differences
            ]
        result.append(entry)
    return result


def diff(operations: Sequence[Operation[Any]]) -> dict[str, dict[str, Any]]:
    """Before and after for ``--diff``: only the objects and attributes that differ, by ``kind name``."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for operation in operations:
        name = f"{operation.resource.kind} {operation.resource.label}"
        if operation.action == "create":
            after[name] = _described(operation.resource)
        elif operation.action == "delete":
            before[name] = _described(operation.resource)
        else:
            before[name] = {item.attribute: _shown(item.found) for item in operation.differences}
            after[name] = {item.attribute: _shown(item.wanted) for item in operation.differences}
    return {"before": before, "after": after}


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else encode_value(value)


def encode_value(value: Any) -> Any:
    """A field's value as JSON data."""
    if isinstance(value, Resource):
        return encode(value)
    return {**vars(value)} if hasattr(value, "__dataclass_fields__") else value


def _described(resource: Resource) -> dict[str, Any]:
    return {name: value for name, value in encode(resource).items() if name != "kind"}
