# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a network driver is: options, traits, checks, and two functions from what was planned to resources.

A driver is one file with a subclass of `Driver`.  Ours stand in ``registry.py``; one of another collection is found by
its name (see docs/development/add-a-driver.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import ClassVar, Optional, Union

from ...module_utils.plan.base import Resource
from ...module_utils.plan.records import dataclass
from ..declaration.driver import Option, Traits
from ..declaration.errors import ValidationError, VarPath
from ..declaration.topology import Endpoint, Network, Sandbox
from ..facts import Facts
from ..ipam.addresses import Subnet
from ..ipam.vips import Vip
from ..networks.spanning import Spanning, TunnelEnds

INTERFACE = 1
"""The version of what a driver of another collection is written against: `Driver` and all that its methods are given.
It is raised when such a driver has to be changed."""


@dataclass(frozen=True)
class Digests:
    """Digests of the texts that the hosts of a network share: peer table, records, lines of servers files."""

    table: str
    names: str
    servers: str
    everyone: str
    """The peer table with the endpoints of all hosts, which the hosts get unless BGP tells them of these."""


@dataclass(frozen=True)
class Attachment:
    """The host's link that a network's sandboxes are made on, and the MTU they have."""

    link: str
    mtu: int
    makes: str = ""
    """The type of link to make for it: "" for one that is there anyway, ``vlan``, or ``ifb`` if nothing leads out."""
    below: str = ""
    vlan: int = 0
    """Of a VLAN link to make: what it is made on, and its ID."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment:
    """A bridge in a namespace of its own, whose ports are the endpoints and one link to the other hosts."""

    namespace: str
    trunk: str
    """The link to the other hosts: what comes by it was checked there."""


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
    spanning: Optional[Spanning] = None
    shared: Optional[Digests] = None
    """Of a network that spans hosts: all of it, and what its hosts share."""
    own_vips: Mapping[str, Vip] = field(default_factory=dict)
    """Of a network of local scope: its services' virtual addresses, sorted."""
    attachment: Optional[Attachment] = None
    """What the driver's `attach` found on the host,"""
    shim: tuple[str, ...] = ()
    """and the addresses the host itself has among the sandboxes'."""

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def vips(self) -> Mapping[str, Vip]:
        """The virtual addresses of services on it, by service."""
        return self.spanning.vips if self.spanning is not None else self.own_vips

    @property
    def tunnel(self) -> Optional[TunnelEnds]:
        """How the hosts of the network reach each other, if it is by tunnels."""
        return self.spanning.tunnel if self.spanning is not None else None

    @property
    def closed(self) -> bool:
        """Whether packets of its bridge on the host stay on it: the host neither routes them nor takes them."""
        return self.network.internal or self.network.traits.forwarding is None

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


class Driver:
    """A driver.  Every method is a pure function of what it is given; a subclass overrides those it needs."""

    interface: ClassVar[int] = 0
    """The `INTERFACE` that a driver of another collection is written against."""
    name: str = ""
    """What ``driver:`` says; of a driver of another collection its FQCN, which is given to it."""
    options: Mapping[str, Option] = {}
    """Keys of ``driver_opts`` that a network can have.  Values arrive as text in the form that the option's reader
    gave them: ``network.option(key)``."""
    subnets_per_family: int = 0
    """The number of subnets a network can have in each family; 0 for any."""
    encrypts: bool = False
    """Whether its networks can have ``encrypted: true``; of drivers of other collections none can."""

    def traits(self, network: Network) -> Traits:
        """What this network is like; it is read with its options, families and subnets."""
        raise NotImplementedError

    def check(self, network: Network, path: VarPath) -> None:
        """Note at ``path``, where the network is declared, what does not go together in it."""

    def check_members(
        self, network: Network, members: Sequence[tuple[Sandbox, Endpoint]], errors: list[ValidationError]
    ) -> None:
        """Note endpoints that a host's part of the network cannot have, each at its own path."""

    def check_hosts(self, network: Network, hosts: Sequence[str], path: VarPath) -> None:
        """Note if these hosts, all that have sandboxes on a network that spans hosts, cannot share it."""

    def attach(self, network: Network, network_id: str, facts: Facts) -> Union[Attachment, list[str], None]:
        """What the network uses on the host, or errors that rule it out; None or [] if it needs nothing there."""

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        """The host's own link that all endpoints of the network are behind, which the firewall guards."""

    def segment(self, network: PlannedNetwork) -> Optional[Segment]:
        """The bridge in a namespace of its own that all endpoints of the network are behind."""

    def gateway(self, network: PlannedNetwork, family: int) -> Optional[str]:
        """The gateway that a sandbox on the network has as its default one; None if it leads nowhere."""

    def host_addresses(self, network: PlannedNetwork) -> list[str]:
        """The addresses the host itself has on the network, with their prefix length."""
        del network
        return []

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        """What the network itself needs on the host."""
        raise NotImplementedError

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        """What one endpoint needs, on the host and in the sandbox."""
        raise NotImplementedError
