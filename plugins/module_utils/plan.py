# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The plan: all that passes from the controller to a host.

A plan is a host's complete desired state as a flat, sorted list of resources, plus what the host remembers for the
controller.  As JSON::

    {
      "schema": 1,              # version of this format; a host refuses one it does not know
      "host": "node1",          # inventory name of the host it was made for
      "project": "default",     # cnm_project: part of every ownership mark
      "resources": [            # one object a resource, "kind" first, fields that have their default left out
        {"kind": "link", "namespace": "", "name": "br-2f0c…", "type": "bridge", "role": "network/ps-bridge", …}, …
      ],
      "model": {…},             # what `inspect` shows, in Docker's words; the engine never reads it
      "leases": {…},            # this host's part of the lease store, so that a lost store can be rebuilt
      "declared": {…},          # the inventory's variables it follows from, and
      "alone": {…}              # what modules made beside them; each left out if there is nothing
    }

Its digest is the SHA-256 of that text; the same inventory gives the same text, byte for byte.  The lease store's
revision travels beside the plan, not in it: it orders plans in time and must not make equal plans differ.

Conventions: ``namespace`` is the name under ``/run/netns``, ``""`` the host's own; addresses are ``10.0.0.2/24``,
prefixes ``10.0.0.0/24`` or ``default``; MAC addresses lower case; MTUs in bytes.  ``None`` means "not ours to say":
such a field is neither compared nor set.  What is read is checked, field by field: see `fields` and `forms`.  Both
halves use these three files, which import nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, cached_property
from typing import Any, ClassVar, Optional, TypeVar

from .fields import ENVELOPE, FOUND, MESH, PLANNED, Check, checked, part_of
from .forms import FormError, printable, quoted

SCHEMA = 1

Key = tuple[str, ...]
"""Identity of an object on one host: kind first, then what finds it in the kernel."""


def mark(project: str, role: str) -> str:
    """The ownership mark of an object, as a link alias or table comment shows it: ``cnm:default:sandbox/c1``."""
    return f"cnm:{project}:{role}"


def role_of(text: str, project: str) -> Optional[str]:
    """What a mark says the object is, or None if it is not a mark of this project."""
    prefix = mark(project, "")
    return text[len(prefix) :] if text.startswith(prefix) else None


