# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The sets and chains of policies, which judge packets at the sandboxes' bridge ports.  Pure.

Each port of a sandbox with policies leads to the chains of its *combination*: the policies that hold for it.  What a
packet costs does not depend on the number of sandboxes, policies and rules: the port is looked up in a map, then the
address at the other end, which gives a *class*, and then class, protocol and port in a set for each action.

The class (`address_classes`) is in the packet's mark while it is judged, and never after.

Every packet is judged by the present rules, also that of a connection which is open: what a new policy forbids ends at
once.  The rules are those of the direction in which the connection was opened: a packet is an answer if

- it is TCP, does not open a connection, and a rule allows the connection; or the connection was seen to be opened
- it is UDP or SCTP, and an allowed packet in the other direction was seen lately
- it is an ICMP answer, or another protocol's packet, and a rule allows the question

No connection tracking is used: `nf_conntrack_bridge` is not in every kernel, and would track all bridges of the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Optional

from ...module_utils.plan import forms
from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE
from ...module_utils.plan.nftables import (
    DROPPED,
    DROPPED_LATELY,
    JUDGED,
    LATELY,
    SIDES,
    Chain,
    Nftables,
    NftSet,
)
from ...module_utils.plan.records import dataclass
from ..declaration.policies import ICMP4, ICMP6, TCP
from ..declaration.topology import (
    DIRECTIONS,
    EGRESS_RULES,
    EVERYTHING,
    ICMP,
    INGRESS_RULES,
    PORTS,
    PROTOCOL,
    PolicyRule,
)
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..ipam.identifiers import port_name
from .address_classes import FAMILIES, Classes
from .policies import STRENGTH, Combination, HostPolicies

_WITH_PORTS = "{ 17, 33, 132, 136 }"
"""Protocols with ports other than TCP, whose answers are recognised by what was seen: UDP, DCCP, SCTP, UDP-Lite."""
_STATED = "{ 1, 6, 17, 33, 58, 132, 136 }"
"""Those, TCP and ICMP."""

_OPENING = "tcp flags & (syn | ack) == syn"
_NOT_OPENING = "tcp flags & (syn | ack) != syn"
_CLOSING = "tcp flags & (fin | rst) != 0"

_ANSWERS = {(ICMP4, 8): 0, (ICMP4, 13): 14, (ICMP6, 128): 129}
"""The ICMP type that answers another."""
_ERRORS = {4: "icmp type { 3, 11, 12 }", 6: "icmpv6 type { 1-4 }"}
_ECHOES = {4: "icmp type { 0, 14 }", 6: "icmpv6 type 129"}
"""ICMP types that answer."""

_LARGEST_STATE, _MOST_DROPPED = 65536, 4096
_UDP_TIME, _OPENING_TIME, _TCP_TIME, _FRAGMENT_TIME = "3m", "2m", "1h", "30s"
_FIRST_CLIENT_PORT = 32768
"""Linux chooses the ports of clients from here on (net.ipv4.ip_local_port_range)."""

_NEIGHBOURS = "icmpv6 type {{ 130-137, 143 }} ip6 {far} @policy_subnets6 accept"
"""Neighbour discovery and MLD, on a link alone: a router would forward them like anything else, and with them whatever
somebody hides in them.  Routers' messages from sandboxes were dropped before."""
_OF_LINKS = frozenset({"::", "fe80::/10", "ff00::/8"})
"""Addresses that are on every link, as sources or as targets."""

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

    def is_about_tcp(self) -> bool:
        """Whether any of it can be about a packet of TCP."""
        if self.kind == EVERYTHING:
            return True
        at = _KEYS[self.kind].split(" . ").index("meta l4proto") - self.anybody
        return any(element.split(" . ")[at] == str(TCP) for element in self.elements)

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

    @property
    def dropped(self) -> tuple[str, str]:
        """Rules that count a packet as dropped, and as dropped lately if it is not one of those to everybody.

        Of the latter every network is full, such as reports of IGMP.
        """
        lately = f"ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 update @{DROPPED_LATELY}{self.name}"
        return f"meta mark set {self.port} map @{DROPPED}{self.name}", f"{lately} {{ {self.port} }}"

    def flow(self, family: int, answer: bool = False) -> str:
        """The connection as the packet has it, or as what it answers has it."""
        word = NFT_PROTOCOL[family]
        one, other = ("daddr", "saddr") if answer else ("saddr", "daddr")
        first, second = ("dport", "sport") if answer else ("sport", "dport")
        return f"{word} {one} . {word} {other} . meta l4proto . th {first} . th {second}"


