# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Replaces digests of shared texts in a plan with what the texts hold for this host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable

from ..plan.addresses import Fdb, Neighbours
from ..plan.base import PlanError, Resource
from ..plan.encryption import Xfrm
from ..plan.families import family_of
from ..plan.forms import lines
from ..plan.nftables import Nftables, NftSet
from ..plan.peers import PeerTable
from ..plan.plan import Plan
from ..plan.settings import File


class SharedTexts:
    """Shared texts by digest, for one host."""

    def __init__(self, host: str, texts: Mapping[str, str]) -> None:
        self._host = host
        self._texts = texts
        self._peer_tables: dict[str, PeerTable] = {}

    def text(self, digest: str) -> str:
        """The text; PlanError if it is missing."""
        if digest not in self._texts:
            raise PlanError("a peer table that the plan refers to was not sent with it. Run again")
        return self._texts[digest]

    def _lines(self, digest: str) -> str:
        return lines(self.text(digest))

    def peer_table(self, digest: str) -> PeerTable:
        """The text as a peer table."""
        if digest not in self._peer_tables:
            self._peer_tables[digest] = PeerTable.from_json(self.text(digest))
        return self._peer_tables[digest]

    def vteps(self, digest: str) -> list[str]:
        """VTEPs of the other hosts on the network, sorted."""
        return sorted(set(self.peer_table(digest).others(self._host).values()))

    def fdb(self, item: Fdb) -> Fdb:
        """Forwarding entries: each remote endpoint's MAC address and its host's VTEP."""
        if not item.table:
            return item
        table = self.peer_table(item.table)
        others = table.others(self._host)
        entries = {each.mac: others[each.host] for each in table.endpoints if each.host in others}
        return replace(item, entries=entries, flood=tuple(self.vteps(item.table)) if item.flooded else ())

    def neighbours(self, item: Neighbours) -> Neighbours:
        """Neighbour entries: each remote endpoint's addresses and MAC address."""
        if not item.table:
            return item
        table = self.peer_table(item.table)
        others = table.others(self._host)
        remote = (each for each in table.endpoints if each.host in others)
        return replace(item, entries={address: each.mac for each in remote for address in each.addresses})

    def file(self, item: File) -> File:
        """The complete texts of its files."""
        parts = {name: "".join(map(self._lines, digests)) for name, digests in item.shared.items()}
        return replace(
            item,
            files={**item.files, **{name: item.files.get(name, "") + text for name, text in parts.items()}},
            shared={},
        )

    def nftables(self, item: Nftables) -> Nftables:
        """Its sets of VTEPs with their elements."""
        return replace(item, sets=tuple(map(self._nft_set, item.sets)))

    def xfrm(self, item: Xfrm) -> Xfrm:
        """Its peers: all other hosts on any of the networks."""
        found = {address for digest in item.tables for address in self.vteps(digest)}
        return replace(item, peers=tuple(sorted({*item.peers, *found} - {item.local})), tables=())

    def _nft_set(self, item: NftSet) -> NftSet:
        found = [
            f"{self.peer_table(digest).vni} . {address}"
            for digest in item.tables
            for address in self.vteps(digest)
            if address and family_of(address) == item.family
        ]
        return replace(item, elements=tuple(sorted((*item.elements, *found))), tables=()) if item.tables else item


def expand_plan(plan: Plan, texts: Mapping[str, str]) -> list[Resource]:
    """The plan's resources, expanded.  Raises PlanError if a text is missing."""
    shared = SharedTexts(plan.host, texts)
    fill: dict[type[Resource], Callable[[Any], Resource]] = {
        Fdb: shared.fdb,
        Neighbours: shared.neighbours,
        File: shared.file,
        Nftables: shared.nftables,
        Xfrm: shared.xfrm,
    }
    return [fill[type(item)](item) if type(item) in fill else item for item in plan.resources]
