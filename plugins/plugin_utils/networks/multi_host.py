# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks that span hosts: who is on each, by which address, VNI and VTEP; worked out once for all hosts.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

from ...module_utils.plan.marks import encrypted_data_path_port
from ..declaration.errors import name_hosts
from ..declaration.options import MTU, VNI
from ..declaration.topology import Endpoint, Host, Network, Sandbox, Service, Topology
from ..facts import Facts
from ..ipam.addresses import (
    DOCKER_POOLS,
    SHIM,
    ULA_SUBNET,
    AnyNetwork,
    Subnet,
    UsedPrefixes,
    addresses,
    beside,
    configs_of,
    network_of,
    shims,
    users,
    with_gateways,
)
from ..ipam.identifiers import identifier, mac_of
from ..ipam.vips import Vip, leases_of, virtual_of
from ..leases.base import Leases
from .underlay import Claims, Underlay, underlay_of

POOLS = (("10.0.0.0/8", 24),)
"""Where overlays that name no subnet get theirs, as in Docker's Swarm."""

HEADERS = {4: 50, 6: 70}
"""Octets VXLAN adds to a frame's payload: Ethernet 14, VXLAN 8, UDP 8, and IPv4 20 or IPv6 40 (RFC 7348)."""
ENCRYPTION = 34
"""Octets ESP adds with AES-GCM (RFC 4106): header 8, IV 8, trailer 2, ICV 16; no padding where the MTU is 4 × n."""
DEFAULT_MTU = 1500
_MANY_ENTRIES = 16384
_MANY_HOSTS = 100


@dataclass(frozen=True)
class Member:
    """An endpoint of a network that spans hosts."""

    host: str
    sandbox: Sandbox
    endpoint: Endpoint
    ipv4: Optional[str]
    ipv6: Optional[str]
    """Addresses with their prefix length."""
    mac: str

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """Its bare addresses, IPv4 first."""
        return tuple(item.partition("/")[0] for item in (self.ipv4, self.ipv6) if item)


@dataclass(frozen=True)
class Overlay:
    """One network on all of its hosts."""

    network: Network
    id: str
    created: str
    subnets: tuple[Subnet, ...]
    vni: int
    port: int
    mtu: int
    flood: bool
    vteps: Mapping[str, str]
    """VTEP by host, of the hosts on it that are known."""
    members: Mapping[str, Member]
    """By sandbox, sorted."""
    vips: Mapping[str, Vip] = field(default_factory=dict)
    """By service, sorted."""

    @property
    def bridge(self) -> str:
        """The bridge, and the namespace it is in."""
        return f"ov-{self.vni:06x}-{self.id[:5]}"

    @property
    def vxlan(self) -> str:
        """The VXLAN link."""
        return f"vx-{self.vni:06x}-{self.id[:5]}"


@dataclass(frozen=True)
class Lan:
    """One macvlan or ipvlan network on all of its hosts: the LAN they have in common brings what is sent."""

    network: Network
    id: str
    created: str
    subnets: tuple[Subnet, ...]
    hosts: tuple[str, ...]
    members: Mapping[str, Member]
    """By sandbox, sorted; the hosts' own places among them."""

    @property
    def sandboxes(self) -> dict[str, Member]:
        """The members that are sandboxes."""
        return {key: item for key, item in self.members.items() if item.sandbox.name != SHIM}


@dataclass
class Overlays:
    """All of them by name; by host what cannot be had, and what the user should know."""

    found: dict[str, Overlay] = field(default_factory=dict)
    lans: dict[str, Lan] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)

    @property
    def members(self) -> dict[str, Mapping[str, Member]]:
        """Of each network of either sort who is on it."""
        overlays = {name: item.members for name, item in self.found.items()}
        return {**overlays, **{name: item.members for name, item in self.lans.items()}}

    def subnets_of(self, host: str) -> dict[str, tuple[Subnet, ...]]:
        """The subnets of all networks that the host shares with others."""
        overlays = {name: item.subnets for name, item in self.of(host).items()}
        return {**overlays, **{name: item.subnets for name, item in self.lans_of(host).items()}}

    def of(self, host: str) -> dict[str, Overlay]:
        """Those the host is on."""
        return {name: item for name, item in self.found.items() if host in item.vteps}

    def lans_of(self, host: str) -> dict[str, Lan]:
        """The macvlan and ipvlan networks that the host shares with others."""
        return {name: item for name, item in self.lans.items() if host in item.hosts}


