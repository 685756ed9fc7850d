# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a network driver is: two pure functions from what was planned to resources.

A driver is one file with a class that has these methods, and its line in ``registry.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol

from ...module_utils.plan import Resource
from ..addressing import Subnet
from ..declaration.topology import Endpoint, Network, Sandbox


@dataclass(frozen=True)
class PlannedNetwork:
    """A network on one host, with what was allocated and derived for it."""

    network: Network
    id: str
    created: str
    subnets: tuple[Subnet, ...]

    @property
    def name(self) -> str:
        return self.network.name


@dataclass(frozen=True)
class PlannedEndpoint:
    """A sandbox's endpoint on a planned network."""

    network: PlannedNetwork
    sandbox: Sandbox
    endpoint: Endpoint
    id: str
    link: str
    """Name of the link in the sandbox: eth0."""
    address: str
    """With prefix length."""
    mac: str
    gateway: Optional[str]
    """The sandbox's default gateway, if this endpoint is the one that supplies it."""


class Driver(Protocol):
    """How networks of one driver become resources on a host."""

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        """The host link all endpoints of the network are behind, which the firewall guards; None if there is none."""

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        """What the network itself needs on the host."""

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        """What one endpoint needs, on the host and in the sandbox."""
