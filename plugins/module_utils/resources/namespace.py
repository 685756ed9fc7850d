# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Network namespaces.  Ours are recorded; the alias of ``lo`` is for readers, and for a host that lost the record.

Foreign namespaces are given a name, which is recorded, and their ``lo`` is not changed.  If a process blocks our
nftables table or a namespace cannot be read, our own is recreated and a foreign one is left out of the run.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Optional, Union

from ..kernel import namespaces, netlink, netns_owners
from ..kernel.host import Host, try_send
from ..kernel.netns_owners import Owned, OwnerError, Silent
from ..plan.base import Key
from ..plan.families import FORWARDING
from ..plan.links import Namespace
from ..plan.marks import SINGLE_OBJECT, mark, project_of, role_of, table_name
from ..state.sysctls import forget_namespace
from . import foreign_netns_records, own_namespaces
from .base import Difference, Found, Kind, Operation
from .foreign_netns_records import Record
from .occupants import is_for_users, occupants
from .own_namespaces import Own
from .sysctl import sysctl_path

_OPEN_AT_ONCE = 200
_OWNERS_NAMESPACE = "owner's namespace"
_RECORD = "record"
_CONTENT = "content"


def _not_forwarded(host: Host, name: str) -> tuple[int, ...]:
    """Families that no link there forwards."""
    links = host.snapshot(name).links.values()
    return tuple(family for family in FORWARDING if not any(link[f"forwarding{family}"] for link in links))


def _forward_nothing(families: Iterable[int]) -> None:
    """Turn forwarding off for all links in the thread's namespace, and for new ones."""
    for family in families:
        path = sysctl_path(FORWARDING[family])
        if path.exists():
            path.write_text("0\n", encoding="ascii")


