# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who is at the other end of a packet: the classes of addresses that policies' rules name.  Pure.

A class stands for all addresses that are of the same networks, sandboxes, services, hosts and prefixes, so a new member
of a network is one element of one map.
"""

from __future__ import annotations

import functools
import hashlib
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Union

from ...module_utils.plan.families import family_of
from ...module_utils.plan.records import dataclass
from ..declaration.services import task_number
from ..declaration.topology import Host, Peer
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..drivers.registry import driver_of
from ..networks.spanning import Member
from .sources import link_local

FAMILIES = (4, 6)


@dataclass(frozen=True)
class Addresses:
    """The addresses of peers on this host: single ones, and prefixes."""

    members: Mapping[Peer, frozenset[str]]
    prefixes: Mapping[Peer, frozenset[str]]


def addresses_of(
    peers: Iterable[Peer],
    host: Host,
    networks: Mapping[str, PlannedNetwork],
    endpoints: Sequence[PlannedEndpoint],
    of_hosts: Mapping[str, Iterable[str]],
) -> Addresses:
    """The addresses by which packets of peers can come to sandboxes of the host.

    ``endpoints`` are the host's own; those of other hosts are known from networks that span hosts.  ``of_hosts`` has
    the addresses of each host of the topology.
    """
    sets = {item.name: item.prefixes for item in host.address_sets}
    members: dict[Peer, set[str]] = {}
    prefixes: dict[Peer, frozenset[str]] = {}
    for peer in peers:
        if peer.kind == "cidr":
            prefixes[peer] = frozenset([peer.name])
        elif peer.kind == "addresses":
            prefixes[peer] = frozenset(sets.get(peer.name, ()))
        else:
            members[peer] = set()
    for endpoint in _endpoints_of(networks, endpoints):
        for peer in _peers_of(endpoint):
            if peer in members:
                members[peer].update(endpoint.addresses)
    for network in networks.values():
        for service, vip in network.vips.items():
            peer = Peer("service", service)
            if peer in members:
                members[peer].update(vip.addresses)
    # A host says itself by what addresses it is reached; those of the networks are sandboxes' and gateways' alone.
    subnets = [ip_network(subnet.subnet) for network in networks.values() for subnet in network.subnets]
    for name, addresses in of_hosts.items():
        if Peer("host", name) in members:
            outside = (item for item in addresses if not any(ip_address(item) in subnet for subnet in subnets))
            members[Peer("host", name)].update(outside)
    own = Peer("host", host.name)
    if own in members:
        for network in networks.values():
            members[own].update(item.partition("/")[0] for item in driver_of(network).host_addresses(network))
    return Addresses({peer: frozenset(found) for peer, found in members.items()}, prefixes)


@dataclass(frozen=True)
class _Endpoint:
    """A sandbox on a network, on whatever host."""

    sandbox: str
    network: str
    addresses: tuple[str, ...]


def _peers_of(endpoint: _Endpoint) -> Iterator[Peer]:
    yield Peer("network", endpoint.network)
    yield Peer("sandbox", endpoint.sandbox)
    service = endpoint.sandbox.rpartition(".")[0]
    if service and task_number(service, endpoint.sandbox) is not None:
        yield Peer("service", service)


def _endpoints_of(networks: Mapping[str, PlannedNetwork], endpoints: Sequence[PlannedEndpoint]) -> list[_Endpoint]:
    ends: list[tuple[str, str, Union[PlannedEndpoint, Member]]] = [
        (item.sandbox.name, item.network.name, item) for item in endpoints if item.network.spanning is None
    ]
    for name, network in networks.items():
        if network.spanning is not None:
            ends += [(item.sandbox.name, name, item) for item in network.spanning.sandboxes.values()]
    # Addresses of scope link are unique on a link; on several links of the host one may be of several sandboxes.
    scoped = [
        {*end.endpoint.link_local_ips, *([link_local(end.mac)] if end.mac and end.ipv6 else ())}
        for _sandbox, _network, end in ends
    ]
    count = Counter(address for found in scoped for address in found)
    return [
        _Endpoint(sandbox, network, (*end.addresses, *sorted(item for item in found if count[item] == 1)))
        for (sandbox, network, end), found in zip(ends, scoped)
    ]


@dataclass(frozen=True)
class Classes:
    """The class of every address that some peer has; other addresses have none."""

    members: Mapping[int, Mapping[str, int]]
    """By family, of single addresses."""
    prefixes: Mapping[int, Mapping[str, int]]
    """By family, of ranges ``first-last``, which do not overlap and count for addresses not in ``members``."""
    peers: Mapping[int, tuple[int, frozenset[Peer]]]
    """The family and the peers of each class."""

    def of(self, peers: Iterable[Peer]) -> list[tuple[int, int]]:
        """(class, family) of every class with one of the peers."""
        wanted = frozenset(peers)
        return [(number, family) for number, (family, own) in sorted(self.peers.items()) if own & wanted]

    def peers_of(self, address: str) -> frozenset[Peer]:
        """All peers that an address is of."""
        family = family_of(address)
        found = self.members[family].get(address)
        if found is None:
            number, ends = int(ip_address(address)), self._ends[family]
            at = bisect(ends, (number, 1 << 129, 0)) - 1
            found = ends[at][2] if at >= 0 and number <= ends[at][1] else None
        return self.peers[found][1] if found is not None else frozenset()

    @functools.cached_property
    def _ends(self) -> Mapping[int, Sequence[tuple[int, int, int]]]:
        """By family, (first, last, class) of the ranges in order."""
        result = {}
        for family, ranges in self.prefixes.items():
            spans = ((text.partition("-"), number) for text, number in ranges.items())
            result[family] = sorted(
                (int(ip_address(first)), int(ip_address(last or first)), number)
                for (first, _dash, last), number in spans
            )
        return result


def classes_of(addresses: Addresses) -> Classes:
    """The classes of all addresses of peers."""
    members: dict[int, dict[str, int]] = {4: {}, 6: {}}
    ranges: dict[int, dict[str, int]] = {4: {}, 6: {}}
    numbers: dict[tuple[int, frozenset[Peer]], int] = {}
    found: dict[int, tuple[int, frozenset[Peer]]] = {}

    def number_of(family: int, peers: frozenset[Peer]) -> int:
        if (family, peers) not in numbers:
            number = _number(family, peers)
            while number in found:
                number = number % 0xFFFFFFFF + 1
            numbers[family, peers], found[number] = number, (family, peers)
        return numbers[family, peers]

    by_address: dict[str, set[Peer]] = {}
    for peer, own in addresses.members.items():
        for address in own:
            by_address.setdefault(address, set()).add(peer)
    by_prefix: dict[str, set[Peer]] = {}
    for peer, prefixes in addresses.prefixes.items():
        for prefix in prefixes:
            by_prefix.setdefault(prefix, set()).add(peer)
    for family in FAMILIES:
        tree = _Prefixes({text: peers for text, peers in by_prefix.items() if family_of(text) == family})
        for address, own_peers in sorted(by_address.items()):
            if family_of(address) == family:
                members[family][address] = number_of(family, frozenset(own_peers | tree.around(address)))
        for first, last, around in tree.ranges():
            ranges[family][f"{first}-{last}" if first != last else first] = number_of(family, around)
    return Classes(members, ranges, found)


def _number(family: int, peers: Iterable[Peer]) -> int:
    text = "\n".join([str(family), *(f"{peer.kind} {peer.name}" for peer in sorted(peers))])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") or 1


class _Prefixes:
    """Prefixes of one family, each in or beside another, with the peers of each."""

    def __init__(self, prefixes: Mapping[str, set[Peer]]) -> None:
        networks = [(ip_network(text), peers) for text, peers in prefixes.items()]
        self._spans = sorted(
            ((int(item[0]), int(item[-1]), frozenset(peers)) for item, peers in networks),
            key=lambda span: (span[0], -span[1]),
        )
        self._address = IPv6Address if any(item.version == 6 for item, _peers in networks) else IPv4Address

    def around(self, address: str) -> set[Peer]:
        """The peers of all prefixes that contain an address."""
        number = int(ip_network(address)[0])
        return {peer for first, last, peers in self._spans if first <= number <= last for peer in peers}

    def ranges(self) -> Iterator[tuple[str, str, frozenset[Peer]]]:
        """Ranges that do not overlap, in order, each with the peers of all prefixes that contain it."""
        open_spans: list[tuple[int, frozenset[Peer]]] = []
        position = 0
        for first, last, peers in [*self._spans, (1 << 129, 1 << 129, frozenset[Peer]())]:
            while open_spans and open_spans[-1][0] < first:
                end, around = open_spans.pop()
                if position <= end:
                    yield self._text(position), self._text(end), around
                    position = end + 1
            if first >= 1 << 129:
                return
            if open_spans and position < first:
                yield self._text(position), self._text(first - 1), open_spans[-1][1]
            position = max(position, first)
            open_spans.append((last, peers | (open_spans[-1][1] if open_spans else frozenset())))

    def _text(self, number: int) -> str:
        return str(self._address(number))
