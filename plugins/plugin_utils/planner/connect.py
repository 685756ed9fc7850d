# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The pass that connects: a host's networks and endpoints as resources, by their drivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...module_utils.plan.base import Resource
from ...module_utils.plan.records import dataclass
from ...module_utils.plan.shaping import Shaping
from ..declaration.driver import DriverError
from ..drivers.base import PlannedEndpoint
from ..drivers.registry import driver_of
from ..firewall.published_ports import PublishedPort, published_ports
from .allocation import HostAllocation


@dataclass(frozen=True)
class Connected:
    """What a host's networks and endpoints are made of, and what later passes have to know of it."""

    resources: tuple[Resource, ...]
    bridges: Mapping[str, str]
    """The host's own links that the endpoints of a network are behind, by network."""
    ports: Sequence[PublishedPort]


def connect(allocated: HostAllocation) -> Connected:
    """The resources of networks that are allocated.  Raises `DriverError`."""
    ports = published_ports(allocated.every)
    published = {port.network for port in ports if port.at_loopback}
    resources: dict[object, Resource] = {}
    bridges: dict[str, str] = {}
    for network in allocated.networks.values():
        driver = driver_of(network)
        marked = replace(network, published=True) if network.name in published else network
        for item in driver.network_resources(marked):
            # Networks may have a VLAN link in common, and that is the same for all.
            if resources.setdefault(item.key, item) != item:
                problem = f"The driver {driver.name} makes {item.kind} {item.label} for the network {network.name}"
                raise DriverError(f"{problem}, which another network of the host makes otherwise.")
        bridge = driver.bridge(network)
        if bridge is not None:
            bridges[network.name] = bridge
        if (bridge is None) != (network.network.traits.forwarding is None) and network.tunnel is None:
            problem = f"The driver {driver.name} names a bridge of the host, or has the trait forwarding, and not both"
            raise DriverError(f"{problem} (network {network.name}).")
    endpoints = [item for each in allocated.every for item in _endpoint_resources(each)]
    return Connected((*resources.values(), *endpoints), bridges, ports)


def _endpoint_resources(endpoint: PlannedEndpoint) -> list[Resource]:
    found = driver_of(endpoint.network).endpoint_resources(endpoint)
    if endpoint.endpoint.shape is not None and not any(isinstance(item, Shaping) for item in found):
        raise DriverError(
            f"{endpoint.endpoint.path}: limits and netem work at the end of an endpoint outside the sandbox, and "
            f"the driver {endpoint.network.network.driver} has none. Leave them out, or use a bridge or an overlay."
        )
    return found
