# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The control plane EVPN: which hosts take part, and what the FRR of each is told.  Pure.

Every host connects to the route reflectors, which pass on what each tells of its endpoints (RFC 4456, RFC 7432); so
another endpoint on one host changes nothing on any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Optional

from ...module_utils.plan.addresses import Address, Route
from ...module_utils.plan.base import Resource
from ...module_utils.plan.frr import Frr, bgpd_text
from ...module_utils.plan.links import Namespace
from ...module_utils.plan.marks import mark
from ...module_utils.plan.settings import File
from ..declaration.topology import Evpn, Host, Settings, Topology
from ..ipam.identifiers import evpn_namespace
from .encryption import fingerprint

ROLE = "overlays/evpn"
"""Of the namespace of the overlays, and of its table."""
_EVERYWHERE = ("0.0.0.0/1", "128.0.0.0/1")
"""A default route would not do, as zebra finds no next hop by it (`ip nht resolve-via-default`)."""
_ROOMY = 24
"""The longest prefix from which a reflector accepts sessions, so that a new host on its LAN changes no reflector."""


def fabric_hosts(topology: Topology, on_tunnels: Mapping[str, Host]) -> dict[str, Host]:
    """The hosts that take part, by name: all with the setting once any of them is on a network in tunnels."""
    if not any(host.settings.evpn for host in on_tunnels.values()):
        return {}
    return {host.name: host for host in topology.hosts if host.settings.evpn is not None}


def reflectors(host: Host) -> tuple[str, ...]:
    """The route reflectors that a host is told of: hosts, and addresses."""
    return host.settings.evpn.route_reflectors if host.settings.evpn is not None else ()


def place_of_overlays(settings: Settings) -> str:
    """The namespace of all overlays with EVPN: zebra sees its own alone.  "" is the host's, for an FRR of others."""
    evpn = settings.evpn
    return evpn_namespace(settings.project) if evpn is not None and evpn.manage else ""


def control_plane(host: Host, fabric: Mapping[str, str]) -> list[Resource]:
    """A host's part: FRR of ours, or a configuration for an FRR that others run there; nothing without the setting.

    ``fabric`` are the known VTEPs by host.
    """
    evpn = host.settings.evpn
    if evpn is None or host.name not in fabric:
        return []
    local, place = fabric[host.name], place_of_overlays(host.settings)
    frr = Frr(
        evpn.asn,
        local,
        tuple(sorted(_reflectors(evpn, fabric) - {local})),
        covering(fabric.values()) if {host.name, local} & set(evpn.route_reflectors) else (),
        fingerprint(evpn.password or "", host.settings.project, "bgp"),
        place,
    )
    if not evpn.manage:
        head = f"# {mark(host.settings.project, 'evpn')}\n# For the FRR of this host: its bgpd needs these lines.\n"
        text = head + bgpd_text(frr, "PASSWORD")
        return [File(f"/run/cnm/{host.settings.project}/evpn", "evpn", {"frr.conf": text})]
    return [
        frr,
        Namespace(place, role=ROLE, no_forwarding=(4, 6)),
        # bgpd, in the host's namespace, asks zebra, in this one, whether the host has its address and reaches others.
        Address(place, "lo", f"{local}/32"),
        *(Route(place, half, link="lo") for half in _EVERYWHERE),
    ]


def _reflectors(evpn: Evpn, fabric: Mapping[str, str]) -> set[str]:
    """The addresses of the route reflectors; one whose VTEP is not known yet is left out."""
    return {
        fabric[name] if name in fabric else str(IPv4Address(name))
        for name in evpn.route_reflectors
        if name in fabric or _is_address(name)
    }


def unreached_reflectors(evpn: Evpn, fabric: Mapping[str, str]) -> list[str]:
    """Reflectors that no host can be told of, as their VTEP is not known."""
    return [name for name in evpn.route_reflectors if name not in fabric and not _is_address(name)]


def covering(vteps: Iterable[str]) -> tuple[str, ...]:
    """The prefix that has all of these addresses, if there are any."""
    found: Optional[IPv4Network] = None
    for address in map(IPv4Address, vteps):
        found = found or IPv4Network((address, _ROOMY), strict=False)
        while address not in found:
            found = found.supernet()
    return (str(found),) if found is not None else ()


def unusable_vteps(fabric: Mapping[str, str]) -> dict[str, str]:
    """A sentence for each host whose VTEP is no address of IPv4, which is all that FRR before 10.6 takes for a VTEP."""
    return {
        host: f"cnm_control_plane: evpn takes an underlay of IPv4, and this host is reached by {vtep}. Set "
        "cnm_underlay_address to an address of IPv4, or write `cnm_control_plane: static`"
        for host, vtep in fabric.items()
        if ip_address(vtep).version != 4
    }


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
