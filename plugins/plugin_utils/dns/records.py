# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The records of each network: hosts files for the resolvers of its sandboxes, and the names answered here.

Records have a TTL of 0, dnsmasq's default (Docker: 600 s), so that a replaced endpoint is found at once.  A query takes
a tenth of a millisecond, and leaves the sandbox only for names that are not local.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network

from ...module_utils.plan import forms
from ...module_utils.plan.marks import mark
from ..declaration.topology import Endpoint, Sandbox
from ..drivers.base import PlannedEndpoint
from ..ipam.vips import Vip

ROLE = "names"

_LABEL = "[A-Za-z0-9_-]{1,63}"

_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")

_LONGEST_NAME = 253

_DIGITS = {4: 8, 6: 4}
"""How many bits of an address each label of a reverse name represents."""


def is_dns_name(text: str) -> bool:
    """Whether a text is a valid DNS name.  Any other text could add lines, and thus records, to the hosts file."""
    return len(text) <= _LONGEST_NAME and _NAME.fullmatch(text) is not None


def names_of(network: str, sandbox: Sandbox, endpoint: Endpoint) -> list[str]:
    """An endpoint's names; its addresses resolve to the first."""
    short = [sandbox.name, *endpoint.aliases]
    if sandbox.hostname and sandbox.hostname not in short:
        short.append(sandbox.hostname)
    names = [f"{short[0]}.{network}", *short, *(f"{name}.{network}" for name in short[1:])]
    return [name for name in dict.fromkeys(names) if is_dns_name(name)]


def names_of_endpoint(item: PlannedEndpoint) -> list[str]:
    return names_of(item.network.name, item.sandbox, item.endpoint)


def record(addresses: Iterable[str], names: Iterable[str]) -> str:
    """An endpoint's lines, one per address: the address, then its names."""
    joined = " ".join(map(forms.dns_name, names))
    return "".join(f"{forms.address(address)} {joined}\n" for address in addresses if joined)


def names_text(project: str, rows: Iterable[tuple[Sequence[str], Sequence[str]]]) -> str:
    """A network's file of records, from the addresses and names of each of its endpoints."""
    ordered = sorted(rows, key=lambda row: (ip_address(row[0][0]).packed, row[1]))
    return header(project) + "".join(record(*row) for row in ordered)


def servers_text(names: Iterable[str], subnets: Iterable[str] = ()) -> str:
    """Lines of a servers file that keep queries for these names and for reverse names of the subnets local."""
    own = sorted({*names, *(zone for subnet in subnets for zone in reverse_zones(subnet))})
    return "".join(f"server=/{forms.dns_name(name)}/\n" for name in own)


def header(project: str) -> str:
    return f"# {mark(project, ROLE)}\n"


def reverse_zones(subnet: str) -> list[str]:
    """The zones of in-addr.arpa or ip6.arpa that hold exactly the subnet's addresses."""
    network = ip_network(subnet)
    digits = _DIGITS[network.version]
    length = -(-network.prefixlen // digits) * digits or digits
    parts = network.subnets(new_prefix=length) if length > network.prefixlen else [network]
    return [".".join(part[0].reverse_pointer.split(".")[-(length // digits + 2) :]) for part in parts]


def names_of_vips(network: str, vips: Mapping[str, Vip]) -> dict[str, list[str]]:
    """The names of services with virtual addresses on a network, by service."""
    return {
        name: names_of(network, Sandbox(name, ""), Endpoint(network, aliases=vip.aliases)) for name, vip in vips.items()
    }


def own_servers_text(endpoints: Sequence[PlannedEndpoint]) -> str:
    """Servers lines of a local network: queries for its dotted names and reverse names are never forwarded."""
    network = endpoints[0].network
    virtual = names_of_vips(network.name, network.vips)
    every = (*map(names_of_endpoint, endpoints), *virtual.values())
    names = [name for group in every for name in group if "." in name]
    if network.network.traits.bridged:
        return servers_text(names, [subnet.subnet for subnet in network.subnets])
    # other hosts have addresses in the subnet too
    addresses = (ip_address(address) for endpoint in endpoints for address in endpoint.addresses)
    return servers_text([*names, *(address.reverse_pointer for address in addresses)])
