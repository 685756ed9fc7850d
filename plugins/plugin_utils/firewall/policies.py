# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Policies: who may speak to whom, judged at the sandboxes' bridge ports.  Pure.

Each port of a sandbox with policies leads to the chains of its *combination*: the policies that hold for it.  What a
packet costs does not depend on the number of sandboxes, policies and rules: the port is looked up in a map, then the
address at the other end, which gives a *class*, and then class, protocol and port in a set for each action.

A class stands for all addresses that are of the same networks, sandboxes, services, hosts and prefixes, so a new member
of a network is one element of one map.  The class is in the packet's mark while it is judged, and never after.

Every packet is judged by the present rules, also that of a connection which is open: what a new policy forbids ends at
once.  The rules are those of the direction in which the connection was opened: a packet is an answer if

- it is TCP, does not open a connection, and a rule allows the connection; or the connection was seen to be opened
- it is UDP or SCTP, and an allowed packet in the other direction was seen lately
- it is an ICMP answer, or another protocol's packet, and a rule allows the question

No connection tracking is used: `nf_conntrack_bridge` is not in every kernel, and would track all bridges of the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Optional, Union

from ...module_utils.plan import forms
from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE, family_of
from ...module_utils.plan.nftables import Chain, Nftables, NftSet
from ..declaration.policies import ICMP4, ICMP6, TCP, UDP
from ..declaration.services import task_number
from ..declaration.topology import (
    DIRECTIONS,
    EGRESS_RULES,
    EVERYTHING,
    ICMP,
    INGRESS_RULES,
    PORTS,
    PROTOCOL,
    Host,
    Match,
    Peer,
    PolicyRule,
    Sandbox,
)
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..drivers.registry import driver_of
from ..ipam.identifiers import port_name
from ..networks.spanning import Member
from .sources import link_local

_FAMILIES = (4, 6)

STRENGTH = ("drop", "reject", "allow")
"""Actions: an earlier one wins over a later one."""

_WITH_PORTS = "{ 17, 33, 132, 136 }"
"""Protocols with ports other than TCP, whose answers are recognised by what was seen: UDP, DCCP, SCTP, UDP-Lite."""
_STATED = "{ 1, 6, 17, 33, 58, 132, 136 }"
"""Those, TCP and ICMP."""

_OPENING = "tcp flags & (syn | ack) == syn"
_NOT_OPENING = "tcp flags & (syn | ack) != syn"

_ANSWERS = {(ICMP4, 8): 0, (ICMP4, 13): 14, (ICMP6, 128): 129}
"""The ICMP type that answers another."""
_ERRORS = {4: "icmp type { 3, 11, 12 }", 6: "icmpv6 type { 1-4 }"}
_ECHOES = {4: "icmp type { 0, 14 }", 6: "icmpv6 type 129"}
"""ICMP types that answer."""

_LARGEST_STATE = 65536
_UDP_TIME, _OPENING_TIME, _TCP_TIME, _FRAGMENT_TIME = "3m", "2m", "1h", "30s"
_FIRST_CLIENT_PORT = 32768
"""Linux chooses the ports of clients from here on (net.ipv4.ip_local_port_range)."""

_NEIGHBOURS = "icmpv6 type { 130-137, 143 } accept"
"""Neighbour discovery and MLD.  Routers' messages from sandboxes were dropped before."""


# --- Who is at the other end ---


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
    places = _places(networks, endpoints)
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
    for place in places:
        for peer in _peers_at(place):
            if peer in members:
                members[peer].update(place.addresses)
    for network in networks.values():
        for service, vip in network.vips.items():
            peer = Peer("service", service)
            if peer in members:
                members[peer].update(vip.addresses)
    for name, addresses in of_hosts.items():
        if Peer("host", name) in members:
            members[Peer("host", name)].update(addresses)
    own = Peer("host", host.name)
    if own in members:
        for network in networks.values():
            members[own].update(item.partition("/")[0] for item in driver_of(network).host_addresses(network))
    return Addresses({peer: frozenset(found) for peer, found in members.items()}, prefixes)


@dataclass(frozen=True)
class _Place:
    """A sandbox on a network, on whatever host."""

    sandbox: str
    network: str
    addresses: tuple[str, ...]


