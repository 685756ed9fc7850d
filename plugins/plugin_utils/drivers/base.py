# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a network driver is: two pure functions from what was planned to resources.

A driver is one file with a class that has these methods, and its line in ``registry.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Optional, Protocol

from ...module_utils.plan.base import Resource
from ..declaration.topology import Endpoint, Network, Sandbox
from ..ipam.addresses import Subnet
from ..ipam.vips import Vip
from ..networks.lan_parents import Attachment
from ..networks.spanning import Lan, Overlay


@dataclass(frozen=True)
class Digests:
    """Digests of the texts that the hosts of a network share: peer table, records, lines of servers files."""

    table: str
    names: str
    servers: str


@dataclass(frozen=True)
class PlannedNetwork:
    """A network on one host, with what was allocated and derived for it."""

    network: Network
    id: str
    created: str
    subnets: tuple[Subnet, ...]
    published: bool = False
    """Whether a port of the host's loopback leads to one of its IPv4 addresses."""
    host: str = ""
    overlay: Optional[Overlay] = None
    shared: Optional[Digests] = None
    """Of a network that spans hosts: all of it, and what its hosts share."""
    own_vips: Mapping[str, Vip] = field(default_factory=dict)
    """Of a network of local scope: its services' virtual addresses, sorted."""
    lan: Optional[Lan] = None
    """Of a macvlan or ipvlan network that spans hosts: all of it."""
    attachment: Optional[Attachment] = None
    """Where on the host a macvlan or ipvlan network is,"""
    shim: tuple[str, ...] = ()
    """and the addresses the host itself has on it."""

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def vips(self) -> Mapping[str, Vip]:
        """The virtual addresses of services on it, by service."""
        return self.overlay.vips if self.overlay is not None else self.own_vips

    def of(self, family: int) -> tuple[Subnet, ...]:
        """Its subnets of a family."""
        return tuple(subnet for subnet in self.subnets if subnet.family == family)


@dataclass(frozen=True)
class PlannedEndpoint:
    """A sandbox's endpoint on a planned network."""

    network: PlannedNetwork
    sandbox: Sandbox
    endpoint: Endpoint
    id: str
    link: str
    """Name of the link in the sandbox: eth0."""
    ipv4: Optional[str]
    ipv6: Optional[str]
    """Addresses with their prefix length."""
    mac: str
    gateways: tuple[str, ...] = ()
    """The sandbox's default gateways that this endpoint supplies: at most one of each family."""

    @cached_property
    def interfaces(self) -> tuple[str, ...]:
        """Its addresses with their prefix length, IPv4 first."""
        return tuple(item for item in (self.ipv4, self.ipv6) if item)

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """Its bare addresses, IPv4 first."""
        return tuple(item.partition("/")[0] for item in self.interfaces)


def by_network(endpoints: Iterable[PlannedEndpoint]) -> dict[str, list[PlannedEndpoint]]:
    """Endpoints by the network they are on."""
    result: dict[str, list[PlannedEndpoint]] = {}
    for endpoint in endpoints:
        result.setdefault(endpoint.network.name, []).append(endpoint)
    return result


class Driver(Protocol):
    """How networks of one driver become resources on a host."""

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        """The host link all endpoints of the network are behind, which the firewall guards; None if there is none."""

    def gateway(self, network: PlannedNetwork, family: int) -> Optional[str]:
        """The gateway a sandbox on the network can have as its default one; None if it leads nowhere."""

    def host_addresses(self, network: PlannedNetwork) -> list[str]:
        """The addresses the host itself has on the network, with their prefix length."""

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        """What the network itself needs on the host."""

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        """What one endpoint needs, on the host and in the sandbox."""
