# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Where ours is deliberately not as Docker 20.10, and what is expected where 20.10 does not know an option.

A difference that is not here fails a test; an entry that does not occur in each of its scenarios fails one too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from matrix import Row

FAILURES = ("refused", "closed", "unreachable", "silent")
NOTHING = (*FAILURES, "nothing", "NXDOMAIN", "SERVFAIL", "REFUSED")

PORTS4 = ("default", "noicc", "two", "ports", "range", "nomasq", "static")
"""Scenarios that publish a port of an IPv4 network at all addresses."""
PORTS6 = ("noicc6", "dual", "apart")
ALL = (*PORTS4, *PORTS6)
NO_ICC = ("noicc", "noicc6")
LOCAL = ("loopback", "binding")


def plain(outcome: str) -> str:
    """The outcome as it is compared: however nobody answers, nobody answers."""
    return "no" if outcome in NOTHING else outcome


@dataclass(frozen=True)
class Known:
    """Rows whose source, target and outcomes fit the patterns may differ, in these scenarios, for this reason."""

    what: str
    reason: str
    scenarios: Sequence[str]
    source: str
    target: str
    docker: str
    ours: str

    def fits(self, row: Row, docker: str, ours: str) -> bool:
        """Whether the difference is this one; ``{source}`` in a pattern is whoever calls."""
        pairs = ((self.source, row[0]), (self.target, row[1]), (self.docker, docker), (self.ours, ours))
        return all(_fits(pattern, row[0], text) for pattern, text in pairs)


def _fits(pattern: str, source: str, text: str) -> bool:
    return any(fnmatchcase(text, one.replace("{source}", source)) for one in pattern.split("|"))


_PROXY = (
    "Docker's proxy calls in the caller's place, and hides who it was; here callers keep their addresses (moby#46026)"
)
_DIRECT = "until 28.0 Docker let the neighbours of a host in (moby#45610)"
_UDP = "Docker's proxy answers from the address nearest to the caller and not from the one that was called (moby#11998)"
_ELSEWHERE = "host:*|second:*|gateway:*"

REACHED = (
    Known("a box on another network calls a published port", _PROXY, (*ALL, "second"),
          "stranger|apart?", "*:* tcp?", "* hears gateway", "* hears {source}"),
    Known("the same over UDP, at the one address that the port is published at", _PROXY, ("second",),
          "stranger", "second:* udp4", "* hears gateway", "* hears stranger"),
    Known("a box on another network calls a published port over UDP", _UDP, ALL,
          "stranger|apart?", "*:* udp?", "no", "* hears {source}"),
    Known("a box on the same network, or the box itself, calls a published port over UDP", _UDP,
          ("default", "two", "ports", "range", "nomasq", "static", "dual", "apart"),
          "*[1-9]|two-*", "host:* udp?|second:* udp?", "no", "* hears gateway"),
    Known("an IPv4 network's port is published at the host's IPv6 address",
          "only a proxy carries IPv6 to IPv4, and it hides who calls", PORTS4,
          "host|neighbour|stranger", "host:* ???6|loopback:* ???6", "* hears gateway", "no"),
    Known("the host calls a published port at ::1",
          "the kernel has no way back from a destination that was ::1; localhost is 127.0.0.1 as well", PORTS6,
          "host", "loopback:* ???6", "* hears gateway", "no"),
    Known("a neighbour with a route reaches the box behind a published port itself", _DIRECT, (*ALL, *LOCAL, "second"),
          "neighbour", "* open *", "* hears neighbour", "no"),
    Known("a neighbour with a route reaches ports published at the bridge's own address",
          "the bridge's address belongs to its network: from outside, ports are at the host's", ALL,
          "neighbour", "gateway:* *", "* hears neighbour", "no"),
    Known("a neighbour reaches the host's 127.0.0.1", _DIRECT, (*ALL, *LOCAL),
          "neighbour", "loopback:* *", "* hears neighbour", "no"),
    Known("a network without ICC is crossed by way of the host",
          "Docker's rules drop that too, its proxy does not; without ICC means without", NO_ICC,
          "noicc*", f"{_ELSEWHERE}", "* hears gateway", "no"),
    Known("a box that has no way out calls the host at its address on the segment",
          "20.10 gives it a default route, 25.0 does not any more (moby#46603)", ("internal", "two", "dual-internal"),
          "internal?|two-back|shut?", "service*", "service hears {source}", "no"),
    Known("boxes on an internal network reach each other over IPv6",
          "20.10's rules drop their neighbour discovery (moby#45460)", ("dual-internal",),
          "shut?", "shut? open ???6", "no", "* hears {source}"),
)  # fmt: skip

