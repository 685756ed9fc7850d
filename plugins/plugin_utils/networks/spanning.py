# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks that span hosts: members, subnets, addresses, and the leases of all three."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Optional

from ...module_utils.plan.records import dataclass
from ..declaration.topology import Endpoint, Host, Network, Sandbox, Topology
from ..facts import Facts
from ..ipam.addresses import (
    DOCKER_POOLS,
    SHIM,
    Pool,
    Subnet,
    UsedPrefixes,
    addresses,
    configs_of,
    facts_for,
    network_of,
    networks_in_use,
    pools_of,
    shims,
    with_gateways,
)
from ..ipam.identifiers import mac_of
from ..ipam.vips import Vip
from ..leases.base import AddressLease, Leases, NetworkLease

OVERLAY_POOLS = (("10.0.0.0/8", 24),)
"""Where overlays that name no subnet get theirs, as in Docker's Swarm."""


@dataclass(frozen=True)
class Member:
    """An endpoint of a network that spans hosts."""

    host: str
    sandbox: Sandbox
    endpoint: Endpoint
    ipv4: Optional[str]
    ipv6: Optional[str]
    """Addresses with their prefix length."""
    mac: str

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """Its bare addresses, IPv4 first."""
        return tuple(item.partition("/")[0] for item in (self.ipv4, self.ipv6) if item)


@dataclass(frozen=True)
class TunnelEnds:
    """How the hosts of a network reach each other through tunnels."""

    vni: int
    port: int
    mtu: int
    """What is left of the underlay's MTU."""
    flood: bool
    vteps: Mapping[str, str]
    """The VTEP of each of the network's hosts that is known."""
    fabric: Mapping[str, str] = field(default_factory=dict)
    """With the control plane EVPN: the known VTEPs of all hosts of the topology, any of which may come to have
    endpoints; empty if the plan has the endpoints of all."""
    place: str = ""
    """Then: the namespace of the overlays; "" is the host's own, where an FRR of others sees them."""


@dataclass(frozen=True)
class Spanning:
    """One network that spans hosts, on all of them."""

    network: Network
    id: str
    created: str
    subnets: tuple[Subnet, ...]
    hosts: tuple[str, ...]
    """Its hosts; if they reach each other by tunnels, those whose VTEP is known."""
    members: Mapping[str, Member]
    """By sandbox, sorted; the hosts' own addresses among them."""
    vips: Mapping[str, Vip] = field(default_factory=dict)
    """By service, sorted."""
    tunnel: Optional[TunnelEnds] = None

    @cached_property
    def routing(self) -> tuple[Endpoint, ...]:
        """The endpoints that declare routes: few, and asked for once a host."""
        return tuple(item.endpoint for item in self.members.values() if item.endpoint.routes)

    @cached_property
    def sandboxes(self) -> Mapping[str, Member]:
        """The members that are sandboxes."""
        return {key: item for key, item in self.members.items() if item.sandbox.name != SHIM}


@dataclass
class SpanningNetworks:
    """Networks that span hosts by name; errors and warnings by host."""

    found: dict[str, Spanning] = field(default_factory=dict)
    fabric: dict[str, str] = field(default_factory=dict)
    """With the control plane EVPN: the known VTEPs of all hosts of the topology."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)

    def of(self, host: str) -> dict[str, Spanning]:
        """Those the host is on."""
        return {name: item for name, item in self.found.items() if host in item.hosts}


Pair = tuple[Sandbox, Endpoint]


@dataclass
class SpanningDraft:
    """A network that is being planned: its hosts, and the endpoints on it."""

    network: Network
    hosts: list[Host] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.hosts]


def refuse_overlaps(
    spanned: SpanningDraft, facts: Mapping[str, Facts], used: UsedPrefixes, result: SpanningNetworks
) -> None:
    """Refuse hosts where a declared subnet overlaps; if none of the network's own hosts is the cause, all of them."""
    for config in spanned.network.ipam:
        errors = used.overlap_errors(spanned.network, config)
        if not errors:
            continue
        found = {}
        for host in spanned.hosts:
            known = {host.name: facts[host.name]} if host.name in facts and not spanned.network.traits.on_parent else {}
            found[host.name] = UsedPrefixes(facts_of_hosts([host], spanned, facts), known).overlap_errors(
                spanned.network, config
            )
        for name, own in found.items():
            # An address of a host that is not on it is everybody's business: it would be called in its place.
            result.problems.setdefault(name, []).extend(own if any(found.values()) else errors)


def facts_of_hosts(hosts: Iterable[Host], spanned: SpanningDraft, facts: Mapping[str, Facts]) -> Iterator[Facts]:
    """Facts of hosts whose prefixes a network's subnet must not overlap; see `facts_for`."""
    for host in hosts:
        network = host.network(spanned.network.name)
        if host.name in facts and network is not None:
            yield facts_for(facts[host.name], network)


