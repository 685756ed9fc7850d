# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host's nftables table: isolation of networks, translation of addresses, published ports.

The rules are fixed; everything that grows with networks and ports is in sets and maps.  Traffic neither from nor to a
bridge of this collection leaves the table at the second rule of each chain.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import field

from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE
from ...module_utils.plan.forms import link_name, nft_link, quoted
from ...module_utils.plan.marks import FORWARDED, LINK_GROUP, OPEN_GROUP, OTHERS, table_name
from ...module_utils.plan.nftables import HOST_TASKS, UDP_PORTS, Chain, Nftables, NftSet, task_set
from ...module_utils.plan.records import dataclass
from ..declaration.driver import Forwarding
from ..drivers.base import PlannedNetwork
from ..facts import Facts
from ..services.balancing import VirtualService
from ..services.ingress import translations
from ..services.nftables import by_nftables, host_services
from .overlays import overlay_chains, overlay_sets, untracked_tunnels
from .port_callers import caller_chains, caller_sets, guarded_ports
from .published_ports import PublishedPort, shared_ports
from .sources import source_chains, source_sets

_ICMP = {4: 1, 6: 58}

_DOCKER = ("docker0", "docker_gwbridge")
"""Links of a Docker Engine's that always have these names."""

_OF_DOCKER = re.compile(r"br-[0-9a-f]{12}")
"""The names it gives the bridges of other networks."""

_FAMILIES = (4, 6)


@dataclass(frozen=True)
class HostRules:
    """The input for the host's table."""

    project: str
    networks: Sequence[PlannedNetwork]
    """Networks with a bridge, sorted by name."""
    bridges: Mapping[str, str]
    """The bridge's link by network name."""
    ports: Sequence[PublishedPort]
    closed: Sequence[int]
    """Families that the host did not forward before us: traffic that is not ours is still dropped…"""
    routing: Sequence[str]
    """…except from these links, whose own setting forwarded IPv4 (IPv6 has only the setting for all links)."""
    foreign: Sequence[str]
    """Bridges that are not ours."""
    marked: bool
    """Whether accepted packets are marked, for the rule in DOCKER-USER."""
    uplinks: Sequence[str] = ()
    """Links of the host's own default routes."""
    overlays: Sequence[PlannedNetwork] = ()
    """Overlay networks, whose packets arrive encapsulated."""
    virtual: Sequence[VirtualService] = ()
    """Services on networks where the host has an address, so that the host itself can use them."""
    with_others: Container[str] = ()
    """Bridges that also have foreign ports, whose sources are not checked."""
    behind: Mapping[str, Iterable[str]] = field(default_factory=dict)
    """By network, the prefixes that its sandboxes may send from besides the network's subnets."""
    data_path: Sequence[int] = (4789,)
    """The UDP ports of overlays."""
    underlay: str = ""
    """The link with this host's VTEP, or "" if that is unknown."""
    speakers: Mapping[str, Iterable[str]] = field(default_factory=dict)
    """By network, the addresses of its sandboxes."""

    @property
    def guarded(self) -> list[PlannedNetwork]:
        """Networks that are filtered."""
        return [item for item in self.networks if item.network.firewall]

    def link(self, network: PlannedNetwork) -> str:
        """The network's bridge as an nft string."""
        return nft_link(self.bridges[network.name])


def forwarding_of(network: PlannedNetwork) -> Forwarding:
    """How the host forwards for a network with a bridge on it; not at all for one that spans hosts."""
    return network.network.traits.forwarding or Forwarding(("isolated", "isolated"))


def host_table(rules: HostRules) -> Nftables:
    """The host's table: isolation, translation, published ports."""
    sets = [*_link_sets(rules)]
    for family in _FAMILIES:
        sets += _subnet_sets(rules, family)
        sets += _port_maps(rules.ports, family)
    sets += source_sets(
        [rules.bridges[n.name] for n in rules.guarded if rules.bridges[n.name] not in rules.with_others],
        {rules.bridges[name]: prefixes for name, prefixes in rules.behind.items()},
        {rules.bridges[name]: addresses for name, addresses in rules.speakers.items()},
        rules.data_path,
    )
    sets += overlay_sets(rules.overlays)
    sources, *of_sources = source_chains()
    guarded = guarded_ports(rules.ports)
    sets += caller_sets(guarded)
    balancing = by_nftables("", host_services(rules.virtual))
    sets += balancing.sets
    return Nftables(
        namespace="",
        family="inet",
        name=table_name(rules.project),
        role="host",
        sets=tuple(sets),
        chains=(
            Chain("user_forward", user=True),
            _unmanaged(rules),
            Chain(
                "mark_and_accept",
                rules=(*([f"meta mark set meta mark | {FORWARDED:#x}"] if rules.marked else ()), "accept"),
            ),
            _forward(rules),
            *overlay_chains(rules.project, rules.overlays, rules.underlay, sources),
            *of_sources,
            _direct_access(rules),
            *caller_chains(guarded),
            Chain("prerouting", "type nat hook prerouting priority -100; policy accept", (_TO_HOST,)),
            Chain("output", "type nat hook output priority -100; policy accept", (_TO_HOST, *balancing.output)),
            Chain("publish", rules=tuple(_publish(rules.ports))),
            _postrouting(),
        ),
    )