Pair = tuple[Sandbox, Endpoint]


@dataclass
class _SpanningNetwork:
    """A network while it is worked out: its hosts, and who is on it."""

    network: Network
    hosts: list[Host] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.hosts]


def plan_overlays(
    topology: Topology,
    facts: Mapping[str, Facts],
    connections: Mapping[str, str],
    parts: dict[str, Leases],
    spanning: dict[str, Any],
    now: str,
    services: Iterable[Service] = (),
    others: Optional[Mapping[str, Leases]] = None,
) -> Overlays:
    """Work out all networks that span hosts, those of hosts that were not reached among them.

    ``others`` is not None if the topology is but one host of them, which can be planned for LANs alone: the leases of
    the others, whose addresses are not given again.

    ``services`` are those with a VIP; their tasks are among the topology's sandboxes already.  ``parts`` and
    ``spanning`` are the leases (see `leases.base.split`); both are brought up to date in place.
    """
    result = Overlays()
    drafts = _drafts(topology, others is not None)
    overlays = {name: draft for name, draft in drafts.items() if not draft.network.on_lan}
    claims = Claims(topology, connections, parts)
    underlays = _underlays(overlays.values(), facts, connections, parts, claims, result)
    held = dict(spanning)
    if others is None:
        spanning.clear()
    vnis = _vnis(overlays, facts, parts, held, result)
    taken = {
        name: UsedPrefixes(_seen(draft.hosts, draft, facts), {} if draft.network.on_lan else facts)
        for name, draft in drafts.items()
    }
    _take_declared(topology, drafts, taken)
    places = _held_places(parts)
    for name, draft in drafts.items():
        problems: list[str] = []
        _refuse_clashes(draft, facts, taken[name], result)
        subnets = _subnets(draft, held.get(name, {}), taken, problems)
        virtual = virtual_of(name, services, held.get(name, {}).get("vips", {}))
        used = _used(name, others or {})
        found = _addresses(draft, subnets, {**_held(draft, places), **virtual.held}, virtual.pairs, used, problems)
        members, vips = _members(draft, found), virtual.found(found)
        vteps = {host: underlays[host] for host in draft.names if host in underlays}
        if name in overlays:
            problems += _one_family(draft.network, vteps)
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
            _port(draft.network, settings.data_path_port),
            _mtu(draft.network, vteps, result),
            settings.flood,
            {host: item.address for host, item in vteps.items()},
            members,
            vips,
        )
        _warn_of_size(result, draft, members, settings.flood)
    known = {*held, *drafts} if others is None else set(drafts)
    _remember(result, known, parts, set(drafts) - {*result.found, *result.lans})
    return result


def _refuse_clashes(draft: _SpanningNetwork, facts: Mapping[str, Facts], taken: UsedPrefixes, result: Overlays) -> None:
    """Refuse the hosts where something has a network's subnet: what one of them has is no reason against the others."""
    for config in draft.network.ipam:
        clashes = taken.clashes(draft.network, config)
        if not clashes:
            continue
        found = {}
        for host in draft.hosts:
            known = {host.name: facts[host.name]} if host.name in facts and not draft.network.on_lan else {}
            found[host.name] = UsedPrefixes(_seen([host], draft, facts), known).clashes(draft.network, config)
        for name, own in found.items():
            # An address of a host that is not on it is everybody's business: it would be called in its place.
            result.problems.setdefault(name, []).extend(own if any(found.values()) else clashes)