def _peers_at(place: _Place) -> Iterator[Peer]:
    yield Peer("network", place.network)
    yield Peer("sandbox", place.sandbox)
    service = place.sandbox.rpartition(".")[0]
    if service and task_number(service, place.sandbox) is not None:
        yield Peer("service", service)


def _places(networks: Mapping[str, PlannedNetwork], endpoints: Sequence[PlannedEndpoint]) -> list[_Place]:
    ends: list[tuple[str, str, Union[PlannedEndpoint, Member]]] = [
        (item.sandbox.name, item.network.name, item) for item in endpoints if item.network.spanning is None
    ]
    for name, network in networks.items():
        if network.spanning is not None:
            ends += [(item.sandbox.name, name, item) for item in network.spanning.sandboxes.values()]
    # Addresses of scope link are unique on a link; on several links of the host one may be of several sandboxes.
    count: dict[str, int] = {}
    scoped = [link_local(end.mac) if end.mac and end.ipv6 else "" for _sandbox, _network, end in ends]
    for address in scoped:
        count[address] = count.get(address, 0) + 1
    return [
        _Place(sandbox, network, (*end.addresses, *([address] if address and count[address] == 1 else ())))
        for (sandbox, network, end), address in zip(ends, scoped)
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
    for family in _FAMILIES:
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


# --- What holds for a sandbox ---


@dataclass(frozen=True)
class Judged:
    """The rules of one direction; ``default`` is "" if nothing is said of it, so that everything passes."""

    rules: tuple[PolicyRule, ...] = ()
    default: str = ""
    logged: tuple[tuple[str, PolicyRule], ...] = ()
    """Rules that log, with the policy of each."""

    @property
    def restricted(self) -> bool:
        """Whether packets of this direction are judged at all."""
        return bool(self.default)

    @property
    def open(self) -> bool:
        """Whether what no rule is about passes."""
        return self.default in ("", "allow")


@dataclass(frozen=True)
class Combination:
    """The policies that hold for a sandbox, with what they say together."""

    id: str
    policies: tuple[str, ...]
    ingress: Judged
    egress: Judged

    def of(self, direction: str) -> Judged:
        """The rules of a direction."""
        return self.ingress if direction == INGRESS_RULES else self.egress

    @property
    def peers(self) -> set[Peer]:
        """All that its rules name."""
        return {peer for direction in DIRECTIONS for rule in self.of(direction).rules for peer in rule.peers}


def policies_of(sandbox: Sandbox, networks: Iterable[PlannedNetwork]) -> tuple[str, ...]:
    """The names of the policies that hold for a sandbox: its own, and those of its networks."""
    if sandbox.everywhere:
        return ()
    return tuple(sorted({*sandbox.policies, *(name for item in networks for name in item.network.policies)}))


def combination(host: Host, names: Sequence[str], resolvers: Iterable[str]) -> Combination:
    """What policies of a host say together.  ``resolvers`` are those that the sandbox's own resolver asks."""
    servers = tuple(sorted(resolvers))
    identity = hashlib.sha256("\n".join([*names, "", *servers]).encode()).hexdigest()[:10]
    chosen = [policy for policy in host.policies if policy.name in names]
    found = {}
    for direction in DIRECTIONS:
        defaults = {policy.default(direction) for policy in chosen} - {""}
        rules = [rule for policy in chosen for rule in policy.rules(direction)]
        default = next((action for action in STRENGTH if action in defaults), "")
        if direction == EGRESS_RULES and default and servers:
            rules.append(_to_resolvers(servers))
        logged = tuple((policy.name, rule) for policy in chosen for rule in policy.rules(direction) if rule.log)
        found[direction] = Judged(tuple(rules), default, logged)
    return Combination(identity, tuple(names), found[INGRESS_RULES], found[EGRESS_RULES])


def _to_resolvers(servers: Iterable[str]) -> PolicyRule:
    """Names resolve whatever the policies, unless one forbids it."""
    peers = tuple(Peer("cidr", f"{server}/{32 if family_of(server) == 4 else 128}") for server in servers)
    return PolicyRule("allow", peers, (Match(PORTS, UDP, 53, 53), Match(PORTS, TCP, 53, 53)))


@dataclass(frozen=True)
class HostPolicies:
    """The policies of a host's sandboxes: by endpoint id the combination."""

    combinations: Mapping[str, Combination] = field(default_factory=dict)
    classes: Classes = Classes({}, {}, {})
    rejects: bool = True
    """Whether the kernel can answer packets that are rejected; else they are dropped."""


def host_policies(
    host: Host,
    networks: Mapping[str, PlannedNetwork],
    sandboxes: Mapping[str, Sequence[PlannedEndpoint]],
    resolvers: Mapping[str, Iterable[str]],
    of_hosts: Mapping[str, Iterable[str]],
    rejects: bool = True,
) -> HostPolicies:
    """What policies say of a host's sandboxes; ``resolvers`` has the upstream servers of each."""
    found: dict[str, Combination] = {}
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], Combination] = {}
    for name, endpoints in sandboxes.items():
        if not endpoints:
            continue
        names = policies_of(endpoints[0].sandbox, [item.network for item in endpoints])
        if not names:
            continue
        key = (names, tuple(sorted(resolvers.get(name, ()))))
        if key not in known:
            known[key] = combination(host, *key)
        if known[key].ingress.restricted or known[key].egress.restricted:
            found.update({item.id: known[key] for item in endpoints})
    if not found:
        return HostPolicies()
    peers = set[Peer]().union(*(item.peers for item in known.values()))
    every = [item for group in sandboxes.values() for item in group]
    return HostPolicies(found, classes_of(addresses_of(peers, host, networks, every, of_hosts)), rejects)


