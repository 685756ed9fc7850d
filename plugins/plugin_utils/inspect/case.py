# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What explanations of failed checks work on: the misses left to explain, and who was tried.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Optional

from ...module_utils.plan.records import dataclass
from .findings import Box, Drop, Findings, Miss, Tried
from .health import natural

SITE = "ansible-playbook cnm.fabric.site --limit {} repairs it"
_FEW = 3


@dataclass(frozen=True)
class Cause:
    """Why checks failed: what is wrong, the evidence, what to do, and the misses that it explains."""

    text: str
    misses: tuple[Miss, ...] = ()
    evidence: str = ""
    remedy: str = ""
    hosts: frozenset[str] = frozenset()


def few(names: Iterable[str], most: int = _FEW) -> str:
    """Names in order, the first few of them: ``c1, c2, c3 and 4 more``."""
    found = sorted(set(names), key=natural)
    if len(found) <= most:
        return " and ".join(filter(None, (", ".join(found[:-1]), found[-1]))) if found else ""
    return f"{', '.join(found[:most])} and {len(found) - most} more"


def packet_words(drop: Drop) -> str:
    """``UDP 4789``."""
    protocol, _space, port = drop.packet.partition(" ")
    return f"{protocol.upper()} {port}".strip()


class Case:
    """The misses that are not explained yet; each explanation takes those that it explains."""

    def __init__(self, findings: Mapping[str, Findings], unasked: Mapping[str, str]) -> None:
        self.findings = findings
        self.unasked = unasked
        self.left = [miss for item in findings.values() for miss in item.misses]
        self.crossing = [miss for miss in self.left if miss.check == "reach" and miss.hosts]
        """All misses between hosts, explained or not."""
        self.tried = Tried(findings.values())

    def take(self, misses: Iterable[Miss]) -> tuple[Miss, ...]:
        """Explain these; returns them."""
        found = tuple(misses)
        if found:
            explained = set(found)
            self.left = [miss for miss in self.left if miss not in explained]
        return found

    def of(self, *checks: str) -> list[Miss]:
        """Those left of these checks."""
        return [miss for miss in self.left if miss.check in checks]

    def grouped(self, check: str, key: Callable[[Miss], Hashable]) -> Iterator[tuple[Miss, ...]]:
        """Take the misses left of a check that have a key, in groups of the same one."""
        groups: dict[Hashable, list[Miss]] = {}
        for miss in self.of(check):
            if found := key(miss):
                groups.setdefault(found, []).append(miss)
        self.take(miss for group in groups.values() for miss in group)
        yield from map(tuple, groups.values())

    @cached_property
    def dead_pairs(self) -> frozenset[frozenset[str]]:
        """Pairs of hosts between which nothing arrived that was tried."""
        missed = Counter(miss.hosts for miss in self.crossing)
        return frozenset(pair for pair, number in missed.items() if number >= self.tried.between[pair])

    @cached_property
    def _partners(self) -> Mapping[str, set[str]]:
        result: dict[str, set[str]] = {}
        for pair in self.tried.between:
            for name in pair:
                result.setdefault(name, set()).update(pair - {name})
        return result

    def partners(self, host: str) -> set[str]:
        """The hosts that were tried from a host or tried it."""
        return self._partners.get(host, set())

    def vtep(self, host: str) -> str:
        """The VTEP of a host; "" if it has none."""
        return next(filter(None, (item.ends.vtep_of(host) for item in self.findings.values())), "")

    def who_misses_a_ping(self, host: str) -> list[str]:
        """The hosts whose own echo requests its VTEP did not answer."""
        address = self.vtep(host)
        return [name for name, item in self.findings.items() if address and address in item.silent]

    @cached_property
    def tasks(self) -> Mapping[str, set[Box]]:
        """The tasks of each service, on all hosts."""
        result: dict[str, set[Box]] = {}
        for host, item in self.findings.items():
            for name, service in item.services.items():
                result.setdefault(name, set()).update((host, task) for task in service["tasks"])
        return result

    @cached_property
    def services_at(self) -> Mapping[str, set[str]]:
        """The services that publish a port, by the first of its numbers, as text."""
        result: dict[str, set[str]] = {}
        for item in self.findings.values():
            for name, service in item.services.items():
                for port in service["ports"]:
                    result.setdefault(str(port["published"][0]), set()).add(name)
        return result

    def drop(self, host: str, *packets: str, forwarded: bool = False) -> Optional[Drop]:
        """The first rule of a host that drops one of the packets (``esp``, ``udp`` for any port, ``tcp 3000``).

        A sure one if there is any.  ``forwarded``: the packets are not for the host itself.
        """
        drops = self.findings[host].drops
        fit = [drop for drop in drops if {drop.packet, drop.packet.partition(" ")[0]} & set(packets)]
        fit = [drop for drop in fit if not (forwarded and drop.hook == "input")]
        return next((drop for drop in fit if drop.sure), next(iter(fit), None))
