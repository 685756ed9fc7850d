# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks that span hosts: which hosts and sandboxes are on each, and by which addresses.

Planned once for all hosts.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from ...module_utils.plan.marks import identifier
from ..declaration.topology import Service, Topology
from ..facts import Facts
from ..ipam.addresses import UsedPrefixes
from ..ipam.ranges import Ranges
from ..ipam.vips import leases_of, virtual_of
from ..leases.base import Leases, NetworkLease, no_part
from .evpn import fabric_hosts, place_of_overlays, reflectors, unusable_vteps
from .spanning import (
    Spanning,
    SpanningNetworks,
    TunnelEnds,
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
from .tunnels import (
    choose_mtu,
    choose_vnis,
    data_path_port,
    find_underlays,
    mixed_underlay_family_errors,
    warn_of_size,
)
from .underlay import Claims


def plan_spanning_networks(
    topology: Topology,
    facts: Mapping[str, Facts],
    connections: Mapping[str, str],
    parts: dict[str, Leases],
    spanning_leases: dict[str, NetworkLease],
    now: str,
    services: Iterable[Service] = (),
    others: Optional[Mapping[str, Leases]] = None,
) -> SpanningNetworks:
    """Work out all networks that span hosts, those of hosts that were not reached among them.

    ``others`` is not None if the topology is but one host of them, for which networks of local scope alone can be
    planned: the leases of the others, whose addresses are not given again.

    ``services`` are those with a VIP; their tasks are among the topology's sandboxes already.  ``parts`` and
    ``spanning_leases`` are the leases (see `leases.base.split`); both are brought up to date in place.
    """
    result = SpanningNetworks()
    spanning_networks = networks_spanning_hosts(topology, "" if others is None else "local")
    tunneled = {name: spanned for name, spanned in spanning_networks.items() if spanned.network.traits.tunnel}
    claims = Claims(topology, connections, parts)
    on_tunnels = {host.name: host for spanned in tunneled.values() for host in spanned.hosts}
    fabric = fabric_hosts(topology, on_tunnels) if others is None else {}
    needed = {*on_tunnels, *(name for host in fabric.values() for name in reflectors(host))}
    everyone = {**on_tunnels, **fabric}.values()
    underlays = find_underlays(everyone, facts, connections, parts, claims, result, needed)
    result.fabric = {name: underlays[name].address for name in fabric if name in underlays}
    for name, sentence in unusable_vteps(result.fabric).items():
        (result.problems if name in needed else result.warnings).setdefault(name, []).append(sentence)
        del result.fabric[name]
    leased = dict(spanning_leases)
    if others is None:
        spanning_leases.clear()
    vnis = choose_vnis(tunneled, facts, parts, leased, result)
    shared = Ranges()
    used_prefixes = {
        name: UsedPrefixes(
            facts_of_hosts(spanned.hosts, spanned, facts), {} if spanned.network.traits.on_parent else facts, shared
        )
        for name, spanned in spanning_networks.items()
    }
    reserve_declared_subnets(topology, spanning_networks, used_prefixes)
    leased_by_endpoint = leases_by_endpoint(parts)
    staying = _occupied(topology, facts, parts)
    for name, spanned in spanning_networks.items():
        problems: list[str] = []
        refuse_overlaps(spanned, facts, used_prefixes[name], result)
        subnets = choose_subnets(spanned, leased.get(name, {}), used_prefixes[name], problems)
        virtual = virtual_of(name, services, leased.get(name, {}).get("vips", {}))
        used = addresses_of_other_hosts(name, {**(others or {}), **staying})
        found = choose_addresses(
            spanned,
            subnets,
            {**leases_of_network(spanned, leased_by_endpoint), **virtual.leased},
            virtual.pairs,
            used,
            problems,
        )
        members, vips = members_of(spanned, found), virtual.found(found)
        vteps = {host: underlays[host] for host in spanned.names if host in underlays}
        if name in tunneled:
            problems += mixed_underlay_family_errors(spanned.network, vteps)
        for host in spanned.names:
            result.problems.setdefault(host, []).extend(problems)
        if problems or (name in tunneled and name not in vnis):
            spanning_leases.update({name: leased[name]} if name in leased else {})
            continue
        created = leased.get(name, {}).get("created", now)
        spanning_leases[name] = {"created": created, "subnets": [item.subnet for item in subnets]}
        settings = spanned.hosts[0].settings
        tunnel = None
        if name in tunneled:
            spanning_leases[name]["vni"] = vnis[name]
            tunnel = TunnelEnds(
                vnis[name],
                data_path_port(spanned.network, settings.data_path_port),
                choose_mtu(spanned.network, vteps, {name: underlays[name] for name in result.fabric} or vteps, result),
                settings.flood,
                {host: item.address for host, item in vteps.items()},
                result.fabric,
                place_of_overlays(settings),
            )
            warn_of_size(result, spanned, members, settings.flood)
        if vips:
            spanning_leases[name]["vips"] = leases_of(vips)
        result.found[name] = Spanning(
            spanned.network,
            identifier("network", settings.project, name),
            created,
            subnets,
            tuple(vteps if name in tunneled else spanned.names),
            members,
            vips,
            tunnel,
        )
    known = {*leased, *spanning_networks} if others is None else set(spanning_networks)
    _record_leases(result, known, parts, spanning_networks.keys() - result.found.keys())
    for host, part in staying.items():
        found_there = {key: entry for key, entry in part["endpoints"].items() if key.split("/")[1] in result.found}
        parts[host]["endpoints"].update(found_there)
    return result


def _occupied(topology: Topology, facts: Mapping[str, Facts], parts: Mapping[str, Leases]) -> dict[str, Leases]:
    """The leases of sandboxes that are no longer declared and stay, as processes run in them."""
    result: dict[str, Leases] = {}
    for host in topology.hosts:
        names = facts[host.name].occupied.keys() - {each.name for each in host.sandboxes} if host.name in facts else ()
        if names:
            endpoints = parts[host.name]["endpoints"].items()
            held = {key: entry for key, entry in endpoints if key.split("/")[2] in names}
            result[host.name] = {**no_part(), "endpoints": held}
    return result


def _record_leases(result: SpanningNetworks, names: set[str], parts: Mapping[str, Leases], failed: set[str]) -> None:
    """The members' leases in place of the former ones; of what could not be planned those stay."""
    gone = names - failed
    for part in parts.values():
        part["endpoints"] = {key: entry for key, entry in part["endpoints"].items() if key.split("/")[1] not in gone}
    for name, network in result.found.items():
        for member in network.members.values():
            found = (("ipv4", member.ipv4), ("ipv6", member.ipv6))
            entry = {key: address.partition("/")[0] for key, address in found if address}
            parts[member.host]["endpoints"][f"{member.host}/{name}/{member.sandbox.name}"] = entry
