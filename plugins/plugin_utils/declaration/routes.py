# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Static routes of networks and endpoints, and their conflicts within a sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Optional

from ...module_utils.plan.families import family_of
from .addresses import Address, Subnet, network_of, read_address, read_prefix, why_not, why_unusable, within
from .errors import ValidationError, VarPath
from .topology import Endpoint, Network, StaticRoute


def read_routes(value: Any, path: VarPath) -> tuple[StaticRoute, ...]:
    """A list of mappings with destination and gateway, sorted; every error is noted at its place."""
    found: dict[str, StaticRoute] = {}
    for index, item in enumerate(value or ()):
        route = None if item is None else _route(item, path / index)
        if route is None:
            continue
        if route.destination in found:
            (path / index / "destination").wrong(
                "The list has a route to it already.", "Leave one of them out.", route.destination
            )
        found.setdefault(route.destination, route)
    return tuple(sorted(found.values(), key=lambda route: route.destination))


def _route(item: Mapping[str, Any], path: VarPath) -> Optional[StaticRoute]:
    for key, example in (("destination", "10.9.0.0/16"), ("gateway", "10.0.0.254")):
        if item.get(key) is None:
            path.wrong(f"The route has no {key}.", f"Write for example `{key}: {example}`.")
    if item.get("destination") is None or item.get("gateway") is None:
        return None
    destination = _destination(item["destination"], path / "destination")
    gateway = read_address(item["gateway"], path / "gateway", destination.version if destination else 0)
    if destination is None or gateway is None:
        return None
    return StaticRoute(str(destination), str(gateway))


def _destination(text: str, path: VarPath) -> Optional[Subnet]:
    if text == "default" or text.endswith("/0"):
        path.wrong(
            "The default route is not a static one.",
            "Choose its network with `gw_priority`, or its gateway with the aux address DefaultGatewayIPv4 or "
            "DefaultGatewayIPv6 of the subnet.",
            text,
        )
        return None
    prefix = read_prefix(text, path)
    reason = why_unusable(prefix) if prefix else ""
    if reason:
        path.wrong(f"No route leads there: {reason}.", "Write a prefix like `10.9.0.0/16`.", text)
        return None
    return prefix


def check_routes(network: Network, path: VarPath) -> None:
    """Note routes of a network that it cannot have."""
    for route in network.routes:
        _check(route, network, path)


def check_endpoint(endpoint: Endpoint, network: Network, path: VarPath) -> None:
    """Note routes of an endpoint that its network cannot have."""
    for route in endpoint.routes:
        _check(route, network, path)
        if route.gateway in _own(endpoint):
            path.wrong("The gateway is the sandbox's own address.", "Leave the route out.", route.gateway)


def _check(route: StaticRoute, network: Network, path: VarPath) -> None:
    family = family_of(route.gateway)
    if not network.has(family):
        path.wrong(f"The network `{network.name}` has no IPv{family}.", "Leave the route out.", route.destination)
        return
    subnets = [network_of(config.subnet) for config in network.ipam if config.family == family]
    own = _own_subnet(route, subnets)
    if own is not None:
        path.wrong(
            f"The route lies in the network's own subnet {own}, where no gateway is needed.",
            "Leave it out.",
            route.destination,
        )
    problem = _why_no_gateway(ip_address(route.gateway), subnets)
    if problem:
        path.wrong(problem, "Write the address of a router that is on the network.", route.gateway)


def off_link(routes: Sequence[StaticRoute], chosen: Sequence[str]) -> Iterator[str]:
    """What is wrong with routes, now that it is known which subnets were chosen for their network."""
    for route in routes:
        subnets = [network_of(text) for text in chosen if family_of(text) == family_of(route.gateway)]
        subnet = ", ".join(map(str, subnets))
        if _own_subnet(route, subnets) is not None:
            yield f"the route to {route.destination} lies in the subnet {subnet}"
        elif _why_no_gateway(ip_address(route.gateway), subnets):
            yield f"the gateway {route.gateway} of the route to {route.destination} is no host of the subnet {subnet}"


def _own_subnet(route: StaticRoute, subnets: Sequence[Subnet]) -> Optional[Subnet]:
    return next((subnet for subnet in subnets if within(network_of(route.destination), subnet)), None)


def _why_no_gateway(gateway: Address, subnets: Sequence[Subnet]) -> str:
    """Why a sandbox cannot reach a gateway by the network; empty if it can, or if the subnet is chosen later."""
    if not subnets:
        reason = why_unusable(gateway)
        return f"No router has this address: {reason}." if reason else ""
    problems = [why_not(gateway, subnet) for subnet in subnets]
    return "" if "" in problems else problems[0]


def check_together(endpoints: Sequence[tuple[Endpoint, Network]], errors: list[ValidationError]) -> None:
    """Note routes of one sandbox's endpoints that stand in each other's way."""
    seen: dict[str, str] = {}
    subnets = [(network_of(config.subnet), network) for _endpoint, network in endpoints for config in network.ipam]
    for endpoint, network in endpoints:
        path = VarPath(endpoint.path, errors)
        for destination in sorted(_effective(endpoint, network)):
            prefix = network_of(destination)
            other = next((net for subnet, net in subnets if net is not network and within(prefix, subnet)), None)
            if destination in seen:
                path.wrong(
                    f"The sandbox has a route to {destination} by the network `{seen[destination]}` already.",
                    "Leave one of the two routes out.",
                )
            elif other is not None:
                path.wrong(
                    f"The route to {destination} by this network is one to the network `{other.name}`, which the "
                    "sandbox is on.",
                    "Leave the route out, or the network.",
                )
            seen.setdefault(destination, network.name)


def _effective(endpoint: Endpoint, network: Network) -> set[str]:
    """Destinations that an endpoint has routes to: not those that it is itself the router for."""
    found = {route.destination: route.gateway for route in (*network.routes, *endpoint.routes)}
    return {destination for destination, gateway in found.items() if gateway not in _own(endpoint)}


def _own(endpoint: Endpoint) -> tuple[Optional[str], ...]:
    return endpoint.ipv4_address, endpoint.ipv6_address
