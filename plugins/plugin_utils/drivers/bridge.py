# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver bridge: a bridge on the host with the gateway's address, a veth pair to each sandbox."""

from __future__ import annotations

from typing import Optional

from ...module_utils.plan import LINK_GROUP, Address, Link, Peer, Resource, Route
from ..identifiers import bridge_name, mac_of, port_name
from .base import PlannedEndpoint, PlannedNetwork

NAME = "com.docker.network.bridge.name"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
MTU = "com.docker.network.driver.mtu"
DEFAULT_MTU = 1500


class BridgeDriver:
    """Networks of local scope on one host."""

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        return network.network.option(NAME) or bridge_name(network.id)

    @staticmethod
    def _mtu(network: PlannedNetwork) -> int:
        return int(network.network.option(MTU) or 0) or DEFAULT_MTU

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        name = self.bridge(network) or ""
        subnet = network.subnets[0]
        length = subnet.subnet.partition("/")[2]
        return [
            Link(
                "",
                name,
                "bridge",
                role=f"network/{network.name}",
                mac=mac_of(subnet.gateway),
                mtu=self._mtu(network),
                disable_ipv6=not network.network.enable_ipv6,
                accept_ra=0,
                group=LINK_GROUP,
            ),
            Address("", name, f"{subnet.gateway}/{length}"),
        ]

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        sandbox, network = endpoint.sandbox.name, endpoint.network
        isolated = network.network.option(ICC, "true") == "false"
        resources: list[Resource] = [
            Link(
                sandbox,
                endpoint.link,
                "veth",
                role=f"endpoint/{network.name}/{sandbox}",
                mac=endpoint.mac,
                mtu=self._mtu(network),
                disable_ipv6=not network.network.enable_ipv6,
                accept_ra=0,
                peer=Peer("", port_name(endpoint.id), self.bridge(network) or "", isolated),
            ),
            Address(sandbox, endpoint.link, endpoint.address),
        ]
        if endpoint.gateway is not None:
            resources.append(Route(sandbox, "default", via=endpoint.gateway, link=endpoint.link))
        return resources