def project_of(text: str) -> Optional[str]:
    """Whose mark the text is, or None if it is none of ours."""
    parts = text.split(":", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "cnm" else None


ALONE = "alone/"
"""Roles that begin so are of objects a module made by itself: ours to change, and no plan prunes them."""


USED = "used/"
"""Begins the mark of a bridge that somebody else made and a network uses: it is given back, never removed."""


PORT = "port:"
"""Begins the mark of a veth pair's far end, before the pair's role."""


def pruned(role: Optional[str]) -> bool:
    """Whether an object of that role goes when no plan wants it; None is an object that is not ours."""
    return role is not None and not role.startswith((ALONE, PORT + ALONE))


def table_name(project: str) -> str:
    """The nftables table of a project: ``cnm`` for the project named default, ``cnm_<project>`` for another."""
    return "cnm" if project == "default" else "cnm_" + project.replace("-", "_")


def request_id(project: str) -> int:
    """The reqid of a project's ESP states and policies, which says whose they are; key daemons count from below."""
    return 0x80000000 | int.from_bytes(hashlib.sha256(f"cnm:{project}".encode()).digest()[:4], "big")


LINK_GROUP = 0x636E6E
"""Group of the bridges of all projects on a host: what one project's rules must know of another's."""

OPEN_GROUP = 0x636E6F
"""Group of the bridges of all projects on a host that nobody's rules guard (`firewall: none`)."""

LAN_GROUP = 0x636E70
"""Group of what all projects make on a host for their macvlan and ipvlan networks: ours even before it is marked."""

FORWARDED = 0x80
"""Bit of the packet mark that says that our rules let it by, for the rule in Docker's chain (`cnm_docker_user`).

One that is not kube-proxy's (0x4000, 0x8000), netavark's (0x3000), Cilium's (0xf00), Tailscale's or Calico's (above).
"""

OTHERS = "others"
"""Chain of the host's table for what is not ours: it drops where the host did not forward before us."""

RESOLVER_USER = "cnm-resolver"
"""The system user, and the group, that resolvers run as: nothing else does."""


class PlanError(ValueError):
    """The text is not a plan this version can read; the message says why."""


@dataclass(frozen=True)
class Resource(ABC):
    """One kernel object (or file, or process) as it should be or as it was found."""

    kind: ClassVar[str] = ""

    @property
    @abstractmethod
    def key(self) -> Key:
        """What identifies the object on its host."""

    @property
    def inside(self) -> tuple[Key, ...]:
        """Keys of objects this one lives in: when one of them goes, it is gone too, without an operation of its own."""
        return ()

    @property
    def restorable(self) -> bool:
        """Whether an undone run puts it back; what is left of something is not."""
        return True

    @property
    def stays(self) -> bool:
        """Whether it is somebody else's: when nothing of ours wants it, our mark goes and the object stays."""
        return False

    @property
    def label(self) -> str:
        """Its name for people, as in an operation or an error."""
        return "/".join(part for part in self.key[1:] if part)


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
    def stays(self) -> bool:
        return bool(self.owner)


@dataclass(frozen=True)
class Peer:
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
class Port:
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
    peer: Optional[Peer] = None
    group: Optional[int] = None
    """Link group: `LINK_GROUP` for what the firewall guards, whichever project it belongs to."""
    route_localnet: Optional[bool] = None
    """Whether answers to the host's own loopback may come in by it, for ports published there."""
    announcements: int = 0
    announcement_ms: int = 1000
    """How often its addresses are told to the neighbours when they or its MAC address are new, and how far apart."""
    port: Optional[Port] = None
    vxlan: Optional[Vxlan] = None
    parent: Optional[Parent] = None
    adopts: bool = False
    """Of a bridge that the user named: whether one that somebody else made is used as it is, but for mark and group."""
    learns_from_reserved: Optional[bool] = None
    """Of a bridge: whether it learns from frames to 01:80:c2:00:00:0X, which it takes before nftables sees them."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def inside(self) -> tuple[Key, ...]:
        # With its namespace it would go only when the last process in there does: what has an end elsewhere, a pair,
        # a VXLAN with its VNI or what is on a parent, is removed by itself.
        reaching = self.peer is not None or self.parent is not None or self.type in ("veth", "vxlan")
        below = (("link", "", self.parent.link),) if self.parent is not None else ()
        return (("namespace", self.namespace),) if self.namespace and not reaching else below

    @property
    def restorable(self) -> bool:
        return not self.role.startswith(PORT)  # the end of a pair whose other end is nowhere

    @property
    def stays(self) -> bool:
        return self.role.startswith(USED)


@dataclass(frozen=True)
class Address(Resource):
    """An address with its prefix length on a link.  All addresses of global scope on our links are ours."""

    kind: ClassVar[str] = "address"
    namespace: str
    link: str
    address: str
    connected: bool = True
    """Whether the kernel has the on-link route that comes with the address; a link that is down has none to show."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.link, self.address)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace), ("link", self.namespace, self.link))


@dataclass(frozen=True)
class Route(Resource):
    """A unicast route in the main table.  Ours carry `ROUTE_PROTOCOL` or, made by a module, `ROUTE_PROTOCOL_ALONE`."""

    kind: ClassVar[str] = "route"
    namespace: str
    destination: str
    """``default`` or a prefix."""
    family: int = 4
    via: Optional[str] = None
    link: str = ""
    alone: bool = False
    """Whether a module made it by itself: what `ALONE` is for objects that have room for a role."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, str(self.family), self.destination)

    @property
    def inside(self) -> tuple[Key, ...]:
        # The kernel drops a link's routes with the address they were reached through.
        return (
            ("namespace", self.namespace),
            ("link", self.namespace, self.link),
            ("addresses", self.namespace, self.link),
        )

    @property
    def label(self) -> str:
        return "/".join(part for part in (self.namespace, self.destination) if part)


ROUTE_PROTOCOL = 137
ROUTE_PROTOCOL_ALONE = 138
MAIN_TABLE = 254


@dataclass(frozen=True)
class Rule(Resource):
    """A rule of policy routing (ip-rule(8)): which table a packet's route comes from, or that it has none.

    Ours carry `ROUTE_PROTOCOL` and one of the project's two priorities; see `rule_priority`.
    """

    kind: ClassVar[str] = "rule"
    namespace: str
    family: int
    priority: int
    incoming: str = ""
    """The link it comes in by; ``lo`` is what the host itself sends.  "" is any."""
    destination: str = ""
    """A prefix; "" is any."""
    table: int = 0
    """0: no table, the packet is dropped."""

    @property
    def key(self) -> Key:
        which = (str(self.priority), self.incoming, self.destination)
        return (self.kind, self.namespace, str(self.family), *which)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()

    @property
    def label(self) -> str:
        words = f"from {self.incoming or 'all'} to {self.destination or 'all'}"
        return f"{self.namespace}/{words}" if self.namespace else words


def rule_priority(project: str) -> int:
    """The first of the two priorities of a project's rules, which say whose they are: a rule has no room for a mark.

    From 1000 to 4999: after the kernel's own table of local addresses (0), before whatever others put there.
    """
    digest = hashlib.sha256(f"cnm:{project}".encode()).digest()
    return 1000 + 2 * (int.from_bytes(digest[:4], "big") % 2000)


@dataclass(frozen=True)
class Fdb(Resource):
    """The forwarding table of a VXLAN link that is a bridge's port: behind which VTEP each remote endpoint is.

    Every entry is two of the kernel's: one of the link itself (``self permanent dst VTEP``), one of the bridge
    (``master static sticky``).  All permanent entries of a link of ours are ours.
    """

    kind: ClassVar[str] = "fdb"
    namespace: str
    link: str
    entries: dict[str, str] = field(default_factory=dict)
    """MAC address to VTEP."""
    flood: tuple[str, ...] = ()
    """VTEPs that get a copy of what has no entry, broadcasts among it; sorted."""
    table: str = ""
    """Digest of the shared table (see `Plan.shared`) that has the entries, where they are not written out."""
    flooded: bool = False
    """Whether `flood` is all VTEPs of that table."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.link)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace), ("link", self.namespace, self.link))


@dataclass(frozen=True)
class Neighbours(Resource):
    """The permanent entries of a link's ARP and ND tables; all of them on a link of ours are ours."""

    kind: ClassVar[str] = "neighbour"
    namespace: str
    link: str
    entries: dict[str, str] = field(default_factory=dict)
    """Address to MAC address."""
    table: str = ""
    """As `Fdb.table`."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.link)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace), ("link", self.namespace, self.link))


@dataclass(frozen=True)
class Sysctl(Resource):
    """A kernel parameter in dotted form.  The host's former value is remembered and put back when it is dropped."""

    kind: ClassVar[str] = "sysctl"
    namespace: str
    name: str
    value: str
    held: bool = True
    """Whether this project is among those that need the value; the last of them puts the host's own back."""
    former: Optional[str] = None
    """The host's own value where the controller knows it, should the host have lost its record."""
    links: tuple[str, ...] = ()
    """Links that forward by themselves: turning forwarding off for all turns it off for them too."""
    optional: bool = False
    """Whether a kernel that has no such parameter does without."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()


@dataclass(frozen=True)
class Chain:
    """A chain of a table: ``hook`` is ``type filter hook forward priority 0``-like text, "" for a regular chain."""

    name: str
    hook: str = ""
    rules: tuple[str, ...] = ()
    user: bool = False
    """The user's own chain: made if it is missing, its content never read or changed."""


@dataclass(frozen=True)
class Collection:
    """A set or map of a table, its declaration and elements in nft's language."""

    name: str
    declaration: str
    """``type ifname;`` for a set, ``type ipv4_addr : verdict;`` for a map, with flags if any."""
    elements: tuple[str, ...] = ()
    tracked: bool = False
    """Whether its elements translate connections: those of elements that come or go have to be forgotten."""
    tables: tuple[str, ...] = ()
    """Digests of the meshes whose remote VTEPs are its elements, each as ``VNI . VTEP``; of the family in its name."""

    @property
    def noun(self) -> str:
        """``set`` or ``map``."""
        return "map" if ":" in self.declaration else "set"


@dataclass(frozen=True)
class Nftables(Resource):
    """One nftables table with everything in it, changed in one transaction."""

    kind: ClassVar[str] = "nftables"
    namespace: str
    family: str
    name: str
    role: str = ""
    collections: tuple[Collection, ...] = ()
    chains: tuple[Chain, ...] = ()
    flags: str = ""
    """As found: ``dormant`` is a table whose rules are asleep."""
    users: str = ""
    """As found: the user's own chains and sets as nft prints them, put back where the table has to be made anew."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.family, self.name)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()

    @property
    def label(self) -> str:
        table = f"{self.family} {self.name}"
        return f"{self.namespace}/{table}" if self.namespace else table


@dataclass(frozen=True)
class File(Resource):
    """A directory's files of ours.  Other files beside them are left alone.

    One of the files starts with a comment line that is the mark of ``role``: by that the directory is known as ours.
    """

    kind: ClassVar[str] = "file"
    directory: str
    role: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """File name to whole content; mode 0644."""
    hidden: tuple[str, ...] = ()
    """As found: those that those they are for may not read."""
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File name to digests of shared texts (see `Mesh`) that follow what `files` says of it."""

    @property
    def key(self) -> Key:
        return (self.kind, self.directory)

    @property
    def label(self) -> str:
        return self.directory


@dataclass(frozen=True)
class Resolver(Resource):
    """The DNS server of a sandbox: a dnsmasq in its namespace."""

    kind: ClassVar[str] = "resolver"
    namespace: str
    config: tuple[str, ...] = ()
    """Lines of its configuration file; a change restarts it."""
    names: dict[str, str] = field(default_factory=dict)
    """Files of names it serves: path to SHA-256 of the content it must have loaded; a change is a reload.

    "" is the file's content as the same plan has it.
    """
    running: bool = True

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace)


