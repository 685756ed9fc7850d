# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Bring a host back to its kept plan without a controller: after a boot, or when its firewall's rules were flushed.

All at once if that works.  Else part by part, so that what cannot be restored (a network whose parent link is missing,
a sandbox whose owner does not run) keeps nothing else from being restored.  Nothing is brought up without the rules
that guard it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Optional

from ..engine import engine, gratuitous_arp
from ..engine.expand_plan import expand_plan
from ..engine.reporting import namespaces_of
from ..kernel import mounts
from ..kernel.host import Host
from ..kernel.nft import RunCommand
from ..plan.base import Key, PlanError, Resource
from ..plan.encryption import Xfrm
from ..plan.families import FORWARDING
from ..plan.forms import printable
from ..plan.frr import Frr
from ..plan.links import Link, Namespace
from ..plan.marks import OTHERS, PORT
from ..plan.nftables import DockerUser, Nftables
from ..plan.plan import Plan
from ..plan.records import dataclass
from ..plan.settings import Sysctl, Target
from ..resources.base import Operation
from ..resources.foreign_netns_records import mounted, records
from ..resources.sysctl import host_forwards
from ..state.files import boot_id, forget, load, write_atomically
from ..state.kept import State
from ..state.lock import Locked, locked
from ..state.sysctls import original_values
from .rules import keep_rules

LOCK_PATIENCE = 240.0
"""Seconds: a run of Ansible's may be under way, which brings everything about by itself."""

ERRORS = (PlanError, Locked, *engine.EXPECTED)
"""What a host can cause when its kept plan is read, compared and restored."""

_GUARDS = "the rules of the host"
_ENCRYPTION = "encryption"
_RECORD = "restored.json"


def kept_resources(project: str, kept: Mapping[str, Any]) -> list[Resource]:
    """The resources of the kept plan, with shared texts expanded, as they are right in this boot.  Raises PlanError.

    Whether the host forwards without us was read when the plan was made, and may be otherwise by now.
    """
    resources = expand_plan(Plan.from_json(kept["plan"]), State(project).shared())
    turned_on = {item.name for item in resources if isinstance(item, Sysctl) and not item.namespace}
    families = [family for family, name in FORWARDING.items() if name in turned_on]
    right = {
        f"meta nfproto ipv{family} {wrong}": f"meta nfproto ipv{family} {verdict}"
        for family in families
        for verdict, wrong in (("accept", "drop") if host_forwards(family) else ("drop", "accept"),)
    }
    recorded = original_values()
    return [_in_this_boot(item, right, recorded) for item in resources]


def _in_this_boot(item: Resource, right: Mapping[str, str], recorded: Container[str]) -> Resource:
    """``right`` has the rules to replace in the chain for traffic that is not ours."""
    if isinstance(item, Sysctl) and item.former is not None and item.name not in recorded:
        return replace(item, former=None)
    if isinstance(item, Nftables) and not item.namespace:
        chains = (
            replace(chain, rules=tuple(right.get(rule, rule) for rule in chain.rules))
            if chain.name == OTHERS
            else chain
            for chain in item.chains
        )
        return replace(item, chains=tuple(chains))
    return item


@dataclass
class Restored:
    """What a restore came to: each part of the plan by name, ``sandbox c1`` or ``network front``."""

    changed: dict[str, int] = field(default_factory=dict)
    """Parts that were not as planned and are now, with the number of operations that took."""
    failed: dict[str, str] = field(default_factory=dict)
    """Parts that could not be restored, and why, as a sentence."""
    removed: set[str] = field(default_factory=set)
    """Parts that are no more, as the namespace that they were in is another's and has ended."""
    warnings: list[str] = field(default_factory=list)


@dataclass
class Part:
    """Resources that are restored together or not at all, and the names of the parts they need."""

    name: str
    resources: list[Resource] = field(default_factory=list)
    needs: set[str] = field(default_factory=set)

    @property
    def sandboxes(self) -> set[str]:
        """Names of the namespaces that are in the part, or its resources in them."""
        found = {name for item in self.resources for name in namespaces_of(item)}
        return found | {item.name for item in self.resources if isinstance(item, Namespace)}


