# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The control plane EVPN: which hosts take part, and what the FRR of each is told.  Pure.

Every host connects to the route reflectors, which pass on what each tells of its endpoints (RFC 4456, RFC 7432); so
another endpoint on one host changes nothing on any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Union

from ...module_utils.plan.base import Resource
from ...module_utils.plan.frr import Frr, bgpd_text
from ...module_utils.plan.marks import mark
from ...module_utils.plan.settings import File
from ..declaration.topology import Evpn, Host, Topology
from .encryption import fingerprint

_ROOMY = {4: 24, 6: 64}
"""The longest prefix from which a reflector accepts sessions, so that a new host on its LAN changes no reflector."""


def fabric_hosts(topology: Topology, on_tunnels: Mapping[str, Host]) -> dict[str, Host]:
    """The hosts that take part, by name: all with the setting once any of them is on a network in tunnels."""
    if not any(host.settings.evpn for host in on_tunnels.values()):
        return {}
    return {host.name: host for host in topology.hosts if host.settings.evpn is not None}


def reflectors(host: Host) -> tuple[str, ...]:
    """The route reflectors that a host is told of: hosts, and addresses."""
    return host.settings.evpn.route_reflectors if host.settings.evpn is not None else ()


def control_plane(host: Host, fabric: Mapping[str, str]) -> list[Resource]:
    """A host's part: FRR of ours, or a configuration for an FRR that others run there; nothing without the setting.

    ``fabric`` are the known VTEPs by host.
    """
    evpn = host.settings.evpn
    if evpn is None or host.name not in fabric:
        return []
    local = fabric[host.name]
    frr = Frr(
        evpn.asn,
        local,
        router_id(local),
        tuple(sorted(_reflectors(evpn, fabric) - {local})),
        covering(fabric.values()) if {host.name, local} & set(evpn.route_reflectors) else (),
        fingerprint(evpn.password or "", host.settings.project),
    )
    if evpn.manage:
        return [frr]
    head = f"# {mark(host.settings.project, 'evpn')}\n# For the FRR of this host: its bgpd needs these lines.\n"
    text = head + bgpd_text(frr, "PASSWORD")
    return [File(f"/run/cnm/{host.settings.project}/evpn", "evpn", {"frr.conf": text})]


def _reflectors(evpn: Evpn, fabric: Mapping[str, str]) -> set[str]:
    """The addresses of the route reflectors; one whose VTEP is not known yet is left out."""
    named = {fabric.get(name, "") if not _is_address(name) else name for name in evpn.route_reflectors}
    return named - {""}


def unreached_reflectors(evpn: Evpn, fabric: Mapping[str, str]) -> list[str]:
    """Reflectors that no host can be told of, as their VTEP is not known."""
    return [name for name in evpn.route_reflectors if name not in fabric and not _is_address(name)]


def router_id(vtep: str) -> str:
    """The VTEP, or of one of IPv6 four octets of its hash."""
    address = ip_address(vtep)
    return vtep if address.version == 4 else str(IPv4Address(hashlib.sha256(address.packed).digest()[:4]))


def covering(vteps: Iterable[str]) -> tuple[str, ...]:
    """A prefix of each family that has all of these addresses."""
    found: dict[int, Union[IPv4Network, IPv6Network]] = {}
    for address in map(ip_address, vteps):
        network = found.get(address.version) or ip_network((address, _ROOMY[address.version]), strict=False)
        while address not in network:
            network = network.supernet()
        found[address.version] = network
    return tuple(sorted(map(str, found.values())))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