@dataclass(frozen=True)
class DockerUser(Resource):
    """The rule in Docker's chain DOCKER-USER that lets by what our own table has let by."""

    kind: ClassVar[str] = "docker_user"
    family: int
    """4 or 6: ``iptables`` or ``ip6tables``."""

    @property
    def key(self) -> Key:
        return (self.kind, str(self.family))

    @property
    def label(self) -> str:
        return f"DOCKER-USER ipv{self.family}"


ENCRYPTED_PORT = 50
"""The UDP port from which the VXLAN links of encrypted overlays send, numbered after ESP.

By it the kernel tells what is to be encrypted.  No user can send from it, for it is below 1024; so what a host's users
send to a peer's port themselves goes in clear text, and is not heard there.  A mark that nftables sets would tell what
is to be encrypted, too, but whoever flushes the ruleset would send it all in clear text.
"""

DATA_PATH_PORT = 4789
"""The UDP port by which overlays travel, unless told otherwise (RFC 7348)."""

LARGEST_DATA_PATH_PORT = 55535


def encrypted_data_path_port(port: int) -> int:
    """The UDP port by which encrypted overlays travel, inside ESP, for that by which the others do.

    One of their own, for the kernel cannot tell VNIs apart when it asks whether a packet had to come encrypted.  Far
    from the other, so that it is not what the next project chooses, and 4790 is VXLAN-GPE's.
    """
    return port + 10000