_TO_HOST = "fib daddr type local jump publish"
"""Only packets to the host's own addresses are translated (GHSA-jv3w-x3r3-g6rm)."""


def _link_sets(rules: HostRules) -> Iterable[NftSet]:
    guarded, link = rules.guarded, rules.link
    icc_enabled = [f"{link(n)} . {link(n)}" for n in guarded if forwarding_of(n).icc]
    yield NftSet("bridges", "type ifname;", _sorted(map(link, guarded)))
    yield NftSet("icc_enabled", "type ifname . ifname;", _sorted(icc_enabled))
    foreign, uplinks = nameable_links(rules.foreign), nameable_links(rules.uplinks)
    yield NftSet("foreign_bridge_pairs", "type ifname . ifname;", _sorted(f"{name} . {name}" for name in foreign))
    yield NftSet("internal", "type ifname;", _sorted(link(n) for n in guarded if n.closed))
    for family in _FAMILIES:
        isolated = (link(n) for n in guarded if forwarding_of(n).mode(family) == "isolated")
        yield NftSet(f"isolated{family}", "type ifname;", _sorted(isolated))
    yield NftSet("uplinks", "type ifname;", _sorted(uplinks))
    docker = {nft_link(name) for name in (*_DOCKER, *filter(_OF_DOCKER.fullmatch, rules.foreign))}
    yield NftSet("docker_bridges", "type ifname;", _sorted(docker))
    yield NftSet("foreign_bridges", "type ifname;", _sorted(set(foreign) - set(uplinks)))


def nameable_links(names: Iterable[str]) -> list[str]:
    """Foreign links as nft strings, without those whose names nft cannot hold (see `unnameable_link_warnings`)."""
    return [nft_link(name) for name in names if link_name.fits(name)]


def unnameable_link_warnings(facts: Facts) -> list[str]:
    """Warnings about links of the host whose names nft cannot hold."""
    links = {
        *facts.bridges,
        *facts.uplinks,
        *facts.ra_links,
        *(n for on in facts.forwarding_links.values() for n in on),
    }
    return [
        f"no firewall rule or setting can contain the name of this host's link {quoted(name)}, so it is treated as "
        "unknown: rename it without quotes, `*`, `,`, backslashes and braces"
        for name in sorted(links)
        if not link_name.fits(name)
    ]


def _subnet_sets(rules: HostRules, family: int) -> Iterable[NftSet]:
    """Sets of a family: guarded subnets, the bridge of each subnet, and subnets that are masqueraded."""
    guarded = [n for n in rules.guarded if n.of(family)]
    address = NFT_TYPE[family]
    modes = {n.name: forwarding_of(n).mode(family) for n in guarded}
    open_modes = {n.name: mode for n, mode in ((n, modes[n.name]) for n in guarded) if not n.closed}
    out = [
        n
        for n in guarded
        if not n.closed and modes[n.name] in ("nat", "nat-unprotected") and forwarding_of(n).masquerade
    ]
    sources = {n.name: forwarding_of(n).source(family) for n in guarded if modes[n.name] != "routed"}
    interfaces = [
        f"{subnet.subnet} . {nft_link(link)}"
        for n in guarded
        for link in [rules.bridges[n.name], *forwarding_of(n).trusted_links]
        for subnet in n.of(family)
    ]

    def subnets(chosen: Iterable[PlannedNetwork]) -> tuple[str, ...]:
        return _sorted(subnet.subnet for n in chosen for subnet in n.of(family))

    def interval(name: str, elements: tuple[str, ...]) -> NftSet:
        return NftSet(f"{name}{family}", f"type {address}; flags interval;", elements)

    yield interval("subnets", subnets(guarded))
    yield interval("guarded", subnets(n for n in guarded if modes[n.name] in ("nat", "isolated")))
    yield NftSet(f"subnet_interfaces{family}", f"type {address} . ifname; flags interval;", _sorted(interfaces))
    gateways = _sorted(subnet.gateway for n in guarded for subnet in n.of(family))
    yield NftSet(f"gateways{family}", f"type {address};", gateways)
    yield interval("unprotected", subnets(n for n in guarded if open_modes.get(n.name) == "nat-unprotected"))
    yield interval("routed", subnets(n for n in guarded if open_modes.get(n.name) == "routed"))
    yield interval("masqueraded", subnets(n for n in out if not sources.get(n.name)))
    yield NftSet(
        f"sources{family}",
        f"type {address} : {address}; flags interval;",
        _sorted(f"{subnet.subnet} : {sources[n.name]}" for n in out if sources.get(n.name) for subnet in n.of(family)),
    )


