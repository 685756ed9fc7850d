# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""nftables tables.

Tables are compared as nft prints them: the wanted one is loaded into a temporary namespace and printed by the same nft.
So spelling, order and version make no difference, and a rule that the kernel refuses is found before anything changes.
The mark is the table's comment.

Tables that other users can write to are listed and changed by a child process, as nft crashes on sets that a newer
version has written (1.0.6 on those of 1.1.2).  If that fails, the table is recreated by netlink as a copy of the one in
the temporary namespace; new tables are always created that way.

A verified table is not listed again until a transaction takes place in its namespace.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional, Union

from ..kernel import contained, namespaces, netfilter
from ..kernel.conntrack import forget_moved, forget_udp, program
from ..kernel.host import Host
from ..kernel.netlink import NetlinkError
from ..kernel.nft import Nft, NftError
from ..plan.base import Key
from ..plan.codec import content_digest
from ..plan.forms import (
    FormError,
    nft_any_declaration,
    nft_block,
    nft_elements,
    nft_hook,
    nft_name,
    nft_quoted,
    nft_statement,
    word,
)
from ..plan.marks import mark, role_of, table_name
from ..plan.nftables import TASKS, UDP_PORTS, Chain, Nftables, NftSet, task_set
from . import user_rules
from .base import Difference, Found, Kind, Operation
from .nftables_reading import UNREADABLE, listed, parse, user_chains

FAMILY = "inet"
FAMILIES = (FAMILY, "bridge")

_TABLE = re.compile(r"^table \S+ (\S+) \{$.*?^\}$", re.DOTALL | re.MULTILINE)


def table_reference(table: Nftables) -> str:
    """Family and name, as nft's commands want them.  Raises FormError."""
    return f"{word(table.family, FAMILIES, 'a family of ours')} {nft_name(table.name)}"


def _declare(table: Nftables, project: str) -> list[str]:
    """Commands that create the missing parts of the table."""
    table_ref = table_reference(table)
    commands = [f"add table {table_ref} {{ comment {nft_quoted(mark(project, table.role))}; }}"]
    for item in table.sets:
        commands.append(
            f"add {item.noun} {table_ref} {nft_name(item.name)} {{ {nft_any_declaration(item.declaration)} }}"
        )
    for chain in table.chains:
        hook = f" {{ {nft_hook(chain.hook)}; }}" if chain.hook else ""
        commands.append(f"add chain {table_ref} {nft_name(chain.name)}{hook}")
    return commands


def _fill(table: Nftables, sets: Sequence[NftSet], chains: Sequence[Chain]) -> list[str]:
    table_ref = table_reference(table)
    commands = []
    for item in sets:
        if item.elements:
            commands.append(f"add element {table_ref} {nft_name(item.name)} {{ {nft_elements(item.elements)} }}")
    for chain in chains:
        start = f"add rule {table_ref} {nft_name(chain.name)}"
        commands += [f"{start} {nft_statement(rule)}" for rule in chain.rules]
    return commands


def script(table: Nftables, project: str) -> str:
    """The complete table as one transaction on an empty namespace.  FormError if a part has the wrong form."""
    user_block = [f"table {table_reference(table)} {{\n{nft_block(table.users)}\n}}"] if table.users else []
    return "\n".join([*_declare(table, project), *user_block, *_fill(table, table.sets, table.chains)]) + "\n"


