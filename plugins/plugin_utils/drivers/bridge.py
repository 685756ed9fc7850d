# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver bridge: a bridge on the host with the gateway's address, a veth pair to each sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from ...module_utils.plan.addresses import Address
from ...module_utils.plan.base import Resource
from ...module_utils.plan.constants import DEFAULT_MTU
from ...module_utils.plan.families import family_of
from ...module_utils.plan.links import Link, VethPeer
from ...module_utils.plan.marks import LINK_GROUP, OPEN_GROUP
from ..declaration.driver import Forwarding, Option, Traits
from ..declaration.errors import VarPath
from ..declaration.options import ANY_NETWORK, boolean, host_binding, link, links, source, word
from ..declaration.topology import Network
from ..ipam.identifiers import bridge_name, mac_of, port_group, port_name
from .base import Driver, PlannedEndpoint, PlannedNetwork
from .endpoints import ANNOUNCEMENT_OPTIONS, veth_resources

_NET = "com.docker.network."
_BRIDGE = f"{_NET}bridge."
NAME = f"{_BRIDGE}name"
_ICC = f"{_BRIDGE}enable_icc"
_MASQUERADE = f"{_BRIDGE}enable_ip_masquerade"
_BINDING = f"{_BRIDGE}host_binding_ipv4"
_INHIBIT_IPV4 = f"{_BRIDGE}inhibit_ipv4"
_TRUSTED = f"{_BRIDGE}trusted_host_interfaces"
_MODE = {family: f"{_BRIDGE}gateway_mode_ipv{family}" for family in (4, 6)}
_SOURCE = {family: f"{_NET}host_ipv{family}" for family in (4, 6)}

_read_mode = word("gateway mode", ("nat", "nat-unprotected", "routed", "isolated"))