def _port_maps(ports: Sequence[PublishedPort], family: int) -> Iterable[NftSet]:
    """Single ports in hash maps, ranges with unchanged numbers in interval maps; other ranges port by port."""
    address = NFT_TYPE[family]
    single: dict[bool, list[str]] = {True: [], False: []}
    ranges: dict[bool, list[str]] = {True: [], False: []}
    opened: set[str] = set()
    open_ranges: set[str] = set()
    for port in ports:
        if port.family != family:
            continue
        alike = port.published == port.target and port.published[0] != port.published[1]
        bound_to = f"{port.host_ip} . " if port.host_ip else ""
        single_target = port.translated and port.weight is None  # a port of several tasks: see _publish
        if single_target and alike:
            ranges[bool(bound_to)].append(f"{bound_to}{port.protocol} . {_range(port.published)} : {port.address}")
        elif single_target:
            numbers = zip(range(port.published[0], port.published[1] + 1), range(port.target[0], port.target[1] + 1))
            single[bool(bound_to)] += [
                f"{bound_to}{port.protocol} . {one} : {port.address} . {to}" for one, to in numbers
            ]
        target = f"{port.address} . {port.protocol} . {_range(port.target)}"
        (opened if port.target[0] == port.target[1] else open_ranges).add(target)
    service = "inet_proto . inet_service"
    served = _served_ports(ports, family)
    yield from [served] if served.elements else []
    for bound, suffix, key in ((True, "", f"{address} . {service}"), (False, "_any", service)):
        for name, kind, elements in (
            ("ports", f"type {key} : {address} . inet_service;", single[bound]),
            ("ranges", f"type {key} : {address}; flags interval;", ranges[bound]),
        ):
            yield NftSet(f"{name}{family}{suffix}", kind, _sorted(elements), UDP_PORTS)
    yield NftSet(f"open{family}", f"type {address} . {service};", _sorted(opened))
    yield NftSet(f"open_ranges{family}", f"type {address} . {service}; flags interval;", _sorted(open_ranges))


def _served_ports(ports: Sequence[PublishedPort], family: int) -> NftSet:
    """Bookkeeping set, used by no rule: removing an element deletes its conntrack entries."""
    elements = {
        f"{item.port.protocol} . {_range(item.port.published)} . {address}"
        for item in shared_ports(ports)
        for address, _weight in item.weights
        if item.port.family == family
    }
    kind = f"type inet_proto . inet_service . {NFT_TYPE[family]}; flags interval;"
    return task_set(HOST_TASKS, family, kind, _sorted(elements))


def _range(numbers: tuple[int, int]) -> str:
    return str(numbers[0]) if numbers[0] == numbers[1] else f"{numbers[0]}-{numbers[1]}"


def _sorted(elements: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(elements))


def _unmanaged(rules: HostRules) -> Chain:
    """Forwarded traffic that is not of our networks.  With br_netfilter this includes frames on foreign bridges.

    A Docker Engine guards what is from and to its bridges itself, and wants it forwarded.
    """
    verdicts = {family: "drop" if family in rules.closed else "accept" for family in _FAMILIES}
    return Chain(
        OTHERS,
        rules=(
            "iifname . oifname @foreign_bridge_pairs accept",
            f"iifgroup {OPEN_GROUP} goto mark_and_accept",
            f"oifgroup {OPEN_GROUP} goto mark_and_accept",
            "iifname @docker_bridges accept",
            "oifname @docker_bridges accept",
            *(f"meta nfproto ipv4 iifname {link} accept" for link in nameable_links(rules.routing)),
            *(f"meta nfproto ipv{family} {verdict}" for family, verdict in verdicts.items()),
        ),
    )


