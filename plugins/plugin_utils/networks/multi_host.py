# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks that span hosts: which hosts and sandboxes are on each, and by which addresses.

Planned once for all hosts.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ..declaration.topology import Service, Topology
from ..facts import Facts
from ..ipam.addresses import UsedPrefixes
from ..ipam.identifiers import identifier
from ..ipam.vips import leases_of, virtual_of
from ..leases.base import Leases
from .overlays import (
    choose_mtu,
    choose_vnis,
    data_path_port,
    find_underlays,
    mixed_underlay_family_errors,
    warn_of_size,
)
from .spanning import (
    Lan,
    Overlay,
    SpanningNetworks,
    addresses_of_other_hosts,
    choose_addresses,
    choose_subnets,
    facts_of_hosts,
    leases_by_endpoint,
    leases_of_network,
    members_of,
    networks_spanning_hosts,
    refuse_overlaps,
    reserve_declared_subnets,
)
from .underlay import Claims


def plan_spanning_networks(
    topology: Topology,
    facts: Mapping[str, Facts],
    connections: Mapping[str, str],
    parts: dict[str, Leases],
    spanning: dict[str, Any],
    now: str,
    services: Iterable[Service] = (),
    others: Optional[Mapping[str, Leases]] = None,
) -> SpanningNetworks:
    """Work out all networks that span hosts, those of hosts that were not reached among them.

    ``others`` is not None if the topology is but one host of them, which can be planned for LANs alone: the leases of
    the others, whose addresses are not given again.

    ``services`` are those with a VIP; their tasks are among the topology's sandboxes already.  ``parts`` and
    ``spanning`` are the leases (see `leases.base.split`); both are brought up to date in place.
    """
    result = SpanningNetworks()
    drafts = networks_spanning_hosts(topology, others is not None)
    overlays = {name: draft for name, draft in drafts.items() if not draft.network.on_lan}
    claims = Claims(topology, connections, parts)
    underlays = find_underlays(overlays.values(), facts, connections, parts, claims, result)
    held = dict(spanning)
    if others is None:
        spanning.clear()
    vnis = choose_vnis(overlays, facts, parts, held, result)
    taken = {
        name: UsedPrefixes(facts_of_hosts(draft.hosts, draft, facts), {} if draft.network.on_lan else facts)
        for name, draft in drafts.items()
    }
    reserve_declared_subnets(topology, drafts, taken)
    places = leases_by_endpoint(parts)
    for name, draft in drafts.items():
        problems: list[str] = []
        refuse_overlaps(draft, facts, taken[name], result)
        subnets = choose_subnets(draft, held.get(name, {}), taken, problems)
        virtual = virtual_of(name, services, held.get(name, {}).get("vips", {}))
        used = addresses_of_other_hosts(name, others or {})
        found = choose_addresses(
            draft, subnets, {**leases_of_network(draft, places), **virtual.held}, virtual.pairs, used, problems
        )
        members, vips = members_of(draft, found), virtual.found(found)
        vteps = {host: underlays[host] for host in draft.names if host in underlays}
        if name in overlays:
            problems += mixed_underlay_family_errors(draft.network, vteps)
        for host in draft.names:
            result.problems.setdefault(host, []).extend(problems)
        if problems or (name in overlays and name not in vnis):
            spanning.update({name: held[name]} if name in held else {})
            continue
        created = held.get(name, {}).get("created", now)
        spanning[name] = {"created": created, "subnets": [item.subnet for item in subnets]}
        settings = draft.hosts[0].settings
        network_id = identifier("network", settings.project, name)
        if name not in overlays:
            result.lans[name] = Lan(draft.network, network_id, created, subnets, tuple(draft.names), members)
            continue
        spanning[name]["vni"] = vnis[name]
        if vips:
            spanning[name]["vips"] = leases_of(vips)
        result.found[name] = Overlay(
            draft.network,
            network_id,
            created,
            subnets,
            vnis[name],
            data_path_port(draft.network, settings.data_path_port),
            choose_mtu(draft.network, vteps, result),
            settings.flood,
            {host: item.address for host, item in vteps.items()},
            members,
            vips,
        )
        warn_of_size(result, draft, members, settings.flood)
    known = {*held, *drafts} if others is None else set(drafts)
    _record_leases(result, known, parts, set(drafts) - {*result.found, *result.lans})
    return result


def _record_leases(result: SpanningNetworks, names: set[str], parts: Mapping[str, Leases], failed: set[str]) -> None:
    """The members' leases in place of the former ones; of what could not be planned those stay."""
    gone = names - failed
    for part in parts.values():
        part["endpoints"] = {key: entry for key, entry in part["endpoints"].items() if key.split("/")[1] not in gone}
    for name, members in result.members.items():
        for member in members.values():
            found = (("ipv4", member.ipv4), ("ipv6", member.ipv6))
            entry = {key: address.partition("/")[0] for key, address in found if address}
            parts[member.host]["endpoints"][f"{member.host}/{name}/{member.sandbox.name}"] = entry
