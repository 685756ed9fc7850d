# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a run does to a host in the words of the inventory: one line a change, from two plans and the operations.

What is declared otherwise than before is found by comparing the models of the kept plan and of the new one.  What the
kernel lost although both plans have it is a repair.  Operations that follow from a change are not told again.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Optional

from .hostd.restore import PartNames
from .model_changes import Change, compare_models
from .object_names import owner_of, what_differs
from .plan.base import Key, PlanError, Resource
from .plan.codec import decode
from .plan.nftables import Nftables
from .plan.peers import PeerTable
from .plan.plan import Plan, PlanText
from .plan.records import dataclass
from .resources.base import Operation
from .resources.boot import OTHER_VERSION

_OTHER_FORM = (AttributeError, LookupError, TypeError, ValueError)
"""What comes of a kept plan that another version wrote: the host is changed already, and the run has not failed."""

_REACHES = "reaches {} on {} ({})", "reaches {} more sandboxes on other hosts"
_KNOWS = (
    "knows {} on {} by other names or addresses",
    "knows {} sandboxes on other hosts by other names or addresses",
)
_REACHES_NO_LONGER = "no longer reaches {} on {}", "no longer reaches {} sandboxes on other hosts"
_PEERS_NAMED = 20
"""Of more endpoints on other hosts only the number is told: each host of a network tells it."""


@dataclass(frozen=True)
class Before:
    """The plan that the host kept, and its shared texts by digest; None and empty without one that can be read."""

    text: Optional[PlanText] = None
    shared: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: str, shared: Mapping[str, str]) -> Before:
        """``plan`` is the kept plan's text; "" without one."""
        try:
            return cls(PlanText.read(plan) if plan else None, shared)
        except PlanError:
            return cls(None, shared)


