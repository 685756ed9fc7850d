# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""By which address the other hosts know a host, and how large a packet its link there takes.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Optional, Union

from .declaration.topology import Host
from .facts import Facts


@dataclass(frozen=True)
class Underlay:
    """A host's VTEP; ``mtu`` is None while nobody has seen its link."""

    address: str
    mtu: Optional[int]

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


def underlay_of(
    host: Host, facts: Optional[Facts], held: Mapping[str, Any], connection: Optional[str]
) -> Union[Underlay, str]:
    """The VTEP, or a sentence about why there is none.

    ``facts`` is None for a host that was not reached: then what was declared, or ``held`` from the last time, counts.
    ``connection`` is where Ansible reaches it: an address of the host counts, a name or what leads elsewhere does not.
    """
    declared, reached = host.settings.underlay_address, _usable(connection)
    if facts is None:
        address = declared or held.get("underlay") or reached
        if address is None:
            return (
                "this host was not reached, and nobody knows by which address the others reach it: set "
                "cnm_underlay_address for it"
            )
        return Underlay(address, held.get("mtu") if address == held.get("underlay") else None)
    links = {address: mtu for address, _link, mtu in facts.addresses}
    if declared is not None and declared not in links:
        there = ", ".join(f"{address} on {link}" for address, link, _mtu in facts.addresses) or "none"
        return f"cnm_underlay_address: {declared} is no address of this host. Write one that it has: {there}."
    address = declared or (reached if reached in links else None) or _outward(facts)
    if address is None:
        return "this host has no address by which other hosts could reach it: give it one, for its overlay networks"
    return Underlay(address, links[address])


def _usable(text: Optional[str]) -> Optional[str]:
    try:
        address = ip_address(text or "")
    except ValueError:
        return None
    return None if address.is_loopback or address.is_link_local or address.is_unspecified else str(address)


def _outward(facts: Facts) -> Optional[str]:
    """The first address on a link of the default routes, else on any; IPv4 before IPv6."""
    ordered = sorted(facts.addresses, key=lambda item: (item[1] not in facts.uplinks, ":" in item[0]))
    return next((address for address, _link, _mtu in ordered if _usable(address)), None)
