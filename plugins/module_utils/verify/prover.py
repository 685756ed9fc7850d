# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Proves the data plane from inside the sandboxes with real echo requests, DNS queries and connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..kernel.host import Host
from .connect import unconnected
from .echo import answering, ways_out
from .names import resolving


def _unconnected(targets: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Failures of the host's own checks; runs in the host's namespace."""
    found = unconnected([(str(target[0]), int(target[1])) for target in targets])
    return [_miss("connect", f"{address} tcp {port}", "an answer", why) for (address, port), why in found.items()]


def _misses(check: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Failures of a sandbox's checks; runs in its namespace."""
    small, large = answering(check["reach"], check["refuse"])
    misses = [_miss("reach", target, "an answer", "none") for target in check["reach"] if target not in small]
    misses += [
        _miss("reach", target, "an answer to a packet as large as the MTU", "none")
        for target in sorted(small - large)
        if target in check["reach"]
    ]
    misses += [_miss("refuse", target, "no answer", "one") for target in check["refuse"] if target in small]
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


def _miss(check: str, target: str, wanted: str, found: str) -> dict[str, Any]:
    return {"check": check, "target": target, "wanted": wanted, "found": found}


def verify(host: Host, checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Run the checks of all sandboxes; returns their number and every failure with its sandbox."""
    misses = []
    counts = {"reach": 0, "refuse": 0, "names": 0, "egress": 0, "connect": 0}
    for check in checks:
        if not check["sandbox"]:
            counts["connect"] += len(check["connect"])
            misses += [{"sandbox": "host", **miss} for miss in host.run_in("", _unconnected, check["connect"])]
            continue
        for kind in ("reach", "refuse", "names"):
            counts[kind] += len(check[kind])
        counts["egress"] += 1
        try:
            found = host.run_in(check["sandbox"], _misses, check)
        except FileNotFoundError:
            found = [_miss("sandbox", check["sandbox"], "a namespace", "none")]
        except OSError as error:
            found = [_miss("sandbox", check["sandbox"], "answers", str(error))]
        misses += [{"sandbox": check["sandbox"], **miss} for miss in found]
    return {"counts": counts, "misses": misses}
