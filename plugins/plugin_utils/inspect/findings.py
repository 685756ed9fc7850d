# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `verify` found on the hosts, with names: who missed whom, and how often who was tried.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, NamedTuple, Optional

from ...module_utils.plan.records import dataclass
from ..declaration.ingress import SANDBOX as INGRESS
from .ends import SANDBOX, End, Ends, PeerIndex
from .model import Model, ServiceModel
from .verification import Check, checks_of

Box = tuple[str, str]
"""A sandbox: its host and its name."""

_MOST = 2000
"""How many differences from the plan a host can tell of: each is compared with each miss that is left."""
_WAYS_OUT = ("outside over IPv4", "outside over IPv6")


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


class Asked:
    """What a host was asked to try: what follows from its plan, with as many pairs as `checks_of` says."""

    def __init__(self, host: str, model: Model, peers: Sequence[PeerIndex], pairs: int) -> None:
        self._host, self._model, self._peers, self._pairs = host, model, peers, pairs

    @cached_property
    def checks(self) -> Sequence[Check]:
        """As `checks_of` gives them."""
        return checks_of(self._model, self._pairs, [index.table for index in self._peers], self._host)

    @property
    def services(self) -> Mapping[str, ServiceModel]:
        """What it knows of services."""
        return self._model.get("services", {})

    @property
    def sandboxes(self) -> int:
        """How many sandboxes it was to try, without that of the ingress mesh."""
        return sum(1 for name, box in self._model["sandboxes"].items() if box["endpoints"] and name != INGRESS)

    def is_about(self, sandbox: str, check: str, target: str) -> bool:
        """Whether a miss can be of one of the checks; those of the host itself are of the sandbox ``host``."""
        return target in self._targets.get(sandbox, {}).get(check, ())

    @cached_property
    def _targets(self) -> Mapping[str, Mapping[str, Collection[str]]]:
        result: dict[str, dict[str, Collection[str]]] = {"host": {}}
        for check in self.checks:
            name = check["sandbox"]
            if name:
                own = {"reach": set(check["reach"]), "refuse": set(check["refuse"]), "resolve": check["names"]}
                own["policy"] = {f"{address} tcp {port}" for address, port in check.get("allowed", ())}
                own.update(mtu=own["reach"], sandbox=(name,), egress=_WAYS_OUT)
                result.setdefault(name, {}).update(own)
            else:
                result["host"]["connect"] = {f"{address} tcp {port}" for address, port in check["connect"]}
        return result


@dataclass(frozen=True)
class Findings:
    """What one host found."""

    host: str
    ends: Ends
    asked: Asked
    misses: tuple[Miss, ...] = ()
    unproven: tuple[Miss, ...] = ()
    """Checks that could not be made."""
    drops: tuple[Drop, ...] = ()
    silent: frozenset[str] = frozenset()
    """VTEPs of other hosts that did not answer an echo request of this host."""
    neighbours: int = 0
    """How many entries its neighbour table may have."""
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def checks(self) -> Sequence[Check]:
        """What it tried: not derived once more unless something failed."""
        return self.asked.checks

    @property
    def services(self) -> Mapping[str, ServiceModel]:
        """The services that its sandboxes or its ports have to do with."""
        return self.asked.services

    @property
    def sandboxes(self) -> int:
        """How many sandboxes were tried."""
        return self.asked.sandboxes


def findings_of(host: str, model: Model, peers: Sequence[PeerIndex], pairs: int, answer: Mapping[str, Any]) -> Findings:
    """Read the answer of a host, which `reports.answers` has admitted, by the plan that it was asked about."""
    ends, asked = Ends(host, model, peers), Asked(host, model, peers, pairs)
    return Findings(
        host,
        ends,
        asked,
        _misses(host, ends, asked, answer.get("misses", ())),
        _misses(host, ends, asked, answer.get("unproven", ())),
        tuple(Drop(**item) for item in answer.get("drops", ())),
        frozenset(answer.get("silent", ())),
        answer.get("neighbours", 0),
        answer.get("counts", {}),
    )


def _misses(host: str, ends: Ends, asked: Asked, answer: Iterable[Mapping[str, Any]]) -> tuple[Miss, ...]:
    """The misses of an answer: one of each check that was asked for, and `_MOST` others at most.

    What a host was not asked to try says nothing of other hosts.
    """
    tried: dict[tuple[str, str, str], Miss] = {}
    others: dict[Miss, None] = {}
    for item in answer:
        key = item["sandbox"], item["check"], item["target"]
        if asked.is_about(*key):
            tried.setdefault(key, _miss(host, ends, item, _end(ends, *key)))
        else:
            others[_miss(host, ends, item, None)] = None
    told, more = [*tried.values(), *others][: len(tried) + _MOST], len(others) - _MOST
    if more > 0:
        told.append(Miss(host, "host", "plan", "host", "as planned", f"{more} more differences"))
    return tuple(told)


def _end(ends: Ends, sandbox: str, check: str, target: str) -> Optional[End]:
    if check in ("reach", "refuse", "mtu"):
        return ends.at(sandbox, target)
    return ends.host_at(target.partition(" ")[0]) if check == "connect" else None


def _miss(host: str, ends: Ends, item: Mapping[str, Any], end: Optional[End]) -> Miss:
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
