# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Finds the rules and policies of others' nftables by which a host drops packets.

The program ``nft`` lists each foreign table in a process of its own, as a list by a newer nft can crash it.  What it
prints is walked as the kernel would, for one packet at a time: the first of a connection, which comes to the host,
leaves it or is forwarded.  A condition that is not understood may hold or not.  iptables-nft is included, and
iptables-legacy is read in the same words; XDP and tc are not seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from typing import NamedTuple, Optional

from ..kernel.files import read_text
from ..kernel.host import Host
from ..kernel.programs import find_program
from ..plan.marks import is_pruned, project_of, role_of
from ..plan.records import dataclass
from .iptables_legacy import as_nft

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "esp": 50, "ipv6-icmp": 58}
TO_THE_HOST, FORWARDED = ("ingress", "prerouting", "input"), "forward"
_HOOKS = (*TO_THE_HOST, FORWARDED, "output", "postrouting")
_ECHO_REQUESTS = {1: 8, 58: 128}
_NEW, _UNTRACKED = 0x8, 0x40
_DEEPEST = 16
_MOST_STEPS = 200_000
"""Rules that a packet meets; chains that jump to each other can make any number of them."""
_LARGEST = 4 << 20
_LEGACY = {
    "ip": ("/proc/net/ip_tables_names", "iptables-legacy-save"),
    "ip6": ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
}


class Packet(NamedTuple):
    """A protocol by name, and its destination port, 0 for one without ports."""

    protocol: str
    port: int = 0
    tracked: bool = True
    """Whether conntrack sees it: not the packets of our tunnels."""

    def __str__(self) -> str:
        return f"{self.protocol} {self.port}" if self.port else self.protocol


class Drop(NamedTuple):
    """Where a packet is dropped; ``sure`` if it is whatever else it has in it."""

    packet: Packet
    chain: str
    """``inet filter input``."""
    hook: str
    rule: str
    """As nft prints it, or ``policy drop``."""
    sure: bool


@dataclass
class Chain:
    """A chain as nft prints it; ``hook`` is "" unless it is a base chain of type filter."""

    name: str
    hook: str = ""
    drops: bool = False
    rules: list[str] = field(default_factory=list)


class _Rule(NamedTuple):
    holds: Optional[bool]
    """None: it may hold or not."""
    names_it: bool
    """Whether it names the packet's port or protocol."""
    verdict: str
    """``accept``, ``drop``, ``return``, ``jump NAME``, ``goto NAME``, or ""."""


