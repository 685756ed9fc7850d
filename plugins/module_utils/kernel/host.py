# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host a run works on: its namespaces, sockets and directories, and what was read from its kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Optional, TypeVar

from . import namespaces, nft
from .netlink import Message, Netlink

T = TypeVar("T")


@dataclass
class Snapshot:
    """What one namespace holds, as its dumps gave it: links by name, addresses and routes as lists of dicts."""

    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    addresses: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)

    def link_by_index(self, index: int) -> Optional[dict[str, Any]]:
        """The link with that ifindex, or None."""
        return self._by_index.get(index)

    def __post_init__(self) -> None:
        self._by_index = {link["index"]: link for link in self.links.values()}


def _read_snapshot() -> Snapshot:
    with Netlink() as netlink:
        links = {link["name"]: link for link in netlink.links()}
        return Snapshot(links, netlink.addresses(), netlink.routes())


def _read_links() -> dict[str, dict[str, Any]]:
    with Netlink() as netlink:
        return {link["name"]: link for link in netlink.links()}


def _send(messages: Sequence[Message]) -> None:
    with Netlink() as netlink:
        netlink.send(messages)


class Host:
    """One run's view of the host, and its hands.  Reads are kept until `forget`."""

    def __init__(self, project: str, run_command: nft.RunCommand) -> None:
        self.project = project
        self.run_command = run_command
        self.own_namespaces: set[str] = set()
        """Names of the namespaces with our mark; filled when namespaces are observed."""
        self._worker = namespaces.Worker()
        self._snapshots: dict[str, Snapshot] = {}
        self._nft: Optional[nft.Nft] = None
        self._nft_sought = False

    def __enter__(self) -> Host:
        self._worker.__enter__()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._worker.__exit__(kind, error, traceback)

    def run_in(self, namespace: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a thread that is in that namespace ("" for the host's) and return its result."""
        return self._worker.run(namespace, function, *arguments)

    def snapshot(self, namespace: str) -> Snapshot:
        """The namespace's links, addresses and routes, read once a run; an absent namespace has none."""
        if namespace not in self._snapshots:
            try:
                self._snapshots[namespace] = self.run_in(namespace, _read_snapshot)
            except FileNotFoundError:
                self._snapshots[namespace] = Snapshot()
        return self._snapshots[namespace]

    def links(self, namespace: str) -> dict[str, dict[str, Any]]:
        """The namespace's links by name, read anew."""
        return self.run_in(namespace, _read_links)

    def forget(self) -> None:
        """Drop what was read: the kernel has been changed."""
        self._snapshots.clear()
        self.own_namespaces.clear()

    def send(self, namespace: str, messages: Sequence[Message]) -> None:
        """Send netlink messages in that namespace as one batch; NetlinkError is the first that fails."""
        if messages:
            self.run_in(namespace, _send, messages)

    @property
    def nft(self) -> Optional[nft.Nft]:
        """How this host speaks to nftables; None while it has neither the library nor the program."""
        if not self._nft_sought:
            self._nft, self._nft_sought = nft.find(self.run_command), True
        return self._nft
