# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver acme.net.wire: a tunnel between two hosts, on each a bridge with the tunnel's end and the host's sandboxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers.api import (
    ANY_NETWORK,
    MTU,
    BridgePort,
    Driver,
    Fdb,
    Geneve,
    Link,
    Namespace,
    Network,
    Option,
    PlannedEndpoint,
    PlannedNetwork,
    Resource,
    Segment,
    Traits,
    Tunnel,
    TunnelEnds,
    VarPath,
    VethPeer,
    Vxlan,
    number,
    port_group,
    port_name,
    veth_resources,
    word,
)

ENCAPSULATION, VNI = "encapsulation", "vni"
GENEVE_PORT = 6081


class Wire(Driver):
    """Networks that are a tunnel between two hosts."""

    interface = 1
    subnets_per_family = 1
    options = {
        **ANY_NETWORK,
        MTU: replace(ANY_NETWORK[MTU], text="The MTU of the underlay."),
        ENCAPSULATION: Option(word("encapsulation", ("geneve", "vxlan")), "What the tunnel is made of.", "geneve"),
        VNI: Option(number(1, 2**24 - 1), "The tunnel's VNI; without it one of cnm_vni_range is chosen."),
    }

    def traits(self, network: Network) -> Traits:
        return Traits(
            scope="global",
            spans_hosts=True,
            tunnel=Tunnel(vni=int(network.option(VNI) or 0), port=0 if _is_vxlan(network) else GENEVE_PORT),
            chooses_gateway=False,
            egress=not network.internal,
        )

    def check(self, network: Network, path: VarPath) -> None:
        if not network.firewall:
            (path / "firewall").wrong("What comes out of the tunnel is always guarded.", "Leave it out.", "none")

    def check_hosts(self, network: Network, hosts: Sequence[str], path: VarPath) -> None:
        if len(hosts) > 2:
            path.wrong(
                f"A network of this driver connects two hosts; this one has sandboxes on {len(hosts)}: "
                f"{', '.join(hosts)}.",
                "Use the driver overlay, or a network for each pair of hosts.",
            )

    def segment(self, network: PlannedNetwork) -> Segment:
        return Segment(f"wi-{network.id[:12]}", f"wt-{network.id[:12]}")

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        segment = self.segment(network)
        namespace, bridge = segment.namespace, segment.namespace
        resources: list[Resource] = [
            Namespace(namespace, role=f"wire/{network.name}", no_forwarding=(4, 6)),
            Link(
                namespace,
                bridge,
                "bridge",
                role=f"network/{network.name}",
                mtu=_tunnel(network).mtu,
                disable_ipv6=True,
                accept_ra=0,
                learns_from_reserved=False,
            ),
        ]
        return resources + self._ends(network)

    def _ends(self, network: PlannedNetwork) -> list[Resource]:
        """The tunnel's end here; none while no other host has a sandbox on the network."""
        tunnel, segment = _tunnel(network), self.segment(network)
        remote = next((vtep for host, vtep in sorted(tunnel.vteps.items()) if host != network.host), None)
        if remote is None:
            return []
        link = Link(
            segment.namespace,
            segment.trunk,
            "geneve",
            role=f"tunnel/{network.name}",
            mtu=tunnel.mtu,
            disable_ipv6=True,
            port=BridgePort(segment.namespace),
        )
        if not _is_vxlan(network.network):
            return [replace(link, geneve=Geneve(tunnel.vni, remote, tunnel.port))]
        table = network.shared.table if network.shared is not None else ""
        vxlan = Vxlan(tunnel.vni, tunnel.vteps[network.host], tunnel.port)
        return [
            replace(link, type="vxlan", vxlan=vxlan),
            Fdb(segment.namespace, segment.trunk, table=table, flooded=True),
        ]

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        segment = self.segment(endpoint.network)
        group = port_group(endpoint.network.id)
        peer = VethPeer(segment.namespace, port_name(endpoint.id), segment.namespace, group=group)
        return veth_resources(endpoint, _tunnel(endpoint.network).mtu, peer)


def _is_vxlan(network: Network) -> bool:
    return network.option(ENCAPSULATION) == "vxlan"


def _tunnel(network: PlannedNetwork) -> TunnelEnds:
    if network.tunnel is None:
        raise ValueError(f"{network.name} was not planned as a tunnel")
    return network.tunnel


DRIVER = Wire()
