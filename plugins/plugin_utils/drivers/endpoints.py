# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What endpoints have in common, whatever their network's driver."""

from __future__ import annotations

from typing import Any

from ...module_utils.plan.addresses import Address, Route
from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import family_of
from ...module_utils.plan.links import Link, VethPeer
from ...module_utils.plan.settings import Sysctl
from ...module_utils.plan.shaping import Shaping
from ..declaration.driver import Option
from ..declaration.options import number
from .base import PlannedEndpoint

_LINK_LOCAL = {4: 16, 6: 64}
"""Prefix lengths of link-local addresses, by family."""
_ANNOUNCEMENTS = "com.docker.network.advertise_addr_nmsgs"
_ANNOUNCEMENT_MS = "com.docker.network.advertise_addr_ms"

ANNOUNCEMENT_OPTIONS = {
    _ANNOUNCEMENTS: Option(number(0, 3), "How often a new link makes its addresses known.", "3"),
    _ANNOUNCEMENT_MS: Option(number(100, 2000), "The milliseconds between two announcements.", "1000"),
}

ON_LINK = {4: "0.0.0.0", 6: "::"}
"""The gateway of a default route that is the link itself, by family."""


def veth_resources(endpoint: PlannedEndpoint, mtu: int, peer: VethPeer) -> list[Resource]:
    """The pair whose far end is ``peer`` and how it is shaped there; the sandbox's addresses, routes and parameters."""
    shape = endpoint.endpoint.shape
    shaping = (
        []
        if shape is None
        else [Shaping(peer.namespace, peer.name, endpoint.sandbox.name, endpoint.link, **vars(shape))]
    )
    return [*endpoint_resources(endpoint, "veth", mtu, peer=peer), *shaping]


def endpoint_resources(endpoint: PlannedEndpoint, kind: str, mtu: int, **how: Any) -> list[Resource]:
    """The endpoint's link of that kind, and in the sandbox its addresses, routes and parameters."""
    sandbox, network, link = endpoint.sandbox.name, endpoint.network, endpoint.link
    routes = {
        route.destination: route.gateway
        for route in (*network.network.routes, *endpoint.endpoint.routes)
        # The sandbox that is the gateway itself needs no route to itself.
        if route.gateway not in endpoint.addresses
    }
    return [
        Link(
            sandbox,
            link,
            kind,
            role=f"endpoint/{network.name}/{sandbox}",
            mac=endpoint.mac or None,
            mtu=mtu,
            disable_ipv6=endpoint.ipv6 is None,
            accept_ra=0,
            announcements=int(network.network.option(_ANNOUNCEMENTS) or 3),
            announcement_ms=int(network.network.option(_ANNOUNCEMENT_MS) or 1000),
            **how,
        ),
        *(Address(sandbox, link, address) for address in endpoint.interfaces),
        *(
            Address(sandbox, link, f"{text}/{_LINK_LOCAL[family_of(text)]}")
            for text in endpoint.endpoint.link_local_ips
        ),
        *(_route(sandbox, "default", gateway, link) for gateway in endpoint.gateways),
        *(_route(sandbox, destination, gateway, link) for destination, gateway in sorted(routes.items())),
        *(
            Sysctl(sandbox, name.replace("IFNAME", link.replace(".", "/")), value)
            for name, value in endpoint.endpoint.sysctls
        ),
    ]


def _route(sandbox: str, destination: str, gateway: str, link: str) -> Route:
    family = family_of(gateway)
    return Route(sandbox, destination, family, None if gateway == ON_LINK[family] else gateway, link)