def transaction(wanted: Nftables, normal: Nftables, found: Nftables, project: str) -> str:
    """Commands that turn the found table into the wanted one; ``normal`` is the wanted one as nft prints it.

    Only chains that differ are flushed and filled again, and only elements of sets that differ are changed, all in one
    commit.  Raises FormError if the found table, which other users may have changed, has names or elements that cannot
    be written safely.
    """
    table_ref = table_reference(wanted)
    found_chains = {nft_name(chain.name): chain for chain in found.chains}
    found_sets = {nft_name(item.name): item for item in found.sets}
    reshaped = {c.name for c in normal.chains if c.name in found_chains and c.hook != found_chains[c.name].hook}
    reshaped_sets = {
        i.name for i in normal.sets if i.name in found_sets and i.declaration != found_sets[i.name].declaration
    }
    stale_chains = set(found_chains) - {chain.name for chain in normal.chains}
    stale_sets = set(found_sets) - {item.name for item in normal.sets}
    changed = {c.name for c in normal.chains if c != found_chains.get(c.name)} | _users_of(found, reshaped_sets)
    kept_sets = [i for i in normal.sets if i.name in found_sets and i.name not in reshaped_sets]
    fresh_sets = {item.name for item in wanted.sets} - {item.name for item in kept_sets}

    commands = [f"flush chain {table_ref} {name}" for name in sorted((changed | stale_chains) & set(found_chains))]
    commands += [f"delete chain {table_ref} {name}" for name in sorted(reshaped)]
    commands += [f"delete {found_sets[n].noun} {table_ref} {n}" for n in sorted(reshaped_sets | stale_sets)]
    fresh = replace(
        wanted,
        sets=tuple(item for item in wanted.sets if item.name in fresh_sets),
        chains=tuple(c for c in wanted.chains if c.name not in found_chains or c.name in reshaped),
    )
    if fresh.sets or fresh.chains or (normal.role, normal.flags) != (found.role, found.flags):
        # Declaring existing objects changes nothing, but nft would read the whole table for it.
        commands += _declare(fresh, project)
    for item in kept_sets:
        commands += _exchange(table_ref, item, found_sets[item.name])
    commands += _fill(
        wanted,
        fresh.sets,
        [chain for chain in wanted.chains if chain.name in changed and not chain.user],
    )
    # Deleted last, as elements of maps may have referred to them until now.
    commands += [f"delete chain {table_ref} {name}" for name in sorted(stale_chains)]
    return "".join(f"{command}\n" for command in commands)


def _exchange(table_ref: str, wanted: NftSet, found: NftSet) -> list[str]:
    """Remove and add elements that differ, so that the cost does not depend on the set's size."""
    have, want = set(found.elements), set(wanted.elements)
    commands = []
    for verb, elements in (("delete", have - want), ("add", want - have)):
        if elements:
            commands.append(f"{verb} element {table_ref} {wanted.name} {{ {nft_elements(sorted(elements))} }}")
    return commands


def _users_of(table: Nftables, names: set[str]) -> set[str]:
    """Chains with a rule that uses one of the sets."""
    return {
        chain.name
        for chain in table.chains
        if any(re.search(rf"@{re.escape(name)}\b", rule) for rule in chain.rules for name in names)
    }


