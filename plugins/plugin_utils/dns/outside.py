# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names of sandboxes outside of them: the host's own resolver, what systemd-resolved is told of it, and that of a LAN.

Such a resolver answers for one domain, forwards nothing and refuses the rest.  It has the names of endpoints that who
asks can reach: the host those on networks where it has an address itself, a LAN those with addresses of its own and
those that the host publishes ports of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from ipaddress import ip_address
from typing import Optional

from ...module_utils.plan import forms
from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import family_of
from ...module_utils.plan.records import dataclass
from ...module_utils.plan.settings import Resolved, Resolver
from ..declaration.topology import Host, Settings
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..drivers.registry import driver_of
from ..facts import Facts
from ..firewall.published_ports import PublishedPort, published_ports
from .records import is_dns_name, names_of_endpoint, names_of_vips, names_text
from .resolvers import names_directory

HOST_FILE, LAN_FILE = "@host", "@lan"
"""The files of names of both; no network's name and no servers file's has that form."""

_PORT = 53

Row = tuple[Sequence[str], Sequence[str]]


@dataclass(frozen=True)
class Outside:
    """Files of names, by their names, and what reads them."""

    files: Mapping[str, str] = field(default_factory=dict)
    resources: Sequence[Resource] = ()


def host_address(project: str) -> str:
    """Where the host's resolver listens: each project's has an address of its own."""
    if project == "default":
        return "127.0.0.12"
    one, two, three = hashlib.sha256(f"cnm:{project}".encode()).digest()[:3]
    return f"127.{128 + one % 127}.{two}.{1 + three % 254}"


def names_outside(host: Host, facts: Facts, endpoints: Iterable[PlannedEndpoint]) -> Outside:
    """What makes the host, and a LAN by the host's address, resolve its sandboxes.

    Nothing unless they are to, and there are names for them.
    """
    settings, here = host.settings, host_address(host.settings.project)
    asked = [(HOST_FILE, here)] if settings.host_names else []
    asked += [(LAN_FILE, settings.lan_names)] if settings.lan_names else []
    if not asked:
        return Outside()
    endpoints = list(endpoints)
    every = {item.network.name: item.network for item in endpoints if item.network.network.discovery}
    networks = list(every.values())
    files: dict[str, str] = {}
    resources: list[Resource] = []
    for name, address in asked:
        lan = name == LAN_FILE
        rows = _of_lan(host, address, networks, endpoints) if lan else _of_host(networks, endpoints)
        full = list(_in_domain(rows, settings.domain))
        if full:
            files[name] = names_text(settings.project, full)
            config = [
                *_answering(settings.domain, address, lan),
                f"addn-hosts={names_directory(settings.project)}/{name}",
            ]
            resources.append(Resolver("", tuple(config), lan=lan))
    if HOST_FILE in files:
        links = sorted({link for network in networks for link in _own_bridges(network, facts)})
        resources += [Resolved(link, here, settings.domain) for link in links]
    return Outside(files, resources)


def lan_names_errors(settings: Settings, ports: Iterable[PublishedPort]) -> list[str]:
    """Errors about published ports where the resolver of the LAN listens."""
    here = settings.lan_names
    taken = {port.path for port in ports if here and port.translated and _is_at(port.host_ip, here) and _has_dns(port)}
    return [
        f"{path}: port 53 of {here} is that of cnm_lan_names. Publish it at another address, with host_ip, or remove "
        "cnm_lan_names"
        for path in sorted(taken)
    ]


def _has_dns(port: PublishedPort) -> bool:
    return port.protocol in ("tcp", "udp") and port.published[0] <= _PORT <= port.published[1]


def lan_names_warnings(settings: Settings, facts: Facts) -> list[str]:
    """The warning that a LAN cannot ask yet."""
    address = settings.lan_names
    if address is None or not facts.addresses or address in {own for own, _link, _mtu in facts.addresses}:
        return []
    return [f"cnm_lan_names: {address} is no address of this host; names are told there as soon as it has it"]


def _answering(domain: str, address: str, lan: bool) -> list[str]:
    """Lines of the configuration of a resolver that knows one domain and no other resolver."""
    # An address that the host gets later, as by DHCP or VRRP, is listened at from then on.
    bound = "bind-dynamic" if lan else "bind-interfaces"
    return [
        f"port={_PORT}",
        f"listen-address={forms.address(address)}",
        bound,
        "no-hosts",
        "no-resolv",
        f"local=/{domain}/",
    ]


def _of_host(networks: Iterable[PlannedNetwork], endpoints: Sequence[PlannedEndpoint]) -> Iterator[Row]:
    """The addresses that the host reaches, and their names without the domain."""
    for network in networks:
        families = {family_of(address.partition("/")[0]) for address in driver_of(network).host_addresses(network)}
        found = [(item.addresses, names_of_endpoint(item)) for item in endpoints if item.network.name == network.name]
        vips = network.own_vips
        found += [(vips[key].addresses, names) for key, names in names_of_vips(network.name, vips).items()]
        for addresses, names in found:
            yield [address for address in addresses if family_of(address) in families], names


def _of_lan(
    host: Host, here: str, networks: Iterable[PlannedNetwork], endpoints: Sequence[PlannedEndpoint]
) -> Iterator[Row]:
    """The addresses that others reach, and their names without the domain."""
    named = {network.name for network in networks}
    reached = set()
    for item in endpoints:
        addresses = [address for address in item.addresses if _is_outside(item.network, family_of(address))]
        if addresses and item.network.name in named:
            reached.add(item.sandbox.name)
            yield addresses, names_of_endpoint(item)
    published = [port for port in published_ports(endpoints) if port.translated and _is_at(port.host_ip, here)]
    targets, paths = {port.address for port in published}, {port.path for port in published}
    for item in endpoints:
        if targets.intersection(item.addresses) and item.network.name in named and item.sandbox.name not in reached:
            yield [here], [name for name in names_of_endpoint(item) if not name.endswith(f".{item.network.name}")]
    for service in host.services:
        if any((port.mode == "ingress" and _is_at(port.host_ip, here)) or port.path in paths for port in service.ports):
            yield [here], [service.name]


def _is_outside(network: PlannedNetwork, family: int) -> bool:
    """Whether others reach the network's sandboxes of a family at their own addresses."""
    if network.network.internal:
        return False
    forwarding = network.network.traits.forwarding
    if forwarding is not None:
        return forwarding.mode(family) in ("routed", "nat-unprotected")
    return network.attachment is not None and network.attachment.makes != "ifb"


def _is_at(host_ip: Optional[str], here: str) -> bool:
    """Whether a port that is published at an address of the host, or at all of them, is there."""
    if family_of(host_ip or here) != family_of(here):
        return False
    return host_ip in (None, here) or ip_address(host_ip or here).is_unspecified


def _in_domain(rows: Iterable[Row], domain: str) -> Iterator[Row]:
    for addresses, names in rows:
        full = [name for name in (f"{each}.{domain}" for each in names) if is_dns_name(name)]
        if addresses and full:
            yield addresses, full


def _own_bridges(network: PlannedNetwork, facts: Facts) -> Iterator[str]:
    """The bridge of a network if the host has an address on it; not one of others, which they configure."""
    driver = driver_of(network)
    link = driver.bridge(network)
    there = facts.links.get(link or "")
    if link and driver.host_addresses(network) and (there is None or there.ours):
        yield link