class BridgeDriver(Driver):
    """Networks of local scope on one host."""

    name = "bridge"
    subnets_per_family = 1
    options = {
        **ANY_NETWORK,
        **ANNOUNCEMENT_OPTIONS,
        NAME: Option(link, "The bridge's link; one that is there already is used.", of_host=True),
        _ICC: Option(boolean, "Whether sandboxes of the network can reach each other.", "true"),
        _MASQUERADE: Option(boolean, "Whether packets leave with an address of the host.", "true"),
        _BINDING: Option(host_binding, "The host's address of ports that name none.", of_host=True),
        _MODE[4]: Option(_read_mode, "How IPv4 goes out and in.", "nat"),
        _MODE[6]: Option(_read_mode, "How IPv6 goes out and in.", "nat"),
        _INHIBIT_IPV4: Option(boolean, "Whether the bridge itself has no IPv4 address.", "false"),
        _TRUSTED: Option(
            links, "Links of the host from which sandboxes may be reached at their own addresses.", of_host=True
        ),
        _SOURCE[4]: Option(source(4), "The address of the host that IPv4 packets leave with.", of_host=True),
        _SOURCE[6]: Option(source(6), "The address of the host that IPv6 packets leave with.", of_host=True),
    }

    def traits(self, network: Network) -> Traits:
        modes = (network.option(_MODE[4], "nat"), network.option(_MODE[6], "nat"))
        ways_out = [
            family
            for family, mode in zip((4, 6), modes)
            if network.has(family) and not network.internal and mode != "isolated"
        ]
        icc = network.option(_ICC) != "false"
        return Traits(
            adopted_link=network.option(NAME),
            ways_out=tuple(ways_out),
            forwarding=Forwarding(
                modes,
                icc,
                network.option(_MASQUERADE) != "false",
                (network.option(_SOURCE[4]), network.option(_SOURCE[6])),
                tuple(filter(None, network.option(_TRUSTED).split(":"))),
                network.option(_BINDING),
            ),
            balances=True,
            isolates=not icc,
        )

    def check(self, network: Network, path: VarPath) -> None:
        path, options = path / "driver_opts", dict(network.driver_opts)
        for family, key in _MODE.items():
            if options.get(key) == "isolated" and not network.internal:
                (path / key).wrong(
                    "Only an internal network can do without a gateway on the host.",
                    "Write `internal: true` too, or another gateway mode.",
                    "isolated",
                )
            _check_source(network, family, options.get(key, ""), path)
        binding = options.get(_BINDING)
        if binding and binding != "0.0.0.0" and not network.has(family_of(binding)):
            (path / _BINDING).wrong(
                f"The network has no IPv{family_of(binding)}, so nothing could be published at this address.",
                f"Write an IPv{10 - family_of(binding)} address, or leave it out.",
                binding,
            )
        if not network.firewall:
            _check_unfiltered(options, path)

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        return network.network.traits.adopted_link or bridge_name(network.id)

    def gateway(self, network: PlannedNetwork, family: int) -> Optional[str]:
        """As in Docker an aux address called ``DefaultGatewayIPv4`` is one that is not the bridge's own."""
        subnets = network.of(family)
        if not subnets or family not in network.network.traits.ways_out:
            return None
        return dict(subnets[0].config.aux_addresses).get(f"DefaultGatewayIPv{family}", subnets[0].gateway)

    def host_addresses(self, network: PlannedNetwork) -> list[str]:
        without = [family for family in (4, 6) if _mode(network, family) == "isolated"]
        if network.network.option(_INHIBIT_IPV4) == "true":
            without.append(4)
        return [f"{item.gateway}/{item.length}" for item in network.subnets if item.family not in without]

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        name, declared = self.bridge(network) or "", network.network
        return [
            Link(
                "",
                name,
                "bridge",
                role=f"network/{network.name}",
                mac=mac_of(network.subnets[0].gateway),
                mtu=declared.mtu or DEFAULT_MTU,
                disable_ipv6=not declared.enable_ipv6 or _mode(network, 6) == "isolated",
                accept_ra=0,
                group=LINK_GROUP if declared.firewall else OPEN_GROUP,
                route_localnet=network.published,
                adopts_existing=bool(declared.traits.adopted_link),
                learns_from_reserved=False if declared.firewall else None,
            ),
            *(Address("", name, address) for address in self.host_addresses(network)),
        ]

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        network, declared = endpoint.network, endpoint.network.network
        peer = VethPeer(
            "",
            port_name(endpoint.id),
            self.bridge(network) or "",
            # What a port of the host leads to is for everyone, the other sandboxes among them.
            isolated=bool(declared.traits.isolates) and not endpoint.sandbox.everywhere,
            group=port_group(network.id) if declared.firewall else 0,
            hairpin=bool(endpoint.sandbox.ports),
        )
        return veth_resources(endpoint, declared.mtu or DEFAULT_MTU, peer)


def _mode(network: PlannedNetwork, family: int) -> str:
    return network.network.option(_MODE[family], "nat")


def _check_source(network: Network, family: int, mode: str, path: VarPath) -> None:
    address = network.option(_SOURCE[family])
    if address and not network.has(family):
        (path / _SOURCE[family]).wrong(f"The network has no IPv{family}.", "Leave the option out.", address)
    elif address and mode == "routed":
        (path / _SOURCE[family]).wrong(
            "In gateway mode routed packets leave with the sandbox's own address.",
            f"Leave the option out, or {_MODE[family]}.",
            address,
        )


def _check_unfiltered(options: Mapping[str, str], path: VarPath) -> None:
    """With ``firewall: none`` there is nothing that could do what these options say."""
    for key, text in options.items():
        if (
            key in (_BINDING, _TRUSTED, *_SOURCE.values())
            or (key in _MODE.values() and text != "isolated")
            or (key == _MASQUERADE and text == "true")
        ):
            (path / key).wrong(
                "The network has `firewall: none`, so nothing would do what this option says.",
                "Leave the option out, or the key firewall.",
                text,
            )
