# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: addresses, routes, routing rules, forwarding entries and neighbours."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Optional

from .base import Key, Resource
from .records import dataclass


@dataclass(frozen=True)
class Address(Resource):
    """An address with its prefix length on a link.  All addresses of global scope on our links are ours."""

    kind: ClassVar[str] = "address"
    namespace: str
    link: str
    address: str
    connected: bool = True
    """Whether the on-link route of the address exists; not compared on a link that is down."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.link, self.address)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace), ("link", self.namespace, self.link))


@dataclass(frozen=True)
class Route(Resource):
    """A unicast route in the main table.

    Ours have the protocol `ROUTE_PROTOCOL` or, if a module made them, `ROUTE_PROTOCOL_SINGLE_OBJECT`.
    """

    kind: ClassVar[str] = "route"
    namespace: str
    destination: str
    """``default`` or a prefix."""
    family: int = 4
    via: Optional[str] = None
    link: str = ""
    single_object: bool = False
    """Whether a single-object module made it; a route cannot carry the role prefix `SINGLE_OBJECT`."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, str(self.family), self.destination)

    @property
    def parents(self) -> tuple[Key, ...]:
        # The kernel removes routes together with the address whose prefix contains their gateway.
        return (
            ("namespace", self.namespace),
            ("link", self.namespace, self.link),
            ("addresses", self.namespace, self.link),
        )

    @property
    def label(self) -> str:
        return "/".join(part for part in (self.namespace, self.destination) if part)


@dataclass(frozen=True)
class Rule(Resource):
    """A policy routing rule (ip-rule(8)): selects the table for a packet's route, or drops the packet.

    Ours carry `ROUTE_PROTOCOL` and one of the project's two priorities; see `rule_priority`.
    """

    kind: ClassVar[str] = "rule"
    namespace: str
    family: int
    priority: int
    incoming: str = ""
    """The incoming link; ``lo`` is the host's own traffic, "" any."""
    destination: str = ""
    """A prefix; "" is any."""
    table: int = 0
    """0: no table, the packet is dropped."""

    @property
    def key(self) -> Key:
        which = (str(self.priority), self.incoming, self.destination)
        return (self.kind, self.namespace, str(self.family), *which)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()

    @property
    def label(self) -> str:
        words = f"from {self.incoming or 'all'} to {self.destination or 'all'}"
        return f"{self.namespace}/{words}" if self.namespace else words


@dataclass(frozen=True)
class _LinkTable(Resource):
    namespace: str
    link: str
    entries: dict[str, str] = field(default_factory=dict)
    """MAC address to VTEP, or address to MAC address."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.link)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace), ("link", self.namespace, self.link))


@dataclass(frozen=True)
class Fdb(_LinkTable):
    """The forwarding table of a VXLAN link that is a bridge port: the VTEP of each remote endpoint.

    Every entry here is two entries in the kernel: one of the link itself (``self permanent dst VTEP``) and one of the
    bridge (``master static sticky``).  All permanent entries of a link of ours are ours.
    """

    kind: ClassVar[str] = "fdb"
    flood: tuple[str, ...] = ()
    """VTEPs that get a copy of broadcasts and of frames without an entry; sorted."""
    table: str = ""
    """Digest of the peer table (see `Plan.shared`) with the entries, if they are not given here."""
    flooded: bool = False
    """Whether `flood` has all VTEPs of that table."""
    static: tuple[str, ...] = ()
    """Of a bridge port that is no tunnel: MAC addresses that are behind it, sorted; entries of the bridge alone, which
    a routing daemon reads."""
    sandbox: str = ""
    """Of such a port: the sandbox at its other end."""
    routed: bool = False
    """Whether a routing daemon chooses the VTEPs that get copies: `flood` is not ours then."""

    @property
    def parents(self) -> tuple[Key, ...]:
        return (*super().parents, *((("namespace", self.sandbox),) if self.sandbox else ()))


@dataclass(frozen=True)
class Neighbours(_LinkTable):
    """The permanent entries of a link's ARP and ND tables; on our links all are ours."""

    kind: ClassVar[str] = "neighbour"
    table: str = ""
    """As `Fdb.table`."""