# --- Rules ---

_RANGES = "ranges"
"""Ranges of ports.  Single ones have a set of their own: a hash lookup is faster, and nft 1.0.6 cannot delete an
element without a range from a set of ranges."""

_KEYS = {
    EVERYTHING: "meta mark",
    PROTOCOL: "meta mark . meta l4proto",
    PORTS: "meta mark . meta l4proto . th {port}",
    _RANGES: "meta mark . meta l4proto . th {port}",
    ICMP: "meta mark . meta l4proto . @th,0,8",
}
"""What is looked up for matches of a kind; a rule for everybody has no mark in it."""
_ANYBODY = {kind: key.removeprefix("meta mark").removeprefix(" . ") for kind, key in _KEYS.items()}


@dataclass(frozen=True)
class _Lookup:
    """A set of what some rules are about; without a set they are about everything."""

    kind: str
    anybody: bool
    name: str
    elements: tuple[str, ...]
    answers: tuple[str, ...] = ()
    """Of ICMP, the elements of a set for answers."""

    @property
    def key(self) -> str:
        return (_ANYBODY if self.anybody else _KEYS)[self.kind]

    @property
    def sets(self) -> list[NftSet]:
        if not self.name:
            return []
        flags = " flags interval;" if self.kind == _RANGES else ""
        declaration = f"typeof {self.key.format(port='dport')};{flags}"
        found = [NftSet(self.name, declaration, self.elements)] if self.elements else []
        return [*found, *([NftSet(f"{self.name}_re", declaration, self.answers)] if self.answers else [])]

    def condition(self, answers: bool = False) -> Optional[str]:
        """The beginning of a rule, with a space behind it; None if nothing is looked up."""
        if not self.name:
            return ""
        if answers and self.kind == ICMP:
            return f"{self.key} @{self.name}_re " if self.answers else None
        return f"{self.key.format(port='sport' if answers else 'dport')} @{self.name} " if self.elements else None


