# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Rules for addresses: subnets, gateways, single addresses, MAC addresses; text in, canonical objects out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Optional, Union

from ...module_utils.plan.forms import mac as mac_form
from .errors import VarPath
from .topology import IpamConfig, Network

Address = Union[IPv4Address, IPv6Address]
Subnet = Union[IPv4Network, IPv6Network]

_SUBNET = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")
LONGEST_PREFIX = {4: 30, 6: 126}
"""Of a subnet that has room for a gateway and a sandbox, by family."""

LINK_LOCAL: dict[int, Subnet] = {4: IPv4Network("169.254.0.0/16"), 6: IPv6Network("fe80::/64")}
"""Where link-local addresses are, by family."""

_EXAMPLES = {4: "10.0.0.0/24", 6: "fd00:1::/64"}

_UNUSABLE: tuple[tuple[Subnet, str], ...] = (
    (IPv4Network("0.0.0.0/8"), "0.0.0.0/8 means 'this network' and carries no hosts"),
    (IPv4Network("127.0.0.0/8"), "127.0.0.0/8 never leaves a host's loopback"),
    (IPv4Network("224.0.0.0/4"), "224.0.0.0/4 is multicast"),
    (IPv4Network("240.0.0.0/4"), "240.0.0.0/4 is reserved"),
    (IPv6Network("::/8"), "::/8 is reserved, for loopback, IPv4-mapped addresses and the like"),
    (IPv6Network("fe80::/10"), "fe80::/10 is link-local, and every link has addresses of it already"),
    (IPv6Network("ff00::/8"), "ff00::/8 is multicast"),
)


def read_address(text: str, path: VarPath, family: int = 4) -> Optional[Address]:
    """One address without prefix length, of the family 4 or 6 (0: either); None if it is wrong, which is noted."""
    example = "fd00::2" if family == 6 else "10.0.0.2"
    if "/" in text:
        path.wrong("An address has no prefix length here.", f"Write `{text.split('/')[0][:45]}`.", text)
        return None
    try:
        address = ip_address(text if "%" not in text else "")
    except ValueError:
        path.wrong("This is not an IP address.", f"Write an address like `{example}`.", text)
        return None
    if family and address.version != family:
        remedy = f"Write an IPv{family} address like `{example}`."
        path.wrong(f"This is an IPv{address.version} address.", remedy, text)
        return None
    return address


def read_subnet(text: str, path: VarPath) -> Optional[Subnet]:
    """A subnet that hosts can have addresses in; None if it is wrong, which is noted."""
    prefix = read_prefix(text, path)
    if prefix is None:
        return None
    family = prefix.version
    for block, reason in _UNUSABLE:
        if overlap(prefix, block):
            remedy = f"Choose one like `{_EXAMPLES[family]}`."
            path.wrong(f"No network can have this subnet: {reason}.", remedy, text)
            return None
    if prefix.prefixlen > LONGEST_PREFIX[family]:
        first = (
            "its network and broadcast address" if family == 4 else "its first address, which stands for all routers"
        )
        path.wrong(
            f"A /{prefix.prefixlen} is too small: a network needs {first}, one for the gateway and one for a sandbox.",
            f"Use a prefix length of {LONGEST_PREFIX[family]} or less.",
            text,
        )
        return None
    return prefix


def overlap(one: Subnet, other: Subnet) -> bool:
    """Whether two subnets have addresses in common."""
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.overlaps(other)


def within(inner: Subnet, outer: Subnet) -> bool:
    """Whether all of a subnet lies in another one, or is the same."""
    return inner.prefixlen >= outer.prefixlen and overlap(inner, outer)


def why_unusable(where: Union[Address, Subnet]) -> str:
    """Why no host can have the address, or any in the subnet, to stand behind a colon; empty if one can."""
    prefix = where if isinstance(where, (IPv4Network, IPv6Network)) else ip_network(where)
    return next((reason for block, reason in _UNUSABLE if within(prefix, block)), "")


def read_prefix(text: str, path: VarPath) -> Optional[Subnet]:
    """A prefix with no bits set behind its length."""
    try:
        if not _SUBNET.fullmatch(text):
            raise ValueError
        loose = ip_network(text, strict=False)
    except ValueError:
        path.wrong("This is not a subnet.", _write_prefix(text), text)
        return None
    if str(ip_network(loose)) != str(loose) or ip_address(text.split("/")[0]) != loose.network_address:
        path.wrong(f"The subnet has bits set behind its prefix length {loose.prefixlen}.", f"Write `{loose}`.", text)
        return None
    return loose


def _write_prefix(text: str) -> str:
    try:
        return f"Write address and prefix length, for example `{ip_network(f'{ip_address(text)}/24', strict=False)}`."
    except ValueError:
        return "Write address and prefix length, for example `10.0.0.0/24`."


def why_not(address: Address, subnet: Subnet) -> str:
    """Why the address can not be one of the subnet's hosts, as a sentence; empty if it can."""
    if address not in subnet:
        return f"The address is not in the subnet {subnet}."
    if address == subnet.network_address and address.version == 6:
        return f"The address is the first of {subnet}, which stands for all its routers."
    if address == subnet.network_address:
        return f"The address is the network address of {subnet}."
    if address.version == 4 and address == subnet.broadcast_address:
        return f"The address is the broadcast address of {subnet}."
    return ""


def some_host(subnet: Subnet, without: Iterable[Optional[str]] = ()) -> str:
    """An address of the subnet to name in a remedy: the second host, or the next one that is free."""
    used = set(without)
    first = int(subnet.network_address) + 1
    for number in (*range(first + 1, first + 64), first):
        address = type(subnet.network_address)(number)
        if not why_not(address, subnet) and str(address) not in used:
            return str(address)
    return str(subnet[1])


@cache
def network_of(text: str) -> Subnet:
    """A subnet of the topology, which is right already, as an object."""
    return ip_network(text)


@cache
def gateway_of(config: IpamConfig) -> Optional[str]:
    """The gateway: the one that is given, else, as in Docker, the first free address of ``ip_range`` or the subnet.

    None only if nothing is free.
    """
    if config.gateway:
        return config.gateway
    subnet = network_of(config.subnet)
    used = {ip_address(address) for _name, address in config.aux_addresses}
    for address in ip_network(config.ip_range or config.subnet):
        if address not in used and not why_not(address, subnet):
            return str(address)
    return None


def gateway_in(network: Network, config: IpamConfig) -> Optional[str]:
    """As `gateway_of`; on a LAN, whose router is not ours to choose, only the one that is given (Docker 29's rule)."""
    return gateway_of(config) if network.traits.chooses_gateway else config.gateway


def read_mac(text: str, path: VarPath) -> Optional[str]:
    """A unicast MAC address in lower case with colons; None if it is wrong, which is noted."""
    mac = text.lower().replace("-", ":")
    if not mac_form.fits(mac):
        path.wrong("This is not a MAC address.", 'Write six pairs of hex digits, like "02:42:0a:00:00:02".', text)
        return None
    if int(mac[:2], 16) & 1:
        path.wrong(
            "This is a multicast MAC address: the first pair is odd.",
            f'Make the first pair even, like "02{mac[2:]}".',
            text,
        )
        return None
    if mac == "00:00:00:00:00:00":
        path.wrong("This MAC address is all zero.", 'Write one like "02:42:0a:00:00:02", or leave it out.', text)
        return None
    return mac
