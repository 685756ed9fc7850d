# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the kernel has counted for sandboxes with policies: packets that passed, and packets that were dropped."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..kernel.host import Host
from ..kernel.netfilter import Count, Netfilter
from ..kernel.netlink import NetlinkError
from ..plan.base import Resource
from ..plan.links import Link
from ..plan.marks import table_name
from ..plan.nftables import DROPPED, DROPPED_LATELY, JUDGED, LATELY, SIDES, Nftables

_BRIDGE = "bridge"

Sums = dict[str, dict[str, dict[str, int]]]
"""By sandbox and direction (``ingress``: to the sandbox), numbers by name."""


class Lately(NamedTuple):
    """Packets of a sandbox that were dropped within the last `LATELY` seconds, or shortly before one that was."""

    sandbox: str
    direction: str
    packets: int
    seconds: int
    """Since the last of them."""


def counted(host: Host, resources: Sequence[Resource]) -> Sums:
    """What was counted of each sandbox with policies of a plan: ``passed``, ``passed_bytes``, ``dropped``,
    ``dropped_bytes``.  A sandbox's counters begin at 0 when it gets other policies.

    A network's own frames, such as ARP, count as passed.
    """
    found: Sums = {}
    for sandbox, direction, (judged, dropped) in _read(host, resources, (JUDGED, DROPPED)):
        sums = found.setdefault(sandbox, {}).setdefault(
            direction, dict.fromkeys(("passed", "passed_bytes", "dropped", "dropped_bytes"), 0)
        )
        # What is dropped between the two readings must not make a number negative.
        sums["passed"] += max(0, judged.packets - dropped.packets)
        sums["passed_bytes"] += max(0, judged.bytes - dropped.bytes)
        sums["dropped"] += dropped.packets
        sums["dropped_bytes"] += dropped.bytes
    return found


def dropped_lately(host: Host, resources: Sequence[Resource]) -> list[Lately]:
    """Of which sandboxes of a plan packets were dropped lately, in order of their names."""
    found: dict[tuple[str, str], Lately] = {}
    for sandbox, direction, (count,) in _read(host, resources, (DROPPED_LATELY,)):
        if count.packets:
            one = found.get((sandbox, direction), Lately(sandbox, direction, 0, LATELY))
            seconds = max(0, LATELY - count.expires // 1000)
            found[sandbox, direction] = one._replace(
                packets=one.packets + count.packets, seconds=min(one.seconds, seconds)
            )
    return sorted(found.values())


def _read(
    host: Host, resources: Sequence[Resource], sets: Sequence[str]
) -> Iterator[tuple[str, str, tuple[Count, ...]]]:
    """The sandbox and the direction of each of its ports, with what each of the sets counted there."""
    places = [
        item.namespace
        for item in resources
        if isinstance(item, Nftables)
        and item.family == _BRIDGE
        and any(each.name == f"{JUDGED}to" for each in item.sets)
    ]
    if not places:
        return
    ports = {
        (item.peer.namespace, item.peer.name): item.namespace
        for item in resources
        if isinstance(item, Link) and item.peer is not None
    }
    names = [f"{name}{side}" for side in SIDES.values() for name in sets]
    for place in sorted(places):
        by_set = _in_namespace(host, place, names)
        for direction, side in SIDES.items():
            tables = [by_set.get(f"{name}{side}", {}) for name in sets]
            for port in sorted(set().union(*tables)):
                sandbox = ports.get((place, port))
                if sandbox is not None:
                    yield sandbox, direction, tuple(table.get(port, Count(0, 0, 0)) for table in tables)


def _in_namespace(host: Host, namespace: str, names: Sequence[str]) -> Mapping[str, Mapping[str, Count]]:
    """What the sets of a namespace's table counted; nothing of those that are not there."""
    try:
        return host.run_in(namespace, _counts, table_name(host.project), names)
    except FileNotFoundError:
        return {}


def _counts(table: str, names: Sequence[str]) -> dict[str, dict[str, Count]]:
    found = {}
    with Netfilter() as netfilter:
        for name in names:
            try:
                found[name] = netfilter.counts(_BRIDGE, table, name)
            except NetlinkError as error:
                if error.errno != errno.ENOENT:
                    raise
    return found