@dataclass(frozen=True)
class Xfrm(Resource):
    """ESP (RFC 4303, RFC 4106) between this host and others, for the VXLAN of encrypted overlays and nothing else.

    To each peer its VXLAN from `ENCRYPTED_PORT` goes encrypted with the key of the epoch; to anyone else it does not
    go.  From each peer the keys of the epochs before and after are understood too.  What comes to the port otherwise,
    in clear text or from anyone else, is not heard.  The keys are not in the plan.
    """

    kind: ClassVar[str] = "xfrm"
    local: str
    """This host's VTEP."""
    port: int = encrypted_data_path_port(DATA_PATH_PORT)
    """The port VXLAN is sent to."""
    epoch: int = 1
    fingerprint: str = ""
    """Of the secret: so another secret makes another plan.  The kernel has none, so it is not compared."""
    peers: tuple[str, ...] = ()
    """The other hosts' VTEPs, sorted."""
    tables: tuple[str, ...] = ()
    """Digests of the meshes whose remote VTEPs are the peers, where they are not written out."""
    flaws: dict[str, str] = field(default_factory=dict)
    """As found: by peer what is not as it should be, in words."""

    @property
    def key(self) -> Key:
        return (self.kind, "overlays")


@dataclass(frozen=True)
class RealServer:
    """Where a virtual server sends connections."""

    address: str
    weight: int = 1
    """Its share of new connections; 0 is none, and those that are open go on."""
    port: int = 0
    """0 is the port that was called."""
    method: str = "masquerade"
    """How packets get there: ``masquerade``, ``direct`` or ``tunnel`` (IPIP)."""
    upper: int = 0
    lower: int = 0
    """It gets no new connections from the upper number of them on, until there are fewer than the lower; 0 is none."""


