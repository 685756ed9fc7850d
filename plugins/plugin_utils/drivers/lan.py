# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Drivers macvlan and ipvlan: each sandbox has a link of its own on the host's parent, and no bridge between.

The parent is the host's and stays as it is.  Made on the host, and only where it is asked for, are a VLAN link to be
the parent, a link that swallows what is sent for a network without one, and the shim by which the host is on the
network.
"""

from __future__ import annotations

from typing import Optional

from ...module_utils.plan.addresses import Address, Route
from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import family_of
from ...module_utils.plan.links import Link, Parent
from ...module_utils.plan.marks import LAN_GROUP
from ..ipam.identifiers import mac_of
from ..networks.lan_parents import Attachment
from .base import PlannedEndpoint, PlannedNetwork
from .veth import ON_LINK, endpoint_resources


def _attachment(network: PlannedNetwork) -> Attachment:
    if network.attachment is None:
        raise ValueError(f"{network.name} was not planned as a network on a parent")
    return network.attachment


def _shim_name(network: PlannedNetwork) -> str:
    return f"sh-{network.id[:12]}"


def _length(address: str) -> int:
    return 128 if ":" in address else 32


class LanDriver:
    """Networks of a link kind that is made on another link."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def bridge(self, network: PlannedNetwork) -> Optional[str]:
        del network
        return None

    def gateway(self, network: PlannedNetwork, family: int) -> Optional[str]:
        """As in Docker 29 only one that is given; where the host routes, the link itself leads out."""
        if network.network.internal or not network.of(family):
            return None
        if network.network.routed:
            return ON_LINK[family]
        return next((item.gateway for item in network.of(family) if item.gateway), None)

    def host_addresses(self, network: PlannedNetwork) -> list[str]:
        return [f"{address}/{_length(address)}" for address in network.shim]

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        attachment = _attachment(network)
        return [*_parent(attachment), *(self._shim(network, attachment) if network.shim else ())]

    def _shim(self, network: PlannedNetwork, attachment: Attachment) -> list[Resource]:
        name = _shim_name(network)
        link = Link(
            "",
            name,
            self._kind,
            role=f"shim/{network.name}",
            mac=None if network.network.shares_mac else mac_of(network.shim[0]),
            mtu=attachment.mtu,
            disable_ipv6=not any(":" in address for address in network.shim),
            accept_ra=0,
            group=LAN_GROUP,
            parent=attachment.on(network.network),
        )
        return [link, *(Address("", name, address) for address in self.host_addresses(network))]

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        network, attachment = endpoint.network, _attachment(endpoint.network)
        families = {_length(address) for address in network.shim}
        return [
            *endpoint_resources(endpoint, self._kind, attachment.mtu, parent=attachment.on(network.network)),
            *(
                Route("", f"{address}/{length}", family_of(address), None, _shim_name(network))
                for address in endpoint.addresses
                if (length := _length(address)) in families
            ),
        ]


def _parent(attachment: Attachment) -> list[Resource]:
    """What is made to be the parent; networks that share it have it in common."""
    if not attachment.makes:
        return []
    # The host has no part in what is beyond it, and no router there shall think so.
    return [
        Link(
            "",
            attachment.link,
            attachment.makes,
            role=f"parent/{attachment.link}",
            mac=None if attachment.vlan else mac_of(f"fd00::{int(attachment.link[-4:], 16):x}"),
            mtu=None if attachment.vlan else attachment.mtu,
            disable_ipv6=True,
            accept_ra=0,
            group=LAN_GROUP,
            parent=Parent(attachment.below, vlan=attachment.vlan) if attachment.vlan else None,
        )
    ]
