# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: network namespaces, and links of every type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Optional

from .base import Key, Resource
from .marks import ADOPTED, PORT


@dataclass(frozen=True)
class Namespace(Resource):
    """A network namespace, mounted on ``/run/netns/<name>``.  The ``lo`` of ours carries the mark and is up.

    One that somebody else owns is only given the name: what is in there without a mark of ours stays as it is.
    """

    kind: ClassVar[str] = "namespace"
    name: str
    role: str = ""
    """What it is, for the mark: ``sandbox/c1``."""
    loopback_up: bool = True
    owner: str = ""
    """``docker``, ``podman``, ``pid``, ``machine`` or ``path``; "" is ours."""
    reference: str = ""
    """The owner's name, process id or path, by which the host finds it in each run."""
    attached: bool = True
    """Whether the name leads to the namespace that the owner has now: a container that restarts has another."""
    files: dict[str, str] = field(default_factory=dict)
    """The owner's own ``resolv.conf`` and ``hosts``, written in place: text that stands in front of what was there in
    hosts, and instead of it in resolv.conf."""
    no_forwarding: tuple[int, ...] = ()
    """Families that nothing in it forwards; a new namespace takes the host's own forwarding over."""

    @property
    def key(self) -> Key:
        return (self.kind, self.name)

    @property
    def foreign(self) -> bool:
        return bool(self.owner)


@dataclass(frozen=True)
class VethPeer:
    """The other end of a veth pair, usually a bridge port on the host."""

    namespace: str = ""
    name: str = ""
    master: str = ""
    isolated: bool = False
    """Bridge port flag: isolated ports cannot speak to each other (ICC off)."""
    up: bool = True
    group: Optional[int] = None
    """Link group: which network's port it is, for the rules about who may say what on a bridge."""
    hairpin: bool = False
    """Bridge port flag: frames may leave by the port they came in by, as those to a port the sandbox publishes do where
    br_netfilter translates them within the bridge."""


@dataclass(frozen=True)
class BridgePort:
    """What a link that is itself a bridge's port is there: the bridge, and flags as ``bridge link`` names them."""

    master: str
    neigh_suppress: bool = False
    """The bridge answers ARP and neighbour solicitations for what its own neighbour table has behind this port."""
    learning: bool = True
    flood: bool = True
    mcast_flood: bool = True
    bcast_flood: bool = True


@dataclass(frozen=True)
class Vxlan:
    """A VXLAN link's own settings (RFC 7348)."""

    id: int
    """The VNI."""
    local: str
    """The VTEP's address, IPv4 or IPv6."""
    port: int = 4789
    learning: bool = False
    outside: bool = True
    """Whether its packets travel in the host's own namespace, wherever the link itself is."""
    source_port: int = 0
    """The one UDP port it sends from, by which `Xfrm` knows what to encrypt; 0 is one for each flow."""
    proxy: bool = False
    """Whether it answers ARP and neighbour solicitations itself from its own `Neighbours`, and lets none pass."""


@dataclass(frozen=True)
class Parent:
    """The link of the host's own namespace that a macvlan, ipvlan or VLAN link is made on, and how.

    The parent itself is nobody's to change.
    """

    link: str
    mode: str = ""
    """Of a macvlan bridge, private, vepa or passthru; of an ipvlan, the same for all on its parent, l2, l3 or l3s."""
    flag: str = ""
    """Of an ipvlan bridge, private or vepa; the same for all on its parent."""
    vlan: int = 0
    """The ID of a VLAN link (IEEE 802.1Q)."""


@dataclass(frozen=True)
class Link(Resource):
    """A network link.  A veth pair is one resource, named by its end in the sandbox; ``peer`` is the other end."""

    kind: ClassVar[str] = "link"
    namespace: str
    name: str
    type: str
    """The kernel's link kind: ``bridge``, ``veth``, ``vxlan``, ``macvlan``, ``ipvlan``, ``vlan``, ``ifb``."""
    role: str = ""
    """What it is, for the mark: ``network/ps-bridge``, ``endpoint/ps-bridge/c1``."""
    mac: Optional[str] = None
    mtu: Optional[int] = None
    up: bool = True
    disable_ipv6: Optional[bool] = None
    accept_ra: Optional[int] = None
    """The sysctls of that name, written while the link is still down (CVE-2020-13401, CVE-2024-32473)."""
    peer: Optional[VethPeer] = None
    group: Optional[int] = None
    """Link group: `LINK_GROUP` for what the firewall guards, whichever project it belongs to."""
    route_localnet: Optional[bool] = None
    """Whether answers to the host's own loopback may come in by it, for ports published there."""
    announcements: int = 0
    announcement_ms: int = 1000
    """How often its addresses are told to the neighbours when they or its MAC address are new, and how far apart."""
    port: Optional[BridgePort] = None
    vxlan: Optional[Vxlan] = None
    parent: Optional[Parent] = None
    adopts_existing: bool = False
    """Of a bridge that the user named: whether one that somebody else made is used as it is, but for mark and group."""
    learns_from_reserved: Optional[bool] = None
    """Of a bridge: whether it learns from frames to 01:80:c2:00:00:0X, which it takes before nftables sees them."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def parents(self) -> tuple[Key, ...]:
        # With its namespace it would go only when the last process in there does: what has an end elsewhere, a pair,
        # a VXLAN with its VNI or what is on a parent, is removed by itself.
        reaching = self.peer is not None or self.parent is not None or self.type in ("veth", "vxlan")
        below = (("link", "", self.parent.link),) if self.parent is not None else ()
        return (("namespace", self.namespace),) if self.namespace and not reaching else below

    @property
    def restorable(self) -> bool:
        return not self.role.startswith(PORT)  # the end of a pair whose other end is nowhere

    @property
    def foreign(self) -> bool:
        return self.role.startswith(ADOPTED)
