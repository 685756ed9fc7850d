# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host a run works on: its namespaces, sockets and directories, and what was read from its kernel."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Optional, TypeVar

from ..plan import forms
from ..plan.esp import Way
from ..plan.marks import is_pruned, role_of
from . import namespaces, netfilter, nft
from .netlink import Message, Netlink, NetlinkError

T = TypeVar("T")


@dataclass
class Snapshot:
    """What one namespace holds, as its dumps gave it: links by name, addresses and routes as lists of dicts.

    And at which transaction of nftables: see `netfilter.generation`.
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


_ENTRIES_AT_MOST = 20_000
"""Of each kind in a namespace, where somebody may have made them without end."""


def _read_snapshot(bounded: bool) -> Snapshot:
    with Netlink() as netlink:
        netlink.most = _ENTRIES_AT_MOST if bounded else None
        links = {link["name"]: link for link in netlink.links()}
        return Snapshot(links, netlink.addresses(), netlink.routes(), netfilter.generation())


def _read_links(bounded: bool) -> dict[str, dict[str, Any]]:
    with Netlink() as netlink:
        netlink.most = _ENTRIES_AT_MOST if bounded else None
        return {link["name"]: link for link in netlink.links()}


def _send(messages: Sequence[Message]) -> None:
    with Netlink() as netlink:
        netlink.send(messages)


def try_send(messages: Sequence[Message]) -> list[Optional[NetlinkError]]:
    """As `Netlink.try_send`, by a socket of its own."""
    with Netlink() as netlink:
        return netlink.try_send(messages)


_GONE = (errno.ENOENT, errno.ENODEV)


class Host:
    """One run's view of the host, and its hands.  Reads are kept until `forget`."""

    def __init__(self, project: str, run_command: nft.RunCommand) -> None:
        self.project = forms.project(project)
        self.run_command = run_command
        self.own_namespaces: set[str] = set()
        """Names of the namespaces with our mark; filled when namespaces are observed."""
        self.foreign_namespaces: set[str] = set()
        """Names of those with nobody's mark, in which a module may have made something of ours; likewise."""
        self.attached: set[str] = set()
        """Names of those of others that are, or are to be, sandboxes of ours; likewise."""
        self.adopted_bridges: set[tuple[str, str]] = set()
        """Namespace and name of the bridges of others that are used, or are to be; filled when links are observed."""
        self.paths: dict[str, str] = {}
        """Where the owner's namespace is, for names that do not lead there yet; likewise."""
        self.warnings: list[str] = []
        """What the user should know of what was found or done."""
        self.include_module_objects = False
        """Whether to look for all that is ours, and to prune what modules made by themselves too: teardown."""
        self.pair_keys: dict[Way, bytes] = {}
        """The host's own keys of encrypted overlays; empty unless the run was given them."""
        self.verified_tables: dict[str, list[object]] = {}
        """Of tables of nftables that were found as wanted: when that was, and a digest of what was wanted (empty for
        none), by label.  A run takes these as they were for as long as that is still now; if it has none it lists all.
        """
        self.broken: dict[str, str] = {}
        """Why a sandbox cannot be had, by name: it is left out of the run, and what is in there as it is."""
        self.spoiled: dict[str, str] = {}
        """Namespaces of ours that have to be made anew, and why; filled when namespaces are observed."""
        self.unreadable: dict[str, str] = {}
        """Namespaces whose dumps cannot be read, and why; they are taken for empty."""
        self.failed_in = ""
        """The namespace of the last call that raised an exception: what an error is about."""
        self._snapshots: dict[str, Snapshot] = {}
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
        if self._nft is not None:
            self._nft.close()

    @property
    def observed_namespaces(self) -> list[str]:
        """Where there may be something of ours: the host itself, our namespaces and those nobody marked."""
        named = self.own_namespaces | self.foreign_namespaces | self.attached
        return ["", *sorted(named - self.unreadable.keys())]

    def prunes(self, role: Optional[str]) -> bool:
        """Whether an object of that role goes when nothing wants it; None is an object that is not ours."""
        return role is not None and (self.include_module_objects or is_pruned(role))

    def repairs(self, namespace: str, role: str) -> bool:
        """Whether what is unmarked in the place of such an object is ours: a plan has our namespaces for itself."""
        return namespace in self.own_namespaces and is_pruned(role)

    def run_in(self, namespace: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in that namespace ("" for the host's) and return its result."""
        try:
            return namespaces.run(self.paths.get(namespace, namespace), function, *arguments)
        except BaseException:
            self.failed_in = namespace
            raise

    def number(self, namespace: str) -> int:
        """The number by which the kernel knows the namespace of that name.  FileNotFoundError if there is none."""
        path = self.paths.get(namespace)
        return namespaces.inode(namespace) if path is None else os.stat(path).st_ino

    def snapshot(self, namespace: str) -> Snapshot:
        """The namespace's links, addresses, routes and generation, read once; an absent namespace has none."""
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

    def disown(self, namespace: str) -> None:
        """A namespace turned out to be somebody else's: marks in there of what plans make are forged."""
        for link in self.snapshot(namespace).links.values():
            if is_pruned(role_of(link["alias"], self.project)):
                link["alias"] = ""

    def tables(self, namespace: str) -> dict[tuple[str, str], netfilter.Table]:
        """The namespace's tables of nftables by family and name, read once."""
        if namespace not in self._tables:
            self._tables[namespace] = self.run_in(namespace, netfilter.tables)
        return self._tables[namespace]

    def links(self, namespace: str) -> dict[str, dict[str, Any]]:
        """The namespace's links by name, read anew."""
        return self.run_in(namespace, _read_links, bool(namespace))

    def forget(self) -> None:
        """Drop what was read: the kernel has been changed."""
        self._snapshots.clear()
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
        """As `send`, for removals: what is gone already is no error."""
        if messages:
            for error in self.run_in(namespace, try_send, messages):
                if error is not None and error.errno not in _GONE:
                    raise NetlinkError(error.errno or 0, error.message, self._named(namespace, error.request))

    def _named(self, namespace: str, request: str) -> str:
        """What was asked, with the names of links in place of their numbers."""
        try:
            names = {str(link["index"]): name for name, link in self.links(namespace).items()}
        except OSError:
            return request
        return re.sub(r"\blink (\d+)\b", lambda match: f"link {names.get(match[1], match[1])}", request)

    @property
    def nft(self) -> Optional[nft.Nft]:
        """How this host speaks to nftables; None while it has neither the library nor the program."""
        if not self._nft_sought:
            self._nft, self._nft_sought = nft.find(self.run_command), True
        return self._nft