class NftablesKind(Kind[Nftables]):
    """Tables, as ``nft list table`` prints them."""

    name = "nftables"
    stages = (0, 25)

    def __init__(self) -> None:
        self._normal: dict[str, Nftables] = {}
        self._copies: dict[str, netfilter.Copy] = {}
        self._project = ""
        self._texts: dict[Key, tuple[Nftables, str]] = {}

    def stage(self, resource: Nftables) -> int:
        return self.stages[0] if not resource.namespace else self.stages[1]

    def observe(self, host: Host, wanted: Sequence[Nftables]) -> dict[Key, Found[Nftables]]:
        result: dict[Key, Found[Nftables]] = {}
        verified: dict[str, list[object]] = {}
        wanted_by = {item.key: item for item in wanted}
        tables = self._candidates(host, wanted)
        looks = {table.key: self._look(host, table, wanted_by.get(table.key)) for table in tables}
        unsettled = [table for table in tables if not _is_settled(host, table, looks[table.key])]
        found_by = {**wanted_by, **listed(host, unsettled, wanted_by)}
        for table in tables:
            want, found, look = wanted_by.get(table.key), found_by.get(table.key), looks[table.key]
            if look is not None and self._is_as(host, want, found):
                verified[table.label] = look
            if found is not None and found is not want and not table.namespace and table.family == FAMILY:
                user_rules.note(host, found)
            if found is not None and (found.role or want is not None):
                # A table owned by a process is foreign, except in our namespaces, which are recreated because of it.
                process_owned = found is not want and host.tables(table.namespace)[table.family, table.name].owned
                own = bool(found.role) or (want is not None and host.repairs(table.namespace, want.role))
                ours = table.namespace in host.own_namespaces or (own and not process_owned)
                result[found.key] = Found(found, ours and own, stale=ours and host.prunes(found.role or None))
        if host.within is not None:
            looked_at = {table.label for table in tables}
            others = {label: look for label, look in host.verified_tables.items() if label not in looked_at}
            verified = {**others, **verified}
        host.verified_tables = verified if wanted else {}
        return result

    @staticmethod
    def _candidates(host: Host, wanted: Sequence[Nftables]) -> list[Nftables]:
        """Names of all tables that may be ours."""
        own_name = table_name(host.project)
        identities = {(item.namespace, item.family, item.name) for item in wanted}
        identities |= {("", family, own_name) for family in FAMILIES}
        for name in host.own_namespaces | host.attached:
            bridged = any(link["kind"] == "bridge" for link in host.snapshot(name).links.values())
            identities |= {(name, family, own_name) for family in (FAMILIES if bridged else (FAMILY,))}
        for namespace in host.observed_namespaces if host.include_module_objects else ():
            marked = [
                item for item in host.tables(namespace).values() if role_of(item.comment, host.project) is not None
            ]
            identities |= {(namespace, item.family, item.name) for item in marked if _is_sayable(item)}
        within = set(host.observed_namespaces)
        return [Nftables(*identity) for identity in sorted(identities) if identity[0] in within]

    def _look(self, host: Host, table: Nftables, want: Optional[Nftables]) -> Optional[list[object]]:
        """The entry of `Host.verified_tables` for the table once it is as wanted; ``want`` None means no table.

        None if the kernel has no generations.  The generation is read before the table is listed: if the table changes
        in between, it is only listed once more in the next run.
        """
        when = host.snapshot(table.namespace).generation
        return None if when is None else [*when, "" if want is None else content_digest(want.role + self._text(want))]

    def _is_as(self, host: Host, want: Optional[Nftables], found: Optional[Nftables]) -> bool:
        if want is None or found is None or want is found:
            return want is found
        if found.flags == UNREADABLE:
            return False
        self._learn(host, [want])
        return not self.differences(want, found)

    def prepare(self, host: Host, wanted: Sequence[Nftables]) -> None:
        """Learn how nft prints the wanted tables, except in namespaces whose tables are all verified.  Raises NftError
        if the kernel would refuse a table.
        """
        self._project = host.project
        host.own_tables = [item for item in wanted if not item.namespace]
        # A transaction on one table advances the generation of all in its namespace, so all will be listed.
        unsettled = {item.namespace for item in wanted if not _is_settled(host, item, self._look(host, item, item))}
        self._learn(host, [item for item in wanted if item.namespace in unsettled])

    def _text(self, wanted: Nftables) -> str:
        """The table's script without namespace and role.  Tables of many sandboxes then have the same text, and it is
        made only once, as scripts of a thousand elements are slow.
        """
        table, text = self._texts.get(wanted.key, (None, ""))
        if table is not wanted:
            text = script(replace(wanted, namespace="", role=""), self._project)
            self._texts[wanted.key] = (wanted, text)
        return text

    def _learn(self, host: Host, wanted: Sequence[Nftables]) -> None:
        unknown = {text: item for item in wanted if (text := self._text(item)) not in self._normal}
        if not unknown or host.nft is None:
            return
        learned = namespaces.run_in_new(_learned, host.nft, list(unknown.values()), host.project)
        for (text, item), (printed, copy) in zip(unknown.items(), learned):
            parsed = parse(printed, host.project, "", user_chains(item))
            if parsed is not None:
                self._normal[text], self._copies[text] = parsed, copy

    def _normal_of(self, wanted: Nftables) -> Nftables:
        normal = self._normal[self._text(wanted)]
        return replace(normal, namespace=wanted.namespace, name=wanted.name, role=wanted.role)

    def differences(self, wanted: Nftables, found: Nftables) -> list[Difference]:
        if wanted is found or wanted.flags == UNREADABLE:
            return []
        if found.flags == UNREADABLE:
            return [Difference("content", "as planned", "unreadable")]
        normal = self._normal_of(wanted)
        result = [
            Difference(name, getattr(normal, name), getattr(found, name))
            for name in ("role", "flags")
            if getattr(normal, name) != getattr(found, name)
        ]
        result += _compare_parts("set", normal.sets, found.sets)
        result += _compare_parts("chain", normal.chains, found.chains)
        return result

    def check_dependencies(self, host: Host, wanted: Sequence[Nftables]) -> Optional[str]:
        if wanted and host.nft is None:
            return "this host has neither libnftables nor the program nft: install the package nftables"
        tracked = [item for table in wanted for item in table.sets if item.tracks]
        needed = any(item.tracks in TASKS or any("udp" in each for each in item.elements) for item in tracked)
        if needed and program() is None:
            return "this host has no conntrack, which services and udp ports need: install the package conntrack"
        return None

    @staticmethod
    def _speak(host: Host) -> Nft:
        if host.nft is None:
            raise NftError("this host no longer has libnftables or nft: install the package nftables")
        return host.nft

    def create(self, host: Host, resources: Sequence[Nftables]) -> None:
        for item in resources:
            self._put(host, item, recreate=False)
            self._forget_flows(host, item, None)
            if not item.namespace and item.family == FAMILY and not item.users:
                user_rules.load(host, self._speak(host))

    def _put(self, host: Host, wanted: Nftables, recreate: bool) -> None:
        """Create the table; with ``recreate`` it replaces an existing one in the same transaction."""
        self._speak(host)
        self._learn(host, [wanted])
        copy, comment = self._copies[self._text(wanted)], mark(host.project, wanted.role)
        host.run_in(wanted.namespace, netfilter.put, netfilter.as_messages(copy, wanted.name, comment, recreate))

    def _forget_flows(self, host: Host, wanted: Nftables, found: Optional[Nftables]) -> None:
        """Delete stale conntrack entries: UDP flows keep their old translation (moby#44742), and connections of a
        service keep a task that is gone.
        """
        old, new = ([] if table is None else _tracked(table, wanted) for table in (found, self._normal_of(wanted)))
        before = {item.name: set(item.elements) for item in old}
        changed = [
            element
            for item in new
            if item.tracks == UDP_PORTS
            for element in set(item.elements) ^ before.get(item.name, set())
        ]
        host.run_in(wanted.namespace, forget_udp, host.run_command, changed)
        served = [[item for item in items if item.tracks in TASKS] for items in (old, new)]
        if any(served):
            host.run_in(wanted.namespace, forget_moved, host.run_command, *served)

    def change(self, host: Host, operations: Sequence[Operation[Nftables]]) -> None:
        changes = [(operation.resource, operation.found) for operation in operations if operation.found is not None]
        texts = {
            wanted.key: (wanted.namespace, self._exchanged(host, operation, operation.found))
            for operation in operations
            if operation.found is not None and operation.found.flags != UNREADABLE and (wanted := operation.resource)
        }
        with self._speak(host).together() as run:
            outcomes = contained.each(lambda command: host.run_in(command[0], run, command[1]), list(texts.values()))
        answers = dict(zip(texts, outcomes))
        for wanted, found in changes:
            answer = answers.get(wanted.key, contained.Answer(broken="unreadable"))
            if answer.error:
                host.failed_in = wanted.namespace
                raise NftError(answer.error)
            if answer.broken:
                self._put(host, _with_users(wanted, found), recreate=True)
            self._forget_flows(host, wanted, None if found.flags == UNREADABLE else found)

    def _exchanged(self, host: Host, operation: Operation[Nftables], found: Nftables) -> str:
        wanted = operation.resource
        # A table's comment cannot be changed.
        if not any(difference.attribute == "role" for difference in operation.differences):
            with contextlib.suppress(FormError):
                return transaction(wanted, self._normal_of(wanted), found, host.project)
        return f"delete table {table_reference(found)}\n{script(_with_users(wanted, found), host.project)}"

    def delete(self, host: Host, resources: Sequence[Nftables]) -> None:
        for item in resources:
            try:
                host.run_in(item.namespace, netfilter.put, [netfilter.del_table(item.family, item.name)])
            except NetlinkError as error:
                if error.errno != errno.ENOENT:
                    raise