def parts_of(resources: Sequence[Resource]) -> list[Part]:
    """The plan's parts, each after those it needs.  Pure."""
    names = PartNames(resources)
    parts: dict[str, Part] = {}
    home: dict[Key, str] = {}
    inside: dict[str, set[str]] = {}
    for item in resources:
        name = names.part_of(item)
        parts.setdefault(name, Part(name)).resources.append(item)
        home[item.key] = name
        inside.setdefault(getattr(item, "namespace", ""), set()).add(name)
    for part in parts.values():
        wanted = {home[key] for item in part.resources for key in _needed(item) if key in home}
        for item in part.resources:
            if isinstance(item, Target):  # applications need all that their sandbox has
                wanted |= inside[item.namespace]
        part.needs = wanted - {part.name}
        if _GUARDS in parts and part.name != _GUARDS:
            part.needs.add(_GUARDS)
        if _ENCRYPTION in parts and any(_is_encrypted(item) for item in part.resources):
            part.needs.add(_ENCRYPTION)
    return _in_order(parts)


def _is_encrypted(item: Resource) -> bool:
    return isinstance(item, Link) and item.vxlan is not None and item.vxlan.source_port != 0


def _needed(item: Resource) -> Iterable[Key]:
    """Keys of objects that must exist before this one can be made."""
    yield from item.parents
    where = getattr(item, "namespace", "")
    if where:
        yield ("namespace", where)
    link = getattr(item, "link", "")
    if link:
        yield ("link", where, link)
    if isinstance(item, Link):
        if item.peer is not None and item.peer.master:
            yield ("link", item.peer.namespace, item.peer.master)
        if item.port is not None:
            yield ("link", where, item.port.master)


def _keys(resources: Iterable[Resource]) -> set[Key]:
    """Their keys and those of the far ends of their pairs.

    A far end is found under a key of its own when the sandbox's end is in a namespace that has no name any more.
    """
    found: set[Key] = set()
    for item in resources:
        found.add(item.key)
        if isinstance(item, Link) and item.peer is not None:
            found.add((item.kind, item.peer.namespace, item.peer.name))
    return found


