# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host during a run: the kernel's state as read, and the means to change it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import field
from types import TracebackType
from typing import Any, Optional, TypeVar

from ..plan import forms
from ..plan.base import Key
from ..plan.esp import Way
from ..plan.marks import is_pruned, role_of
from ..plan.nftables import Nftables
from ..plan.records import dataclass
from . import namespaces, netfilter, nft
from .ahead import Ahead
from .netlink import Message, Netlink, NetlinkError

T = TypeVar("T")


@dataclass
class Snapshot:
    """A namespace as read from the kernel: links by name, addresses and routes as lists of dicts.

    ``generation`` is that of its nftables; see `netfilter.generation`.
    """

    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    addresses: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    generation: Optional[tuple[int, int]] = None

    def link_by_index(self, index: int) -> Optional[dict[str, Any]]:
        """The link with that ifindex, or None."""
        return self._by_index.get(index)

    def __post_init__(self) -> None:
        self._by_index = {link["index"]: link for link in self.links.values()}


_SNAPSHOTS = "snapshots"
_FEWEST_AHEAD = 64
"""Namespaces from which on it pays to fork."""
_ENTRIES_AT_MOST = 20_000
"""The largest number of entries of a kind that is read in a namespace, as root in it can create any number."""


def _read_snapshot(bounded: bool) -> Snapshot:
    with Netlink() as netlink:
        netlink.most = _ENTRIES_AT_MOST if bounded else None
        links = {link["name"]: link for link in netlink.links()}
        return Snapshot(links, netlink.addresses(), netlink.routes(), netfilter.generation())