_TASK_SETS = tuple(task_set(tracks, family) for tracks in TASKS for family in (4, 6))


def _tracked(table: Nftables, wanted: Nftables) -> list[NftSet]:
    """The tracked sets of a table as nft prints it, with what the plan says of them, which nft does not keep.  Sets of
    tasks are known even if the plan has none any more.
    """
    planned = {item.name: item for item in (*_TASK_SETS, *wanted.sets)}
    return [
        replace(item, tracks=plan.tracks, family=plan.family)
        for item in table.sets
        if (plan := planned.get(item.name)) is not None and plan.tracks
    ]


def _is_sayable(item: netfilter.Table) -> bool:
    return item.family in FAMILIES and nft_name.fits(item.name)


def _with_users(wanted: Nftables, found: Nftables) -> Nftables:
    """The wanted table with the user's chains and sets.  Root in a sandbox can change those; if they cannot be written
    again safely, they are dropped.
    """
    if found.users and wanted.namespace:
        try:
            nft_block(found.users)
        except FormError:
            return wanted
    return replace(wanted, users=found.users)


def _is_settled(host: Host, table: Nftables, look: Optional[list[object]]) -> bool:
    return look is not None and host.verified_tables.get(table.label) == look


def _contents(part: Union[Chain, NftSet, None]) -> Optional[list[str]]:
    if part is None:
        return None
    if isinstance(part, Chain):
        return [*([part.hook] if part.hook else []), *part.rules]
    return [part.declaration, *part.elements]


