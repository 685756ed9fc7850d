# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The entry point of the module verify: prove that a host is as planned and that its data plane works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .engine import engine
from .entrypoints import in_words
from .hostd import telling
from .hostd.half import CLI
from .hostd.restore import kept_resources
from .kernel.host import Host
from .kernel.neighbour_tables import neighbour_tables
from .kernel.nft import RunCommand
from .object_names import what_differs
from .plan.addresses import Fdb, Neighbours
from .plan.base import Resource
from .plan.forms import printable_data
from .plan.links import Link
from .resources.base import Operation
from .state.kept import State
from .verify import prover
from .verify.firewalls import Packet, foreign_drops
from .verify.source_links import source_links


def verify(project: str, digest: str, checks: Sequence[Mapping[str, Any]], run_command: RunCommand) -> dict[str, Any]:
    """Prove that the host is as planned and that its data plane works; see `prover.verify`.  Raises Refused.

    ``drops`` are what others' rules drop of the packets that networks need, as far as anything failed, and of those to
    published ports: who misses an answer of these is another host.
    """
    with in_words("verifying networks"), Host(project, run_command) as host:
        host.command = CLI
        result = prover.verify(host, checks)
        kept = State(project).kept
        resources: list[Resource] = []
        if kept.get("digest") != digest:
            what = "does not have the plan of the present variables"
            result["misses"].append(_drift_miss("host", what, ("plan",), ()))
        else:
            resources = kept_resources(project, kept)
            operations = engine.Engine(host).compare(resources)
            result["misses"] += _drift_misses(operations, resources, host.broken)
            result["misses"] += _source_link_misses(host, resources)
        packets = _packets(checks, result["misses"], resources)
        drops = foreign_drops(host, packets) if packets else []
        result["drops"] = [{**item._asdict(), "packet": str(item.packet)} for item in drops]
        result["neighbours"] = min((table.size for table in neighbour_tables()), default=0)
        return dict(printable_data(result))


_ENTRIES_AT_MOST = 1000


def _drift_misses(
    operations: Sequence[Operation[Any]], wanted: Sequence[Resource], broken: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A failure for each part of the plan that differs."""
    found = [
        _drift_miss(f"sandbox {name}", f"is unavailable: {why}", ("namespace",), ())
        for name, why in sorted(broken.items())
    ]
    for part, differing in telling.parts_of_operations(operations, wanted).items():
        entries = sorted({key for item in differing for key in _entries(item)})[:_ENTRIES_AT_MOST]
        kinds = sorted({item.resource.kind for item in differing})
        found.append(_drift_miss(part, what_differs(part, differing), kinds, entries))
    return found


def _entries(operation: Operation[Any]) -> set[str]:
    """Of a table of a link, the MAC addresses or addresses whose entries differ."""
    if not isinstance(operation.resource, (Fdb, Neighbours)):
        return set()
    found = operation.found.entries if operation.found is not None else {}
    return {key for key, _value in operation.resource.entries.items() ^ found.items()}


def _drift_miss(part: str, found: str, kinds: Sequence[str], entries: Sequence[str]) -> dict[str, Any]:
    more = {"kinds": list(kinds), "entries": list(entries)}
    return {"sandbox": "host", "check": "plan", "target": part, "wanted": "as planned", "found": found, **more}


def _packets(
    checks: Sequence[Mapping[str, Any]], misses: Sequence[Mapping[str, Any]], resources: Sequence[Resource]
) -> list[Packet]:
    """What must not be dropped for the checks that failed to succeed, and for those of other hosts at ports here."""
    called = sorted({int(port) for check in checks for _address, port in check.get("connect", ())})
    published = [Packet("tcp", port) for port in called]
    if not misses:
        return published
    ports = {item.vxlan.port for item in resources if isinstance(item, Link) and item.vxlan is not None}
    found = [Packet("udp", port, tracked=False) for port in sorted(ports)]
    found += [Packet("esp")] if any(item.kind == "xfrm" for item in resources) else []
    found += [Packet("icmp"), Packet("ipv6-icmp")] if any(miss["check"] == "reach" for miss in misses) else []
    return [*found, *published]


def _source_link_misses(host: Host, resources: Sequence[Resource]) -> list[dict[str, str]]:
    """A failure for each link that can receive or divert other links' traffic on a LAN network's parent."""
    parents = {
        item.parent.link for item in resources if isinstance(item, Link) and item.parent and item.type == "macvlan"
    }
    wanted = "no macvlan link of mode source on it"
    return [
        {"sandbox": "host", "check": "parent", "target": parent, "wanted": wanted, "found": f"{link} in {where}"}
        for parent, link, where in source_links(host, parents)
    ]
