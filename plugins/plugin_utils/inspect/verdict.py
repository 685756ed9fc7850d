# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `verify` found, as lines: one if all is well, else the causes first, what to do, what they explain.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...module_utils.plan.records import dataclass
from ..forms import printable
from ..shown import FULL, QUIET, Shown
from .case import Cause, few
from .causes import causes_of
from .ends import GATEWAY
from .findings import Findings, Miss
from .health import counted

_LONGEST, _MOST = 300, 4
_MOST_CAUSES = 20
"""Those that explain most come first."""


@dataclass(frozen=True)
class Verdict:
    """The result for all hosts together."""

    causes: tuple[Cause, ...]
    summary: str
    """One sentence: ``12 sandboxes on 3 hosts: 214 checks, no miss``."""
    warnings: tuple[str, ...]
    """Of checks that could not be made."""
    lines: tuple[str, ...]
    """The causes; the summary if there are none."""

    @property
    def failed(self) -> bool:
        return bool(self.causes)


def judge(findings: Mapping[str, Findings], unasked: Mapping[str, str], shown: Shown) -> Verdict:
    """Explain what the hosts found; ``unasked`` are those that gave no answer, and why."""
    causes = tuple(causes_of(findings, unasked))
    summary = _summary(findings, causes)
    told = [cause for cause in causes if shown.includes(*_names_in(cause))]
    more = len(told) - _MOST_CAUSES if shown.level != FULL else 0
    lines = [line for cause in told[: len(told) - max(0, more)] for line in _cause_lines(cause, shown.level)]
    if more > 0:
        lines.append(f"and {counted(more, 'more cause')}: -e cnm_show=full prints them all")
    if shown.level == FULL:
        lines += _by_sandbox(findings, shown)
    if not causes and shown.level != QUIET:
        lines.append(summary)
    warnings = tuple(printable(text, _LONGEST) for text in _unproven(findings))
    return Verdict(causes, summary, warnings, tuple(printable(line, _LONGEST) for line in lines))


def _summary(findings: Mapping[str, Findings], causes: Sequence[Cause]) -> str:
    boxes = sum(item.sandboxes for item in findings.values())
    checks = sum(sum(item.counts.values()) for item in findings.values())
    where = f"{counted(boxes, 'sandbox')} on {counted(len(findings), 'host')}"
    where += f": {counted(checks, 'check')}"
    unproven = sum(len(item.unproven) for item in findings.values())
    where += f", of which {unproven} could not be made" if unproven else ""
    if not causes:
        return f"{where}, no miss"
    misses = [miss for item in findings.values() for miss in item.misses]
    drift = sum(1 for miss in misses if miss.check == "plan")
    where += f", {counted(len(misses) - drift, 'miss')}"
    where += f", {counted(drift, 'difference')} from the plan" if drift else ""
    return f"{where}; {counted(len(causes), 'cause')}"


def _names_in(cause: Cause) -> Iterator[str]:
    yield from cause.hosts
    for miss in cause.misses:
        yield miss.sandbox
        if miss.end is not None:
            yield from (miss.end.name, miss.end.network)
        if miss.check == "plan":
            yield from miss.target.split()


def _cause_lines(cause: Cause, level: str) -> Iterator[str]:
    yield cause.text
    if level == QUIET:
        return
    if cause.evidence:
        yield f"    {cause.evidence}"
    if cause.remedy:
        yield f"    do: {cause.remedy}"
    others = [miss for miss in cause.misses if miss.check != "plan"]
    if others:
        yield f"    explains {counted(len(others), 'miss')}: {_in_short(others)}"
    if level == FULL:
        yield from (f"      {_sentence(miss)}" for miss in cause.misses)


def _in_short(misses: Iterable[Miss]) -> str:
    """``c1 ↔ c3 and c2 → c3; c1 asks for web``."""
    ways: dict[tuple[str, str], str] = {}
    others: dict[tuple[str, str], list[str]] = {}
    for miss in misses:
        if miss.end is not None and miss.check in ("reach", "mtu", "refuse"):
            there = f"the gateway of {miss.end.name}" if miss.end.kind == GATEWAY else miss.end.name
            back = (there, miss.sandbox)
            ways[back if back in ways else (miss.sandbox, there)] = "↔" if back in ways else "→"
        else:
            before, name, after = _clause(miss)
            others.setdefault((before, after), []).append(name)
    found = [few((f"{one} {arrow} {other}" for (one, other), arrow in ways.items()), _MOST)] if ways else []
    found += [f"{before}{few(names, _MOST)}{after}" for (before, after), names in others.items()]
    return "; ".join(found[:_MOST]) + (f"; and {len(found) - _MOST} more" if len(found) > _MOST else "")


def _clause(miss: Miss) -> tuple[str, str, str]:
    """What comes before a name that misses alike are told with, the name, and what comes after it."""
    if miss.check == "resolve":
        return f"{miss.sandbox} asks for ", miss.target, ""
    if miss.check == "egress":
        family = miss.target.rpartition(" ")[2]
        return f"{'no' if miss.found == 'none' else 'a'} default route for {family} in ", miss.sandbox, ""
    if miss.check == "connect":
        return "", miss.host, f" → {miss.end.host if miss.end else ''} tcp {miss.target.rpartition(' ')[2]}"
    return f"{miss.target}: {miss.found} in ", miss.sandbox, ""


def _sentence(miss: Miss) -> str:
    """A single miss, with names and addresses."""
    where = miss.host if miss.sandbox == "host" else f"{miss.host} {miss.sandbox}"
    end = miss.end
    whom = "" if end is None else f" ({end.name}{f' on {end.host}' if end.host and end.host != miss.host else ''})"
    return f"{where}: {miss.check} {miss.target}{whom}: wanted {miss.wanted}, found {miss.found}"


def _by_sandbox(findings: Mapping[str, Findings], shown: Shown) -> Iterator[str]:
    for item in findings.values():
        missed = Counter(miss.sandbox for miss in item.misses)
        for check in item.checks:
            name = check["sandbox"]
            if not shown.includes(item.host, name, *item.ends.networks_of(name)):
                continue
            count = missed[name or "host"]
            result = counted(count, "miss") if count else "ok"
            if name:
                tried = f"{len(check['reach'])} reached, {len(check['refuse'])} refused, {len(check['names'])} names"
                yield f"{item.host} {name}: {result} ({tried})"
            elif check["connect"]:
                yield f"{item.host}: {result} ({len(check['connect'])} ports of hosts)"


def _unproven(findings: Mapping[str, Findings]) -> Iterator[str]:
    for item in findings.values():
        if item.unproven:
            names = few({miss.sandbox for miss in item.unproven})
            yield (
                f"{item.host}: {counted(len(item.unproven), 'check')} of {names} could not be made: the kernel's "
                f"neighbour table, of {item.neighbours} entries for all its network namespaces, was full. Raise "
                "net.ipv4.neigh.default.gc_thresh3 (and net.ipv6's) on the host whose kernel it is"
            )
