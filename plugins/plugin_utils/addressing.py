# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who gets which subnet and address.  Pure: declared, found and remembered in; allocated and to be remembered out.

The order is Docker's where it has one: what is fixed first, then what has a lease keeps it, then newcomers by name,
each the lowest that is free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Any, Optional, Union

from .declaration.addresses import gateway_of
from .declaration.topology import Endpoint, Host, IpamConfig, Network, Sandbox
from .facts import Facts
from .leases.base import Leases

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

AnyNetwork = Union[IPv4Network, IPv6Network]


@dataclass(frozen=True)
class Subnet:
    """One subnet of a network on a host, as allocated."""

    subnet: str
    gateway: str
    config: IpamConfig


@dataclass
class Allocation:
    """What one host's networks and endpoints got, and the sentences about what could not be had."""

    subnets: dict[str, tuple[Subnet, ...]] = field(default_factory=dict)
    addresses: dict[tuple[str, str], str] = field(default_factory=dict)
    """By ``(network, sandbox)``."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def users(host: Host) -> dict[str, list[tuple[Sandbox, Endpoint]]]:
    """Networks a sandbox of the host is on, with who is on them, both sorted by name."""
    result: dict[str, list[tuple[Sandbox, Endpoint]]] = {}
    for sandbox in sorted(host.sandboxes, key=lambda item: item.name):
        for endpoint in sandbox.endpoints:
            result.setdefault(endpoint.network, []).append((sandbox, endpoint))
    return dict(sorted(result.items()))


def allocate(host: Host, facts: Facts, leases: Leases, now: str) -> Allocation:
    """Give every network of the host its subnet and gateway and every endpoint its address.

    Updates ``leases`` in place: new entries are added, those of what is no longer declared are dropped.
    """
    allocation = Allocation()
    in_use = {name: pairs for name, pairs in users(host).items() if _is_addressed(host.network(name))}
    taken = _Taken(facts)
    named = {name: host.network(name) for name in in_use}
    remembered = leases["networks"]
    for network in named.values():
        if network is not None and network.ipam:
            for config in network.ipam:
                taken.explicit(allocation, network, config)
    for name, network in named.items():
        if network is None:
            continue
        entry = remembered.get(f"{host.name}/{name}", {})
        configs = network.ipam or _automatic(host, network, entry, taken, allocation)
        subnets = _with_gateways(network, configs, allocation)
        allocation.subnets[name] = subnets
        for subnet in subnets:
            _addresses(host.name, network, subnet, in_use[name], leases, allocation)
    _remember(host, allocation, leases, now)
    return allocation


def _is_addressed(network: Optional[Network]) -> bool:
    return network is not None and network.driver not in ("host", "none")


class _Taken:
    """Prefixes of a host that a network must not overlap, and whose they are."""

    def __init__(self, facts: Facts) -> None:
        self._on_link: list[tuple[AnyNetwork, str]] = []
        self._routed: list[tuple[AnyNetwork, str]] = []
        for destination, link, via in facts.routes:
            if destination == "default":
                continue
            where = (ip_network(destination, strict=False), f"the route {destination} on {link}")
            (self._on_link if via is None else self._routed).append(where)
        for server in facts.resolvers:
            self._on_link.append((ip_network(server), f"the host's resolver {server}"))
        self._ours: list[AnyNetwork] = []

    def _clash(self, prefix: AnyNetwork) -> Optional[str]:
        return next((what for other, what in self._on_link if _overlap(prefix, other)), None)

    def explicit(self, allocation: Allocation, network: Network, config: IpamConfig) -> None:
        prefix = ip_network(config.subnet)
        clash = self._clash(prefix)
        if clash is not None:
            allocation.problems.append(
                f"{network.path}: subnet {config.subnet} overlaps {clash} on this host. Choose another subnet."
            )
        for other, what in self._routed:
            if _overlap(prefix, other):
                allocation.warnings.append(
                    f"{network.path}: subnet {config.subnet} lies within {what}: what that leads to is out of reach"
                )
        self._ours.append(prefix)

    def free(self, prefix: AnyNetwork) -> bool:
        overlaps_ours = any(_overlap(prefix, other) for other in self._ours)
        overlaps_routed = any(_overlap(prefix, other) for other, _what in self._routed)
        return not overlaps_ours and not overlaps_routed and self._clash(prefix) is None

    def take(self, prefix: AnyNetwork) -> None:
        self._ours.append(prefix)


def _overlap(one: AnyNetwork, other: AnyNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _automatic(
    host: Host, network: Network, entry: dict[str, Any], taken: _Taken, allocation: Allocation
) -> tuple[IpamConfig, ...]:
    for subnet in entry.get("subnets", ()):
        prefix = ip_network(subnet)
        if taken.free(prefix):
            taken.take(prefix)
            return (IpamConfig(subnet),)
    for base, size in host.settings.default_address_pools or DOCKER_POOLS:
        pool = ip_network(base)
        if pool.version != 4:
            continue
        for prefix in pool.subnets(new_prefix=max(size, pool.prefixlen)):
            if taken.free(prefix):
                taken.take(prefix)
                return (IpamConfig(str(prefix)),)
    allocation.problems.append(
        f"{network.path}: no subnet is left in cnm_default_address_pools that the host does not use already. "
        "Give the network a subnet, or add a pool."
    )
    return ()


def _candidates(config: IpamConfig) -> Iterator[IPv4Address]:
    """Addresses that may be given out, ascending: those of ip_range, without the subnet's first and last."""
    subnet = IPv4Network(config.subnet)
    pool = IPv4Network(config.ip_range) if config.ip_range else subnet
    for number in range(int(pool.network_address), int(pool.broadcast_address) + 1):
        address = IPv4Address(number)
        if address not in (subnet.network_address, subnet.broadcast_address):
            yield address


