# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Published ports: what of a host leads to which sandbox.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Optional

from .declaration.published import binding
from .drivers.base import PlannedEndpoint
from .drivers.bridge import gateway_mode
from .facts import Facts

Range = tuple[int, int]


@dataclass(frozen=True)
class PublishedPort:
    """One port or range of one family that leads to a sandbox's address; ranges are inclusive and of equal length."""

    family: int
    protocol: str
    host_ip: Optional[str]
    """None: every address of the host of that family."""
    published: Range
    address: str
    target: Range
    translated: bool
    """False in gateway mode routed: the target is open at the sandbox's own address, and the host has no port."""
    network: str
    path: str = ""


def published_ports(endpoints: Sequence[PlannedEndpoint]) -> list[PublishedPort]:
    """All ports that sandboxes publish, sorted by where they lead.

    As in Docker a port of the host leads to the endpoint that supplies the sandbox's default route of that family;
    where the gateway mode is routed, the port is open on each such endpoint.
    """
    found = [
        item
        for endpoint in endpoints
        if endpoint.sandbox.ports and endpoint.network.network.firewall
        for item in _of_endpoint(endpoint)
    ]
    return sorted(found, key=lambda item: (item.family, ip_address(item.address).packed, item.protocol, item.published))


def _of_endpoint(endpoint: PlannedEndpoint) -> Iterator[PublishedPort]:
    network = endpoint.network.network
    if network.internal:
        return
    for address in endpoint.addresses:
        family = 6 if ":" in address else 4
        routed = gateway_mode(network, family) == "routed"
        gives_way = any((":" in gateway) == (family == 6) for gateway in endpoint.gateways)
        if not routed and not gives_way:
            continue
        for port in endpoint.sandbox.ports:
            bound, host_ip = binding(port, network, family)
            if routed or bound:
                place = (host_ip, port.published, address, port.target)
                yield PublishedPort(family, port.protocol, *place, not routed, network.name, port.path)


def taken_ports(ports: Sequence[PublishedPort], facts: Facts) -> list[str]:
    """Sentences about ports that a process of the host listens on already."""
    wanted: dict[str, list[PublishedPort]] = {}
    for item in ports:
        if item.translated:
            wanted.setdefault(item.protocol, []).append(item)
    result = []
    for protocol, address, number, process in facts.listeners:
        clash = next((item for item in wanted.get(protocol, ()) if _same_place(item, address, number)), None)
        if clash is not None:
            result.append(
                f"{clash.path}: port {number}/{protocol} of the host is not free: {process} listens on it"
                f"{'' if address in ('0.0.0.0', '::') else f' at {address}'}. Publish another port, or stop it."
            )
    return sorted(set(result))


def published_twice(ports: Sequence[PublishedPort]) -> list[str]:
    """Sentences about ports of the host that would lead to two sandboxes: tasks that were placed side by side."""
    seen: dict[tuple[int, str, Optional[str], int], PublishedPort] = {}
    result = []
    for item in ports:
        for number in range(item.published[0], item.published[1] + 1) if item.translated else ():
            other = seen.setdefault((item.family, item.protocol, item.host_ip, number), item)
            if other.address != item.address:
                result.append(
                    f"{item.path}: port {number}/{item.protocol} of the host leads to two sandboxes placed on it, by "
                    f"{other.path} too. Publish another port, or place them apart."
                )
                break
    return sorted(set(result))


def _same_place(item: PublishedPort, address: str, number: int) -> bool:
    if not item.published[0] <= number <= item.published[1]:
        return False
    if address == "::":
        return True  # unless it says otherwise such a socket takes IPv4 too
    if (":" in address) != (item.family == 6):
        return False
    return address == "0.0.0.0" or item.host_ip in (None, address)
