# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: network namespaces, and links of every type."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Optional

from .base import Key, Resource
from .marks import ADOPTED, PORT
from .records import dataclass


@dataclass(frozen=True)
class Namespace(Resource):
    """A network namespace, mounted on ``/run/netns/<name>``.  The ``lo`` of ours carries the mark and is up.

    A foreign namespace only gets the name; unmarked objects in it are not changed.
    """

    kind: ClassVar[str] = "namespace"
    name: str
    role: str = ""
    """Its role in the mark: ``sandbox/c1``."""
    loopback_up: bool = True
    owner: str = ""
    """``docker``, ``podman``, ``pid``, ``machine`` or ``path``; "" for ours."""
    reference: str = ""
    """The container's or machine's name, the process id, or the path, by which each run finds the namespace."""
    attached: bool = True
    """Whether the name refers to the owner's present namespace; a restarted container has a new one."""
    files: dict[str, str] = field(default_factory=dict)
    """Texts for the owner's ``hosts`` and ``resolv.conf``, written in place: added before the original content of
    ``hosts``, and replacing that of ``resolv.conf``."""
    no_forwarding: tuple[int, ...] = ()
    """Families whose forwarding must be off; a new namespace inherits the host's setting."""

    @property
    def key(self) -> Key:
        return (self.kind, self.name)

    @property
    def foreign(self) -> bool:
        return bool(self.owner)


@dataclass(frozen=True)
class LinkManager(Resource):
    """What a program that configures links is told: that it leaves those of ours in the host's namespace alone."""

    kind: ClassVar[str] = "link_manager"
    manager: str
    """``networkd``, ``NetworkManager``, or ``udev``, which names links and gives them MAC addresses."""
    links: tuple[str, ...] = ()
    """Names, sorted, that do not begin with `OWN_LINKS`; all that do are left alone anyway."""
    rules: bool = False
    """Whether it must leave policy rules alone, too: networkd removes those that are not its own."""
    edited: bool = False
    """As found: whether somebody has changed the files otherwise."""

    @property
    def key(self) -> Key:
        return (self.kind, self.manager)


@dataclass(frozen=True)
class VethPeer:
    """The other end of a veth pair, usually a bridge port on the host."""

    namespace: str = ""
    name: str = ""
    master: str = ""
    isolated: bool = False
    """Bridge port flag: isolated ports cannot reach each other (ICC off)."""
    up: bool = True
    group: Optional[int] = None
    """Link group: the network whose port it is, for rules on bridged frames."""
    hairpin: bool = False
    """Bridge port flag: frames may leave by the port they came in by.  Needed for sandboxes that connect to their own
    published ports, if br_netfilter translates addresses within the bridge."""
    learning: bool = True
    """Bridge port flag; without it the bridge has the addresses behind the port from `Fdb.static` alone."""


@dataclass(frozen=True)
class BridgePort:
    """A link's settings as a bridge port: the bridge, and flags named as by ``bridge link``."""

    master: str
    neigh_suppress: bool = False
    """The bridge answers ARP and neighbour solicitations from its neighbour table for addresses behind this port."""
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
    """Whether its outer packets are sent from the host's namespace, whatever namespace the link is in."""
    source_port: int = 0
    """The UDP source port, by which `Xfrm` selects packets to encrypt; 0 is a port for each flow."""
    proxy: bool = False
    """Whether it answers ARP and neighbour solicitations from its `Neighbours` and forwards none."""


@dataclass(frozen=True)
class Geneve:
    """A Geneve link's own settings (RFC 8926): a tunnel to one other host.

    Its outer packets use the host's namespace, whatever namespace the link is in.  The kernel does not say which they
    use, so that is not compared.
    """

    id: int
    """The VNI."""
    remote: str
    """The other host's address, IPv4 or IPv6."""
    port: int = 6081


@dataclass(frozen=True)
class Parent:
    """The link in the host's namespace that a macvlan, ipvlan or VLAN link is created on, and the mode.

    The parent itself is never changed.
    """

    link: str
    mode: str = ""
    """macvlan: bridge, private, vepa or passthru.  ipvlan: l2, l3 or l3s, the same for all on a parent."""
    flag: str = ""
    """ipvlan: bridge, private or vepa, the same for all on a parent."""
    vlan: int = 0
    """The ID of a VLAN link (IEEE 802.1Q)."""


@dataclass(frozen=True)
class Link(Resource):
    """A network link.  A veth pair is one resource, named by its end in the sandbox; ``peer`` is the other end."""

    kind: ClassVar[str] = "link"
    namespace: str
    name: str
    type: str
    """The link kind: ``bridge``, ``veth``, ``vxlan``, ``geneve``, ``macvlan``, ``ipvlan``, ``vlan`` or ``ifb``."""
    role: str = ""
    """Its role in the mark: ``network/ps-bridge``, ``endpoint/ps-bridge/c1``."""
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
    """Whether it accepts replies to 127.0.0.0/8, for ports published on the host's loopback."""
    announcements: int = 0
    announcement_ms: int = 1000
    """How often new addresses or a new MAC address are announced to neighbours, and the interval."""
    port: Optional[BridgePort] = None
    vxlan: Optional[Vxlan] = None
    geneve: Optional[Geneve] = None
    parent: Optional[Parent] = None
    adopts_existing: bool = False
    """Whether a bridge of others with this name is adopted; only its mark and group are then changed."""
    learns_from_reserved: Optional[bool] = None
    """Whether a bridge learns from frames to 01:80:c2:00:00:0X, which bypass nftables."""
    rp_filter: Optional[int] = None
    """The sysctl of that name; 1: it drops packets whose source the host would not reach by it (RFC 3704)."""
    addr_gen_mode: Optional[str] = None
    """How it gets its IPv6 address of scope link (ip-link(8)); ``none``: it has IPv6 for its neighbours alone."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def parents(self) -> tuple[Key, ...]:
        # A process can keep a namespace open, so a link that also exists elsewhere (a veth pair, a tunnel with its VNI,
        # a link on a parent) is removed explicitly.
        reaching = self.peer is not None or self.parent is not None or self.type in ("veth", "vxlan", "geneve")
        below = (("link", "", self.parent.link),) if self.parent is not None else ()
        return (("namespace", self.namespace),) if self.namespace and not reaching else below

    @property
    def restorable(self) -> bool:
        return not self.role.startswith(PORT)  # an end of a pair whose other end no longer exists

    @property
    def foreign(self) -> bool:
        return self.role.startswith(ADOPTED)