def _seen(hosts: Iterable[Host], draft: _SpanningNetwork, facts: Mapping[str, Facts]) -> Iterator[Facts]:
    """What a network's subnet must not overlap on its hosts; each has the LAN it may be on by a link of its own."""
    for host in hosts:
        network = host.network(draft.network.name)
        if host.name in facts and network is not None:
            yield beside(facts[host.name], network) if network.on_lan else facts[host.name]


def _used(name: str, others: Mapping[str, Leases]) -> list[str]:
    """The addresses that hosts which are not planned now have on a network."""
    return [
        address
        for part in others.values()
        for key, entry in part["endpoints"].items()
        if key.split("/")[1] == name
        for address in entry.values()
    ]


def _drafts(topology: Topology, on_lan: bool) -> dict[str, _SpanningNetwork]:
    """Networks that span hosts and are in use, sorted by name; or of them those on a LAN."""
    result: dict[str, _SpanningNetwork] = {}
    for host in topology.hosts:
        for name, pairs in users(host).items():
            network = host.network(name)
            if network is None or not network.spans or not (pairs or network.standing):
                continue
            if not on_lan or network.on_lan:
                draft = result.setdefault(name, _SpanningNetwork(network))
                draft.hosts.append(host)
                draft.pairs += [*pairs, *shims(host, network)]
    for draft in result.values():
        draft.pairs.sort(key=lambda pair: pair[0].key)
    return dict(sorted(result.items()))


def _underlays(
    drafts: Iterable[_SpanningNetwork],
    facts: Mapping[str, Facts],
    connections: Mapping[str, str],
    parts: Mapping[str, Leases],
    claims: Claims,
    result: Overlays,
) -> dict[str, Underlay]:
    """The VTEPs of all hosts that have a part in any, and a memory of what was seen of them."""
    found = {}
    hosts = {host.name: host for draft in drafts for host in draft.hosts}
    for host in hosts.values():
        held = parts[host.name]["hosts"].get(host.name, {})
        underlay = underlay_of(host, facts.get(host.name), held, connections.get(host.name))
        if isinstance(underlay, str):
            (result.problems if host.name in facts else result.warnings).setdefault(host.name, []).append(underlay)
            continue
        found[host.name] = underlay
    for name, sentence in claims.judge({name: item.address for name, item in found.items()}).items():
        (result.problems if name in facts else result.warnings).setdefault(name, []).append(sentence)
        del found[name]
    for name, underlay in found.items():
        host, held = hosts[name], parts[name]["hosts"].get(name, {})
        seen = list(facts[host.name].vnis) if host.name in facts else held.get("vnis", [])
        entry = {**held, "underlay": underlay.address, "mtu": underlay.mtu, "vnis": seen}
        parts[host.name]["hosts"] = {host.name: entry}
    return found


def _vnis(
    drafts: Mapping[str, _SpanningNetwork],
    facts: Mapping[str, Facts],
    parts: Mapping[str, Leases],
    held: Mapping[str, Any],
    result: Overlays,
) -> dict[str, int]:
    """A VNI each: the one declared, the one held, else the lowest that nobody on any host of the topology uses.

    One that is held is kept while nobody else uses it on a host of the network: another would part its hosts for a
    while, and for good those that are not reached.
    """
    seen = {
        host: set(facts[host].vnis if host in facts else part["hosts"].get(host, {}).get("vnis", ()))
        for host, part in sorted(parts.items())
    }
    found = {name: int(text) for name, draft in drafts.items() if (text := draft.network.option(VNI))}
    for name, vni in found.items():
        for host in drafts[name].names:
            if vni in seen[host]:
                sentence = f"{drafts[name].network.path}: the VNI {vni} is used by somebody else on {host}."
                result.problems.setdefault(host, []).append(f"{sentence} Choose another, or leave the option out.")
    used = set(found.values())
    for name, draft in drafts.items():
        before = held.get(name, {}).get("vni")
        if name not in found and before is not None and before not in used.union(*map(seen.__getitem__, draft.names)):
            found[name] = before
            used.add(before)
    used.update(*seen.values())
    for name, draft in drafts.items():
        if name in found:
            continue
        first, last = draft.hosts[0].settings.vni_range
        free = next((vni for vni in range(first, last + 1) if vni not in used), None)
        if free is None:
            for host in draft.names:
                sentence = f"{draft.network.path}: no VNI is left in cnm_vni_range. Make the range larger."
                result.problems.setdefault(host, []).append(sentence)
            continue
        found[name] = free
        used.add(free)
    return found


