# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The option ``peers`` of the module vxlan: the other hosts of a VXLAN and their MAC addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from ipaddress import ip_address
from typing import Any, Optional

from .arguments import Options
from .plan.families import family_of
from .plan.records import dataclass

_KEYS = ("vtep", "mac_address", "addresses")


@dataclass
class Peers:
    """The other hosts of a VXLAN."""

    flood: list[str] = field(default_factory=list)
    """VTEPs that get a copy of broadcasts and of frames for unknown MAC addresses."""
    entries: dict[str, str] = field(default_factory=dict)
    """VTEP by MAC address."""
    neighbours: dict[str, str] = field(default_factory=dict)
    """MAC address by address."""

    @property
    def answers(self) -> bool:
        """Whether the link answers ARP and neighbour solicitations itself, as nothing is flooded."""
        return bool(self.neighbours) and not self.flood


def read_peers(options: Options, local: str) -> Optional[Peers]:
    """The peers that are not this host itself, or None if the option is left out."""
    if options["peers"] is None:
        return None
    peers = Peers()
    known: dict[str, str] = {}
    for index, item in enumerate(options["peers"]):
        where = f"peers[{index}]"
        if isinstance(item, Mapping):
            vtep = _read_known(options, where, item, local, peers)
            known.setdefault(vtep, where)
        else:
            vtep = _vtep(options, where, item, local)
            peers.flood += [vtep] if vtep and vtep not in peers.flood else []
    for vtep, where in known.items() if peers.flood else ():
        if vtep and vtep not in peers.flood:
            options.wrong(
                f"{where}.vtep",
                f"{vtep} would get no flooded frames, as these go only to peers written as plain addresses: add it as "
                "one too, or write all peers as mappings",
            )
    return peers


def read_vtep(options: Options, where: str, value: Any) -> str:
    """A VTEP: an address by which hosts can reach each other."""
    vtep = options.read_host(where, value, "a VTEP")
    if vtep and ip_address(vtep).is_link_local:
        options.wrong(
            where, f"{vtep} is a link-local address, valid on one link only: choose another address of the host"
        )
    return vtep


def _vtep(options: Options, where: str, value: Any, local: str) -> str:
    """A peer's VTEP; "" if it is this host's own or invalid."""
    vtep = read_vtep(options, where, value)
    if vtep and local and family_of(vtep) != family_of(local):
        options.wrong(where, f"{vtep} and local, {local}, are not of the same IP version: all VTEPs of a VXLAN must be")
    return "" if vtep == local else vtep


def _read_known(options: Options, where: str, item: Mapping[str, Any], local: str, peers: Peers) -> str:
    unknown = sorted(str(key) for key in item if key not in _KEYS)
    if unknown:
        options.wrong(where, f"a peer has no key {unknown[0]}: its keys are {', '.join(_KEYS)}")
    lacking = [key for key in _KEYS[:2] if item.get(key) is None]
    if lacking:
        options.wrong(
            where,
            f"{' and '.join(lacking)} must be given: write the peer as a plain address if its MAC address is unknown",
        )
        return ""
    addresses = item.get("addresses") or []
    if not isinstance(addresses, list):
        options.wrong(f"{where}.addresses", f"{addresses!r} is not a list: write it in brackets")
        addresses = []
    mac = options.read_mac(f"{where}.mac_address", item["mac_address"])
    vtep = _vtep(options, f"{where}.vtep", item["vtep"], local)
    if not vtep:
        return ""
    if peers.entries.setdefault(mac, vtep) != vtep:
        options.wrong(
            f"{where}.mac_address",
            f"{mac} is already at VTEP {peers.entries[mac]}: a MAC address can be at one VTEP only",
        )
    for number, text in enumerate(addresses):
        spot = f"{where}.addresses[{number}]"
        address = options.read_host(spot, text, "a peer")
        if address and (other := peers.neighbours.setdefault(address, mac)) != mac:
            options.wrong(spot, f"{address} already belongs to {other}: an address can have one MAC address only")
    return vtep