_quoted = re.compile(r'"[^"]*"')
_BLOCK = re.compile(r"(chain|set|map) (\S+) \{$")
_BASE = re.compile(r"type filter hook (\w+) .*?(?:policy (\w+);)?$")
_VALUES = r"(!= )?(\{[^}]*\}|[^\s{}]+)"
_PORT = re.compile(rf"\b(tcp|udp|th|dccp|sctp|udplite) dport (?!vmap){_VALUES}")
_PORT_MAP = re.compile(r"\b(tcp|udp|th) dport vmap \{([^}]*)\}")
_PROTOCOL = re.compile(rf"\b(?:meta l4proto|ip protocol|ip6 nexthdr) {_VALUES}")
_STATE = re.compile(rf"\bct state (?!vmap){_VALUES}")
_STATE_MAP = re.compile(r"\bct state vmap \{([^}]*)\}")
_TYPE = re.compile(rf"\b(icmp|icmpv6) type {_VALUES}")
_OF_PROTOCOL = re.compile(r"\b(icmp|icmpv6|tcp|udp|esp) (?!dport|type)\w+")
_LOOPBACK = re.compile(r'\bii?f(?:name)? "lo"')
_NO_CONDITION = re.compile(
    r"\bcounter(?: packets \d+ bytes \d+)?|\blog(?: (?:prefix|level|flags|group|snaplen|queue-threshold) \S+)*"
    r"|\bcomment \S+|\bnotrack\b|\bmeta (?:nftrace|mark) set \S+"
)
_VERDICT = re.compile(r"(?:^|\s)(accept|drop|return|queue|(?:jump|goto) \S+|reject(?: with .*)?)$")
_NUMBERS = re.compile(r"(0x[0-9a-f]{1,16}|[0-9]{1,20})(?:-(0x[0-9a-f]{1,16}|[0-9]{1,20}))?")


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without indentation; one that is continued is joined, as nft wraps long sets."""
    waiting: list[str] = []
    opened = 0
    for line in map(str.strip, text.splitlines()):
        waiting.append(line)
        bare = _quoted.sub("", line)
        opened += bare.count("{") - bare.count("}")
        if opened <= 0 or bare.endswith("{"):
            yield " ".join(waiting)
            waiting, opened = [], 0


def read_table(text: str) -> tuple[dict[str, Chain], dict[str, str]]:
    """The chains of a table as ``nft list table`` prints it, and the elements of its sets, as text."""
    chains: dict[str, Chain] = {}
    sets: dict[str, str] = {}
    inside: Optional[Chain] = None
    named = ""
    for line in _logical_lines(text):
        block = _BLOCK.match(line)
        if block is not None:
            inside = chains.setdefault(block[2], Chain(block[2])) if block[1] == "chain" else None
            named = block[2] if block[1] != "chain" else ""
        elif line == "}":
            inside, named = None, ""
        elif inside is not None and (base := _BASE.match(line)) is not None:
            inside.hook, inside.drops = base[1], base[2] == "drop"
        elif inside is not None and line and not line.startswith(("type ", "comment ")):
            inside.rules.append(line)
        elif named and line.startswith("elements = "):
            sets[named] = line
    return chains, sets


class Walk:
    """A packet's way through the chains of one table."""

    def __init__(self, chains: dict[str, Chain], sets: dict[str, str], packet: Packet) -> None:
        self._chains, self._sets, self._packet = chains, sets, packet
        self._number = PROTOCOLS[packet.protocol]
        self._state = _NEW if packet.tracked else _UNTRACKED
        self._maybe: Optional[tuple[Chain, str]] = None
        """A rule that names the packet, and drops it if conditions hold that are not understood."""
        self._let_by = False
        """Whether a rule may have accepted it."""
        self._steps = 0
        self._known: dict[str, _Rule] = {}

    def through(self, base: Chain) -> Optional[tuple[str, str, bool]]:
        """The chain and rule that drop the packet, and whether they surely do; None if nothing is known to."""
        end = self._walk(base, 0)
        if isinstance(end, tuple):
            chain, rule = end
            return chain.name, rule, not self._let_by
        if self._maybe is not None:
            chain, rule = self._maybe
            return chain.name, rule, False
        if end == "" and base.drops:
            return base.name, "policy drop", not self._let_by
        return None

    def _walk(self, chain: Chain, depth: int) -> object:
        """How it ends there: the chain and rule that drop it, ``accept``, or "" at the end of the chain."""
        for text in chain.rules if depth < _DEEPEST else ():
            self._steps += 1
            if self._steps > _MOST_STEPS:
                self._let_by = True
                return ""
            rule = self._known.get(text) or self._known.setdefault(text, self._read(text))
            if rule.holds is False or not rule.verdict:
                continue
            word, _space, target = rule.verdict.partition(" ")
            if word in ("jump", "goto"):
                inner = self._chains.get(target)
                end = self._walk(inner, depth + 1) if inner is not None else ""
                if rule.holds and (end or word == "goto"):
                    return end
                self._let_by = self._let_by or end == "accept"
                if isinstance(end, tuple) and rule.names_it and self._maybe is None:
                    self._maybe = end
            elif word == "drop" and rule.holds:
                return chain, text
            elif word == "drop" and rule.names_it and self._maybe is None:
                self._maybe = (chain, text)
            elif word == "accept":
                if rule.holds:
                    return "accept"
                self._let_by = True
            elif word == "return" and rule.holds:
                return ""
        return ""

    def _read(self, text: str) -> _Rule:
        rest = _without_comment(_quoted.sub(lambda found: found[0] if found[0] == '"lo"' else '""', text))
        verdict = ""
        found = _VERDICT.search(rest)
        if found is not None:
            verdict = "drop" if found[1].startswith("reject") else "accept" if found[1] == "queue" else found[1]
            rest = rest[: found.start()]
        named: list[bool] = []
        answers: list[Optional[bool]] = []
        for pattern, key_of in ((_PORT_MAP, self._port_key), (_STATE_MAP, self._state_key)):
            match = pattern.search(rest)
            if match is not None:
                verdict = key_of(match)
                answers.append(bool(verdict))
                named.append(bool(verdict) and pattern is _PORT_MAP)
        answers += [self._is_port(match, named) for match in _PORT.finditer(rest)]
        answers += [self._is_protocol(match, named) for match in _PROTOCOL.finditer(rest)]
        answers += [
            self._within(match[2], self._state, bits=True) is not bool(match[1]) for match in _STATE.finditer(rest)
        ]
        answers += [self._is_echo(match) for match in _TYPE.finditer(rest)]
        for pattern in (_PORT_MAP, _STATE_MAP, _PORT, _PROTOCOL, _STATE, _TYPE, _NO_CONDITION):
            rest = pattern.sub(" ", rest)
        answers += [None if self._is_of(match[1]) else False for match in _OF_PROTOCOL.finditer(rest)]
        if _LOOPBACK.search(rest):
            answers.append(False)
        elif rest.strip():
            answers.append(None)
        return _Rule(False if False in answers else None if None in answers else True, any(named), verdict)

    def _is_of(self, word: str) -> bool:
        return PROTOCOLS.get("ipv6-icmp" if word == "icmpv6" else word) == self._number

    def _port_key(self, match: re.Match[str]) -> str:
        if not self._packet.port or (match[1] != "th" and not self._is_of(match[1])):
            return ""
        return _verdict_of(match[2], lambda key: bool(self._within(key, self._packet.port)))

    def _state_key(self, match: re.Match[str]) -> str:
        def fits(key: str) -> bool:
            return any(_number(found[1]) & self._state for found in _NUMBERS.finditer(key))

        return _verdict_of(match[1], fits)

    def _is_port(self, match: re.Match[str], named: list[bool]) -> Optional[bool]:
        if not self._packet.port or (match[1] != "th" and not self._is_of(match[1])):
            return False
        within = self._within(match[3], self._packet.port)
        named.append(bool(within) and not match[2])
        return within if within is None else within is not bool(match[2])

    def _is_protocol(self, match: re.Match[str], named: list[bool]) -> Optional[bool]:
        within = self._within(match[2], self._number)
        named.append(bool(within) and not match[1] and not self._packet.port)
        return within if within is None else within is not bool(match[1])

    def _is_echo(self, match: re.Match[str]) -> Optional[bool]:
        if not self._is_of(match[1]):
            return False
        return self._within(match[3], _ECHO_REQUESTS[self._number]) is not bool(match[2])

    def _within(self, values: str, number: int, bits: bool = False) -> Optional[bool]:
        """Whether the number is one of the values; None for those of a set that is not in the table."""
        if values.startswith("@"):
            if values[1:] not in self._sets:
                return None
            values = self._sets[values[1:]]
        for match in _NUMBERS.finditer(values):
            first = _number(match[1])
            last = _number(match[2]) if match[2] else first
            if (bits and first & number) or (not bits and first <= number <= last):
                return True
        return False