def _take_declared(
    topology: Topology, drafts: Mapping[str, _SpanningNetwork], taken: Mapping[str, UsedPrefixes]
) -> None:
    """What is declared on any of a network's hosts is not to be chosen for it."""
    declared = {
        host.name: [network_of(config.subnet) for network in host.networks for config in network.ipam]
        for host in topology.hosts
    }
    for name, draft in drafts.items():
        for prefix in {prefix for host in draft.names for prefix in declared[host]}:
            taken[name].take(prefix)


def _pool(draft: _SpanningNetwork, family: int) -> Iterator[AnyNetwork]:
    settings, on_lan = draft.hosts[0].settings, draft.network.on_lan
    said = settings.default_address_pools if on_lan else settings.overlay_pools
    pools = [(network_of(base), size) for base, size in said]
    mine = [(base, size) for base, size in pools if base.version == family]
    if not mine and family == 6:
        bits = identifier("ula", settings.project)[:10]
        mine = [(network_of(f"fd{bits[:2]}:{bits[2:6]}:{bits[6:10]}::/48"), ULA_SUBNET)]
    elif not mine:
        mine = [(network_of(base), size) for base, size in (DOCKER_POOLS if on_lan else POOLS)]
    for base, size in mine:
        yield from base.subnets(new_prefix=max(size, base.prefixlen))


def _subnets(
    draft: _SpanningNetwork, held: Mapping[str, Any], taken: Mapping[str, UsedPrefixes], problems: list[str]
) -> tuple[Subnet, ...]:
    network, mine = draft.network, taken[draft.network.name]
    setting = "cnm_default_address_pools" if network.on_lan else "cnm_overlay_address_pool"
    configs = [
        config
        for family in (4, 6)
        for config in configs_of(network, family, held, mine, _pool(draft, family), problems, setting)
    ]
    for others in taken.values():
        for config in configs:
            others.take(network_of(config.subnet))
    return with_gateways(network, configs, problems)


