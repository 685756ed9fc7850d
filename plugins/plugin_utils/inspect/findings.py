# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `verify` found on the hosts, with names: who missed whom, and how often who was tried.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Optional

from .ends import SANDBOX, End, Ends, PeerIndex
from .model import Model
from .verification import Check, checks_of

Box = tuple[str, str]
"""A sandbox: its host and its name."""


class Miss(NamedTuple):
    """A failed check of a host, with whom it was about, if that is known."""

    host: str
    sandbox: str
    """``host`` for the host's own checks."""
    check: str
    target: str
    wanted: str
    found: str
    kinds: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    """Of a difference from the plan: the kinds of objects that differ, and whose entries in a link's tables."""
    end: Optional[End] = None
    tunnel: str = ""
    """What should have carried it to another host, as `Ends.tunnel` says."""

    @property
    def source(self) -> Box:
        return self.host, self.sandbox

    @property
    def other(self) -> Optional[Box]:
        """The other sandbox, if it was about one."""
        return (self.end.host, self.end.name) if self.end is not None and self.end.kind == SANDBOX else None

    @property
    def hosts(self) -> frozenset[str]:
        """The two hosts, if it was about a sandbox that is reached by a tunnel; else none."""
        return frozenset((self.host, self.end.host)) if self.tunnel and self.end is not None else frozenset()


class Drop(NamedTuple):
    """Where others' rules drop a packet on a host."""

    packet: str
    """``udp 4789``, ``esp``, ``icmp``."""
    chain: str
    hook: str
    rule: str
    sure: bool


@dataclass(frozen=True)
class Findings:
    """What one host found."""

    host: str
    ends: Ends
    model: Model
    peers: Sequence[PeerIndex]
    pairs: int
    """The plan that it was asked about, and how many pairs it was to try; see `checks_of`."""
    misses: tuple[Miss, ...] = ()
    unproven: tuple[Miss, ...] = ()
    """Checks that could not be made."""
    drops: tuple[Drop, ...] = ()
    silent: frozenset[str] = frozenset()
    """VTEPs of other hosts that did not answer an echo request of this host."""
    neighbours: int = 0
    """How many entries its neighbour table may have."""
    counts: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def checks(self) -> Sequence[Check]:
        """What it tried: not derived once more unless something failed."""
        return checks_of(self.model, self.pairs, [index.table for index in self.peers], self.host)

    @property
    def sandboxes(self) -> int:
        """How many sandboxes were tried."""
        return sum(1 for sandbox in self.model["sandboxes"].values() if sandbox["endpoints"])


def findings_of(host: str, model: Model, peers: Sequence[PeerIndex], pairs: int, answer: Mapping[str, Any]) -> Findings:
    """Read the answer of a host, which `reports.answers` has admitted, by the plan that it was asked about."""
    ends = Ends(host, model, peers)
    return Findings(
        host,
        ends,
        model,
        peers,
        pairs,
        tuple(_miss(host, ends, item) for item in answer.get("misses", ())),
        tuple(_miss(host, ends, item) for item in answer.get("unproven", ())),
        tuple(Drop(**item) for item in answer.get("drops", ())),
        frozenset(answer.get("silent", ())),
        answer.get("neighbours", 0),
        answer.get("counts", {}),
    )


def _miss(host: str, ends: Ends, item: Mapping[str, Any]) -> Miss:
    end = None
    if item["check"] in ("reach", "refuse", "mtu"):
        end = ends.at(item["sandbox"], item["target"])
    elif item["check"] == "connect":
        end = ends.host_at(item["target"].partition(" ")[0])
    crosses = end is not None and end.kind == SANDBOX and end.host != host
    tunnel = ends.tunnel(end.network) if end is not None and crosses else ""
    told = {key: item[key] for key in ("sandbox", "check", "target", "wanted", "found")}
    kinds, entries = tuple(item.get("kinds", ())), tuple(item.get("entries", ()))
    return Miss(host, **told, kinds=kinds, entries=entries, end=end, tunnel=tunnel)


class Tried:
    """How many sandboxes were tried, from where and to where."""

    def __init__(self, findings: Iterable[Findings]) -> None:
        self._findings = list(findings)

    @cached_property
    def _reached(self) -> list[tuple[Box, End, bool]]:
        """From where, to whom, and whether by a tunnel."""
        return [
            ((item.host, check["sandbox"]), end, end.host != item.host and bool(item.ends.tunnel(end.network)))
            for item in self._findings
            for check in item.checks
            for target in check.get("reach", ())
            if (end := item.ends.at(check["sandbox"], target)) is not None
        ]

    @cached_property
    def between(self) -> Counter[frozenset[str]]:
        """By pair of hosts, either way, by tunnels."""
        return Counter(
            frozenset((source[0], end.host))
            for source, end, by_tunnel in self._reached
            if end.kind == SANDBOX and by_tunnel
        )

    @cached_property
    def at(self) -> Counter[Box]:
        """By sandbox, those that it tried and those that tried it."""
        result: Counter[Box] = Counter(source for source, _end, _tunnel in self._reached)
        result.update((end.host, end.name) for _source, end, _tunnel in self._reached if end.kind == SANDBOX)
        return result