def _number(text: str) -> int:
    return int(text, 16 if text.startswith("0x") else 10)


def _without_comment(text: str) -> str:
    return re.sub(r'\s*comment ""$', "", text)


def _verdict_of(elements: str, fits: Callable[[str], bool]) -> str:
    for element in elements.split(","):
        key, colon, verdict = element.partition(" : ")
        if colon and fits(key):
            return verdict.strip()
    return ""


def drops_in(family: str, table: str, text: str, packets: Iterable[Packet]) -> list[Drop]:
    """Where a table as ``nft -nn list table`` prints it drops each of the packets."""
    chains, sets = read_table(text)
    found = []
    for packet in packets:
        for base in chains.values():
            if base.hook not in _HOOKS or (base.hook == FORWARDED and packet.protocol != "tcp"):
                continue
            end = Walk(chains, sets, packet).through(base)
            if end is not None:
                chain, rule, sure = end
                found.append(Drop(packet, f"{family} {table} {chain}", base.hook, rule, sure))
    return found


def foreign_drops(host: Host, packets: Sequence[Packet]) -> list[Drop]:
    """Where the host's tables of others drop each of the packets, as far as its programs can list them."""
    program = find_program("nft")
    found: list[Drop] = []
    for (family, name), table in sorted(host.tables("").items()):
        if program is None or _is_of_a_plan(table.comment):
            continue
        code, output, _errors = host.run_command([program, "-nn", "list", "table", family, name])
        if code == 0 and len(output) <= _LARGEST:
            found += drops_in(family, name, output, packets)
    for family, (names, command) in _LEGACY.items():
        program = find_program(command) if (read_text(names) or "").strip() else None
        code, output, _errors = host.run_command([program]) if program is not None else (1, "", "")
        if code == 0 and len(output) <= _LARGEST:
            for name, text in as_nft(output).items():
                found += drops_in(family, f"{name} of iptables-legacy", text, packets)
    return found


def _is_of_a_plan(comment: str) -> bool:
    project = project_of(comment)
    return project is not None and is_pruned(role_of(comment, project))
