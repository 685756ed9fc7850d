# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How any store keeps a project's leases: in parts, for the whole is larger than what stores take in one request.

A part is what one host has, one network that spans hosts, or one service.  Its key is used once::

    <project>/root                                {"revision": 12, "recent": ["11.5e…", "12.9f…"], "parts": {…}, …}
    <project>/parts/host:node1@12.9f02c4d8a1      {"endpoints": {"node1/front/c1": {"ipv4": "10.0.0.2"}}, …}
    key                                           what leases are signed with

The root names the commit that wrote each part.  A commit writes its parts, which nobody sees yet, then swaps the root:
readers have the state before it or after it, and what a controller that died has left is never read.  Parts that a
commit replaced are deleted by the next one, so that who reads meanwhile finds them.  What is left of dead attempts was
meant for a revision that has been passed, which a swap never goes back to: `PartStore.sweep` deletes it.

When leases have moved to another store, the root says so, and nobody reads or commits here until they come back.

A network counts as changed with every address on it, wherever that is kept: two commits that give addresses of one
network are in conflict, and so are two that choose subnets or VNIs, as these look at all networks that span hosts.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Optional
from urllib.parse import quote

from ..forms import Form, ReportErrors, Unfit, listing, mapping, matching, number, printable, record, text
from .backend import Backend
from .base import (
    OF_HOSTS,
    OVERLAYS,
    SERVICES,
    Conflict,
    LeaseError,
    Leases,
    Root,
    Snapshot,
    empty,
    join,
    split,
)
from .forms import NAME, NEWEST, OVERLAY, SERVICE, of_host
from .signing import KEY_SIZE

KEY = "key"
HOST, NETWORK, SPANNING_SERVICE = "host", "network", "service"
_KINDS = (HOST, NETWORK, SPANNING_SERVICE)
_RECENT = 16
"""How many commits a root remembers, by which a controller learns that its own, of which it got no answer, is there.

One that is older is there if the root still names a part of it.  If all its parts were replaced, it counts as a
conflict, which it would be now.
"""
_ATTEMPTS = 20
_SWEEP_EVERY = 50
_MOST_PARTS = 1_000_000

_COMMIT = matching(r"[1-9][0-9]{0,15}\.[0-9a-f]{10}", 32, "commit")
_INDEX = mapping(text(300), _COMMIT, _MOST_PARTS)
_ROOT_FORM = record(
    {
        "revision": number(1, NEWEST),
        "recent": listing(_COMMIT, _RECENT),
        "parts": _INDEX,
        "replaced": _INDEX,
        "moved": record({"to": text(), "on": text(40)}, ("to", "on")),
    },
    ("revision", "recent", "parts", "replaced"),
)