def _read_snapshots(names: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """The fields of snapshots, which are plain data, of those namespaces that can be read."""
    found = {}
    for name in names:
        with contextlib.suppress(Exception):
            read = namespaces.run(name, _read_snapshot, True)
            found[name] = read.links, read.addresses, read.routes, read.generation
    return found


_ASKED_FOR = 16
"""Up to so many links are asked for by name: with hundreds beside them that is faster than to list all."""


def _read_links(bounded: bool, names: Optional[Collection[str]]) -> dict[str, dict[str, Any]]:
    with Netlink() as netlink:
        if names is not None and len(names) <= _ASKED_FOR:
            return {name: link for name in names if name and (link := netlink.link(name)) is not None}
        netlink.most = _ENTRIES_AT_MOST if bounded else None
        return {link["name"]: link for link in netlink.links()}


def _send(messages: Sequence[Message]) -> None:
    with Netlink() as netlink:
        netlink.send(messages)


def try_send(messages: Sequence[Message]) -> list[Optional[NetlinkError]]:
    """`Netlink.try_send` with a socket of its own."""
    with Netlink() as netlink:
        return netlink.try_send(messages)


_GONE = (errno.ENOENT, errno.ENODEV)


class Host:
    """The host as one run sees and changes it.  Reads are cached until `forget`."""

    def __init__(self, project: str, run_command: nft.RunCommand) -> None:
        self.project = forms.project(project)
        self.run_command = run_command
        self.own_namespaces: set[str] = set()
        """Names of our namespaces; filled when namespaces are observed."""
        self.foreign_namespaces: set[str] = set()
        """Names of unmarked namespaces, in which modules may have created objects of ours; filled likewise."""
        self.attached: set[str] = set()
        """Names of foreign namespaces that are or will be sandboxes; filled likewise."""
        self.adopted_bridges: set[tuple[str, str]] = set()
        """Namespace and name of foreign bridges that are or will be adopted; filled when links are observed."""
        self.paths: dict[str, str] = {}
        """Paths of owners' namespaces that do not have their name yet; filled when namespaces are observed."""
        self.warnings: list[str] = []
        """Warnings for the user."""
        self.command = ""
        """The module of the command ``cnm``, kept with the host half; "" in calls that keep nothing."""
        self.include_module_objects = False
        """Whether to observe and prune objects made by single-object modules too, as a teardown does."""
        self.spares_processes = False
        """Whether a run that would remove a namespace of ours in which users' processes run is refused."""
        self.pair_keys: dict[Way, bytes] = {}
        self.bgp_password = ""
        """The host's keys of encrypted overlays; empty unless the run was given them."""
        self.names_at_start: dict[str, Mapping[str, tuple[int, int]]] = {}
        """The resolvers that the run has started, by sandbox, with the files of names as they were before; see
        `resolver.versions`.
        """
        self.verified_tables: dict[str, list[object]] = {}
        """Verified nftables tables, by label: namespace, generation, and the digest of the wanted table (empty for
        none).  A run need not list a table again while its namespace still has that generation.
        """
        self.own_tables: Sequence[Nftables] = ()
        """The plan's tables of the host itself; filled when tables are observed."""
        self.user_rules: dict[str, str] = {}
        """What was read of the user's chains in the host's tables: ``inet cnm`` to blocks as nft prints them."""
        self.within: Optional[frozenset[str]] = None
        """Names of namespaces that the run is limited to, besides the host's own; None for all."""
        self.keys: Optional[Container[Key]] = None
        """Keys of the objects that the run is limited to, wherever they are; None for all."""
        self.left_out: frozenset[str] = frozenset()
        """Sandboxes in others' namespaces that the run does not look at and does not change."""
        self.broken: dict[str, str] = {}
        """Unavailable sandboxes, by name, and why: the run does not change them or their content."""
        self.spoiled: dict[str, str] = {}
        """Our namespaces that must be recreated, and why; filled when namespaces are observed."""
        self.unreadable: dict[str, str] = {}
        """Namespaces that cannot be read, and why; they are treated as empty."""
        self.failed_in = ""
        """The namespace of the last call that failed, for error messages."""
        self._snapshots: dict[str, Snapshot] = {}
        self._ahead: Optional[Ahead] = None
        self._names_ahead: frozenset[str] = frozenset()
        self._tables: dict[str, dict[tuple[str, str], netfilter.Table]] = {}
        self._nft: Optional[nft.Nft] = None
        self._nft_sought = False

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._drop_ahead()
        if self._nft is not None:
            self._nft.close()

    @property
    def observed_namespaces(self) -> list[str]:
        """Namespaces that may hold objects of ours: the host's own (""), ours, and unmarked ones."""
        named = self.own_namespaces | self.foreign_namespaces | self.attached
        return ["", *sorted(named - self.unreadable.keys())]

    def looks_at(self, key: Key) -> bool:
        """Whether the run is about the object."""
        return self.keys is None or key in self.keys

    def prunes(self, role: Optional[str]) -> bool:
        """Whether a run removes an object of that role if it is not wanted; None is an object that is not ours."""
        return role is not None and (self.include_module_objects or is_pruned(role))

    def repairs(self, namespace: str, role: str) -> bool:
        """Whether an unmarked object with the key of such an object is ours, as in our own namespaces."""
        return namespace in self.own_namespaces and is_pruned(role)

    def run_in(self, namespace: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a namespace ("" for the host's) and return its result."""
        try:
            return namespaces.run(self.paths.get(namespace, namespace), function, *arguments)
        except BaseException:
            self.failed_in = namespace
            raise

    def number(self, namespace: str) -> int:
        """The inode of the namespace of that name.  FileNotFoundError if there is none."""
        path = self.paths.get(namespace)
        return namespaces.inode(namespace) if path is None else os.stat(path).st_ino

    def snapshot(self, namespace: str) -> Snapshot:
        """The namespace's links, addresses, routes and generation, read once; empty if there is no such namespace."""
        if namespace not in self._snapshots and namespace in self._names_ahead:
            self._names_ahead = frozenset()
            found = self.take_ahead(_SNAPSHOTS) or {}
            self._snapshots.update((name, Snapshot(*parts)) for name, parts in found.items())
        if namespace not in self._snapshots:
            try:
                self._snapshots[namespace] = self.run_in(namespace, _read_snapshot, bool(namespace))
            except FileNotFoundError:
                self._snapshots[namespace] = Snapshot()
            except (OSError, ValueError, LookupError, struct.error) as error:
                if not namespace:
                    raise
                self.unreadable[namespace] = f"its links, addresses and routes cannot be read ({error})"
                self._snapshots[namespace] = Snapshot()
        return self._snapshots[namespace]

    def read_ahead(self, names: Collection[str], others: Mapping[str, Callable[[], Any]]) -> None:
        """Begin to read in another process, where that pays: snapshots of namespaces of these names, then ``others``.

        It reads three quarters of the namespaces: in the time that takes, this one decodes a plan and reads the rest.
        """
        self._drop_ahead()
        if len(names) >= _FEWEST_AHEAD:
            chosen = sorted(names)[len(names) // 4 :]
            self._names_ahead = frozenset(chosen)
            self._ahead = Ahead({_SNAPSHOTS: lambda: _read_snapshots(chosen), **others})

    def take_ahead(self, name: str) -> Any:
        """What a function that was called ahead returned, once; None if it was not or failed, or after `forget`."""
        return None if self._ahead is None else self._ahead.take(name)

    def _drop_ahead(self) -> None:
        ahead, self._ahead, self._names_ahead = self._ahead, None, frozenset()
        if ahead is not None:
            ahead.end()

    def disown(self, namespace: str) -> None:
        """Ignore our plans' marks in a namespace that turned out to be foreign: they are forged."""
        for link in self.snapshot(namespace).links.values():
            if is_pruned(role_of(link["alias"], self.project)):
                link["alias"] = ""

    def tables(self, namespace: str) -> dict[tuple[str, str], netfilter.Table]:
        """The namespace's tables of nftables by family and name, read once."""
        if namespace not in self._tables:
            self._tables[namespace] = self.run_in(namespace, netfilter.tables)
        return self._tables[namespace]

    def links(self, namespace: str, names: Optional[Collection[str]] = None) -> dict[str, dict[str, Any]]:
        """The namespace's links by name, not cached.  Those of these names suffice; others may be among them."""
        return self.run_in(namespace, _read_links, bool(namespace), names)

    def forget(self, but_own: bool = False) -> None:
        """Drop the cached reads, as the kernel has been changed; ``but_own``: keep that of the host's own namespace."""
        kept = {"": self._snapshots[""]} if but_own and "" in self._snapshots else {}
        if not but_own:
            self._drop_ahead()
        self._snapshots = kept
        self._tables.clear()
        self.unreadable.clear()
        self.spoiled.clear()
        self.own_namespaces.clear()
        self.foreign_namespaces.clear()
        self.attached.clear()
        self.adopted_bridges.clear()
        self.paths.clear()

    def send(self, namespace: str, messages: Sequence[Message]) -> None:
        """Send netlink messages in that namespace as one batch; NetlinkError is the first that fails."""
        if messages:
            try:
                self.run_in(namespace, _send, messages)
            except NetlinkError as error:
                raise NetlinkError(error.errno or 0, error.message, self._named(namespace, error.request)) from error

    def remove(self, namespace: str, messages: Sequence[Message]) -> None:
        """`send` for removals: an object that is already gone is not an error."""
        if messages:
            for error in self.run_in(namespace, try_send, messages):
                if error is not None and error.errno not in _GONE:
                    raise NetlinkError(error.errno or 0, error.message, self._named(namespace, error.request))

    def _named(self, namespace: str, request: str) -> str:
        """A request's text with link names instead of indexes."""
        try:
            names = {str(link["index"]): name for name, link in self.links(namespace).items()}
        except OSError:
            return request
        return re.sub(r"\blink (\d+)\b", lambda match: f"link {names.get(match[1], match[1])}", request)

    @property
    def nft(self) -> Optional[nft.Nft]:
        """The host's interface to nftables; None if it has neither the library nor the program."""
        if not self._nft_sought:
            self._nft, self._nft_sought = nft.find(self.run_command), True
        return self._nft
