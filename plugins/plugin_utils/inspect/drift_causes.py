# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which failed checks follow from what differs from the plan on a host.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..declaration.ingress import SANDBOX as INGRESS
from .case import SITE, Case, Cause, few
from .findings import Box, Miss
from .health import natural

_IN_SANDBOX = re.compile(r"(?:network (\S+) in |applications in )?sandbox (\S+)")
"""Names of parts of a plan, as `hostd.restore` of the host half gives them."""
_NETWORK = re.compile(r"network (\S+)")
_TABLES = {"fdb": "forwarding entries", "neighbour": "neighbour entries"}
_NAMES = {"resolver", "file", "names"}
_UNAVAILABLE = "is unavailable"
_OF_A_WHOLE_HOST = {"nftables", "rule", "sysctl", "xfrm", "frr"}


def without_plan(case: Case) -> Iterator[Cause]:
    """Hosts that have another plan than the variables give."""
    for host in dict.fromkeys(miss.host for miss in case.of("plan") if miss.kinds == ("plan",)):
        found = case.take(miss for miss in case.left if miss.host == host or _touches(miss, host))
        text = f"{host} does not have the plan of the present variables"
        yield Cause(text, found, "", "ansible-playbook cnm.fabric.site brings it there", frozenset({host}))


def as_not_planned(case: Case) -> Iterator[Cause]:
    """What differs, of single sandboxes first; what is alike in many sandboxes of a host is one cause."""
    groups: dict[tuple[str, ...], list[Miss]] = {}
    for miss in sorted(case.of("plan"), key=lambda miss: (_width(miss), miss.host, natural(miss.target))):
        groups.setdefault((miss.host, _renamed(miss.target, miss, "*"), _renamed(miss.found, miss, "*")), []).append(
            miss
        )
    for (host, *_which), alike in groups.items():
        explained = case.take([*alike, *_following(case, host, alike)])
        remedy = SITE.format(host)
        if alike[0].found.startswith(_UNAVAILABLE):
            remedy = f"make its namespace usable; then {remedy}"
        yield Cause(f"{host}: {_text(case, host, alike)}", explained, "", remedy, frozenset({host}))


def _width(miss: Miss) -> int:
    return 0 if _IN_SANDBOX.fullmatch(miss.target) else 1 if _NETWORK.fullmatch(miss.target) else 2


def _renamed(text: str, miss: Miss, name: str) -> str:
    """The text with another name instead of that of the sandbox that differs."""
    part = _IN_SANDBOX.fullmatch(miss.target)
    return re.sub(rf"(?<!\S){re.escape(part[2])}(?!\S)", lambda _found: name, text) if part is not None else text


def _text(case: Case, host: str, alike: Sequence[Miss]) -> str:
    first = alike[0]
    parts = [found for miss in alike if (found := _IN_SANDBOX.fullmatch(miss.target)) is not None]
    names, many = few(part[2] for part in parts), len(parts) > 1
    if parts and first.kinds == ("resolver",) and first.found.endswith("(not running)"):
        return f"the resolver{'s' if many else ''} of {names} {'do' if many else 'does'} not run"
    network = _NETWORK.fullmatch(first.target)
    if network is not None and first.entries and set(first.kinds) <= _TABLES.keys():
        what = " and ".join(_TABLES[kind] for kind in first.kinds)
        whose = few(case.findings[host].ends.owners(network[1], set(first.entries)))
        return f"{what} of {whose or few(first.entries)} on {first.target} (not as planned)"
    told = f"{first.target} {first.found}" if first.found.startswith(_UNAVAILABLE) else first.found
    return _renamed(told, first, names).replace(f"sandbox {names}", f"sandboxes {names}") if many else told


def _touches(miss: Miss, host: str) -> bool:
    return miss.end is not None and miss.end.host == host


def _following(case: Case, host: str, alike: Sequence[Miss]) -> Iterator[Miss]:
    """The misses that follow from differences of the same kinds on a host."""
    first, kinds = alike[0], set(alike[0].kinds)
    parts = [found for miss in alike if (found := _IN_SANDBOX.fullmatch(miss.target)) is not None]
    boxes = {(host, part[2]) for part in parts}
    network = _NETWORK.fullmatch(first.target)
    for miss in case.left:
        if miss.check in ("plan", "parent") or not (miss.host == host or _touches(miss, host)):
            continue
        if parts:
            follows = _follows_in_sandbox(miss, boxes, kinds)
        elif network is not None:
            follows = _follows_on_network(case, miss, first, network[1])
        elif kinds <= {"file", "names"}:
            follows = miss.check == "resolve"
        else:
            follows = bool(kinds & _OF_A_WHOLE_HOST)
        if follows:
            yield miss


def _follows_in_sandbox(miss: Miss, boxes: set[Box], kinds: set[str]) -> bool:
    if miss.check == "connect":
        return miss.end is not None and (miss.end.host, INGRESS) in boxes
    if kinds <= _NAMES:
        return miss.check == "resolve" and miss.source in boxes
    if kinds == {"route"}:
        return miss.check in ("egress", "reach", "mtu") and miss.source in boxes
    return miss.source in boxes or miss.other in boxes


def _follows_on_network(case: Case, miss: Miss, drift: Miss, network: str) -> bool:
    if miss.end is None or miss.end.network != network:
        return False
    if not set(drift.kinds) <= _TABLES.keys() or not drift.entries:
        return miss.check in ("reach", "mtu", "refuse")
    there = miss.other if miss.host == drift.host else miss.source
    return there is not None and bool(case.findings[drift.host].ends.marks(there[1], network) & set(drift.entries))
