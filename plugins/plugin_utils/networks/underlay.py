# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Each host's VTEP (its address on the underlay), and the MTU of that link.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Optional, Union

from ...module_utils.plan.families import family_of
from ...module_utils.plan.records import dataclass
from ..declaration.errors import name_hosts
from ..declaration.topology import Host, Topology
from ..facts import Facts
from ..leases.base import HostLease, Leases


@dataclass(frozen=True)
class Underlay:
    """A host's VTEP; ``mtu`` is None until its link was probed."""

    address: str
    mtu: Optional[int]

    @property
    def family(self) -> int:
        """4 or 6."""
        return family_of(self.address)


def underlay_of(
    host: Host, facts: Optional[Facts], leased: HostLease, connection: Optional[str]
) -> Union[Underlay, str]:
    """The VTEP, or a sentence that says why there is none.

    ``facts`` is None for a host that was not reached: then what was declared, or ``leased`` from the last time, counts.
    ``connection`` is where Ansible reaches it: an address of the host counts, a name or what leads elsewhere does not.
    """
    declared, reached = host.settings.underlay_address, _usable(connection)
    if facts is None:
        address = declared or leased.get("underlay") or reached
        if address is None:
            return (
                "this host was not reached, and its address on the underlay is not known: set "
                "cnm_underlay_address for it"
            )
        return Underlay(address, leased.get("mtu") if address == leased.get("underlay") else None)
    links = {address: mtu for address, _link, mtu in facts.addresses}
    if declared is not None and declared not in links:
        there = ", ".join(f"{address} on {link}" for address, link, _mtu in facts.addresses) or "none"
        return f"cnm_underlay_address: {declared} is no address of this host. Write one that it has: {there}."
    address = declared or (reached if reached in links else None) or _outward(facts)
    if address is None:
        return "this host has no address by which other hosts could reach it: give it one, for its overlay networks"
    return Underlay(address, links[address])


class Claims:
    """Whose an address on the underlay is: what a probe answers is what its host says, and any host may say any."""

    def __init__(self, topology: Topology, connections: Mapping[str, str], parts: Mapping[str, Leases]) -> None:
        self._declared: dict[str, set[str]] = {}
        for host in topology.hosts:
            if host.settings.underlay_address is not None:
                self._declared.setdefault(host.settings.underlay_address, set()).add(host.name)
        self._reached = {host: _usable(address) for host, address in connections.items()}
        self._leased = {host: part["hosts"].get(host, {}).get("underlay") for host, part in parts.items()}

    def judge(self, claimed: Mapping[str, str]) -> dict[str, str]:
        """By host a sentence for those that claim what is another's, from the address that each claims.

        An address is the host's that declares it, else the one's that Ansible reaches there, else the one's that had it
        before; if there is none of these, or several, no host has it.
        """
        by_address: dict[str, list[str]] = {}
        for host, address in claimed.items():
            by_address.setdefault(address, []).append(host)
        refused = {}
        for address, hosts in by_address.items():
            owners = (
                self._declared.get(address)
                or {host for host in hosts if self._reached.get(host) == address}
                or {host for host in hosts if self._leased.get(host) == address}
            )
            everyone = owners.union(hosts)
            for host in hosts if len(everyone) > 1 else ():
                if owners != {host}:
                    others = owners if len(owners) == 1 else everyone - {host}
                    refused[host] = (
                        f"{host} and {name_hosts(sorted(others))} both have {address} as the address by which other "
                        "hosts reach them. Set cnm_underlay_address for each, to an address that is its own"
                    )
        return refused


def _usable(text: Optional[str]) -> Optional[str]:
    try:
        address = ip_address(text or "")
    except ValueError:
        return None
    return None if address.is_loopback or address.is_link_local or address.is_unspecified else str(address)


def _outward(facts: Facts) -> Optional[str]:
    """The first address on a link of the default routes, else on any; IPv4 before IPv6."""
    ordered = sorted(facts.addresses, key=lambda item: (item[1] not in facts.uplinks, family_of(item[0])))
    return next((address for address, _link, _mtu in ordered if _usable(address)), None)
