# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The probe's results about a host, as planning uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Optional

from ..module_utils.plan.constants import DEFAULT_MTU
from ..module_utils.plan.records import dataclass


@dataclass(frozen=True)
class LinkFacts:
    """A link of the host that can be a network's parent."""

    kind: str = ""
    mtu: int = DEFAULT_MTU
    up: bool = True
    loopback: bool = False
    ethernet: bool = True
    below: str = ""
    """Its own parent on the host."""
    master: str = ""
    """The bridge or bond it is a port of."""
    ours: str = ""
    """Its role, if a plan of this project made it."""
    made: bool = False
    """Whether it is a parent that this project's plan made, and can make again."""
    owner: str = ""
    """The project that made it, if it is another one."""
    single_object: bool = False
    """Whether a module made it by itself; a plan that has it takes it over."""


@dataclass(frozen=True)
class Facts:
    """One host's answer to the probe."""

    routes: tuple[tuple[str, str, Optional[str]], ...] = ()
    """``(prefix, link, gateway or None)`` of every route that is not ours; None means on link."""
    addresses: tuple[tuple[str, str, int], ...] = ()
    """``(address, link, MTU)`` of the addresses by which other hosts may reach it."""
    vnis: tuple[int, ...] = ()
    """Foreign VNIs on the host, including those of a Docker Swarm."""
    links: Mapping[str, LinkFacts] = field(default_factory=dict)
    """By name, without bridge ports whose other end is in a namespace."""
    reached_by: tuple[str, ...] = ()
    """Links with the address by which Ansible reaches the host."""
    bridges: tuple[str, ...] = ()
    """Bridges that are not ours."""
    resolvers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """The host's upstream resolvers and resolv.conf settings; a local stub only if its upstreams are unknown."""
    failing_resolvers: Mapping[str, str] = field(default_factory=dict)
    """Why each of its upstream resolvers resolves nothing, of `RESOLVER_FAILURES`; empty if one answers."""
    forwarding_before: tuple[int, ...] = ()
    """Families that the host forwarded before we turned forwarding on."""
    forwarding_links: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """By family, links that forwarded before; ``default`` stands for links that are created later."""
    ra_links: tuple[str, ...] = ()
    """Links with a default route from router advertisements, which they must continue to accept."""
    neighbour_tables: Mapping[str, int] = field(default_factory=dict)
    """``ipv4.gc_thresh1`` and so on; empty if the kernel shows them only in the first namespace."""
    listeners: tuple[tuple[str, str, int, str], ...] = ()
    """``(protocol, address, port, process)`` of listening sockets on the host; udp and tcp."""
    flushing: Optional[str] = None
    """The ruleset file of an enabled service that flushes all tables, ours too, at its start."""
    filters_bridges: bool = True
    """Whether its nftables can filter bridged frames; of one that is still to be installed, that it can."""
    rejects_bridged: bool = True
    """Whether its kernel can answer bridged frames that are rejected."""
    ipvs: bool = False
    """Whether its kernel has IPVS or can load it."""
    no_esp: Mapping[int, str] = field(default_factory=dict)
    """By family, a sentence that says why it cannot encrypt overlays; empty if it can or was not asked."""
    missing_links: tuple[str, ...] = ()
    """Types of links that its kernel cannot make."""
    missing_shaping: tuple[str, ...] = ()
    """What its kernel lacks to limit endpoints and to emulate links; empty if it was not asked."""
    foreign: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By kind of resource, names of objects of others: ``br0`` of links, ``inet cnm`` of tables of nftables."""
    absent_owners: Mapping[tuple[str, str], tuple[str, bool]] = field(default_factory=dict)
    """Owners of namespaces that were looked for and have none, by kind and name: the problem as a sentence, and whether
    the kept plan has a sandbox there."""
    occupied: Mapping[str, str] = field(default_factory=dict)
    """Processes of users in sandboxes that the variables no longer declare, unless these are to go all the same."""
    dropping: tuple[str, ...] = ()
    """Foreign chains that drop unmatched forwarded traffic: ``ip filter FORWARD``."""
    closed: tuple[str, ...] = ()
    """Foreign chains that drop unmatched traffic to the host itself."""
    front_ends: tuple[str, ...] = ()
    """``ufw`` and ``firewalld``, where they are active."""
    let_by: tuple[str, ...] = ()
    """What these have been told to let by: ``in LINK``, ``out LINK``, ``udp ADDRESS PORT``, ``esp ADDRESS 0``."""
    docker_user: tuple[int, ...] = ()
    """Families in which a Docker Engine has its chain DOCKER-USER."""
    link_managers: tuple[str, ...] = ()
    """Its programs that configure links, of `LINK_MANAGERS`."""
    systemd: bool = False
    """Whether systemd is its first process."""
    dnsmasq_confined: bool = False
    """Whether AppArmor keeps dnsmasq from the files of resolvers."""
    missing: tuple[str, ...] = ()
    """Missing ones of the programs ``nft``, ``dnsmasq``, ``conntrack`` and the user ``cnm-resolver``."""
    has_frr: bool = False
    """Whether it has an FRR of ours, or the text for one of others."""
    has_table: bool = False
    """Whether our table exists: runs never remove it, as users may have rules in it."""
    revision: int = 0
    digest: str = ""
    leases: Mapping[str, Any] = field(default_factory=dict)
    """The kept plan's revision, digest and leases."""
    signature: str = ""
    """The lease store's signature of ``leases`` and ``module_state``; see `leases.signing`."""
    settled: bool = False
    """Whether the host is as its kept plan."""
    seen: str = ""
    """What the probe saw of such a host, in a digest, for a run that then looks only at what it changes."""
    shared: tuple[str, ...] = ()
    """Digests of the kept texts that are shared with other hosts."""
    module_state: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the kept plan; the last two only if they were requested."""

    def forwarded_before(self, family: int) -> bool:
        """Whether the host forwarded that family by itself."""
        return family in self.forwarding_before

    @property
    def uplinks(self) -> tuple[str, ...]:
        """Links of the host's own default routes, sorted."""
        return tuple(sorted({link for destination, link, _via in self.routes if destination == "default"}))

    @classmethod
    def from_probe(cls, result: Mapping[str, Any]) -> Facts:
        """Read the module probe's result."""
        return cls(
            routes=tuple((route["destination"], route["link"], route["via"]) for route in result["routes"]),
            addresses=tuple((item["address"], item["link"], item["mtu"]) for item in result["addresses"]),
            vnis=tuple(result["vnis"]),
            links={
                item["name"]: LinkFacts(*(item[spec.name] for spec in fields(LinkFacts))) for item in result["links"]
            },
            reached_by=tuple(result["reached_by"]),
            bridges=tuple(result["bridges"]),
            resolvers=tuple(result["resolvers"]["servers"]),
            search=tuple(result["resolvers"]["search"]),
            options=tuple(result["resolvers"]["options"]),
            failing_resolvers=dict(result["failing_resolvers"]),
            forwarding_before=tuple(result["forwarding_before"]),
            forwarding_links={int(family): tuple(links) for family, links in result["forwarding_links"].items()},
            ra_links=tuple(result["ra_links"]),
            neighbour_tables=dict(result["neighbour_tables"]),
            listeners=tuple(
                (item["protocol"], item["address"], item["port"], item["process"]) for item in result["listeners"]
            ),
            flushing=result["flushing"],
            filters_bridges=bool(result["filters_bridges"]) or "nft" in result["missing"],
            rejects_bridged=bool(result["rejects_bridged"]) or "nft" in result["missing"],
            ipvs=bool(result["ipvs"]),
            no_esp={int(family): words for family, words in result.get("no_esp", {}).items()},
            missing_links=tuple(result["missing_links"]),
            missing_shaping=tuple(result["missing_shaping"]),
            foreign={kind: frozenset(names) for kind, names in result["foreign"].items()},
            absent_owners={
                (item["owner"], item["reference"]): (item["problem"], item["kept"]) for item in result["absent_owners"]
            },
            occupied=dict(result["occupied"]),
            dropping=tuple(result["dropping"]),
            closed=tuple(result["closed"]),
            front_ends=tuple(result["front_ends"]),
            let_by=tuple(result["let_by"]),
            docker_user=tuple(result["docker_user"]),
            link_managers=tuple(result["link_managers"]),
            systemd=bool(result["systemd"]),
            dnsmasq_confined=bool(result["dnsmasq_confined"]),
            missing=tuple(result["missing"]),
            has_frr=bool(result["has_frr"]),
            has_table=bool(result["has_table"]),
            revision=int(result["kept"].get("revision", 0)),
            digest=str(result["kept"].get("digest", "")),
            leases=result["kept"].get("leases", {}),
            signature=str(result["kept"].get("signature", "")),
            settled=bool(result["settled"]),
            seen=str(result["seen"]),
            shared=tuple(result["kept"].get("shared", ())),
            module_state=result["kept"].get("module_state", {}),
            declared=result["kept"].get("declared", {}),
            model=result["kept"].get("model", {}),
        )