def _lookups(prefix: str, rules: Iterable[PolicyRule], classes: Classes) -> list[_Lookup]:
    """The sets for rules of one action; their names begin with the prefix."""
    ports: dict[tuple[bool, str, int], list[tuple[int, int]]] = {}
    others: dict[tuple[str, bool], set[str]] = {}
    answers: dict[bool, set[str]] = {False: set(), True: set()}
    everything = False
    for rule in rules:
        anybody = not rule.peers
        marks = [("", 0)] if anybody else [(f"{number:#010x}", family) for number, family in classes.of(rule.peers)]
        for match in rule.matches:
            if anybody and match.kind == EVERYTHING:
                everything = True
                continue
            for mark, family in marks:
                if match.kind != EVERYTHING and (family, match.protocol) in ((4, ICMP6), (6, ICMP4)):
                    continue
                if match.kind == PORTS:
                    ports.setdefault((anybody, mark, match.protocol), []).append((match.first, match.last))
                    continue
                parts = [mark, *([str(match.protocol)] if match.kind != EVERYTHING else [])]
                own = [*parts, f"{match.first:#04x}"] if match.kind == ICMP else parts
                others.setdefault((match.kind, anybody), set()).add(" . ".join(filter(None, own)))
                answer = _ANSWERS.get((match.protocol, match.first)) if match.kind == ICMP else None
                if answer is not None:
                    answers[anybody].add(" . ".join(filter(None, [*parts, f"{answer:#04x}"])))
    for (anybody, mark, protocol), spans in ports.items():
        for first, last in merged(spans):
            numbers = str(first) if first == last else f"{first}-{last}"
            kind = PORTS if first == last else _RANGES
            others.setdefault((kind, anybody), set()).add(" . ".join(filter(None, [mark, str(protocol), numbers])))
    found = [_Lookup(EVERYTHING, True, "", ())] if everything else []
    return found + [
        _Lookup(
            kind,
            anybody,
            f"{prefix}_{kind}{'_any' if anybody else ''}",
            tuple(sorted(elements)),
            tuple(sorted(answers[anybody])) if kind == ICMP else (),
        )
        for (kind, anybody), elements in sorted(others.items())
    ]


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of numbers without overlaps, in order; those side by side are one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


@dataclass(frozen=True)
class _Side:
    """Where a packet is judged: as it comes from a sandbox, or as it goes to one."""

    name: str
    far: str
    """Which address is that of the other end."""
    port: str
    """Which link is the sandbox's port."""
    opens: str
    """The direction of a connection that this packet would open,"""
    answers: str
    """and of one that it would answer in."""

    def flow(self, family: int, answer: bool = False) -> str:
        """The connection as the packet has it, or as what it answers has it."""
        word = NFT_PROTOCOL[family]
        one, other = ("daddr", "saddr") if answer else ("saddr", "daddr")
        first, second = ("dport", "sport") if answer else ("sport", "dport")
        return f"{word} {one} . {word} {other} . meta l4proto . th {first} . th {second}"


_FROM = _Side("from", "daddr", "iifname", EGRESS_RULES, INGRESS_RULES)
_TO = _Side("to", "saddr", "oifname", INGRESS_RULES, EGRESS_RULES)
_SIDES = (_FROM, _TO)
_SHORT = {INGRESS_RULES: "in", EGRESS_RULES: "out"}

_FRAGMENT = {4: "ip saddr . ip daddr . ip id", 6: "ip6 saddr . ip6 daddr . frag id"}
_LATER_FRAGMENT = {4: "ip frag-off & 0x1fff != 0", 6: "frag frag-off != 0"}
_FIRST_FRAGMENT = {4: "ip frag-off & 0x3fff == 0x2000", 6: "frag frag-off 0 frag more-fragments 1"}


def with_policies(
    table: Nftables,
    policies: HostPolicies,
    endpoints: Iterable[PlannedEndpoint],
    networks: Iterable[PlannedNetwork],
) -> Nftables:
    """A table of a bridge's namespace that also judges the packets of the endpoints there, if any has policies."""
    ports: dict[str, Combination] = {}
    for endpoint in endpoints:
        found = policies.combinations.get(endpoint.id)
        if found is not None:
            ports[forms.nft_link(port_name(endpoint.id))] = found
    if not ports:
        return table
    combined = {item.id: item for item in ports.values()}
    compiled = [_Compiled(item, policies.classes) for _id, item in sorted(combined.items())]
    sets = [
        *_common_sets(ports, policies.classes, networks),
        *(each for item in compiled for each in item.sets),
    ]
    chains = [
        *_common_chains(policies),
        *(each for item in compiled for each in item.chains),
        Chain(
            "policies_from", "type filter hook prerouting priority -290; policy accept", ("iifname vmap @policy_from",)
        ),
        Chain("policies_to", "type filter hook postrouting priority 300; policy accept", ("oifname vmap @policy_to",)),
    ]
    return replace(table, sets=(*table.sets, *sets), chains=(*table.chains, *chains))