class PartNames:
    """Which part of a plan a resource belongs to."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        resources = list(resources)
        links = [item for item in resources if isinstance(item, Link)]
        self._roles = {item.name: item.role for item in resources if isinstance(item, Namespace)}
        self._links = {(item.peer.namespace, item.peer.name): item for item in links if item.peer is not None}
        self._links.update({(item.namespace, item.name): item for item in links})

    def grouped(self, operations: Iterable[Operation[Any]]) -> dict[str, list[Operation[Any]]]:
        """Operations by the part that each concerns, sorted by its name."""
        result: dict[str, list[Operation[Any]]] = {}
        for operation in operations:
            result.setdefault(self.part_of(operation.resource), []).append(operation)
        return dict(sorted(result.items()))

    def part_of(self, item: Resource) -> str:
        if isinstance(item, Xfrm):
            return _ENCRYPTION
        where = str(getattr(item, "namespace", ""))
        if isinstance(item, Frr):
            return "BGP EVPN"
        if isinstance(item, Target):
            return f"applications in sandbox {where}"
        if not where and (isinstance(item, Nftables) or item.kind == "rule"):
            return _GUARDS
        link = item if isinstance(item, Link) else self._links.get((where, self._link_named_by(item, where)))
        if link is not None:
            return self._of_link(link)
        if item.kind == "namespace":
            return self._of_namespace(item.key[1])
        if where:
            # What serves the whole sandbox, its names and rules, comes with its namespace.
            return self._of_namespace(where)
        if item.kind == "file" and item.key[1].startswith("/etc/netns/"):
            return self._of_namespace(item.key[1].rpartition("/")[2])
        if item.kind == "names":
            return f"file {item.label}"
        return f"{item.kind} {item.label}"

    def _link_named_by(self, item: Resource, where: str) -> str:
        if isinstance(item, Sysctl):
            dotted = {name.replace(".", "/"): name for space, name in self._links if space == where}
            return next((name for segment, name in dotted.items() if f".{segment}." in item.name), "")
        return str(getattr(item, "link", ""))

    def _of_namespace(self, name: str) -> str:
        role = self._roles.get(name, "")
        noun, _slash, rest = role.partition("/")
        return f"sandbox {name}" if noun in ("sandbox", "") else f"network {rest}"

    def _of_link(self, link: Link) -> str:
        role = link.role[len(PORT) :] if link.role.startswith(PORT) else link.role
        noun, _slash, rest = role.partition("/")
        if noun == "endpoint":
            network, _slash, sandbox = rest.partition("/")
            return f"network {network} in sandbox {sandbox or link.namespace}"
        if noun in ("parent", "") or not rest:
            return f"link {link.label}"
        return f"network {rest.rpartition('network/')[2]}"


def _in_order(parts: Mapping[str, Part]) -> list[Part]:
    """Each after those it needs; what goes in a circle, which no plan has, comes as it is."""
    result: list[Part] = []
    done: set[str] = set()

    def add(name: str) -> None:
        if name not in done and name in parts:
            done.add(name)
            for other in sorted(parts[name].needs):
                add(other)
            result.append(parts[name])

    for name in sorted(parts):
        add(name)
    return result


class Restoration:
    """One restore of one project."""

    def __init__(self, project: str, run_command: RunCommand, command: str) -> None:
        """``command`` is `Host.command`."""
        self._project = project
        self._run_command = run_command
        self._command = command
        self._state = State(project)
        self._left_out: frozenset[str] = frozenset()
        self._undone: set[str] = set()
        """Parts that could not be made, though they could be tried."""

    def run(self, rules_only: bool = False, own: bool = False) -> Restored:
        """Restore everything, or what guards the host alone.  Raises Locked, PlanError and Unsafe.

        With ``own`` without sandboxes in others' namespaces: an engine may wait for the network, which waits for this.
        """
        with self._locked():
            result = Restored()
            kept = self._kept()
            resources = kept_resources(self._project, kept)
            cut_off = None if rules_only else self._state.cut_off(kept)
            if cut_off is not None:
                result.warnings.append(
                    f"a run was cut off while it brought this host to a plan of revision {cut_off}: it has "
                    f"that of revision {kept['revision']} again. Run cnm.fabric.site"
                )
            if rules_only:
                guards = [part for part in parts_of(resources) if part.name == _GUARDS]
                self._restore_parts(guards, result)
                self._note(result, {part.name for part in guards})
            else:
                owned = (item.name for item in resources if isinstance(item, Namespace) and item.owner)
                self._left_out = frozenset(owned if own else ())
                parts = parts_of(resources)
                untried = {part.name for part in parts if not self._left_out.isdisjoint(part.sandboxes)}
                self._all(resources, [part for part in parts if part.name not in untried], result)
                self._note(result, last_failures(self._project).keys() - untried, {})
                if not result.failed:
                    self._state.forget_cut_off()
            if _GUARDS not in result.failed:
                keep_rules(self._project, resources)  # as they are right in this boot
            return result

    def connect(self, sandboxes: Mapping[str, Optional[int]], result: Restored) -> None:
        """Restore sandboxes in others' namespaces alone, looking at nothing but what they need.  Raises as `run`.

        ``sandboxes`` has the namespace of each, as `namespaces.cookie` tells them apart.
        """
        with self._locked():
            parts, within = self._parts_in(sandboxes)
            self._restore_parts(parts, result, within)
            undone = {name for part in parts if part.name in self._undone for name in part.sandboxes}
            tried = {name: cookie for name, cookie in sandboxes.items() if name in undone}
            self._note(result, {part.name for part in parts}, {**last_tried(self._project), **tried})

    def disconnect(self, sandboxes: Iterable[str], ended: Callable[[str], str], result: Restored) -> None:
        """Remove what is ours of sandboxes whose owners have ended; ``ended`` gives the sentence that says so, or "".

        It is asked while nobody else changes the host.  Raises as `run`.
        """
        with self._locked():
            sandboxes = {name: why for name in sandboxes if (why := ended(name))}
            parts, within = self._parts_in(sandboxes)
            there = records(self._project).keys() & sandboxes.keys()
            result.removed.update(f"sandbox {name}" for name in there if mounted(name) is not None)
            if there:
                self._converge((), _keys(item for part in parts for item in part.resources), result, within)
            result.failed.update({f"sandbox {name}": why for name, why in sandboxes.items()})
            self._note(result, {part.name for part in parts})

    def open_docker(self, result: Restored) -> None:
        """Restore our rule in the chain that Docker makes anew whenever it starts.  Raises as `run`."""
        with self._locked():
            parts = [part for part in parts_of(self._resources()) if isinstance(part.resources[0], DockerUser)]
            self._restore_parts(parts, result, frozenset())
            self._note(result, {part.name for part in parts})

    def note(self, failed: Mapping[str, str]) -> None:
        """Keep, for ``cnm status``, why parts cannot even be tried."""
        with self._locked():
            self._note(Restored(failed=dict(failed)), failed.keys())

    def _parts_in(self, sandboxes: Collection[str]) -> tuple[list[Part], frozenset[str]]:
        """Parts of the plan in sandboxes, and the namespaces that these reach into."""
        parts = [part for part in parts_of(self._resources()) if not part.sandboxes.isdisjoint(sandboxes)]
        reached = {name for part in parts for item in part.resources for name in namespaces_of(item)}
        return parts, frozenset({*reached, *sandboxes})

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        if mounts.are_private():
            raise PlanError(f"restoring networks {mounts.REFUSAL}")
        return locked(f"cnm restore of project {self._project}", LOCK_PATIENCE)

    def _kept(self) -> dict[str, Any]:
        kept = self._state.kept
        if not kept:
            raise PlanError("no plan is kept, or it is damaged: run cnm.fabric.site")
        return kept

    def _resources(self) -> list[Resource]:
        return kept_resources(self._project, self._kept())

    def _all(self, resources: list[Resource], parts: list[Part], result: Restored) -> None:
        try:
            operations = self._converge(resources, None, result)
        except engine.EXPECTED:
            self._restore_parts(parts, result)
        else:
            self._count(operations, resources, result)

    def _restore_parts(self, parts: list[Part], result: Restored, within: Optional[frozenset[str]] = None) -> None:
        """Restore parts, each after those it needs.  Halves what fails until what is at fault stands alone."""
        ready = []
        for part in parts:
            missing = sorted(part.needs & result.failed.keys())
            if missing:
                result.failed[part.name] = f"needs {missing[0]}, which could not be restored"
            else:
                ready.append(part)
        if not ready:
            return
        resources = [item for part in ready for item in part.resources]
        try:
            operations = self._converge(resources, _keys(resources), result, within)
        except engine.EXPECTED as error:
            if len(ready) == 1:
                result.failed[ready[0].name] = engine.sentence(error)
                self._undone.add(ready[0].name)
                return
            self._restore_parts(ready[: len(ready) // 2], result, within)
            self._restore_parts(ready[len(ready) // 2 :], result, within)
            return
        self._count(operations, resources, result)

    @staticmethod
    def _count(operations: Iterable[Operation[Any]], resources: Iterable[Resource], result: Restored) -> None:
        """Add operations to what has changed of the parts of these resources."""
        for name, group in PartNames(resources).grouped(operations).items():
            result.changed[name] = result.changed.get(name, 0) + len(group)

    def _converge(
        self, resources: Sequence[Resource], only: Any, result: Restored, within: Optional[frozenset[str]] = None
    ) -> Sequence[Any]:
        with Host(self._project, self._run_command) as host:
            host.command = self._command
            host.within, host.left_out = within, self._left_out
            host.broken.update(dict.fromkeys(self._left_out, "left out"))
            host.pair_keys, host.bgp_password = self._state.pair_keys, self._state.bgp_password
            host.verified_tables = self._state.verified_tables
            worker = engine.Engine(host)
            try:
                operations: Sequence[Any] = worker.converge(resources, check=False, only=only)
            except engine.Broken as error:
                operations = error.operations
                broken = {name: why for name, why in host.broken.items() if name not in self._left_out}
                result.failed.update({f"sandbox {name}": why for name, why in broken.items()})
            if only is None:
                self._state.keep_verified_tables(host.verified_tables)
            gratuitous_arp.announce(gratuitous_arp.due(operations, resources))
            result.warnings += worker.warnings
            return operations

    def _note(
        self, result: Restored, tried: Collection[str], in_vain: Optional[Mapping[str, Optional[int]]] = None
    ) -> None:
        """Keep until the next boot what could not be restored of the parts that were tried, for ``cnm status``.

        ``in_vain`` is what `last_tried` returns from now on, if that changes.
        """
        before = last_failures(self._project)
        failed = {name: why for name, why in before.items() if name not in tried}
        failed.update({name: printable(why) for name, why in result.failed.items()})
        if failed:
            in_vain = last_tried(self._project) if in_vain is None else in_vain
            record = {"boot": boot_id(), "failed": failed, "tried": dict(in_vain)}
            write_atomically(self._state.run / _RECORD, json.dumps(record))
        else:
            forget(self._state.run / _RECORD)


def last_failures(project: str) -> dict[str, str]:
    """What the last restore of this boot could not bring back, and why, by part; empty without one."""
    return _recorded(project, "failed")


def last_tried(project: str) -> dict[str, Optional[int]]:
    """Sandboxes that could not be connected since everything was restored, with the cookies of their namespaces."""
    return _recorded(project, "tried")


def _recorded(project: str, what: str) -> dict[str, Any]:
    record = load(State(project).run / _RECORD)
    found = record.get(what)
    return dict(found) if record.get("boot") == boot_id() and isinstance(found, dict) else {}
