# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names of sandboxes outside of them: the host's own resolver, and what systemd-resolved is told of it.

Such a resolver answers for one domain, forwards nothing and refuses the rest.  It has the names of endpoints that who
asks can reach: the host those on networks where it has an address itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import family_of
from ...module_utils.plan.settings import Resolved, Resolver
from ..declaration.topology import Settings
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..drivers.registry import driver_of
from ..facts import Facts
from .records import is_dns_name, names_of_endpoint, names_of_vips, names_text
from .resolvers import names_directory

HOST_FILE = "@host"
"""The host's file of names; no network's name and no servers file's has that form."""

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


def names_outside(settings: Settings, facts: Facts, endpoints: Iterable[PlannedEndpoint]) -> Outside:
    """What makes the host resolve its sandboxes: nothing unless it is to, and has some that it reaches."""
    if not settings.host_names:
        return Outside()
    endpoints = list(endpoints)
    networks = {item.network.name: item.network for item in endpoints if item.network.network.discovery}
    rows = [row for network in networks.values() for row in _rows(network, endpoints, settings.domain)]
    links = sorted({link for network in networks.values() for link in _own_bridges(network, facts)})
    if not rows:
        return Outside()
    address = host_address(settings.project)
    config = [*answering(settings.domain, address), f"addn-hosts={names_directory(settings.project)}/{HOST_FILE}"]
    told = [Resolved(link, address, settings.domain) for link in links]
    return Outside({HOST_FILE: names_text(settings.project, rows)}, [Resolver("", tuple(config)), *told])


def answering(domain: str, address: str) -> list[str]:
    """Lines of the configuration of a resolver that knows one domain and no other resolver."""
    return ["port=53", f"listen-address={address}", "bind-interfaces", "no-hosts", "no-resolv", f"local=/{domain}/"]


def _rows(network: PlannedNetwork, endpoints: Iterable[PlannedEndpoint], domain: str) -> Iterator[Row]:
    """The addresses that the host reaches, and their names in the domain."""
    families = {family_of(address.partition("/")[0]) for address in driver_of(network).host_addresses(network)}
    found = [(item.addresses, names_of_endpoint(item)) for item in endpoints if item.network.name == network.name]
    vips = network.own_vips
    found += [(vips[key].addresses, names) for key, names in names_of_vips(network.name, vips).items()]
    for addresses, names in found:
        usable = [address for address in addresses if family_of(address) in families]
        full = [name for name in (f"{each}.{domain}" for each in names) if is_dns_name(name)]
        if usable and full:
            yield usable, full


def _own_bridges(network: PlannedNetwork, facts: Facts) -> Iterator[str]:
    """The bridge of a network if the host has an address on it; not one of others, which they configure."""
    driver = driver_of(network)
    link = driver.bridge(network)
    there = facts.links.get(link or "")
    if link and driver.host_addresses(network) and (there is None or there.ours):
        yield link
