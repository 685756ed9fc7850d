# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""All that a driver of another collection is written with; see docs/development/add-a-driver.md.

It is versioned by `INTERFACE`: while that number stands, what is here is only added to.
"""

from __future__ import annotations

from ...module_utils.plan.addresses import Address, Fdb, Neighbours, Route
from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import family_of
from ...module_utils.plan.links import BridgePort, Geneve, Link, Namespace, Parent, VethPeer, Vxlan
from ...module_utils.plan.settings import Sysctl
from ..declaration.driver import Forwarding, Option, Reader, Traits, Tunnel
from ..declaration.errors import ValidationError, VarPath
from ..declaration.options import ANY_NETWORK, boolean, link, links, number, word
from ..declaration.topology import MTU, Endpoint, Network, Sandbox
from ..facts import Facts
from ..ipam.addresses import Subnet
from ..ipam.identifiers import bridge_name, mac_of, port_group, port_name
from ..networks.spanning import Spanning, TunnelEnds
from .base import INTERFACE, Attachment, Driver, PlannedEndpoint, PlannedNetwork, Segment
from .endpoints import ON_LINK, endpoint_resources, veth_resources

__all__ = [
    "ANY_NETWORK",
    "INTERFACE",
    "MTU",
    "ON_LINK",
    "Address",
    "Attachment",
    "BridgePort",
    "Driver",
    "Endpoint",
    "Facts",
    "Fdb",
    "Forwarding",
    "Geneve",
    "Link",
    "Namespace",
    "Neighbours",
    "Network",
    "Option",
    "Parent",
    "PlannedEndpoint",
    "PlannedNetwork",
    "Reader",
    "Resource",
    "Route",
    "Sandbox",
    "Segment",
    "Spanning",
    "Subnet",
    "Sysctl",
    "Traits",
    "Tunnel",
    "TunnelEnds",
    "ValidationError",
    "VarPath",
    "VethPeer",
    "Vxlan",
    "boolean",
    "bridge_name",
    "endpoint_resources",
    "family_of",
    "link",
    "links",
    "mac_of",
    "number",
    "port_group",
    "port_name",
    "veth_resources",
    "word",
]
