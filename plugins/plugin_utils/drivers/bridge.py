# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver bridge: a bridge on the host with the gateway's address, a veth pair to each sandbox."""

from __future__ import annotations

from typing import Optional

from ...module_utils.plan.addresses import Address
from ...module_utils.plan.base import Resource
from ...module_utils.plan.links import Link, VethPeer
from ...module_utils.plan.marks import LINK_GROUP, OPEN_GROUP
from ..declaration.topology import Network
from ..ipam.identifiers import bridge_name, mac_of, port_group, port_name
from .base import PlannedEndpoint, PlannedNetwork
from .veth import veth_resources

_BRIDGE = "com.docker.network.bridge."
ICC = _BRIDGE + "enable_icc"
MASQUERADE = _BRIDGE + "enable_ip_masquerade"
HOST_BINDING = _BRIDGE + "host_binding_ipv4"
INHIBIT_IPV4 = _BRIDGE + "inhibit_ipv4"
TRUSTED = _BRIDGE + "trusted_host_interfaces"
MTU = "com.docker.network.driver.mtu"
DEFAULT_MTU = 1500


def gateway_mode(network: Network, family: int) -> str:
    """``nat``, ``nat-unprotected``, ``routed`` or ``isolated``."""
    return network.option(f"{_BRIDGE}gateway_mode_ipv{family}") or "nat"


def source_address(network: Network, family: int) -> Optional[str]:
    """The address the network's traffic leaves the host with, if it is not to be that of the link it leaves by."""
    return network.option(f"com.docker.network.host_ipv{family}") or None


def is_on(network: Network, option: str) -> bool:
    """The value of an option whose default is true."""
    return network.option(option, "true") != "false"


class BridgeDriver:
    """Networks of local scope on one host."""

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        return network.network.named_bridge or bridge_name(network.id)

    def gateway(self, network: PlannedNetwork, family: int) -> Optional[str]:
        """As in Docker an aux address called ``DefaultGatewayIPv4`` is one that is not the bridge's own."""
        subnets = network.of(family)
        if not subnets or network.network.internal or gateway_mode(network.network, family) == "isolated":
            return None
        return dict(subnets[0].config.aux_addresses).get(f"DefaultGatewayIPv{family}", subnets[0].gateway)

    @staticmethod
    def _mtu(network: PlannedNetwork) -> int:
        return int(network.network.option(MTU) or 0) or DEFAULT_MTU

    def host_addresses(self, network: PlannedNetwork) -> list[str]:
        without = [family for family in (4, 6) if gateway_mode(network.network, family) == "isolated"]
        if network.network.option(INHIBIT_IPV4) == "true":
            without.append(4)
        return [f"{item.gateway}/{item.length}" for item in network.subnets if item.family not in without]

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        name = self.bridge(network) or ""
        says = network.network
        return [
            Link(
                "",
                name,
                "bridge",
                role=f"network/{network.name}",
                mac=mac_of(network.subnets[0].gateway),
                mtu=self._mtu(network),
                disable_ipv6=not says.enable_ipv6 or gateway_mode(says, 6) == "isolated",
                accept_ra=0,
                group=LINK_GROUP if says.firewall else OPEN_GROUP,
                route_localnet=network.published,
                adopts_existing=bool(says.named_bridge),
                learns_from_reserved=False if says.firewall else None,
            ),
            *(Address("", name, address) for address in self.host_addresses(network)),
        ]

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        network = endpoint.network
        peer = VethPeer(
            "",
            port_name(endpoint.id),
            self.bridge(network) or "",
            # What a port of the host leads to is for everyone, the other sandboxes among them.
            isolated=not is_on(network.network, ICC) and not endpoint.sandbox.everywhere,
            group=port_group(network.id) if network.network.firewall else 0,
            hairpin=bool(endpoint.sandbox.ports),
        )
        return veth_resources(endpoint, self._mtu(network), peer)
