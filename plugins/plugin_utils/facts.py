# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the probe found on a host, as the planner uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Optional

from ..module_utils.plan.constants import DEFAULT_MTU


@dataclass(frozen=True)
class LinkFacts:
    """A link of the host that a network might be made on."""

    kind: str = ""
    mtu: int = DEFAULT_MTU
    up: bool = True
    loopback: bool = False
    ethernet: bool = True
    below: str = ""
    """The link of the host it is made on."""
    master: str = ""
    """The bridge or bond it is a port of."""
    ours: str = ""
    """What it is to a plan of this project that made it."""
    made: bool = False
    """Whether that is but the parent of a network, to be made again."""
    owner: str = ""
    """The other project that made it."""


@dataclass(frozen=True)
class Facts:
    """One host's answer to the probe."""

    routes: tuple[tuple[str, str, Optional[str]], ...] = ()
    """``(prefix, link, gateway or None)`` of every route that is not ours; None means on link."""
    addresses: tuple[tuple[str, str, int], ...] = ()
    """``(address, link, MTU)`` of the addresses that other hosts may know it by."""
    vnis: tuple[int, ...] = ()
    """VNIs that others use on the host, a Docker Engine's Swarm among them."""
    links: Mapping[str, LinkFacts] = field(default_factory=dict)
    """By name, without ports of bridges that lead into somebody's namespace."""
    reached_by: tuple[str, ...] = ()
    """Links that have the address by which Ansible reaches the host."""
    bridges: tuple[str, ...] = ()
    """Bridges that are not ours."""
    resolvers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """The host's upstream resolvers and resolv.conf settings; a loopback stub only if nothing behind it is known."""
    forwarding_before: tuple[int, ...] = ()
    """The families the host forwarded before we first asked it to."""
    forwarding_links: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """By family the links that forwarded all the same; ``default`` stands for those to come."""
    ra_links: tuple[str, ...] = ()
    """Links that have learned a default route from router advertisements, and have to go on doing so."""
    neighbour_tables: Mapping[str, int] = field(default_factory=dict)
    """``ipv4.gc_thresh1`` and so on; empty where the kernel shows them to the first namespace alone."""
    listeners: tuple[tuple[str, str, int, str], ...] = ()
    """``(protocol, address, port, process)`` of sockets on the host that others can reach; udp and tcp."""
    flushing: Optional[str] = None
    """A file of an enabled service that clears all tables of the host, ours too, whenever it is started."""
    filters_bridges: bool = True
    """Whether its nftables can filter bridged frames."""
    ipvs: bool = False
    """Whether its kernel has IPVS, or can load it."""
    no_esp: Mapping[int, str] = field(default_factory=dict)
    """By family a sentence about why it cannot encrypt overlays; empty if it can, or was not asked."""
    dropping: tuple[str, ...] = ()
    """Chains of others that drop forwarded traffic they do not know: ``ip filter FORWARD``."""
    closed: tuple[str, ...] = ()
    """The same of traffic for the host itself."""
    docker_user: tuple[int, ...] = ()
    """Families in which a Docker Engine would drop what we forward, and has a chain for its users' rules."""
    missing: tuple[str, ...] = ()
    """What it lacks: the programs ``nft``, ``dnsmasq``, ``conntrack``, the user ``cnm-resolver``."""
    has_table: bool = False
    """Whether our table is there: a run never removes it, the user may have rules in it."""
    revision: int = 0
    digest: str = ""
    leases: Mapping[str, Any] = field(default_factory=dict)
    """The kept plan's age, digest and part of the lease store."""
    signature: str = ""
    """What the lease store that gave them out wrote under leases and `module_state`; see `leases.signing`."""
    settled: bool = False
    """Whether the host is as its kept plan says."""
    shared: tuple[str, ...] = ()
    """Digests of the kept texts that are shared with other hosts."""
    module_state: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    """The kept plan's sections of these names; the last two only where they were asked for."""

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
            forwarding_before=tuple(result["forwarding_before"]),
            forwarding_links={int(family): tuple(links) for family, links in result["forwarding_links"].items()},
            ra_links=tuple(result["ra_links"]),
            neighbour_tables=dict(result["neighbour_tables"]),
            listeners=tuple(
                (item["protocol"], item["address"], item["port"], item["process"]) for item in result["listeners"]
            ),
            flushing=result["flushing"],
            filters_bridges=bool(result["filters_bridges"]),
            ipvs=bool(result["ipvs"]),
            no_esp={int(family): words for family, words in result.get("no_esp", {}).items()},
            dropping=tuple(result["dropping"]),
            closed=tuple(result["closed"]),
            docker_user=tuple(result["docker_user"]),
            missing=tuple(result["missing"]),
            has_table=bool(result["has_table"]),
            revision=int(result["kept"].get("revision", 0)),
            digest=str(result["kept"].get("digest", "")),
            leases=result["kept"].get("leases", {}),
            signature=str(result["kept"].get("signature", "")),
            settled=bool(result["settled"]),
            shared=tuple(result["kept"].get("shared", ())),
            module_state=result["kept"].get("module_state", {}),
            declared=result["kept"].get("declared", {}),
            model=result["kept"].get("model", {}),
        )