def _base(name: str, hook: str, rule: str) -> Chain:
    return Chain(name, f"type filter hook {hook}; policy accept", (rule,))


def _common_sets(
    ports: Mapping[str, Combination], classes: Classes, networks: Iterable[PlannedNetwork]
) -> Iterator[NftSet]:
    subnets = [subnet for network in networks for subnet in network.subnets]
    for side in _SIDES:
        verdicts = (f"{link} : goto {_chain(item, side.name)}" for link, item in ports.items())
        yield NftSet(f"policy_{side.name}", "type ifname : verdict;", tuple(sorted(verdicts)))
        yield NftSet(f"policy_dropped_{side.name}", "type ifname; counter;", tuple(sorted(ports)))
    for family in _FAMILIES:
        address, word = NFT_TYPE[family], NFT_PROTOCOL[family]
        members = (f"{item} : {number:#010x}" for item, number in classes.members[family].items())
        ranges = (f"{item} : {number:#010x}" for item, number in classes.prefixes[family].items())
        yield NftSet(f"policy_members{family}", f"type {address} : mark;", tuple(sorted(members)))
        yield NftSet(f"policy_prefixes{family}", f"type {address} : mark; flags interval;", tuple(sorted(ranges)))
        local = {item.subnet for item in subnets if item.family == family} | ({"fe80::/10"} if family == 6 else set())
        gateways = {item.gateway for item in subnets if item.family == family}
        yield NftSet(f"policy_subnets{family}", f"type {address}; flags interval;", tuple(sorted(local)))
        yield NftSet(f"policy_gateways{family}", f"type {address};", tuple(sorted(gateways)))
        key = f"typeof {word} saddr . {word} daddr . meta l4proto . th sport . th dport;"
        state = f"size {_LARGEST_STATE}; flags dynamic,timeout; timeout"
        yield NftSet(f"policy_flows{family}", f"{key} {state} {_UDP_TIME};")
        for side in _SIDES:
            name = f"policy_fragments_{side.name}{family}"
            yield NftSet(name, f"typeof {_FRAGMENT[family]}; {state} {_FRAGMENT_TIME};")


def _common_chains(policies: HostPolicies) -> Iterator[Chain]:
    for side in _SIDES:
        # A fragment but the first has no ports, so that it comes here unless a rule is about all of a protocol.
        later = [
            f"{text} {_FRAGMENT[f]} @policy_fragments_{side.name}{f} meta mark set 0 accept"
            for f, text in _LATER_FRAGMENT.items()
        ]
        yield Chain(f"policy_drop_{side.name}", rules=(*later, f"{side.port} @policy_dropped_{side.name} drop", "drop"))
        for family in _FAMILIES:
            first = f"{_FIRST_FRAGMENT[family]} update @policy_fragments_{side.name}{family} {{ {_FRAGMENT[family]} }}"
            yield Chain(f"policy_pass_{side.name}{family}", rules=(first, "meta mark set 0 accept"))
    # The kernel answers nothing at a bridge's postrouting hook: what comes to a sandbox is dropped.
    later = [f"{text} goto policy_drop_from" for text in _LATER_FRAGMENT.values()]
    answer = ["meta mark set 0", "meta l4proto tcp reject with tcp reset", "reject"]
    rejected = f"{_FROM.port} @policy_dropped_from"
    yield Chain("policy_reject", rules=(*later, rejected, *answer) if policies.rejects else ("goto policy_drop_from",))


def _chain(item: Combination, name: str) -> str:
    return f"p{item.id}_{name}"