class PartStore:
    """A lease store (see `base.Store`) that keeps its parts in a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._known: dict[str, bytes] = {}
        """Values of parts by key, which never change."""
        self._key = b""

    def read(self, project: str, moved: bool = False) -> Snapshot:
        """``moved``: also what the store had before it moved to another one, instead of LeaseError."""
        before: Optional[int] = None
        for _attempt in range(_ATTEMPTS):
            version, root = self._root(project)
            if root.moved and not moved:
                raise LeaseError(_gone(project, root))
            keys = {part: part_key(project, part, commit) for part, commit in root.parts.items()}
            lacking = [key for key in keys.values() if key not in self._known]
            self._known.update(self._backend.get_many(lacking))
            lost = next((key for key in keys.values() if key not in self._known), None)
            if lost is None:
                self._known = {key: self._known[key] for key in keys.values()}
                leases = _joined({part: (key, _decoded(key, self._known[key])) for part, key in keys.items()})
                return Snapshot(leases, root, version)
            if version == before:
                raise LeaseError(
                    f"the lease store has lost `{lost}`, which is a part of the leases of project {project}. Restore "
                    f"the store from a backup, or remove everything below `{project}/` there: the next run then adopts "
                    "what the hosts report"
                )
            before = version  # a commit came between: its root names parts that are there
        raise LeaseError(f"the leases of project {project} kept changing while this run read them: run it again")

    def write(
        self, project: str, before: Snapshot, leases: Leases, revision: int, hosts: Optional[frozenset[str]] = None
    ) -> int:
        old, new = parts_of(before.leases), parts_of(leases)
        changed = {part for part in {*old, *new} if old.get(part) != new.get(part)}
        changed |= _networks_touched(changed, old, new) & {*old, *new}
        values = {part: _encoded(new[part]) for part in changed if part in new}
        version, root = before.version, before.root
        self._make_key()
        for _attempt in range(_ATTEMPTS):
            target = max(root.revision + 1, revision)
            commit = f"{target}.{secrets.token_hex(5)}"
            written = {part_key(project, part, commit): value for part, value in values.items()}
            self._backend.put_many(written)
            made = Root(
                target,
                (*root.recent, commit)[-_RECENT:],
                {
                    **{part: one for part, one in root.parts.items() if part not in changed},
                    **dict.fromkeys(values, commit),
                },
                {part: root.parts[part] for part in sorted(changed & root.parts.keys())},
            )
            landed = self._backend.swap(_root_key(project), version, _encoded_root(made))
            if not landed:
                version, found = self._root(project)
                landed = commit in found.recent or commit in found.parts.values()
            if landed:
                self._known.update(written)
                self._tidy(project, root, target)
                return target
            with contextlib.suppress(LeaseError):  # else it is swept
                self._backend.delete_many(list(written))
            if found.moved and not before.root.moved:
                raise LeaseError(_gone(project, found))
            _check(project, before.root, found, hosts, changed)
            root = found
        raise Conflict(f"the leases of project {project} kept changing while this run wrote them")

    def leave(self, project: str, before: Snapshot, to: str, on: str) -> bool:
        """Say that a project's leases are in the store ``to`` now, until the next commit; false if others came between.

        Whoever reads or commits here gets LeaseError.  What is here stays.
        """
        root = replace(before.root, moved={"to": to, "on": on})
        if self._backend.swap(_root_key(project), before.version, _encoded_root(root)):
            return True
        return self._root(project)[1].moved == root.moved

    def key(self) -> bytes:
        if not self._key:
            found = self._backend.get(KEY)
            self._key = found[1] if found is not None else b""
            if self._key and len(self._key) != KEY_SIZE:
                raise LeaseError(
                    f"`{KEY}` in the lease store is not a key of {KEY_SIZE} octets: restore it from a backup"
                )
        return self._key

    def close(self) -> None:
        self._backend.close()

    def sweep(self, project: str, remove: bool = True) -> list[str]:
        """Delete what nobody can read any more, of controllers that died; returns its keys."""
        _version, root = self._root(project)
        if not root.revision:
            return []  # it may all be of a first commit that is not done yet
        # The root first: what is listed after it and meant for its revision or an earlier one will never be named.
        live = {part_key(project, part, commit) for part, commit in (*root.parts.items(), *root.replaced.items())}
        found = self._backend.keys(_parts_key(project))
        dead = [key for key in found if key not in live and _meant_for(key) <= root.revision]
        if remove and dead:
            self._backend.delete_many(dead)
        return dead

    def _root(self, project: str) -> tuple[Optional[int], Root]:
        found = self._backend.get(_root_key(project))
        if found is None:
            return None, Root()
        key = _root_key(project)
        data = _checked(key, _decoded(key, found[1]), _ROOT_FORM)
        return found[0], Root(**{**data, "recent": tuple(data["recent"])})

    def adopt_key(self, key: bytes) -> None:
        """Sign with another store's key from now on, if there is none yet."""
        if key and not self.key():
            self._backend.swap(KEY, None, key)

    def _make_key(self) -> None:
        self.adopt_key(secrets.token_bytes(KEY_SIZE))  # or another controller did

    def _tidy(self, project: str, root: Root, revision: int) -> None:
        """Delete what the commit before the one that landed has replaced."""
        with contextlib.suppress(LeaseError):  # what landed has landed; the rest is swept
            stale = [part_key(project, part, commit) for part, commit in root.replaced.items()]
            if stale:
                self._backend.delete_many(stale)
            if revision % _SWEEP_EVERY == 0:
                self.sweep(project)


def part_key(project: str, part: str, commit: str) -> str:
    """Where a part is kept that a commit wrote."""
    kind, _slash, name = part.partition("/")
    return f"{_parts_key(project)}{kind}:{quote(name, safe='')}@{commit}"


def _parts_key(project: str) -> str:
    return f"{project}/parts/"


def _root_key(project: str) -> str:
    return f"{project}/root"