def _held_places(parts: Mapping[str, Leases]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Leases by network, sandbox and host; with host "" for a sandbox that has moved since."""
    result: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for host, part in sorted(parts.items()):
        for key, entry in part["endpoints"].items():
            _host, network, sandbox = key.split("/")
            result[(network, sandbox, host)] = entry
            result.setdefault((network, sandbox, ""), entry)
    return result


def _held(
    draft: _SpanningNetwork, places: Mapping[tuple[str, str, str], Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """What each sandbox has already, here or where it was before, by name."""
    name = draft.network.name
    return {
        sandbox.key: places.get((name, sandbox.name, sandbox.host))
        or (not sandbox.everywhere and places.get((name, sandbox.name, "")))
        or {}
        for sandbox, _endpoint in draft.pairs
    }


def _addresses(
    draft: _SpanningNetwork,
    subnets: Sequence[Subnet],
    held: Mapping[str, Mapping[str, Any]],
    more: Sequence[Pair],
    used: Sequence[str],
    problems: list[str],
) -> dict[int, dict[str, str]]:
    """Addresses with their prefix length by sandbox or service, by family."""
    everyone = sorted([*draft.pairs, *more], key=lambda pair: pair[0].key)
    found: dict[int, dict[str, str]] = {}
    for family in (4, 6):
        mine = [subnet for subnet in subnets if subnet.family == family]
        before = {name: entry.get(f"ipv{family}") for name, entry in held.items()}
        found[family] = addresses(draft.network, mine, everyone, before, problems, used) if mine else {}
    return found


def _members(draft: _SpanningNetwork, found: Mapping[int, Mapping[str, str]]) -> dict[str, Member]:
    result = {}
    for sandbox, endpoint in draft.pairs:
        ipv4, ipv6 = found[4].get(sandbox.key), found[6].get(sandbox.key)
        address = (ipv4 or ipv6 or "").partition("/")[0]
        if address:
            mac = "" if draft.network.shares_mac else endpoint.mac_address or mac_of(address)
            result[sandbox.key] = Member(sandbox.host, sandbox, endpoint, ipv4, ipv6, mac)
    return result


def _one_family(network: Network, vteps: Mapping[str, Underlay]) -> list[str]:
    """A sentence if some of the hosts can only be reached by IPv4 and others by IPv6."""
    groups: dict[int, list[str]] = {}
    for host, underlay in vteps.items():
        groups.setdefault(underlay.family, []).append(host)
    if len(groups) < 2:
        return []
    said = " and ".join(f"IPv{family} on {name_hosts(hosts)}" for family, hosts in sorted(groups.items()))
    problem = f"{network.path}: its hosts must all be reached by IPv4, or all by IPv6, and it is {said}."
    return [f"{problem} Set cnm_underlay_address."]


def _port(network: Network, data_path_port: int) -> int:
    return encrypted_data_path_port(data_path_port) if network.encrypted else data_path_port


def _mtu(network: Network, vteps: Mapping[str, Underlay], result: Overlays) -> int:
    """What fits into the smallest underlay of all hosts, whichever way a packet goes."""
    sizes: dict[int, list[str]] = {}
    for host, underlay in vteps.items():
        if underlay.mtu is not None:
            sizes.setdefault(underlay.mtu, []).append(host)
    smallest = min(sizes, default=DEFAULT_MTU)
    declared = int(network.option(MTU) or 0)
    underlay_mtu = declared or smallest
    overhead = max((HEADERS[item.family] for item in vteps.values()), default=HEADERS[4])
    mtu = (underlay_mtu - overhead - ENCRYPTION) // 4 * 4 if network.encrypted else underlay_mtu - overhead
    said = ", ".join(f"{size} on {name_hosts(hosts)}" for size, hosts in sorted(sizes.items()))
    if declared > smallest:
        sentence = (
            f"{network.path}: the MTU of the underlay is not {declared} everywhere, it is {said}: packets get lost"
        )
        for host in sizes[smallest]:
            result.warnings.setdefault(host, []).append(sentence)
    elif len(sizes) > 1 and not declared:
        sentence = f"{network.path}: the MTU of the underlay is {said}: the network has {mtu} on all of them"
        for host in sizes[smallest]:
            result.warnings.setdefault(host, []).append(sentence)
    return mtu


def _warn_of_size(result: Overlays, draft: _SpanningNetwork, members: Mapping[str, Member], flood: bool) -> None:
    first = result.warnings.setdefault(draft.names[0], [])
    if len(members) > _MANY_ENTRIES:
        first.append(
            f"{draft.network.path}: {len(members)} endpoints are as many forwarding entries on each of its hosts; "
            "kernels before 6.16 lose throughput beyond 16384. Split it into several networks."
        )
    if flood and len(draft.hosts) > _MANY_HOSTS:
        first.append(
            f"{draft.network.path}: with cnm_flood each broadcast is sent {len(draft.hosts) - 1} times. Turn it off, "
            "or split the network."
        )


def _remember(result: Overlays, names: set[str], parts: Mapping[str, Leases], failed: set[str]) -> None:
    """The members' leases in place of the former ones; of what could not be planned those stay."""
    gone = names - failed
    for part in parts.values():
        part["endpoints"] = {key: entry for key, entry in part["endpoints"].items() if key.split("/")[1] not in gone}
    for name, members in result.members.items():
        for member in members.values():
            found = (("ipv4", member.ipv4), ("ipv6", member.ipv6))
            entry = {key: address.partition("/")[0] for key, address in found if address}
            parts[member.host]["endpoints"][f"{member.host}/{name}/{member.sandbox.name}"] = entry