def _compare_parts(
    noun: str, wanted: Sequence[Union[Chain, NftSet]], found: Sequence[Union[Chain, NftSet]]
) -> list[Difference]:
    want, have = {part.name: part for part in wanted}, {part.name: part for part in found}
    return [
        Difference(f"{noun} {name}", _contents(want.get(name)), _contents(have.get(name)))
        for name in sorted(set(want) | set(have))
        if want.get(name) != have.get(name)
    ]


def _learned(nft: Nft, tables: Sequence[Nftables], project: str) -> list[tuple[str, netfilter.Copy]]:
    """For each table, the text that nft prints and a copy as loaded, in a namespace without tables.  Raises NftError,
    with the table's name, if nft refuses one.

    All are loaded side by side under other names, in one transaction: removing a table takes longer than loading one.
    """
    others = {f"t{number}": table for number, table in enumerate(tables)}
    texts = {name: script(replace(table, name=name), project) for name, table in others.items()}
    try:
        nft.run("".join(texts.values()))
    except NftError:
        for name, table in others.items():
            try:
                nft.run(texts[name])
            except NftError as error:
                message = str(error).replace(f" {name} ", f" {table.name} ")
                raise NftError(f"table {table.label}: {message}") from error
    printed = {match[1]: match[0] for match in _TABLE.finditer(nft.run("list ruleset"))}
    with netfilter.Netfilter() as socket:
        copies = socket.copies()
    return [(printed.get(name, ""), copies[name]) for name in others]
