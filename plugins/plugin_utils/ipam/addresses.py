# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Allocates subnets and addresses from what is declared, found on hosts and leased; updates the leases.  Pure.

The order is Docker's where it has one: declared addresses first, then leased ones, then new ones by name, each the
lowest free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache
from ipaddress import IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import Optional

from ...module_utils.plan.marks import identifier
from ...module_utils.plan.records import dataclass
from ..declaration.addresses import Address, gateway_in
from ..declaration.topology import Endpoint, Host, IpamConfig, Network, Sandbox, Service
from ..facts import Facts
from ..leases.base import Leases, NetworkLease
from .ranges import AnyNetwork, Ranges, first_free
from .vips import Vip, leases_of, virtual_of

DOCKER_POOLS: tuple[tuple[str, int], ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
"""Docker's own default address pools: base and the size of each subnet cut from it."""

ULA_SUBNET = 64
"""Size of the IPv6 subnets that are cut from the host's own /48 (RFC 4193), as Docker does."""


@dataclass(frozen=True)
class Subnet:
    """One subnet of a network on a host, as allocated."""

    subnet: str
    gateway: str
    """"" on a network that names none and gets none."""
    config: IpamConfig

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.config.family

    @property
    def length(self) -> str:
        """The prefix length."""
        return self.subnet.partition("/")[2]


@dataclass
class Allocation:
    """What was allocated to one host's networks and endpoints, with errors and warnings."""

    subnets: dict[str, tuple[Subnet, ...]] = field(default_factory=dict)
    ipv4: dict[tuple[str, str], str] = field(default_factory=dict)
    ipv6: dict[tuple[str, str], str] = field(default_factory=dict)
    """Addresses with their prefix length by ``(network, sandbox)``."""
    vips: dict[str, dict[str, Vip]] = field(default_factory=dict)
    """Services' by network."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def of_host(self, network: str, host: str) -> tuple[str, ...]:
        """The host's own bare addresses on a network."""
        key = (network, f"{SHIM}@{host}")
        return tuple(found[key].partition("/")[0] for found in (self.ipv4, self.ipv6) if key in found)

    def of(self, family: int) -> dict[tuple[str, str], str]:
        """The addresses of a family."""
        return self.ipv6 if family == 6 else self.ipv4


def networks_in_use(host: Host) -> dict[str, list[tuple[Sandbox, Endpoint]]]:
    """Networks with a sandbox on the host, and standing ones, each with its endpoints; both sorted by name."""
    result: dict[str, list[tuple[Sandbox, Endpoint]]] = {
        network.name: [] for network in host.networks if network.standing
    }
    for sandbox in sorted(host.sandboxes, key=lambda item: item.name):
        for endpoint in sandbox.endpoints:
            result.setdefault(endpoint.network, []).append((sandbox, endpoint))
    return dict(sorted(result.items()))


Pool = tuple[AnyNetwork, int]
"""A prefix, and the length of the subnets that are cut from it."""

SHIM = "@host"
"""Stands for the host itself among the sandboxes of a network it has access to; no sandbox has such a name."""


def shims(host: Host, network: Network) -> list[tuple[Sandbox, Endpoint]]:
    """The host's own endpoint on a network with host access: the aux address with the host's name, else any."""
    if not network.traits.host_access:
        return []
    given: dict[int, str] = {}
    for config in network.ipam:
        address = dict(config.aux_addresses).get(host.name)
        given.update({config.family: address} if address else {})
    endpoint = Endpoint(network.name, given.get(4), given.get(6), path=f"{network.path}.driver_opts.host_access")
    return [(Sandbox(SHIM, host.name, everywhere=True, path=endpoint.path), endpoint)]


def allocate(
    host: Host,
    facts: Facts,
    leases: Leases,
    now: str,
    spanning: Mapping[str, Sequence[Subnet]] = MappingProxyType({}),
    services: Sequence[Service] = (),
) -> Allocation:
    """Give every network of local scope its subnets and gateways and every endpoint and service on it its addresses.

    Updates ``leases`` in place: new entries are added, those of what is no longer declared are dropped.  ``spanning``
    are the subnets of networks that span hosts: what they have is not chosen.
    """
    allocation = Allocation()
    in_use = {
        name: [*pairs, *shims(host, network)]
        for name, pairs in networks_in_use(host).items()
        if (network := host.network(name)) is not None and _is_local(network)
    }
    used = UsedPrefixes([facts], {host.name: facts})
    for subnets in spanning.values():
        for subnet in subnets:
            used.take(network_of(subnet.subnet))
    named = {name: network for name in in_use if (network := host.network(name)) is not None}
    for network in named.values():
        allocation.problems += _no_way_out(network, facts)
        for config in network.ipam:
            own = UsedPrefixes([facts_for(facts, network)]) if network.traits.on_parent else used
            allocation.problems += own.overlap_errors(network, config)
            allocation.warnings += [] if network.traits.on_parent else used.shadowed_route_warnings(network, config)
            used.take(network_of(config.subnet))
    for name, network in named.items():
        entry = leases["networks"].get(f"{host.name}/{name}", {})
        configs = [
            config
            for family in (4, 6)
            for config in configs_of(network, family, entry, used, _pools(host, family), allocation.problems, _POOLS)
        ]
        allocation.subnets[name] = with_gateways(network, configs, allocation.problems)
        virtual = virtual_of(name, services, entry.get("vips", {}))
        members = sorted([*in_use[name], *virtual.pairs], key=lambda pair: pair[0].key)
        leased = {
            sandbox.key: leases["endpoints"].get(f"{host.name}/{name}/{sandbox.key}", {})
            for sandbox, _endpoint in in_use[name]
        }
        given: dict[int, dict[str, str]] = {}
        for family in (4, 6):
            subnets = [subnet for subnet in allocation.subnets[name] if subnet.family == family]
            before = {key: known.get(f"ipv{family}") for key, known in {**leased, **virtual.leased}.items()}
            given[family] = addresses(network, subnets, members, before, allocation.problems) if subnets else {}
            allocation.of(family).update({(name, key): given[family][key] for key in leased if key in given[family]})
        allocation.vips.update({name: vips} if (vips := virtual.found(given)) else {})
    _remember(host, allocation, leases, now, spanning)
    return allocation


def facts_for(facts: Facts, network: Network) -> Facts:
    """A host's facts without what the network may overlap: on a parent, its connected routes, and resolvers."""
    if not network.traits.on_parent:
        return facts
    return replace(
        facts, routes=tuple(item for item in facts.routes if item[1] != network.traits.parent or item[2]), resolvers=()
    )


def _no_way_out(network: Network, facts: Facts) -> list[str]:
    """A sentence if the bridge a network is to use is what the host itself is reached by."""
    bridge = network.traits.adopted_link
    if bridge not in facts.uplinks:
        return []
    sentence = (
        f"{network.path}: the bridge {bridge} has the host's default route, and other networks could not go out by it "
        f"any more. Sandboxes get addresses of its LAN with `driver: macvlan` and `parent: {bridge}`."
    )
    return [sentence]


_POOLS = "cnm_default_address_pools"


def _is_local(network: Optional[Network]) -> bool:
    return network is not None and not network.traits.mode and not network.traits.spans_hosts


class UsedPrefixes:
    """Prefixes of one or more hosts that a network must not overlap, and whose they are.

    Nor may it have an address of any of the hosts ``known`` by name: a sandbox or a service of that address would be
    called in its place (CVE-2020-8554).

    Several networks can have the same ``shared`` prefixes in use; reserved prefixes are one network's own.
    """

    def __init__(
        self, hosts: Iterable[Facts], known: Mapping[str, Facts] = MappingProxyType({}), shared: Optional[Ranges] = None
    ) -> None:
        self._on_link: list[tuple[AnyNetwork, str, str]] = []
        self._routed: list[tuple[AnyNetwork, str]] = []
        routes: dict[tuple[str, str, bool], None] = {}
        resolvers: dict[str, None] = {}
        for facts in hosts:
            routes.update(
                dict.fromkeys((to, link, via is not None) for to, link, via in facts.routes if to != "default")
            )
            resolvers.update(dict.fromkeys(facts.resolvers))
        for destination, link, is_routed in routes:
            prefix, what = network_of(destination), f"the route {destination} on {link}"
            if is_routed:
                self._routed.append((prefix, what))
            else:
                self._on_link.append((prefix, f"{what} on this host", link))
        for server in resolvers:
            self._on_link.append((network_of(server), f"the host's resolver {server} on this host", ""))
        for name, facts in sorted(known.items()):
            self._on_link += [
                (network_of(address), f"the address {address} of the host {name} ({link})", link)
                for address, link, _mtu in facts.addresses
            ]
        self._foreign = Ranges([item[0] for item in self._on_link] + [item[0] for item in self._routed])
        self._shared = Ranges() if shared is None else shared
        self._reserved = Ranges()
        self._used = (self._foreign, self._shared, self._reserved)

    def _overlapped(self, prefix: AnyNetwork, own: str = "") -> Optional[str]:
        """What the prefix overlaps, but for what is on the network's ``own`` link: that is taken over."""
        if not self._foreign.overlaps(prefix):
            return None
        found = (what for other, what, link in self._on_link if _overlap(prefix, other) and (not own or link != own))
        return next(found, None)

    def overlap_errors(self, network: Network, config: IpamConfig) -> list[str]:
        """An error if a declared subnet overlaps a prefix in use."""
        overlapped = self._overlapped(network_of(config.subnet), network.traits.adopted_link)
        if overlapped is None:
            return []
        return [f"{network.path}: subnet {config.subnet} overlaps {overlapped}. Choose another subnet."]

    def shadowed_route_warnings(self, network: Network, config: IpamConfig) -> list[str]:
        """Warnings of gateway routes that cover a declared subnet."""
        prefix = network_of(config.subnet)
        return [
            f"{network.path}: subnet {config.subnet} is covered by {what}; destinations behind it become unreachable"
            for other, what in (self._routed if self._foreign.overlaps(prefix) else ())
            if _overlap(prefix, other)
        ]

    def free(self, prefix: AnyNetwork) -> bool:
        """Whether no prefix in use overlaps it."""
        return not any(ranges.overlaps(prefix) for ranges in self._used)

    def first_free(self, pools: Iterable[Pool]) -> Optional[AnyNetwork]:
        """The first subnet of the pools that no prefix in use overlaps."""
        found = (first_free(base, length, self._used) for base, length in pools)
        return next((prefix for prefix in found if prefix is not None), None)

    def take(self, prefix: AnyNetwork) -> None:
        """Mark it as used for all networks with the same `shared`."""
        self._shared.add(prefix)

    def reserve(self, prefix: AnyNetwork) -> None:
        """Mark it as used here alone."""
        self._reserved.add(prefix)


@lru_cache(maxsize=4096)
def network_of(prefix: str) -> AnyNetwork:
    """A prefix, an address with its length, or an address."""
    return ip_network(prefix, strict=False)


def _overlap(one: AnyNetwork, other: AnyNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def configs_of(
    network: Network,
    family: int,
    leased: NetworkLease,
    used: UsedPrefixes,
    pools: Iterable[Pool],
    problems: list[str],
    setting: str,
) -> Sequence[IpamConfig]:
    """The subnets of a family: the declared ones, else the leased one, else the first free one of the pools."""
    declared = [config for config in network.ipam if config.family == family]
    if declared or not network.has(family):
        return declared
    size = network.size(family)
    before = (network_of(subnet) for subnet in leased.get("subnets", ()))
    fitting = (prefix for prefix in before if prefix.version == family and size in (None, prefix.prefixlen))
    found = next((prefix for prefix in fitting if used.free(prefix)), None)
    if found is None and size is not None:
        pools = [(base, size) for base, _length in pools if base.prefixlen <= size]
    if found is None:
        found = used.first_free(pools)
    if found is None:
        of_size = f"of the size /{size} " if size else ""
        problems.append(
            f"{network.path}: no IPv{family} subnet {of_size}is left in {setting} that the host does not use "
            "already. Give the network a subnet, or add a pool."
        )
        return ()
    used.take(found)
    return (IpamConfig(str(found)),)


def _pools(host: Host, family: int) -> list[Pool]:
    # As Docker's /48 is derived from the daemon's id.
    return pools_of(host.settings.default_address_pools, family, DOCKER_POOLS, (host.settings.project, host.name))


def pools_of(
    pools: Sequence[tuple[str, int]], family: int, default: Sequence[tuple[str, int]], owner: Sequence[str]
) -> list[Pool]:
    """A family's pools in order.

    Without a pool of the family, those of ``default``; for IPv6 of a unique local /48 derived from its owner.
    """
    own = [(base, size) for base, size in ((network_of(text), size) for text, size in pools) if base.version == family]
    if not own and family == 6:
        bits = identifier("ula", *owner)[:10]
        own = [(IPv6Network((int(f"fd{bits}", 16) << 80, 48)), ULA_SUBNET)]
    elif not own:
        own = [(network_of(text), size) for text, size in default]
    return [(base, max(size, base.prefixlen)) for base, size in own]


def _candidates(config: IpamConfig) -> Iterator[str]:
    """Addresses that may be given out, ascending: those of ip_range, without the subnet's first and, of IPv4, last."""
    subnet = network_of(config.subnet)
    pool = network_of(config.ip_range) if config.ip_range else subnet
    first = max(int(pool.network_address), int(subnet.network_address) + 1)
    last = min(int(pool.broadcast_address), int(subnet.broadcast_address) - (1 if subnet.version == 4 else 0))
    for number in range(first, last + 1):
        yield str(type(subnet.network_address)(number))


def _usable(address: Address, prefix: AnyNetwork) -> bool:
    reserved = (prefix.network_address, prefix.broadcast_address) if prefix.version == 4 else (prefix.network_address,)
    return address in prefix and address not in reserved


def with_gateways(network: Network, configs: Sequence[IpamConfig], problems: list[str]) -> tuple[Subnet, ...]:
    """The subnets, each with its gateway."""
    subnets = []
    for config in configs:
        gateway = gateway_in(network, config) or (None if network.traits.chooses_gateway else "")
        if gateway is None:
            problems.append(
                f"{network.path}: {config.ip_range or config.subnet} has no address left for the gateway. "
                "Name one with gateway, or free one of the aux_addresses."
            )
        else:
            subnets.append(Subnet(config.subnet, gateway, config))
    return tuple(subnets)


def addresses(
    network: Network,
    subnets: Sequence[Subnet],
    members: Sequence[tuple[Sandbox, Endpoint]],
    leased: Mapping[str, Optional[str]],
    problems: list[str],
    others: Iterable[str] = (),
) -> dict[str, str]:
    """Addresses of one family, with their prefix length, by sandbox: fixed ones, those leased, then the lowest free.

    ``members`` are sorted by name, ``leased`` has bare addresses by sandbox; ``others`` are those of sandboxes that are
    not among the members.
    """
    key = f"ipv{subnets[0].family}"
    used = {address for subnet in subnets for address in _reserved(subnet)} | set(others)
    given = {sandbox.key: fixed for sandbox, endpoint in members if (fixed := getattr(endpoint, f"{key}_address"))}
    used.update(given.values())
    newcomers = []
    for sandbox, _endpoint in members:
        if sandbox.key in given:
            continue
        before = leased.get(sandbox.key)
        if before and before not in used and _subnet_of(before, subnets) is not None:
            given[sandbox.key] = before
            used.add(before)
        else:
            newcomers.append(sandbox.key)
    spared = {_first(subnet) for subnet in subnets if network.traits.on_parent and not subnet.config.ip_range}
    free = (
        f"{address}/{subnet.length}"
        for subnet in subnets
        for address in _candidates(subnet.config)
        if address not in used and address not in spared
    )
    chosen = dict(zip(newcomers, free))
    unserved = [name for name in newcomers if name not in chosen]
    if unserved:
        where = ", ".join(subnet.config.ip_range or subnet.subnet for subnet in subnets)
        names = ", ".join(unserved[:5]) + (" and more" if len(unserved) > 5 else "")
        problems.append(f"{network.path}: {where} has no address left for {names}. Take a larger subnet or ip_range.")
    kept = {
        name: f"{address}/{subnet.length}"
        for name, address in given.items()
        if (subnet := _subnet_of(address, subnets)) is not None
    }
    return {**kept, **chosen}


def _first(subnet: Subnet) -> str:
    """On a LAN it is the router's, more often than not."""
    return str(network_of(subnet.subnet)[1])


def _reserved(subnet: Subnet) -> set[str]:
    return {subnet.gateway, *(address for _name, address in subnet.config.aux_addresses)}


def _subnet_of(text: str, subnets: Sequence[Subnet]) -> Optional[Subnet]:
    """The subnet an address can be a host of."""
    address = ip_address(text)
    return next((subnet for subnet in subnets if _usable(address, network_of(subnet.subnet))), None)


def _remember(
    host: Host, allocation: Allocation, leases: Leases, now: str, spanning: Mapping[str, Sequence[Subnet]]
) -> None:
    prefix = f"{host.name}/"
    networks: dict[str, NetworkLease] = {}
    for name, subnets in allocation.subnets.items():
        old = leases["networks"].get(prefix + name, {})
        networks[prefix + name] = {
            "created": old.get("created", now),
            "subnets": [item.subnet for item in subnets],
            **({"vips": leases_of(allocation.vips[name])} if name in allocation.vips else {}),
        }
    endpoints = {key: entry for key, entry in leases["endpoints"].items() if key.split("/")[1] in spanning}
    for family in (4, 6):
        for (network, sandbox), address in allocation.of(family).items():
            endpoints.setdefault(f"{prefix}{network}/{sandbox}", {})[f"ipv{family}"] = address.partition("/")[0]
    leases["networks"], leases["endpoints"] = networks, endpoints
