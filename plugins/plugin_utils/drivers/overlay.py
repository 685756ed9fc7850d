# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver overlay: on each host a bridge and a VXLAN link, a veth pair from there to each sandbox.

Nothing is learned from packets, and nothing flooded unless cnm_flood is set: there are forwarding and neighbour entries
for all remote endpoints, and the bridge answers for them.  Both links are in a namespace of their own, and the entries
in the plan.  With the control plane EVPN a routing daemon writes them, which sees one namespace alone: all overlays are
there, and the plan has entries for the host's own endpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from ...module_utils.plan.addresses import Address, Fdb, Neighbours, Route
from ...module_utils.plan.base import Resource
from ...module_utils.plan.constants import LARGEST_VNI
from ...module_utils.plan.links import BridgePort, Link, Namespace, VethPeer, Vxlan
from ...module_utils.plan.marks import ENCRYPTED_PORT, LINK_GROUP, TRUNK_GROUP
from ...module_utils.plan.settings import Sysctl
from ..declaration.driver import Option, Traits, Tunnel
from ..declaration.errors import VarPath
from ..declaration.options import ANY_NETWORK, VNI, mtu, number
from ..declaration.topology import MTU, Network
from ..ipam.addresses import Subnet, network_of
from ..ipam.identifiers import bridge_name, mac_of, port_group, port_name, vxlan_name
from ..networks.spanning import TunnelEnds
from .base import Digests, Driver, PlannedEndpoint, PlannedNetwork, Segment
from .endpoints import veth_resources

_PASSED_TO_IP = tuple(f"bridge-nf-call-{each}" for each in ("arptables", "ip6tables", "iptables"))
"""Where br_netfilter is loaded, it takes each frame through hooks of IP, of which the namespace has none."""

_read_number = number(1, LARGEST_VNI)


def _read_vni(text: str, path: VarPath) -> str:
    if "," in text:
        path.wrong("An overlay has one VNI, whatever number of subnets it has.", "Write the first of them alone.", text)
        return ""
    return _read_number(text, path)


def _read_encrypted(text: str, path: VarPath) -> str:
    path.wrong("Encryption is a key of the network itself.", "Write `encrypted: true` beside driver_opts.", text)
    return ""


class OverlayDriver(Driver):
    """Networks that span hosts."""

    name = "overlay"
    encrypts = True
    options = {
        **ANY_NETWORK,
        MTU: Option(mtu, "The MTU of the underlay, as in Docker; the network's own is less by what VXLAN adds."),
        VNI: Option(_read_vni, "The VNI: one, whatever number of subnets there is."),
        "encrypted": Option(_read_encrypted, "Refused: encryption is the network's key of that name."),
    }

    def traits(self, network: Network) -> Traits:
        return Traits(
            scope="global",
            spans_hosts=True,
            tunnel=Tunnel(vni=int(network.option(VNI) or 0)),
            egress=not network.internal,
            balances=True,
        )

    def check(self, network: Network, path: VarPath) -> None:
        if not network.firewall:
            (path / "firewall").wrong("An overlay is always guarded.", "Leave it out.", "none")

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        _tunnel, _shared, links = _parts(network)
        return None if links.namespace else links.bridge

    def segment(self, network: PlannedNetwork) -> Optional[Segment]:
        _tunnel, _shared, links = _parts(network)
        return Segment(links.namespace, links.vxlan) if links.namespace else None

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        tunnel, shared, (namespace, bridge, vxlan) = _parts(network)
        of_host = not namespace
        links = [
            Link(
                namespace,
                bridge,
                "bridge",
                role=f"network/{network.name}",
                mac=mac_of(network.subnets[0].gateway),
                mtu=tunnel.mtu,
                disable_ipv6=not network.network.enable_ipv6,
                accept_ra=0,
                # Nothing is to reach the host by it, which has no route there; it has IPv6 for its neighbours.
                rp_filter=1 if of_host else None,
                addr_gen_mode="none" if tunnel.fabric and network.network.enable_ipv6 else None,
                group=LINK_GROUP if of_host else None,
                learns_from_reserved=False,
            ),
            Link(
                namespace,
                vxlan,
                "vxlan",
                role=f"vxlan/{network.name}",
                group=TRUNK_GROUP if of_host else None,
                mtu=tunnel.mtu,
                disable_ipv6=True,
                port=BridgePort(
                    bridge,
                    neigh_suppress=True,
                    learning=False,
                    flood=tunnel.flood,
                    mcast_flood=tunnel.flood,
                    bcast_flood=tunnel.flood,
                ),
                vxlan=Vxlan(
                    tunnel.vni,
                    tunnel.vteps[network.host],
                    tunnel.port,
                    source_port=ENCRYPTED_PORT if network.network.encrypted else 0,
                ),
            ),
        ]
        if tunnel.fabric:
            return [
                *links,
                Fdb(namespace, vxlan, routed=True),
                Neighbours(namespace, bridge, _own_endpoints(network)),
            ]
        return [
            Namespace(namespace, role=f"overlay/{network.name}", no_forwarding=(4, 6)),
            *(Sysctl(namespace, f"net.bridge.{name}", "0", optional=True) for name in _PASSED_TO_IP),
            *links,
            *(Address(namespace, bridge, f"{item.gateway}/{item.length}") for item in network.subnets),
            Fdb(namespace, vxlan, table=shared.table, flooded=tunnel.flood),
            Neighbours(namespace, bridge, table=shared.table),
        ]

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        tunnel, _shared, links = _parts(endpoint.network)
        group = port_group(endpoint.network.id)
        port = port_name(endpoint.id)
        peer = VethPeer(links.namespace, port, links.bridge, group=group, learning=not tunnel.fabric)
        resources = [*veth_resources(endpoint, tunnel.mtu, peer), *_other_subnets(endpoint)]
        if tunnel.fabric:
            resources.append(Fdb(links.namespace, port, static=(endpoint.mac,), sandbox=endpoint.sandbox.name))
        return resources


class _Links(NamedTuple):
    """Where an overlay's bridge and VXLAN link are, and their names."""

    namespace: str
    bridge: str
    vxlan: str


def _parts(network: PlannedNetwork) -> tuple[TunnelEnds, Digests, _Links]:
    if network.tunnel is None or network.shared is None:
        raise ValueError(f"{network.name} was not planned as a network that is carried in tunnels")
    if network.tunnel.fabric:
        links = _Links(network.tunnel.place, bridge_name(network.id), vxlan_name(network.id))
    else:
        name = f"{network.tunnel.vni:06x}-{network.id[:5]}"
        links = _Links(f"ov-{name}", f"ov-{name}", f"vx-{name}")
    return network.tunnel, network.shared, links


def _own_endpoints(network: PlannedNetwork) -> dict[str, str]:
    """The MAC address of each address of an endpoint on this host."""
    members = network.spanning.members.values() if network.spanning is not None else ()
    return {address: item.mac for item in members if item.host == network.host for address in item.addresses}


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