_FROM = _Side(SIDES[EGRESS_RULES], "daddr", "iifname", EGRESS_RULES, INGRESS_RULES)
_TO = _Side(SIDES[INGRESS_RULES], "saddr", "oifname", INGRESS_RULES, EGRESS_RULES)
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
            "policies_from",
            "type filter hook prerouting priority -290; policy accept",
            (f"iifname vmap @{JUDGED}from",),
        ),
        Chain(
            "policies_to", "type filter hook postrouting priority 300; policy accept", (f"oifname vmap @{JUDGED}to",)
        ),
    ]
    return replace(table, sets=(*table.sets, *sets), chains=(*table.chains, *chains))


def _common_sets(
    ports: Mapping[str, Combination], classes: Classes, networks: Iterable[PlannedNetwork]
) -> Iterator[NftSet]:
    subnets = [subnet for network in networks for subnet in network.subnets]
    for side in _SIDES:
        verdicts = (f"{link} : goto {_chain(item, side.name)}" for link, item in ports.items())
        yield NftSet(f"{JUDGED}{side.name}", "type ifname : verdict; counter;", tuple(sorted(verdicts)))
        # The mark means nothing but that a port with other policies is another element, so that both count anew.
        dropped = (f"{link} : 0x{item.id[:8]}" for link, item in ports.items())
        yield NftSet(f"{DROPPED}{side.name}", "type ifname : mark; counter;", tuple(sorted(dropped)))
        lately = f"type ifname; size {_MOST_DROPPED}; flags dynamic,timeout; timeout {LATELY}s; counter;"
        yield NftSet(f"{DROPPED_LATELY}{side.name}", lately)
    for family in FAMILIES:
        address, word = NFT_TYPE[family], NFT_PROTOCOL[family]
        members = (f"{item} : {number:#010x}" for item, number in classes.members[family].items())
        ranges = (f"{item} : {number:#010x}" for item, number in classes.prefixes[family].items())
        yield NftSet(f"policy_members{family}", f"type {address} : mark;", tuple(sorted(members)))
        yield NftSet(f"policy_prefixes{family}", f"type {address} : mark; flags interval;", tuple(sorted(ranges)))
        local = {item.subnet for item in subnets if item.family == family} | (_OF_LINKS if family == 6 else set())
        gateways = {item.gateway for item in subnets if item.family == family}
        yield NftSet(f"policy_subnets{family}", f"type {address}; flags interval;", tuple(sorted(local)))
        yield NftSet(f"policy_gateways{family}", f"type {address};", tuple(sorted(gateways)))
        key = f"typeof {word} saddr . {word} daddr . meta l4proto . th sport . th dport;"
        state = f"size {_LARGEST_STATE}; flags dynamic,timeout; timeout"
        yield NftSet(f"policy_flows{family}", f"{key} {state} {_UDP_TIME};")
        yield NftSet(f"policy_closing{family}", f"{key} {state} {_OPENING_TIME};")
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
        yield Chain(f"policy_drop_{side.name}", rules=(*later, *side.dropped, "drop"))
        for family in FAMILIES:
            first = f"{_FIRST_FRAGMENT[family]} update @policy_fragments_{side.name}{family} {{ {_FRAGMENT[family]} }}"
            yield Chain(f"policy_pass_{side.name}{family}", rules=(first, "meta mark set 0 accept"))
    # The kernel answers nothing at a bridge's postrouting hook: what comes to a sandbox is dropped.
    later = [f"{text} goto policy_drop_from" for text in _LATER_FRAGMENT.values()]
    answer = ["meta mark set 0", "meta l4proto tcp reject with tcp reset", "reject"]
    counted = (*later, *_FROM.dropped, *answer)
    yield Chain("policy_reject", rules=counted if policies.rejects else ("goto policy_drop_from",))


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
                for tcp in ("", "tcp"):
                    yield Chain(self._name(side.opens, tcp), rules=tuple(self._opening(side, tcp)))
                    for family in FAMILIES:
                        answering = tuple(self._answering(side, family, tcp))
                        yield Chain(self._name(side.answers, f"{tcp}re{family}"), rules=answering)
                for family in FAMILIES:
                    yield Chain(self._at(side, family, "errors"), rules=tuple(self._errors(side, family)))
        for side in _SIDES:
            for family in FAMILIES:
                yield Chain(self._at(side, family, "tcp"), rules=tuple(self._judging_tcp(side, family)))
                yield Chain(self._at(side, family), rules=tuple(self._judging(side, family)))
            of_families = ", ".join(f"{NFT_PROTOCOL[f]} : goto {self._at(side, f)}" for f in FAMILIES)
            yield Chain(
                _chain(self._combined, side.name),
                rules=(f"meta protocol vmap {{ arp : accept, {of_families} }}", "drop"),
            )

    def _at(self, side: _Side, family: int, what: str = "") -> str:
        return _chain(self._combined, f"{side.name}{family}{'_' if what else ''}{what}")

    def _name(self, direction: str, suffix: str = "") -> str:
        return _chain(self._combined, f"{_SHORT[direction]}{'_' if suffix else ''}{suffix}")

    def _lookups(self, direction: str, action: str, tcp: str) -> list[_Lookup]:
        """Those of an action; for TCP only what can be about it."""
        return [item for item in self._actions[direction, action] if not tcp or item.is_about_tcp()]

    def _opening(self, side: _Side, tcp: str) -> Iterator[str]:
        """Returns for a packet that may open a connection."""
        verdicts = {"drop": f"goto policy_drop_{side.name}", "allow": "return"}
        verdicts["reject"] = "goto policy_reject" if side is _FROM else verdicts["drop"]
        for prefix, lookup in self._logs[side.opens]:
            if tcp and not lookup.is_about_tcp():
                continue
            yield f'{lookup.condition() or ""}limit rate 10/second burst 20 packets log prefix "{prefix}"'
        for action in STRENGTH:
            for lookup in self._lookups(side.opens, action, tcp):
                yield f"{lookup.condition()}{verdicts[action]}"
        yield verdicts[self._combined.of(side.opens).default]

    def _answering(self, side: _Side, family: int, tcp: str) -> Iterator[str]:
        """Returns for a packet that may not answer."""
        passing = f"goto policy_pass_{side.name}{family}"
        for action in STRENGTH:
            verdict = passing if action == "allow" else "return"
            for lookup in self._lookups(side.answers, action, tcp):
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
            yield _NEIGHBOURS.format(far=side.far)
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
        known, closing = f"@policy_flows{family}", f"@policy_closing{family}"
        if opened.restricted:
            judge = f"jump {self._name(side.answers, f'tcpre{family}')}"
            if not answered.open:
                yield f"{_NOT_OPENING} {judge}"
            else:
                flow = side.flow(family, answer=True)
                # Else a connection that ends would be remembered as long as one that goes on.
                yield f"{_CLOSING} {flow} {known} update {closing} {{ {flow} }} delete {known} {{ {flow} }}"
                yield f"{_NOT_OPENING} {flow} {known} update {known} {{ {flow} timeout {_TCP_TIME} }} {judge}"
                yield f"{_NOT_OPENING} {flow} {closing} update {closing} {{ {flow} }} {judge}"
                if side is _TO:
                    # Connections that the sandbox opened before it had policies: their ports tell who opened them.
                    yield f"{_NOT_OPENING} th sport < {_FIRST_CLIENT_PORT} th dport >= {_FIRST_CLIENT_PORT} {judge}"
            yield f"jump {self._name(side.opens, 'tcp')}"
        if opened.open and answered.restricted:
            flow = side.flow(family)
            yield f"{_OPENING} update {known} {{ {flow} timeout {_OPENING_TIME} }}"
            if side is _TO:
                # Connections that others opened before go on, too.
                others = f"th sport >= {_FIRST_CLIENT_PORT} th dport < {_FIRST_CLIENT_PORT}"
                yield f"{_NOT_OPENING} {others} {flow} != {closing} update {known} {{ {flow} timeout {_TCP_TIME} }}"
        yield f"goto policy_pass_{side.name}{family}"


def _seen_udp(side: _Side, family: int) -> str:
    """Whether a packet answers one that was seen, of UDP and the like; what is remembered of that is renewed."""
    flow, known = side.flow(family, answer=True), f"@policy_flows{family}"
    return f"meta l4proto {_WITH_PORTS} {flow} {known} update {known} {{ {flow} timeout {_UDP_TIME} }}"