RESOLVED = (
    Known("names on the default bridge",
          "Docker has them on networks of one's own only; here every sandbox has the resolver", ("default",),
          "default?", "*", "no", "default1*|default2*"),
    Known("a name's addresses on several networks one shares with it",
          "Docker says those on the first network, ours say all", ("two",),
          "two-both", "A two-both|A TWO-BOTH", "two-both", "two-both two-both"),
)  # fmt: skip


Expected = Sequence[tuple[str, str, str]]
"""Source, target and outcome as patterns; the first that fits source and target holds."""

_WAYS: Expected = (
    ("stranger", "service*", "service hears stranger"),
    ("stranger", "outside*", "outside hears host"),
)

EXPECTED: Mapping[str, Expected] = {
    # Ports and ICMP are open at the boxes' own addresses, there is no translation in either direction.
    "routed": (
        *_WAYS,
        ("host", "routed? open*", "routed? hears gateway"),
        ("routed?", "routed? open*", "routed? hears {source}"),
        ("stranger|neighbour", "routed1 open*", "routed1 hears {source}"),
        ("routed?", "service*", "service hears {source}"),
        ("routed?", "outside*", "outside hears {source}"),
        ("*", "*", "no"),
    ),
    # Translated, but whoever has a route reaches every port.
    "unprotected": (
        *_WAYS,
        ("host", "unprot? open*", "unprot? hears gateway"),
        ("*", "unprot? open*", "unprot? hears {source}"),
        ("*", "* ???6", "no"),
        ("neighbour", "loopback*", "no"),
        ("host", "host:*|second:*", "unprot1 hears host|unprot1 hears second|unprot1 hears gateway"),
        ("host|unprot?", "*:*", "unprot1 hears gateway"),
        ("stranger|neighbour", "*:*", "unprot1 hears {source}"),
        ("unprot?", "service*", "service hears {source}"),
        ("unprot?", "outside*", "outside hears host"),
        ("*", "*", "no"),
    ),
    # The host has no address there, and is not reached nor reaches.
    "isolated": (
        ("stranger", "service at*", "no"),
        *_WAYS,
        ("isolated?", "isolated? open*", "isolated? hears {source}"),
        ("*", "*", "no"),
    ),
}


def unexpected(expected: Expected, outcomes: Mapping[Row, str]) -> list[str]:
    """Rows that are not as expected, as sentences."""
    found = []
    for (source, target), outcome in outcomes.items():
        wanted = next(
            outcome for who, what, outcome in expected if _fits(who, source, source) and _fits(what, source, target)
        )
        if not _fits(wanted, source, plain(outcome)):
            found.append(f"{source} to {target}: {outcome}, wanted {wanted.replace('{source}', source)}")
    return found


def differences(docker: Mapping[Row, str], ours: Mapping[Row, str]) -> dict[Row, tuple[str, str]]:
    """Rows whose outcomes are not the same, Docker's first."""
    rows = {**docker, **ours}
    both = {row: (docker.get(row, "not tried"), ours.get(row, "not tried")) for row in rows}
    return {row: pair for row, pair in both.items() if plain(pair[0]) != plain(pair[1])}


def unknown(known: Sequence[Known], scenario: str, found: Mapping[Row, tuple[str, str]]) -> list[str]:
    """Differences that no entry explains, as sentences."""
    entries = [entry for entry in known if scenario in entry.scenarios]
    return [
        f"{row[0]} to {row[1]}: Docker {docker}, ours {ours}"
        for row, (docker, ours) in found.items()
        if not any(entry.fits(row, plain(docker), plain(ours)) for entry in entries)
    ]


def missing(known: Known, found: Mapping[Row, tuple[str, str]]) -> bool:
    """Whether the entry explains none of the differences."""
    return not any(known.fits(row, plain(docker), plain(ours)) for row, (docker, ours) in found.items())