@dataclass(frozen=True)
class Ipvs(Resource):
    """A virtual server of IPVS, known by a packet mark or by protocol, address and port.

    They carry no mark of ours: in our namespaces all are ours, anywhere else those that are named.
    """

    kind: ClassVar[str] = "ipvs"
    namespace: str
    family: int = 4
    """4 or 6: of a mark there is one for each."""
    mark: int = 0
    protocol: str = ""
    """``tcp``, ``udp`` or ``sctp``."""
    address: str = ""
    port: int = 0
    scheduler: str = "rr"
    flags: tuple[str, ...] = ()
    """``fallback`` and ``port`` of the schedulers sh and mh, ``one_packet``; sorted."""
    persistence: int = 0
    """Seconds for which a caller stays with its real server; 0 is not at all."""
    prefix: int = 0
    """How much of their addresses callers have in common that stay together; 0 is all of it."""
    servers: tuple[RealServer, ...] = ()
    """Sorted by address and port."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def name(self) -> str:
        """By what it is known: ``mark 0x0a000009 ipv4``, ``tcp 10.0.0.9:80``."""
        if self.mark:
            return f"mark {self.mark:#010x} ipv{self.family}"
        address = f"[{self.address}]" if self.family == 6 else self.address
        return f"{self.protocol} {address}:{self.port}"

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()


@dataclass(frozen=True)
class IpvsTimeouts(Resource):
    """For how many seconds IPVS remembers a namespace's connections without a packet; the kernel's own by default."""

    kind: ClassVar[str] = "ipvs_timeouts"
    namespace: str
    tcp: int = 900
    tcp_fin: int = 120
    udp: int = 300

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace)

    @property
    def inside(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()


def shared_by(resource: Resource) -> list[str]:
    """Digests of the shared texts that a resource names."""
    if isinstance(resource, (Fdb, Neighbours)):
        return [resource.table] if resource.table else []
    if isinstance(resource, File):
        return [digest for digests in resource.shared.values() for digest in digests]
    if isinstance(resource, Nftables):
        return [digest for collection in resource.collections for digest in collection.tables]
    if isinstance(resource, Xfrm):
        return list(resource.tables)
    return []


KINDS: dict[str, type[Resource]] = {
    cls.kind: cls
    for cls in (
        *(Nftables, DockerUser, Xfrm, Sysctl, Rule, Namespace, Link, Address, Fdb, Neighbours, Route),
        *(Ipvs, IpvsTimeouts, File, Resolver),
    )
}
_PARTS: dict[tuple[str, str], tuple[type[Any], bool]] = {
    ("link", "peer"): (Peer, False),
    ("link", "port"): (Port, False),
    ("link", "vxlan"): (Vxlan, False),
    ("link", "parent"): (Parent, False),
    ("nftables", "collections"): (Collection, True),
    ("nftables", "chains"): (Chain, True),
    ("ipvs", "servers"): (RealServer, True),
}
"""By kind and field, whose class the field's value is, and whether it is a list of them."""