class NamespaceKind(Kind[Namespace]):
    """Network namespaces named in ``/run/netns``."""

    name = "namespace"
    stages = (20,)
    recreated_by = frozenset({"owner", "reference", _CONTENT})

    def __init__(self) -> None:
        self._own: dict[str, Own] = {}
        """Our namespaces that exist."""
        self._is_recorded = True
        self._spoiled: dict[str, str] = {}
        self._owned: dict[tuple[str, str], Union[Owned, OwnerError]] = {}
        """Each owner's namespace, or why there is none."""
        self._silent: dict[str, OwnerError] = {}
        """Owners that did not answer and are not asked again."""
        self._others: dict[str, Namespace] = {}
        """Namespaces that have a wanted one's name and another owner."""

    def prepare(self, host: Host, wanted: Sequence[Namespace]) -> None:
        for item in wanted:
            if item.owner and self._look_up(host, item.owner, item.reference) is None:
                host.broken.setdefault(item.name, str(self._problem(item)))

    def _look_up(self, host: Host, owner: str, reference: str) -> Optional[Owned]:
        """The owner's namespace; None if there is none.  The owner is asked once a run, and again if it has gone."""
        key = (owner, reference)
        known = self._owned.get(key)
        if known is None or (isinstance(known, Owned) and namespaces.number(known.path) != known.number):
            try:
                if owner in self._silent:
                    raise self._silent[owner]
                self._owned[key] = netns_owners.find(owner, reference, host.run_command)
            except OwnerError as problem:
                self._owned[key] = problem
                if isinstance(problem, Silent):
                    self._silent[owner] = problem
        found = self._owned[key]
        return found if isinstance(found, Owned) else None

    def observe(self, host: Host, wanted: Sequence[Namespace]) -> dict[Key, Found[Namespace]]:
        result: dict[Key, Found[Namespace]] = {}
        wanted_by = {item.name: item for item in wanted}
        records = foreign_netns_records.records(host.project)
        known = own_namespaces.recorded(host.project)
        self._own, self._is_recorded = {}, known is not None
        planned = own_namespaces.planned(host.project) if known is None else set()
        verified = {tuple(look[:2]) for look in host.verified_tables.values()}
        within = host.within if known is not None else None
        for name, number in namespaces.numbers().items():
            if name in records and records[name].is_of(number):
                continue
            if within is not None and name not in within:
                if known is not None and name in known and known[name].number == number:
                    self._own[name] = known[name]  # so that it stays on record
                continue
            loopback = host.snapshot(name).links.get("lo", {})
            alias = loopback.get("alias", "")
            role = role_of(alias, host.project)
            own = known.get(name) if known is not None else _own(name, number, role, planned)
            if own is not None and own.number == number:
                self._own[name] = own
                host.own_namespaces.add(name)
                if name in host.unreadable:
                    host.spoiled[name] = host.unreadable[name]
                elif host.snapshot(name).generation not in verified and _has_owned_table(host, name):
                    host.spoiled[name] = f"a process in it owns the nftables table {table_name(host.project)}"
            elif project_of(alias) in (None, host.project):
                host.foreign_namespaces.add(name)
            if name in self._own or name in wanted_by:
                up, not_forwarded = bool(loopback.get("up")), _not_forwarded(host, name)
                found = Namespace(name, role or "", up, no_forwarding=not_forwarded)
                stale = name in self._own and host.prunes(self._own[name].role)
                result[found.key] = Found(found, ours=name in self._own, stale=stale)
        for name in sorted(records.keys() - host.own_namespaces):
            if name in host.left_out or (within is not None and name not in within):
                continue
            attached = self._attached(host, name, records[name], wanted_by.get(name))
            if attached is not None:
                result[attached.key] = Found(attached, stale=host.prunes(attached.role))
        self._attach_to(host, wanted, result)
        self._find_broken(host, wanted)
        self._spoiled = dict(host.spoiled)
        # Otherwise they would be observed a second time under other names; those that are left out or broken too.
        numbers = {host.number(name) for name in host.attached}
        numbers |= {it.number for name, it in records.items() if foreign_netns_records.mounted(name) == it.number}
        host.foreign_namespaces -= {
            name for name in host.foreign_namespaces if foreign_netns_records.mounted(name) in numbers
        }
        for name in host.foreign_namespaces:
            host.disown(name)
        return result

    def _attached(self, host: Host, name: str, record: Record, want: Optional[Namespace]) -> Optional[Namespace]:
        """A recorded namespace as found; None if another one has its name and is wanted as ours."""
        there = foreign_netns_records.mounted(name)
        if not record.is_of(there):
            return None if want is not None else Namespace(name, record.role, owner=record.owner)
        same = want is not None and (want.owner, want.reference) == (record.owner, record.reference)
        owned = self._look_up(host, record.owner, record.reference) if same or there is None else None
        current = owned is not None and there == owned.number
        if owned is not None and not current and (same or owned.number == record.number):
            host.paths[name] = owned.path
        if there is not None or name in host.paths:
            host.attached.add(name)
        paths = owned.files if owned is not None and same else {key: item.path for key, item in record.files.items()}
        files = foreign_netns_records.found_files(paths, record)
        attached = current or not same
        return Namespace(name, record.role, True, record.owner, record.reference, attached, files)

    def _attach_to(self, host: Host, wanted: Sequence[Namespace], result: dict[Key, Found[Namespace]]) -> None:
        """Read the owner's namespace if the owner itself has named it or nothing has the name."""
        self._others = {}
        for item in wanted:
            owned = self._owned.get((item.owner, item.reference)) if item.owner else None
            found = result.get(item.key)
            if (
                found is not None
                and found.ours
                and (found.resource.owner, found.resource.reference)
                != (
                    item.owner,
                    item.reference,
                )
            ):
                self._others[item.name] = found.resource
            if not isinstance(owned, Owned) or (found is not None and found.ours):
                continue
            there = foreign_netns_records.mounted(item.name)
            if there in (None, owned.number):
                result.pop(item.key, None)
                host.foreign_namespaces.discard(item.name)
                host.attached.add(item.name)
                host.paths[item.name] = owned.path

    def _find_broken(self, host: Host, wanted: Sequence[Namespace]) -> None:
        """Record which foreign namespaces cannot be sandboxes, and why; the run does not change these."""
        numbers: dict[int, Namespace] = {}
        files: dict[str, Namespace] = {}
        for item in wanted:
            owned = self._owned.get((item.owner, item.reference))
            if not isinstance(owned, Owned):
                continue
            problem = self._unfit(host, item, owned, numbers)
            for path in owned.files.values():
                if foreign_netns_records.too_large(path):
                    problem = f"its {path} is larger than 1 MB: make it smaller"
                if (other := files.setdefault(path, item)) is not item:
                    problem = f"its {path} is also that of {other.name}: give each its own file"
            if problem:
                host.broken.setdefault(item.name, problem)
        # Its content is not read, as it may be another sandbox's.
        host.attached -= host.broken.keys()

    def _unfit(self, host: Host, item: Namespace, owned: Owned, numbers: dict[int, Namespace]) -> str:
        """Why the owner's namespace cannot be a sandbox; "" if it can."""
        there = item.name in host.attached and owned.number == host.number(item.name)
        namespace = item.name if there else owned.path
        links = host.snapshot(namespace).links
        who = netns_owners.words(item.owner, item.reference)
        other = numbers.setdefault(owned.number, item)
        if other is not item:
            return f"{who} is already the namespace of the sandbox {other.name}: declare only one of the two"
        if namespace in host.unreadable:
            return host.unreadable[namespace]
        loopback = links.get("lo", {})
        if project_of(str(loopback.get("alias", ""))) is not None:
            return f"{who} is a namespace that this collection created: connect its sandbox instead"
        if not loopback.get("up"):
            return f"lo is down in the namespace of {who}, and the resolver listens on it: bring it up there"
        if item.name in self._others:
            foreign = sorted(
                name for name, link in links.items() if name != "lo" and role_of(link["alias"], host.project) is None
            )
            if foreign:
                return (
                    f"the namespace of {who} already has {', '.join(f'link {name}' for name in foreign)}: remove it "
                    "there"
                )
        return ""

    def differences(self, wanted: Namespace, found: Namespace) -> list[Difference]:
        result = [
            Difference(name, getattr(wanted, name), getattr(found, name))
            for name in ("role", "owner", "reference")
            if getattr(wanted, name) != getattr(found, name)
        ]
        if not wanted.owner:
            if wanted.loopback_up != found.loopback_up:
                result.append(Difference("loopback_up", wanted.loopback_up, found.loopback_up))
            if set(wanted.no_forwarding) - set(found.no_forwarding):
                result.append(Difference("no_forwarding", wanted.no_forwarding, found.no_forwarding))
            if not self._is_recorded:
                result.append(Difference(_RECORD, "kept", "lost"))
            if found.name in self._spoiled:
                result.append(Difference(_CONTENT, "can be changed", self._spoiled[found.name]))
            return result
        who = netns_owners.words(wanted.owner, wanted.reference)
        if wanted.attached and not found.attached:
            result.append(Difference(_OWNERS_NAMESPACE, f"that of {who}", "another, or none"))
        result += [
            Difference(name, text, found.files[name])
            for name, text in sorted(wanted.files.items())
            if found.attached and name in found.files and found.files[name] != text
        ]
        return result

    def check_operations(self, host: Host, operations: Sequence[Operation[Namespace]]) -> list[str]:
        """Processes in namespaces of ours that are to go; one that is made anew for its own sake is not asked."""
        going = {each.resource.name for each in operations if each.action == "delete" or "owner" in each.fixed}
        own = {name: item for name, item in self._own.items() if name in going and is_for_users(item.role)}
        if not (own and host.spares_processes):
            return []
        result = []
        for name, words in occupants({name: item.number for name, item in own.items()}).items():
            alone = own[name].role.startswith(SINGLE_OBJECT)
            result.append(
                f"{'namespace' if alone else 'sandbox'} {name} is to be removed, and processes run in it: {words}. End "
                f"them, or remove it all the same with -e cnm_force=true{' (the module: with force: true)' * alone}"
            )
        return result

    def create(self, host: Host, resources: Sequence[Namespace]) -> None:
        for resource in resources:
            if resource.owner:
                self._attach(host, resource)
        own = [resource for resource in resources if not resource.owner]
        for start in range(0, len(own), _OPEN_AT_ONCE):
            self._make(host, own[start : start + _OPEN_AT_ONCE])

    def _make(self, host: Host, resources: Sequence[Namespace]) -> None:
        """Record namespaces before naming them, so that an interrupted run leaves no unrecorded one."""

        def prepare() -> None:
            _forward_nothing(resource.no_forwarding)
            with netlink.Netlink() as socket:
                socket.send([netlink.set_link(1, alias=mark(host.project, resource.role), up=True)])

        made = []
        try:
            for resource in resources:
                made.append(namespaces.make(prepare))
                self._own[resource.name] = Own(os.fstat(made[-1]).st_ino, resource.role)
            own_namespaces.record(host.project, self._own)
            for resource, descriptor in zip(resources, made):
                namespaces.name_it(resource.name, descriptor)
                host.own_namespaces.add(resource.name)
        finally:
            for descriptor in made:
                os.close(descriptor)

    def _attach(self, host: Host, resource: Namespace, known: Optional[Record] = None) -> None:
        """``known`` is its record."""
        owned = self._look_up(host, resource.owner, resource.reference)
        if owned is None:
            raise self._problem(resource)
        files = foreign_netns_records.put(owned, resource, known.files if known is not None else {})
        is_there = foreign_netns_records.mounted(resource.name) == owned.number
        named = not is_there or (known is not None and known.named) or self._has_ours(host, owned.path)
        record = Record(resource.role, resource.owner, resource.reference, owned.number, named, files)
        foreign_netns_records.keep(host.project, resource.name, record)
        if not is_there:
            namespaces.attach(resource.name, owned.path)
        host.attached.add(resource.name)
        foreign_netns_records.write(files, resource.files)
        if resource.files and "resolv.conf" not in files:
            owner = netns_owners.words(resource.owner, resource.reference)
            host.warnings.append(
                f"{resource.name}: {owner} has no resolv.conf of its own on the host, so names do not resolve in it. "
                "Start it with a file mounted as /etc/resolv.conf (docs/namespaces.md)"
            )

    @staticmethod
    def _has_ours(host: Host, namespace: str) -> bool:
        """Whether it has links of ours: then we gave it the name, even if the record is lost."""
        return any(role_of(link["alias"], host.project) is not None for link in host.links(namespace).values())

    def _problem(self, resource: Namespace) -> OwnerError:
        problem = self._owned[(resource.owner, resource.reference)]
        return problem if isinstance(problem, OwnerError) else OwnerError(resource.name)

    def change(self, host: Host, operations: Sequence[Operation[Namespace]]) -> None:
        for operation in operations:
            wanted = operation.resource
            if wanted.owner:
                self._reattach(host, wanted)
                continue
            role = wanted.role or self._own[wanted.name].role
            self._own[wanted.name] = Own(namespaces.inode(wanted.name), role)
            host.send(wanted.name, [netlink.set_link(1, alias=mark(host.project, role), up=wanted.loopback_up)])
            if any(difference.attribute == "no_forwarding" for difference in operation.differences):
                host.run_in(wanted.name, _forward_nothing, wanted.no_forwarding)
        if any(not operation.resource.owner for operation in operations):
            own_namespaces.record(host.project, self._own)

    def _reattach(self, host: Host, wanted: Namespace) -> None:
        """Attach the owner's present namespace, and write its files."""
        record = foreign_netns_records.records(host.project).get(wanted.name)
        owned = self._look_up(host, wanted.owner, wanted.reference)
        if record is not None and owned is not None and record.number != owned.number:
            self._let_go(host, wanted.name, record)
            forget_namespace(wanted.name)
        self._attach(host, wanted, record)

    def _let_go(self, host: Host, name: str, record: Record) -> None:
        """Remove the name, and also our objects in it, as a process may keep the namespace open."""
        if not record.named or foreign_netns_records.mounted(name) != record.number:
            return
        path = f"{namespaces.DIRECTORY}/{name}"
        links = host.snapshot(path).links.values()
        ours = [link["index"] for link in links if host.prunes(role_of(link["alias"], host.project))]
        # Its root can keep objects from being removed; those are left.
        host.run_in(path, try_send, [netlink.del_link(index) for index in ours])
        namespaces.delete(name)

    def delete(self, host: Host, resources: Sequence[Namespace]) -> None:
        for resource in resources:
            if resource.owner:
                self._detach(host, resource)
            else:
                namespaces.delete(resource.name)
                self._own.pop(resource.name, None)
            forget_namespace(resource.name)
        own_namespaces.record(host.project, self._own)

    def _detach(self, host: Host, resource: Namespace) -> None:
        record = foreign_netns_records.records(host.project).get(resource.name)
        if record is not None:
            foreign_netns_records.put_back(record.files)
            self._let_go(host, resource.name, record)
        foreign_netns_records.drop(host.project, resource.name)

    def remove_partial_files(self, host: Host, resource: Namespace) -> None:
        """Remove the empty file that a namespace was, or was to be, mounted on."""
        path = Path(namespaces.DIRECTORY) / resource.name
        if not namespaces.exists(resource.name) and path.is_file() and path.stat().st_size == 0:
            namespaces.delete(resource.name)
        foreign_netns_records.remove_partial_files(host.project, resource.name)
        own, there = self._own.get(resource.name), foreign_netns_records.mounted(resource.name)
        if own is None or own.number != there:
            # It was recorded but never named.
            own_namespaces.drop(host.project, resource.name)
        own_namespaces.remove_partial_files(host.project)


def _own(name: str, number: int, role: Optional[str], planned: Container[str]) -> Optional[Own]:
    """The role in the alias of ``lo``, used if the record is lost."""
    ours = role is not None and name in planned and not namespaces.is_of_another_user(name)
    return Own(number, role or "") if ours else None


def _has_owned_table(host: Host, name: str) -> bool:
    """Whether a process owns our table in a namespace, so that nobody else can change or remove it."""
    own = table_name(host.project)
    return any(table.owned and table.name == own for table in host.tables(name).values())