class _Compiled:
    """The sets and chains of a combination."""

    def __init__(self, combined: Combination, classes: Classes) -> None:
        self._combined = combined
        self._classes = classes

    @cached_property
    def _actions(self) -> dict[tuple[str, str], list[_Lookup]]:
        """By direction and action."""
        return {
            (direction, action): _lookups(
                f"{_chain(self._combined, _SHORT[direction])}_{action}",
                [rule for rule in self._combined.of(direction).rules if rule.action == action],
                self._classes,
            )
            for direction in DIRECTIONS
            for action in STRENGTH
        }

    @cached_property
    def _logs(self) -> dict[str, list[tuple[str, _Lookup]]]:
        """By direction, what begins the lines, and for what."""
        found: dict[str, list[tuple[str, _Lookup]]] = {direction: [] for direction in DIRECTIONS}
        for direction in DIRECTIONS:
            grouped: dict[tuple[str, str], list[PolicyRule]] = {}
            for policy, rule in self._combined.of(direction).logged:
                grouped.setdefault((policy, rule.action), []).append(rule)
            for number, ((policy, action), rules) in enumerate(grouped.items()):
                name = f"{_chain(self._combined, _SHORT[direction])}_log{number}"
                prefix = f"cnm {policy} {direction} {action}: "
                found[direction] += [(prefix, item) for item in _lookups(name, rules, self._classes)]
        return found

    @cached_property
    def _partners(self) -> Optional[tuple[str, ...]]:
        """The classes that the sandbox may speak to or be spoken to by; None: everybody."""
        found: set[str] = set()
        for direction in DIRECTIONS:
            judged = self._combined.of(direction)
            allowing = [rule for rule in judged.rules if rule.action == "allow"]
            if judged.open or any(not rule.peers for rule in allowing):
                return None
            peers = {peer for rule in allowing for peer in rule.peers}
            found |= {f"{number:#010x}" for number, _family in self._classes.of(peers)}
        return tuple(sorted(found))

    @property
    def sets(self) -> Iterator[NftSet]:
        """All of its sets."""
        for lookups in self._actions.values():
            for item in lookups:
                yield from item.sets
        for group in self._logs.values():
            for _prefix, item in group:
                yield from item.sets
        if self._partners is not None:
            yield NftSet(_chain(self._combined, "partners"), "typeof meta mark;", self._partners)

    @property
    def chains(self) -> Iterator[Chain]:
        """All of its chains, those that others lead to first."""
        for side in _SIDES:
            if self._combined.of(side.opens).restricted:
                yield Chain(self._name(side.opens), rules=tuple(self._opening(side)))
                for family in _FAMILIES:
                    answering = tuple(self._answering(side, family))
                    yield Chain(self._name(side.answers, f"re{family}"), rules=answering)
                    yield Chain(self._at(side, family, "errors"), rules=tuple(self._errors(side, family)))
        for side in _SIDES:
            for family in _FAMILIES:
                yield Chain(self._at(side, family, "tcp"), rules=tuple(self._judging_tcp(side, family)))
                yield Chain(self._at(side, family), rules=tuple(self._judging(side, family)))
            of_families = ", ".join(f"{NFT_PROTOCOL[f]} : goto {self._at(side, f)}" for f in _FAMILIES)
            yield Chain(
                _chain(self._combined, side.name),
                rules=(f"meta protocol vmap {{ arp : accept, {of_families} }}", "drop"),
            )

    def _at(self, side: _Side, family: int, what: str = "") -> str:
        return _chain(self._combined, f"{side.name}{family}{'_' if what else ''}{what}")

    def _name(self, direction: str, suffix: str = "") -> str:
        return _chain(self._combined, f"{_SHORT[direction]}{'_' if suffix else ''}{suffix}")

    def _opening(self, side: _Side) -> Iterator[str]:
        """Returns for a packet that may open a connection."""
        verdicts = {"drop": f"goto policy_drop_{side.name}", "allow": "return"}
        verdicts["reject"] = "goto policy_reject" if side is _FROM else verdicts["drop"]
        for prefix, lookup in self._logs[side.opens]:
            yield f'{lookup.condition() or ""}limit rate 10/second burst 20 packets log prefix "{prefix}"'
        for action in STRENGTH:
            for lookup in self._actions[side.opens, action]:
                yield f"{lookup.condition()}{verdicts[action]}"
        yield verdicts[self._combined.of(side.opens).default]

    def _answering(self, side: _Side, family: int) -> Iterator[str]:
        """Returns for a packet that may not answer."""
        passing = f"goto policy_pass_{side.name}{family}"
        for action in STRENGTH:
            verdict = passing if action == "allow" else "return"
            for lookup in self._actions[side.answers, action]:
                condition = lookup.condition(answers=True)
                if condition is not None:
                    yield f"{condition}{verdict}"
        if self._combined.of(side.answers).open:
            yield passing

    def _errors(self, side: _Side, family: int) -> Iterator[str]:
        """ICMP errors: between those who may speak to each other, and from routers."""
        passing = f"goto policy_pass_{side.name}{family}"
        if self._partners is None:
            yield passing
            return
        if side is _TO:
            word = NFT_PROTOCOL[family]
            yield f"{word} saddr @policy_gateways{family} {passing}"
            yield f"{word} saddr != @policy_subnets{family} {passing}"
        yield f"meta mark @{_chain(self._combined, 'partners')} {passing}"
        yield f"goto policy_drop_{side.name}"

    def _judging(self, side: _Side, family: int) -> Iterator[str]:
        """What comes first for a packet of a family: whose it is, and TCP, which has its own rules."""
        opened, answered = self._combined.of(side.opens), self._combined.of(side.answers)
        word, judge = NFT_PROTOCOL[family], f"jump {self._name(side.answers, f're{family}')}"
        passing = f"goto policy_pass_{side.name}{family}"
        if opened.restricted:
            yield "meta mark set 0"
            yield f"meta mark set {word} {side.far} map @policy_members{family}"
            if self._classes.prefixes[family]:
                yield f"meta mark 0 meta mark set {word} {side.far} map @policy_prefixes{family}"
        yield f"meta l4proto 6 goto {self._at(side, family, 'tcp')}"
        if family == 6:
            yield _NEIGHBOURS
        if opened.restricted:
            yield f"{_ERRORS[family]} goto {self._at(side, family, 'errors')}"
            yield f"{_seen_udp(side, family)} {judge}"
            if not answered.open:
                yield f"meta l4proto != {_STATED} {judge}"
            yield f"{_ECHOES[family]} {judge}"
            yield f"jump {self._name(side.opens)}"
        else:
            # An answer opens nothing: else what it answers would be an answer to it, whatever the rules become.
            yield f"{_seen_udp(side, family)} {passing}"
        flow, known = side.flow(family), f"@policy_flows{family}"
        yield f"meta l4proto {_WITH_PORTS} update {known} {{ {flow} timeout {_UDP_TIME} }}"
        yield passing

    def _judging_tcp(self, side: _Side, family: int) -> Iterator[str]:
        opened, answered = self._combined.of(side.opens), self._combined.of(side.answers)
        known = f"@policy_flows{family}"
        if opened.restricted:
            judge = f"jump {self._name(side.answers, f're{family}')}"
            if not answered.open:
                yield f"{_NOT_OPENING} {judge}"
            else:
                flow = side.flow(family, answer=True)
                yield f"{_NOT_OPENING} {flow} {known} update {known} {{ {flow} timeout {_TCP_TIME} }} {judge}"
                if side is _TO:
                    # Connections that the sandbox opened before it had policies: their ports tell who opened them.
                    yield f"{_NOT_OPENING} th sport < {_FIRST_CLIENT_PORT} th dport >= {_FIRST_CLIENT_PORT} {judge}"
            yield f"jump {self._name(side.opens)}"
        if opened.open and answered.restricted:
            flow = side.flow(family)
            yield f"{_OPENING} update {known} {{ {flow} timeout {_OPENING_TIME} }}"
            if side is _TO:
                # Connections that others opened before go on, too.
                others = f"th sport >= {_FIRST_CLIENT_PORT} th dport < {_FIRST_CLIENT_PORT}"
                yield f"{_NOT_OPENING} {others} update {known} {{ {flow} timeout {_TCP_TIME} }}"
        yield f"goto policy_pass_{side.name}{family}"


def _seen_udp(side: _Side, family: int) -> str:
    """Whether a packet answers one that was seen, of UDP and the like; what is remembered of that is renewed."""
    flow, known = side.flow(family, answer=True), f"@policy_flows{family}"
    return f"meta l4proto {_WITH_PORTS} {flow} {known} update {known} {{ {flow} timeout {_UDP_TIME} }}"