def _encoded_root(root: Root) -> bytes:
    return _encoded({name: value for name, value in asdict(root).items() if name != "moved" or value})


def _gone(project: str, root: Root) -> str:
    to, on = (printable(root.moved[name], 500) for name in ("to", "on"))
    return (
        f"the leases of project {project} were moved from this store to {to} on {on}: set cnm_leases, and "
        "cnm_leases_options, to that one"
    )


def _meant_for(key: str) -> int:
    """The revision that a part was written for."""
    revision = key.rpartition("@")[2].partition(".")[0]
    return int(revision) if revision.isascii() and revision.isdigit() else 0


def parts_of(leases: Leases) -> dict[str, Any]:
    """A document's parts, by name; nothing of hosts that have nothing."""
    hosts, spanning = split(leases)
    found: dict[str, Any] = {}
    for host, part in hosts.items():
        sections = {section: part[section] for section in OF_HOSTS if part.get(section)}
        if sections:
            found[f"{HOST}/{host}"] = sections
    found.update((f"{NETWORK}/{name}", entry) for name, entry in spanning[OVERLAYS].items())
    found.update((f"{SPANNING_SERVICE}/{name}", entry) for name, entry in spanning[SERVICES].items())
    return found


def _networks_touched(changed: set[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """The parts of networks on which a changed host has other addresses than before, if they are networks that span."""
    found = set()
    for part in changed:
        if part.startswith(f"{HOST}/"):
            before, after = (side.get(part, {}).get("endpoints", {}) for side in (old, new))
            found |= {
                f"{NETWORK}/{key.split('/')[1]}" for key in {*before, *after} if before.get(key) != after.get(key)
            }
    return found


def _check(project: str, before: Root, now: Root, hosts: Optional[frozenset[str]], written: set[str]) -> None:
    """Raise Conflict if a part has changed that a plan of these hosts was made from, or that it changes."""
    changed = [
        part
        for part in {*before.parts, *now.parts}
        if before.parts.get(part) != now.parts.get(part)
        and (hosts is None or part in written or not part.startswith(f"{HOST}/") or part.partition("/")[2] in hosts)
    ]
    if changed:
        raise Conflict(f"the leases of project {project} were changed by another run meanwhile: {min(changed)}")


def read_parts(found: Any) -> Leases:
    """The document of parts in a file.  Raises LeaseError."""
    if not isinstance(found, Mapping) or not all(isinstance(part, str) for part in found):
        raise LeaseError("the file is not an export of leases: its parts are not a mapping")
    return _joined({part: (part, value) for part, value in found.items()})


def _joined(found: Mapping[str, tuple[str, Any]]) -> Leases:
    """The document of parts, given as key and value by name.  Raises LeaseError."""
    hosts: dict[str, Leases] = {}
    spanning = empty()
    for part, (key, value) in found.items():
        kind, _slash, name = part.partition("/")
        if kind == HOST:
            hosts[name] = _checked(key, value, record(dict(of_host(name))))
        elif kind == NETWORK:
            spanning[OVERLAYS][_name(key, name)] = _checked(key, value, OVERLAY)
        elif kind == SPANNING_SERVICE:
            spanning[SERVICES][_name(key, name)] = _checked(key, value, SERVICE)
        else:
            raise LeaseError(_damaged(key, f"it is of none of the kinds {', '.join(_KINDS)}"))
    return join(hosts, spanning)


def _name(key: str, name: str) -> str:
    try:
        return str(NAME(name, []))
    except Unfit as problem:
        raise LeaseError(_damaged(key, str(problem))) from None


def _decoded(key: str, value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise LeaseError(_damaged(key, "it is not JSON")) from None


def _checked(key: str, data: Any, form: Form) -> Any:
    """What has the form.  Raises LeaseError."""
    errors: ReportErrors = []
    try:
        data = form(data, errors)
    except Unfit as problem:
        raise LeaseError(_damaged(key, str(problem))) from None
    if errors:
        raise LeaseError(_damaged(key, ": ".join(errors[0]).lstrip(".")))
    return data


def _damaged(key: str, why: str) -> str:
    return (
        f"`{printable(key, 200)}` in the lease store cannot be used: {printable(why, 200)}. Nothing was changed. "
        "Correct it there, or restore the store from a backup"
    )


def _encoded(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