def changes(
    before: Before,
    after: Plan,
    text: PlanText,
    texts: Mapping[str, str],
    operations: Sequence[Operation[Any]],
    wanted: Sequence[Resource],
    broken: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The changes of a run as module results have them, those of the plan first, then repairs.

    ``text`` is that of the plan ``after``; ``wanted`` are its resources with the shared ``texts`` put in; ``broken``
    says of sandboxes in others' namespaces why they wait.
    """
    if not operations and not broken:
        return []
    try:
        found = _compared(before, after, text, texts, operations, wanted)
    except _OTHER_FORM:
        found = _by_object("change", operations, wanted)
    return [item.as_data() for item in [*found, *_waits(broken)]]


def _compared(
    before: Before,
    after: Plan,
    text: PlanText,
    texts: Mapping[str, str],
    operations: Sequence[Operation[Any]],
    wanted: Sequence[Resource],
) -> list[Change]:
    kept = before.text
    found = compare_models(kept.model if kept else {}, after.model)
    if kept:
        found += _peer_changes(after.host, before.shared, texts, {item.name for item in found if item.action == "add"})
    planned, drifted = _split(kept, after, text, operations)
    names = PartNames([*wanted, *(item.resource for item in operations)])
    return [*found, *_others(names, planned, found, after.model), *_repairs(names, drifted)]


def repairs(
    operations: Sequence[Operation[Any]], wanted: Sequence[Resource], broken: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What of the kept plan a run would bring back, and which sandboxes wait; as module results have changes."""
    names = PartNames([*wanted, *(item.resource for item in operations)])
    return [item.as_data() for item in [*_repairs(names, operations), *_waits(broken)]]


def removals(before: str, operations: Sequence[Operation[Any]]) -> list[dict[str, Any]]:
    """The changes of a teardown: what the kept plan, ``before``, had, and what else was left."""
    try:
        found = compare_models(PlanText.read(before).model if before else {}, {})
    except _OTHER_FORM:
        found = []
    return [item.as_data() for item in found or _by_object("remove", operations)]


def _by_object(action: str, operations: Sequence[Operation[Any]], wanted: Sequence[Resource] = ()) -> list[Change]:
    """What is known without the kept plan: the objects, a line a part."""
    names = PartNames([*wanted, *(item.resource for item in operations)])
    return [
        Change(action, *owner_of(part), what_differs(part, group, left_over=False))
        for part, group in names.grouped(operations).items()
    ]


def _split(
    kept: Optional[PlanText], after: Plan, text: PlanText, operations: Sequence[Operation[Any]]
) -> tuple[list[Operation[Any]], list[Operation[Any]]]:
    """Operations that the new plan asks for, and those that bring back what the kept plan had, too."""
    if kept is None:
        return list(operations), []
    known = dict(kept.resources)
    now = {own for own, _raw in text.resources}
    added = {item.key for own, raw in text.resources if own not in known for item in _decoded(raw)}
    former: dict[Key, Resource] = {
        item.key: item for own, raw in known.items() if own not in now for item in _decoded(raw)
    }
    planned: list[Operation[Any]] = []
    lost: list[Operation[Any]] = []
    keys: set[Key] = set()
    for item in operations:
        key = item.resource.key
        unchanged = key not in added and key not in former and not _is_upgrade(item)
        follows = not keys.isdisjoint(item.resource.parents)
        drifted, rest = (item, None) if unchanged and not follows else _parts_of_table(item, former.get(key), after)
        if drifted is not None:
            lost.append(drifted)
        if rest is not None:
            planned.append(rest)
            keys.add(key)
    return planned, lost


def _is_upgrade(operation: Operation[Any]) -> bool:
    """Whether the host keeps the host half of another version of the collection."""
    return operation.resource.kind == "boot" and any(item.found == OTHER_VERSION for item in operation.differences)


def _decoded(raw: Mapping[str, Any]) -> Iterable[Resource]:
    """The resource of a kept plan; nothing if it is of another version's form."""
    try:
        return [decode(dict(raw))]
    except (PlanError, TypeError, ValueError):
        return []


def _parts_of_table(
    item: Operation[Any], former: Optional[Resource], after: Plan
) -> tuple[Optional[Operation[Any]], Optional[Operation[Any]]]:
    """A change of a table that both plans have, split into the sets and chains that drifted, and the others."""
    if item.action != "change" or not isinstance(former, Nftables):
        return None, item
    wanted = next((each for each in after.resources if each.key == item.resource.key), None)
    if not isinstance(wanted, Nftables):
        return None, item
    parts, earlier = (
        {
            f"{noun} {part.name}": part
            for noun, group in (("set", table.sets), ("chain", table.chains))
            for part in group
        }
        for table in (wanted, former)
    )
    drifted = tuple(
        each
        for each in item.differences
        if each.attribute in parts and parts[each.attribute] == earlier.get(each.attribute)
    )
    rest = tuple(each for each in item.differences if each not in drifted)
    return (
        Operation("change", item.resource, item.found, drifted) if drifted else None,
        Operation("change", item.resource, item.found, rest) if rest else None,
    )


def _waits(broken: Mapping[str, str]) -> list[Change]:
    return [Change("wait", "sandbox", name, f"sandbox {name}: {why}") for name, why in sorted(broken.items())]


def _repairs(names: PartNames, operations: Iterable[Operation[Any]]) -> list[Change]:
    """A line a part; a sandbox that is missing as a whole, or a network, is one line."""
    groups = names.grouped(operations)
    lost = {
        part
        for part, group in groups.items()
        if any(item.action == "create" and item.resource.kind == "namespace" for item in group)
    }
    return [
        Change("repair", *owner_of(part), what_differs(part, group))
        for part, group in groups.items()
        if part in lost or not lost.intersection((f"sandbox {owner_of(part)[1]}", part.partition(" in ")[0]))
    ]


def _others(
    names: PartNames, planned: Iterable[Operation[Any]], found: Sequence[Change], model: Mapping[str, Any]
) -> list[Change]:
    """What the plan changes beside what the models tell: settings, options, other versions of what the host keeps."""
    touched = {(item.kind, item.name) for item in found}
    networks = {name for kind, name in touched if kind == "network"} | {one for item in found for one in item.about}
    services = any(kind == "service" for kind, _name in touched)
    result = []
    for part, group in names.grouped(planned).items():
        kind, name = owner_of(part)
        endpoints = (model.get("sandboxes", {}).get(name) or {}).get("endpoints", ())
        follows = {
            "host": bool(found),
            "network": name in networks,
            "sandbox": (kind, name) in touched
            or services
            or any(endpoint["network"] in networks for endpoint in endpoints),
        }[kind]
        if not follows:
            result.append(Change("change", kind, name, what_differs(part, group, left_over=False)))
    return result


def _peer_changes(host: str, kept: Mapping[str, str], texts: Mapping[str, str], added: Iterable[str]) -> list[Change]:
    """Endpoints on other hosts that the host hears of, or hears no more of, by peer tables."""
    former = {table.network: table for table in map(_peer_table, _only_in(kept, texts)) if table is not None}
    result = []
    for table in map(_peer_table, _only_in(texts, kept)):
        if table is None or table.network not in former or table.network in added:
            continue
        old, new = (
            {(item.sandbox, item.host): item for item in each.endpoints if item.host != host}
            for each in (former[table.network], table)
        )
        groups = (
            (new.keys() - old.keys(), _REACHES),
            ({key for key in new.keys() & old.keys() if new[key] != old[key]}, _KNOWS),
            (old.keys() - new.keys(), _REACHES_NO_LONGER),
        )
        for keys, (one, many) in groups:
            if len(keys) > _PEERS_NAMED:
                text = f"{table.network} {many.format(len(keys))}"
                result.append(Change("change", "network", table.network, text))
                continue
            for sandbox, where in sorted(keys):
                found = new.get((sandbox, where)) or old[sandbox, where]
                addresses = ", ".join(address.partition("/")[0] for address in found.addresses)
                text = f"{table.network} {one.format(sandbox, where, addresses)}"
                result.append(Change("change", "network", table.network, text, (sandbox,)))
    return result


def _only_in(texts: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    return [text for digest, text in sorted(texts.items()) if digest not in others]


def _peer_table(text: str) -> Optional[PeerTable]:
    try:
        return PeerTable.from_json(text)
    except PlanError:
        return None  # a text of another kind, such as names