def _complete(table: Mapping[str, Mapping[str, Check]]) -> dict[str, dict[str, Check]]:
    """The checks of all fields by kind, those that hold parts among them."""
    result: dict[str, dict[str, Check]] = {kind: {"kind": str, **table[kind]} for kind in KINDS}
    for (kind, name), (cls, several) in _PARTS.items():
        result[kind][name] = part_of(cls, table[cls.__name__], several)
    return result


_PLANNED, _FOUND = _complete(PLANNED), _complete(FOUND)


@dataclass(frozen=True)
class Mesh:
    """Who is on a network that spans hosts: computed once for all of them, and travels beside the plans.

    A plan names it by the digest of its text; what a host makes of it leaves out the host's own endpoints.
    """

    network: str
    vni: int
    vteps: dict[str, str]
    """VTEP address by host."""
    endpoints: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...]], ...]
    """Host, sandbox, MAC address, bare addresses and names of each, sorted by sandbox."""

    def others(self, host: str) -> dict[str, str]:
        """VTEP address by host, of the other hosts."""
        return {name: address for name, address in self.vteps.items() if name != host}

    def to_json(self) -> str:
        """The text whose digest plans have."""
        return _json(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Mesh:
        """Read what `to_json` wrote; PlanError says what is wrong with the text."""
        try:
            return cls(**checked(MESH, _parsed(text, "table of endpoints")))
        except (FormError, TypeError) as error:
            raise PlanError(f"a table of endpoints cannot be read: {error}") from error


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through all that is being read again and again: nothing in it is
    garbage, and checking every field costs no more than that.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_LARGEST = 1 << 28


def _parsed(text: str, what: str) -> Any:
    """The JSON data of a text of at most a quarter of a gigabyte."""
    try:
        if len(text) > _LARGEST:
            raise PlanError(f"the {what} is larger than {_LARGEST >> 20} MB")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the {what} is not JSON: {printable(error)}") from error


def content_digest(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _defaults(cls: type[Any]) -> dict[str, Any]:
    """The default of each field of a dataclass, `MISSING` where it has none."""
    result = {}
    for spec in fields(cls):
        made = spec.default_factory() if spec.default_factory is not MISSING else MISSING
        result[spec.name] = spec.default if spec.default is not MISSING else made
    return result


@cache
def _required(cls: type[Any]) -> frozenset[str]:
    return frozenset(spec.name for spec in fields(cls) if spec.default is MISSING and spec.default_factory is MISSING)


def _said(value: Any) -> dict[str, Any]:
    """A resource, or a part of one, as JSON has it: its fields, without those that have their default value."""
    defaults = _defaults(value.__class__)
    said = {name: item for name, item in vars(value).items() if item != defaults[name]}
    kind = getattr(value, "kind", "")
    return {"kind": kind, **said} if kind else said


# A plan of thousands is worth not looking for what contains itself: nothing here does.
_json = json.JSONEncoder(default=_said, sort_keys=True, separators=(",", ":"), check_circular=False).encode


def encode(resource: Resource) -> dict[str, Any]:
    """A resource as JSON data; fields with their default value are left out."""
    data: dict[str, Any] = json.loads(_json(resource))
    return data


_R = TypeVar("_R", bound=Resource)


def _made(cls: type[_R], values: Mapping[str, Any]) -> _R:
    """The resource with these fields.  A frozen dataclass would set them one by one, each by a call of its own: for a
    plan of thousands that takes as long as all checks.
    """
    required: Any = _required(cls)
    if not required <= values.keys():
        raise FormError(f"it has no {' and no '.join(sorted(required - values.keys()))}")
    made = object.__new__(cls)
    vars(made).update(_defaults(cls))
    vars(made).update(values)
    return made


def decode(data: Any, found: bool = False) -> Resource:
    """The resource of that JSON data: one of a plan or, with ``found``, one that a host has found and noted.

    PlanError if its kind is unknown, a field is missing or does not have its form (see `fields`).
    """
    kind = data.get("kind") if isinstance(data, dict) else None
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise PlanError(f"the plan has a resource of kind {quoted(kind)}, which this version does not know")
    try:
        values = checked((_FOUND if found else _PLANNED)[cls.kind], data)
        del values["kind"]
        return _made(cls, values)
    except (FormError, TypeError) as error:
        raise PlanError(f"the plan has a {kind} that cannot be read: {error}") from error


def can_be_put_back(found: Resource) -> bool:
    """Whether a resource as it was found can be written down and made anew.

    What somebody else made of an object of ours may have names or texts that nothing of ours says.
    """
    try:
        decode(encode(found), found=True)
    except (PlanError, UnicodeError):
        return False
    return True


@dataclass(frozen=True)
class Plan:
    """A host's plan; see the module's text for its JSON."""

    host: str
    project: str = "default"
    resources: tuple[Resource, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    leases: dict[str, Any] = field(default_factory=dict)
    declared: dict[str, Any] = field(default_factory=dict)
    alone: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The plan as one line of JSON, the same for equal plans."""
        return self._text

    @cached_property
    def _text(self) -> str:
        data = {
            "schema": SCHEMA,
            "host": self.host,
            "project": self.project,
            "resources": sorted(self.resources, key=lambda item: item.key),
            "model": self.model,
            "leases": self.leases,
            **{name: part for name, part in (("declared", self.declared), ("alone", self.alone)) if part},
        }
        return _json(data)

    @property
    def shared(self) -> set[str]:
        """Digests of the shared texts that its resources name."""
        return {digest for resource in self.resources for digest in shared_by(resource)}

    @property
    def encryption(self) -> Optional[Xfrm]:
        """The resource that takes keys which are not in the plan, if it has that."""
        return next((resource for resource in self.resources if isinstance(resource, Xfrm)), None)

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's JSON, in hex."""
        return content_digest(self.to_json())

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan; PlanError says what is wrong with the text."""
        with _uncollected():
            return cls._read(text)

    @classmethod
    def _read(cls, text: str) -> Plan:
        data = _parsed(text, "plan")
        schema = data.pop("schema", None) if isinstance(data, dict) else None
        if schema != SCHEMA:
            raise PlanError(
                f"the plan's format is {printable(schema)}, this version reads {SCHEMA}: "
                "use the same collection on both"
            )
        missing = {"host", "project", "resources", "model", "leases"} - data.keys()
        resources = data.pop("resources", None)
        if missing or not isinstance(resources, list):
            raise PlanError(f"the plan has no {' and no '.join(sorted(missing)) or 'list of resources'}")
        try:
            return cls(resources=tuple([decode(item) for item in resources]), **checked(ENVELOPE, data))
        except (FormError, TypeError) as error:
            raise PlanError(f"the plan cannot be read: {error}") from error