def _with_gateways(network: Network, configs: Sequence[IpamConfig], allocation: Allocation) -> tuple[Subnet, ...]:
    subnets = []
    for config in configs:
        gateway = gateway_of(config)
        if gateway is None:
            allocation.problems.append(
                f"{network.path}: {config.ip_range or config.subnet} has no address left for the gateway. "
                "Name one with gateway, or free one of the aux_addresses."
            )
        else:
            subnets.append(Subnet(config.subnet, gateway, config))
    return tuple(subnets)


def _addresses(
    host: str,
    network: Network,
    subnet: Subnet,
    pairs: Sequence[tuple[Sandbox, Endpoint]],
    leases: Leases,
    allocation: Allocation,
) -> None:
    given: dict[str, str] = {}
    reserved = {subnet.gateway, *(address for _name, address in subnet.config.aux_addresses)}
    waiting: list[tuple[Sandbox, Endpoint]] = []
    for sandbox, endpoint in pairs:
        if endpoint.ipv4_address:
            given[sandbox.name] = endpoint.ipv4_address
        else:
            waiting.append((sandbox, endpoint))
    used = reserved | set(given.values())
    newcomers = []
    prefix = IPv4Network(subnet.subnet)
    for sandbox, endpoint in waiting:
        held = leases["endpoints"].get(f"{host}/{network.name}/{sandbox.name}", {}).get("ipv4")
        if held and held not in used and _usable(held, prefix):
            given[sandbox.name] = held
            used.add(held)
        else:
            newcomers.append((sandbox, endpoint))
    _serve(network, subnet, newcomers, used, given, allocation)
    for sandbox_name, address in given.items():
        allocation.addresses[(network.name, sandbox_name)] = address


def _usable(address: str, prefix: IPv4Network) -> bool:
    value = IPv4Address(address)
    return value in prefix and value not in (prefix.network_address, prefix.broadcast_address)


def _serve(
    network: Network,
    subnet: Subnet,
    newcomers: Sequence[tuple[Sandbox, Endpoint]],
    used: Collection[str],
    given: dict[str, str],
    allocation: Allocation,
) -> None:
    free = (address for address in map(str, _candidates(subnet.config)) if address not in used)
    for position, (sandbox, _endpoint) in enumerate(newcomers):
        address = next(free, None)
        if address is None:
            names = ", ".join(item.name for item, _endpoint in newcomers[position:][:5])
            allocation.problems.append(
                f"{network.path}: {subnet.config.ip_range or subnet.subnet} has no address left for {names}"
                f"{' and more' if len(newcomers) - position > 5 else ''}. Take a larger subnet or ip_range."
            )
            return
        given[sandbox.name] = address


def _remember(host: Host, allocation: Allocation, leases: Leases, now: str) -> None:
    prefix = f"{host.name}/"
    networks = {}
    for name, subnets in allocation.subnets.items():
        old = leases["networks"].get(prefix + name, {})
        networks[prefix + name] = {
            "created": old.get("created", now),
            "subnets": [item.subnet for item in subnets],
        }
    endpoints = {
        f"{prefix}{network}/{sandbox}": {"ipv4": address}
        for (network, sandbox), address in allocation.addresses.items()
    }
    for section, entries in (("networks", networks), ("endpoints", endpoints)):
        others = {key: value for key, value in leases[section].items() if not key.startswith(prefix)}
        leases[section] = {**others, **entries}
