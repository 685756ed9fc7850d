# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Virtual addresses (VIPs) of services on a network: allocated like sandboxes' addresses, but on no link.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...module_utils.plan.families import family_of
from ...module_utils.plan.records import dataclass
from ..declaration.topology import Endpoint, Sandbox, Service
from ..leases.base import AddressLease


@dataclass(frozen=True)
class Vip:
    """A service's virtual addresses on a network, bare."""

    service: str
    aliases: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Virtual:
    """The services with a VIP on a network, as if each were a sandbox on it, and the addresses they have already."""

    pairs: list[tuple[Sandbox, Endpoint]]
    leased: Mapping[str, AddressLease]

    def found(self, addresses: Mapping[int, Mapping[str, str]]) -> dict[str, Vip]:
        """The VIPs by service, sorted, from addresses with their prefix length by service, by family."""
        result = {}
        for service, endpoint in self.pairs:
            texts = (addresses.get(family, {}).get(service.name, "").partition("/")[0] for family in (4, 6))
            result[service.name] = Vip(service.name, endpoint.aliases, tuple(text for text in texts if text))
        return dict(sorted(result.items()))


def virtual_of(network: str, services: Iterable[Service], leased: Mapping[str, AddressLease]) -> Virtual:
    """The services that have a VIP on a network; ``leased`` are its leases by service."""
    pairs = [
        (Sandbox(service.name, ""), Endpoint(network, aliases=attachment.aliases))
        for service in services
        if service.endpoint_mode == "vip"
        for attachment in service.networks
        if attachment.network == network
    ]
    return Virtual(pairs, {pair[0].name: leased.get(pair[0].name, {}) for pair in pairs})


def leases_of(vips: Mapping[str, Vip]) -> dict[str, AddressLease]:
    """The leases of VIPs: ``{"redis": {"ipv4": "10.0.0.2"}}``."""
    return {name: {f"ipv{family_of(text)}": text for text in vip.addresses} for name, vip in vips.items()}
