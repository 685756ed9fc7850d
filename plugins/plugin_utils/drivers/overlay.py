# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver overlay: on each host a namespace with a bridge and a VXLAN link, a veth pair from there to each sandbox.

Nothing is learned, and nothing flooded unless cnm_flood is set: forwarding and neighbour entries for all remote
endpoints are written, and the bridge answers for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ...module_utils.plan.addresses import Address, Fdb, Neighbours, Route
from ...module_utils.plan.base import Resource
from ...module_utils.plan.links import BridgePort, Link, Namespace, VethPeer, Vxlan
from ...module_utils.plan.marks import ENCRYPTED_PORT
from ..ipam.addresses import Subnet, network_of
from ..ipam.identifiers import mac_of, port_group, port_name
from ..networks.spanning import Overlay
from .base import Digests, PlannedEndpoint, PlannedNetwork
from .veth import veth_resources


def _parts(network: PlannedNetwork) -> tuple[Overlay, Digests]:
    if network.overlay is None or network.shared is None:
        raise ValueError(f"{network.name} was not planned as an overlay")
    return network.overlay, network.shared


class OverlayDriver:
    """Networks that span hosts."""

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        del network
        return None  # it is not among the host's own links

    def gateway(self, network: PlannedNetwork, family: int) -> Optional[str]:
        del network, family
        return None

    def host_addresses(self, network: PlannedNetwork) -> list[str]:
        del network
        return []

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        overlay, shared = _parts(network)
        namespace, bridge, vxlan = overlay.bridge, overlay.bridge, overlay.vxlan
        return [
            Namespace(namespace, role=f"overlay/{network.name}", no_forwarding=(4, 6)),
            Link(
                namespace,
                bridge,
                "bridge",
                role=f"network/{network.name}",
                mac=mac_of(network.subnets[0].gateway),
                mtu=overlay.mtu,
                disable_ipv6=not network.network.enable_ipv6,
                accept_ra=0,
                learns_from_reserved=False,
            ),
            *(Address(namespace, bridge, f"{item.gateway}/{item.length}") for item in network.subnets),
            Link(
                namespace,
                vxlan,
                "vxlan",
                role=f"vxlan/{network.name}",
                mtu=overlay.mtu,
                disable_ipv6=True,
                port=BridgePort(
                    bridge,
                    neigh_suppress=True,
                    learning=False,
                    flood=overlay.flood,
                    mcast_flood=overlay.flood,
                    bcast_flood=overlay.flood,
                ),
                vxlan=Vxlan(
                    overlay.vni,
                    overlay.vteps[network.host],
                    overlay.port,
                    source_port=ENCRYPTED_PORT if network.network.encrypted else 0,
                ),
            ),
            Fdb(namespace, vxlan, table=shared.table, flooded=overlay.flood),
            Neighbours(namespace, bridge, table=shared.table),
        ]

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        overlay, _shared = _parts(endpoint.network)
        peer = VethPeer(overlay.bridge, port_name(endpoint.id), overlay.bridge, group=port_group(endpoint.network.id))
        return [*veth_resources(endpoint, overlay.mtu, peer), *_other_subnets(endpoint)]


def _other_subnets(endpoint: PlannedEndpoint) -> list[Resource]:
    """All subnets of an overlay are on one link, so those the sandbox has no address of are on it too."""
    return [
        Route(endpoint.sandbox.name, subnet.subnet, family, None, endpoint.link)
        for family, address in ((4, endpoint.ipv4), (6, endpoint.ipv6))
        for subnet in _others(endpoint.network.of(family), address)
    ]


def _others(subnets: Sequence[Subnet], address: Optional[str]) -> list[Subnet]:
    """The subnets of a family without that of the address; one alone is the address's own."""
    if address is None or len(subnets) < 2:
        return []
    own = network_of(address)
    return [subnet for subnet in subnets if network_of(subnet.subnet) != own]