def addresses_of_other_hosts(name: str, others: Mapping[str, Leases]) -> list[str]:
    """The addresses on a network that are leased to hosts not planned in this run."""
    return [
        address
        for part in others.values()
        for key, entry in part["endpoints"].items()
        if key.split("/")[1] == name
        for address in entry.values()
    ]


def networks_spanning_hosts(topology: Topology, scope: str = "") -> dict[str, SpanningDraft]:
    """Networks that span hosts and are in use, sorted by name; or of them those of a scope."""
    result: dict[str, SpanningDraft] = {}
    for host in topology.hosts:
        for name, pairs in networks_in_use(host).items():
            network = host.network(name)
            if network is None or not network.traits.spans_hosts or not (pairs or network.standing):
                continue
            if scope in ("", network.traits.scope):
                spanned = result.setdefault(name, SpanningDraft(network))
                spanned.hosts.append(host)
                spanned.pairs += [*pairs, *shims(host, network)]
    for spanned in result.values():
        spanned.pairs.sort(key=lambda pair: pair[0].key)
    return dict(sorted(result.items()))


def reserve_declared_subnets(
    topology: Topology, spanning_networks: Mapping[str, SpanningDraft], used: Mapping[str, UsedPrefixes]
) -> None:
    """Keep subnets declared on a network's hosts from being chosen for it."""
    declared = {
        host.name: [network_of(config.subnet) for network in host.networks for config in network.ipam]
        for host in topology.hosts
    }
    for name, spanned in spanning_networks.items():
        for prefix in {prefix for host in spanned.names for prefix in declared[host]}:
            used[name].reserve(prefix)


def _pools(spanned: SpanningDraft, family: int) -> list[Pool]:
    settings, is_global = spanned.hosts[0].settings, spanned.network.traits.scope == "global"
    pools = settings.overlay_pools if is_global else settings.default_address_pools
    return pools_of(pools, family, OVERLAY_POOLS if is_global else DOCKER_POOLS, (settings.project,))


def choose_subnets(
    spanned: SpanningDraft, leased: NetworkLease, used: UsedPrefixes, problems: list[str]
) -> tuple[Subnet, ...]:
    network = spanned.network
    is_global = network.traits.scope == "global"
    setting = "cnm_overlay_address_pool" if is_global else "cnm_default_address_pools"
    configs = [
        config
        for family in (4, 6)
        for config in configs_of(network, family, leased, used, _pools(spanned, family), problems, setting)
    ]
    for config in configs:
        used.take(network_of(config.subnet))
    return with_gateways(network, configs, problems)


def leases_by_endpoint(parts: Mapping[str, Leases]) -> dict[tuple[str, str, str], AddressLease]:
    """Leases by network, sandbox and host; with host "" for a sandbox that has moved since."""
    result: dict[tuple[str, str, str], AddressLease] = {}
    for host, part in sorted(parts.items()):
        for key, entry in part["endpoints"].items():
            _host, network, sandbox = key.split("/")
            result[(network, sandbox, host)] = entry
            result.setdefault((network, sandbox, ""), entry)
    return result


def leases_of_network(
    spanned: SpanningDraft, leased_by_endpoint: Mapping[tuple[str, str, str], AddressLease]
) -> dict[str, AddressLease]:
    """The addresses leased to each sandbox of a network, on its host or the one it was on before."""
    name = spanned.network.name
    return {
        sandbox.key: leased_by_endpoint.get((name, sandbox.name, sandbox.host))
        or (not sandbox.everywhere and leased_by_endpoint.get((name, sandbox.name, "")))
        or {}
        for sandbox, _endpoint in spanned.pairs
    }


def choose_addresses(
    spanned: SpanningDraft,
    subnets: Sequence[Subnet],
    leased: Mapping[str, AddressLease],
    more: Sequence[Pair],
    used: Sequence[str],
    problems: list[str],
) -> dict[int, dict[str, str]]:
    """Addresses with their prefix length by sandbox or service, by family."""
    everyone = sorted([*spanned.pairs, *more], key=lambda pair: pair[0].key)
    found: dict[int, dict[str, str]] = {}
    for family in (4, 6):
        own = [subnet for subnet in subnets if subnet.family == family]
        before = {name: entry.get(f"ipv{family}") for name, entry in leased.items()}
        found[family] = addresses(spanned.network, own, everyone, before, problems, used) if own else {}
    return found


def members_of(spanned: SpanningDraft, found: Mapping[int, Mapping[str, str]]) -> dict[str, Member]:
    result = {}
    for sandbox, endpoint in spanned.pairs:
        ipv4, ipv6 = found[4].get(sandbox.key), found[6].get(sandbox.key)
        address = (ipv4 or ipv6 or "").partition("/")[0]
        if address:
            mac = "" if spanned.network.traits.shares_mac else endpoint.mac_address or mac_of(address)
            result[sandbox.key] = Member(sandbox.host, sandbox, endpoint, ipv4, ipv6, mac)
    return result