def _both(text: str) -> list[str]:
    """A rule for each family: ``IP`` is replaced by its keyword, ``N`` by its number."""
    return [text.replace("IP", NFT_PROTOCOL[family]).replace("N", str(family)) for family in _FAMILIES]


def _forward(rules: HostRules) -> Chain:
    """Isolation.  Traffic that is not for one of our bridges is accepted here: a Docker Engine guards its own."""
    judged = f"oifgroup != {LINK_GROUP}"
    docker = [
        f'{judged} oifname "docker*" accept',
        f'{judged} oifname "br-*" accept',
        "oifname @foreign_bridges accept",
    ]
    return Chain(
        "forward",
        # Before other programs' chains, which may want to see what was accepted here.
        "type filter hook forward priority -1; policy accept",
        (
            "jump user_forward",
            f"iifgroup != {LINK_GROUP} oifgroup != {LINK_GROUP} goto {OTHERS}",
            # Before the rule for established connections, as an internal network must not have any to the outside.
            "iifname @internal iifname . oifname != @icc_enabled drop",
            "oifname @internal iifname . oifname != @icc_enabled drop",
            "ct state established,related goto mark_and_accept",
            "ct state invalid drop",
            "iifname . oifname @icc_enabled goto mark_and_accept",
            *_both("IP daddr . meta l4proto . th dport @openN goto mark_and_accept"),
            *_both("IP daddr . meta l4proto . th dport @open_rangesN goto mark_and_accept"),
            *_both("IP daddr @unprotectedN goto mark_and_accept"),
            *(f"{NFT_PROTOCOL[f]} daddr @routed{f} meta l4proto {_ICMP[f]} goto mark_and_accept" for f in _FAMILIES),
            "oifname @bridges drop",
            *(["oifname @uplinks goto mark_and_accept", *docker] if rules.marked else ()),
            "goto mark_and_accept",
        ),
    )


def _direct_access(rules: HostRules) -> Chain:
    """Drops packets to a sandbox's address that come in by another link than its bridge, and to the host's loopback.

    See moby#45610.  Their sources are checked by `source_chains`.
    """
    return Chain(
        "direct_access",
        # After conntrack, which recognises answers, and before DNAT, which replaces the destination.
        "type filter hook prerouting priority -150; policy accept",
        (
            *untracked_tunnels(rules.overlays),
            'iifname "lo" accept',
            "ip daddr 127.0.0.0/8 drop",
            # With route_localnet, the kernel accepts all of it but 127.0.0.1.
            "ip saddr 127.0.0.0/8 drop",
            "ct state established,related accept",
            # The kernel drops these itself for IPv4, but not for IPv6.
            "iifname @bridges fib saddr type local drop",
            # A bridge without an address would accept packets for the host's other addresses.
            *_both("iifname @isolatedN meta nfproto ipvN fib daddr type local drop"),
            *_both("iifname @bridges IP daddr @gatewaysN accept"),
            *_both("IP daddr @guardedN IP daddr . iifname != @subnet_interfacesN drop"),
        ),
    )


def _publish(ports: Sequence[PublishedPort]) -> Iterable[str]:
    """The rules that translate published ports.  Not for ``::1``, as the kernel cannot route the answers back."""
    yield "ip6 daddr ::1 return"
    for family in _FAMILIES:
        key = "meta l4proto . th dport"
        for name in ("ports", "ranges"):
            yield f"dnat {NFT_PROTOCOL[family]} to {NFT_PROTOCOL[family]} daddr . {key} map @{name}{family}"
            yield f"dnat {NFT_PROTOCOL[family]} to {key} map @{name}{family}_any"
    for item in shared_ports(ports):
        port, weights = item.port, [(address, weight) for address, weight in item.weights if weight]
        at = f"{NFT_PROTOCOL[port.family]} daddr {port.host_ip} " if port.host_ip else ""
        if weights:
            rules = translations(port.protocol, port.published, port.target, weights, port.family)
            yield from (f"{at}{rule}" for rule in rules)


def _postrouting() -> Chain:
    return Chain(
        "postrouting",
        "type nat hook postrouting priority 100; policy accept",
        (
            # From the host's loopback to a published port: the sandbox needs a source address that it can answer.
            "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
            # From a sandbox to its own network through a published port: the answer has to come back through the host.
            *_both("IP saddr . oifname @subnet_interfacesN ct status dnat masquerade"),
            *_both("oifname != @bridges snat IP to IP saddr map @sourcesN"),
            *_both("IP saddr @masqueradedN oifname != @bridges masquerade"),
        ),
    )
