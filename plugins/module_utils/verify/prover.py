# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Proves the data plane from inside the sandboxes with real echo requests, DNS queries and connections."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ..kernel.host import Host
from ..kernel.neighbour_tables import neighbour_tables
from ..plan.forms import printable
from .connect import unconnected
from .echo import answering, ways_out
from .names import resolving

Check = Mapping[str, Any]
Miss = dict[str, Any]

_AT_ONCE = 100
"""How many sandboxes are tried at once; each takes a thread, which mostly waits, and up to six descriptors."""

_FORGOTTEN_SECONDS = 6.0
"""A neighbour table that is full drops entries that have not been used for 5 seconds (``neigh_forced_gc``)."""

_PATIENCE_SECONDS = 40.0
"""After that nothing more is repeated."""

_OF_NEIGHBOURS = ("reach", "resolve")
"""Checks that fail if a neighbour table has no place; that of a resolver needs an entry of the loopback link."""


def _unconnected(targets: Sequence[Sequence[Any]]) -> list[Miss]:
    """Failures of the host's own checks; runs in the host's namespace."""
    found = unconnected([(str(target[0]), int(target[1])) for target in targets])
    return [_miss("connect", f"{address} tcp {port}", "an answer", why) for (address, port), why in found.items()]


def _misses(check: Check) -> list[Miss]:
    """Failures of a sandbox's checks; runs in its namespace."""
    echoes = answering(check["reach"], check["refuse"])
    misses = []
    for target in check["reach"]:
        if target not in echoes.small:
            misses.append(_miss("reach", target, "an answer", echoes.errors.get(target, "none")))
        elif target not in echoes.large:
            misses.append(_miss("mtu", target, "an answer to a packet as large as the MTU", "none"))
    misses += [_miss("refuse", target, "no answer", "one") for target in check["refuse"] if target in echoes.small]
    allowed = unconnected([(str(target[0]), int(target[1])) for target in check.get("allowed", ())])
    misses += [
        _miss("policy", f"{address} tcp {port}", "an answer, as policies allow it", why)
        for (address, port), why in allowed.items()
    ]
    found = ways_out()
    for version in sorted(set(found) ^ set(check["way_out"])):
        wanted, there = (
            ("a default route", "none") if version in check["way_out"] else ("no default route", "a default route")
        )
        misses.append(_miss("egress", f"outside over IPv{version}", wanted, there))
    if check["names"]:
        resolved = resolving(sorted(check["names"]))
        for name, addresses in sorted(check["names"].items()):
            if resolved.get(name) != addresses:
                answer = ", ".join(resolved.get(name, ())) or "no answer"
                misses.append(_miss("resolve", name, ", ".join(addresses), answer))
    return misses


def _miss(check: str, target: str, wanted: str, found: str) -> Miss:
    return {"check": check, "target": target, "wanted": printable(wanted), "found": printable(found)}


def _misses_in(host: Host, check: Check) -> list[Miss]:
    """Failures of a sandbox's checks, with its name."""
    try:
        found = host.run_in(check["sandbox"], _misses, check)
    except FileNotFoundError:
        found = [_miss("sandbox", check["sandbox"], "a namespace", "none")]
    except OSError as error:
        found = [_miss("sandbox", check["sandbox"], "answers", str(error))]
    return [{"sandbox": check["sandbox"], **miss} for miss in found]


def _try(host: Host, checks: Sequence[Check]) -> list[Miss]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [miss for found in pool.map(partial(_misses_in, host), checks) for miss in found]


def _refused() -> int:
    """How many entries have found no place in a neighbour table since the boot."""
    return sum(table.refused for table in neighbour_tables())


def _prove(host: Host, checks: Sequence[Check]) -> tuple[list[Miss], list[Miss]]:
    """Failures, and checks that could not be made as a neighbour table was full.

    These are repeated first, few at a time.  The table is the kernel's: others can fill it too.
    """
    deadline, before = time.monotonic() + _PATIENCE_SECONDS, _refused()
    misses = _try(host, checks)
    if _refused() == before:
        return misses, []
    result = [miss for miss in misses if miss["check"] not in _OF_NEIGHBOURS]
    unproven: list[Miss] = []
    size = min(table.size for table in neighbour_tables())
    for some in _again(checks, misses, max(1, size // 8)):
        if time.monotonic() > deadline:
            unproven += [miss for check in some for miss in misses if _is_of(miss, check)]
            continue
        time.sleep(_FORGOTTEN_SECONDS)
        before = _refused()
        found = [miss for miss in _try(host, some) if miss["check"] in (*_OF_NEIGHBOURS, "mtu")]
        (result if _refused() == before else unproven).extend(found)
    return result, unproven


def _is_of(miss: Miss, check: Check) -> bool:
    return miss["sandbox"] == check["sandbox"] and miss["check"] in _OF_NEIGHBOURS


def _again(checks: Sequence[Check], misses: Iterable[Miss], targets: int) -> Iterator[list[Check]]:
    """The checks that failed for want of neighbours, or of anything else, in groups of about ``targets``."""
    failed: dict[str, set[str]] = {}
    for miss in misses:
        if miss["check"] in _OF_NEIGHBOURS:
            failed.setdefault(miss["sandbox"], set()).add(miss["target"])
    group: list[Check] = []
    size = 0
    for check in checks:
        again = failed.get(check["sandbox"], set())
        reach = [target for target in check["reach"] if target in again]
        names = {name: found for name, found in check["names"].items() if name in again}
        if reach or names:
            group.append({**check, "reach": reach, "refuse": [], "names": names, "allowed": []})
            size += len(reach) + 1
        if size >= targets:
            yield group
            group, size = [], 0
    if group:
        yield group


def verify(host: Host, checks: Sequence[Check]) -> dict[str, Any]:
    """Run the checks of all sandboxes; returns their number, every failure with its sandbox, the checks that could not
    be made, and, of other hosts' addresses if anything failed, which do not answer an echo request of the host.
    """
    own = [check for check in checks if check["sandbox"]]
    misses, unproven = _prove(host, own)
    counts = {kind: sum(len(check[kind]) for check in own) for kind in ("reach", "refuse", "names")}
    counts.update(egress=len(own), connect=0)
    silent: list[str] = []
    for check in checks:
        if not check["sandbox"]:
            counts["connect"] += len(check["connect"])
            misses += [{"sandbox": "host", **miss} for miss in host.run_in("", _unconnected, check["connect"])]
            if misses and check["hosts"]:
                silent = sorted(set(check["hosts"]) - host.run_in("", answering, check["hosts"], ()).small)
    return {"counts": counts, "misses": misses, "unproven": unproven, "silent": silent}
