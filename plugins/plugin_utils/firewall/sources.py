# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Anti-spoofing: rules about the source of a packet.  Pure.

Two places ask.  At its port of a bridge a sandbox sends with its own MAC and IP addresses, and what it routes for
others with theirs (`bridge_table`, `segment_table`).  Before conntrack the host takes from a bridge the addresses of
that bridge's network alone, and those of no network from anywhere else (`source_chains`): so no forged packet begins a
connection, and none is taken for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address

from ...module_utils.plan import forms
from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE, family_of
from ...module_utils.plan.marks import LINK_GROUP, table_name
from ...module_utils.plan.nftables import Chain, Nftables, NftSet
from ..declaration.topology import Endpoint, Network
from ..drivers.base import PlannedEndpoint, PlannedNetwork, by_network
from ..drivers.registry import driver_of
from ..ipam.identifiers import port_group, port_name
from .kernel_settings import FORWARDING, closed_families

_FAMILIES = (4, 6)

_TARGET = "@th,64,128"
"""Whom neighbour discovery is about: 8 bytes into ICMPv6 (RFC 4861 §4).  nft 1.0.6 has no name for it yet."""
_TYPES = {
    "mac": "typeof iifname . ether saddr;",
    "ipv4": "typeof iifname . ip saddr;",
    "ipv6": "typeof iifname . ip6 saddr;",
    "target": f"typeof iifname . {_TARGET};",
}

_NO_SOURCE4 = "ip saddr 0.0.0.0 ip daddr { 224.0.0.0/24, 255.255.255.255 } accept"
"""Who has no address yet: DHCP, and IGMP on a link without an address."""


def link_local(mac: str) -> str:
    """The address of scope link that a link with this MAC address has (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + host))


def routed_by(declared: Iterable[Network | Endpoint]) -> dict[str, set[str]]:
    """By gateway the prefixes that are reached through it, of all who declare routes."""
    result: dict[str, set[str]] = {}
    for owner in declared:
        for route in owner.routes:
            result.setdefault(route.gateway, set()).add(route.destination)
    return result


def _declared_on(network: PlannedNetwork, endpoints: Iterable[PlannedEndpoint]) -> dict[str, set[str]]:
    """`routed_by` for a network: of one that spans hosts the endpoints on all of them declare routes."""
    if network.spanning is not None:
        mates: Iterable[Endpoint] = (member.endpoint for member in network.spanning.members.values())
    else:
        mates = (item.endpoint for item in endpoints)
    return routed_by([network.network, *mates])


def _answering(endpoint: PlannedEndpoint, mates: Iterable[PlannedEndpoint]) -> set[str]:
    """The sandbox's addresses on its other networks at which others call it, and from which it answers by this one."""
    families = {family_of(gateway) for gateway in endpoint.gateways}
    return {
        address
        for other in mates
        if other is not endpoint and not other.network.network.internal
        for forwarding in [other.network.network.traits.forwarding]
        if forwarding is not None
        for address in other.addresses
        for family in [family_of(address)]
        if family in families and forwarding.mode(family) in ("routed", "nat-unprotected")
    }


def forwarded_sources(endpoints: Sequence[PlannedEndpoint]) -> dict[str, set[str]]:
    """By endpoint id the prefixes that it may send from besides its own addresses, if there are any."""
    result: dict[str, set[str]] = {}
    boxes: dict[str, list[PlannedEndpoint]] = {}
    for endpoint in endpoints:
        boxes.setdefault(endpoint.sandbox.name, []).append(endpoint)
    for group in by_network(endpoints).values():
        routed = _declared_on(group[0].network, group)
        for endpoint in group:
            found = {prefix for address in endpoint.addresses for prefix in routed.get(address, ())}
            if endpoint.gateways:
                found |= _answering(endpoint, boxes[endpoint.sandbox.name])
            if found:
                result[endpoint.id] = found
    return result


def sources_behind(endpoints: Sequence[PlannedEndpoint], forwarded: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """By network the prefixes that come from it besides its subnets: `forwarded_sources`, and what is behind a gateway
    that is no sandbox of ours.
    """
    result: dict[str, set[str]] = {}
    for name, group in by_network(endpoints).items():
        own = {subnet.gateway for subnet in group[0].network.subnets}
        routed = _declared_on(group[0].network, group)
        found = {prefix for gateway, prefixes in routed.items() if gateway not in own for prefix in prefixes}
        result[name] = found.union(*(forwarded.get(endpoint.id, ()) for endpoint in group))
    return result


def idle_routers(endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """Warnings of sandboxes that are the gateway of a declared route and do not forward."""
    links: dict[str, list[Endpoint]] = {}
    for item in endpoints:
        links.setdefault(item.sandbox.name, []).append(item.endpoint)
    found = []
    for group in by_network(endpoints).values():
        routed = _declared_on(group[0].network, group)
        for item in group:
            box = item.sandbox
            closed = () if box.namespace.owner else closed_families(box, links[box.name])
            for address in item.addresses:
                family = family_of(address)
                if family in closed and address in routed:
                    found.append(
                        f"{box.name} is the gateway of the route to {', '.join(sorted(routed[address]))}, and forwards "
                        f"nothing: write `{FORWARDING[family]}: 1` in its sysctls"
                    )
    return found


# --- At a sandbox's port of a bridge ---

_PORT_CHAINS = (
    Chain(
        "from_port",
        rules=(
            # Rules do not look behind a tag, and who receives the frame takes off one of VLAN 0.
            "ether type { 8021q, 8021ad } drop",
            # Before the bridge learns: nobody fills its table, or moves another's address to himself.
            "iifname . ether saddr != @allowed_mac drop",
            "meta protocol vmap { ip : goto from_ipv4, ip6 : goto from_ipv6, arp : goto from_arp }",
        ),
    ),
    Chain(
        "from_ipv4",
        rules=(
            "iifname . ip saddr @allowed_ipv4 accept",
            "iifname . ip saddr @routed_ipv4 accept",
            _NO_SOURCE4,
            "drop",
        ),
    ),
    Chain(
        "from_ipv6",
        rules=(
            "meta l4proto 58 jump from_icmpv6",
            "iifname . ip6 saddr @allowed_ipv6 accept",
            "iifname . ip6 saddr @routed_ipv6 accept",
            "drop",
        ),
    ),
    Chain(
        "from_icmpv6",
        rules=(
            # No sandbox is a router to others unless it is declared.
            "icmpv6 type { nd-router-advert, nd-redirect } drop",
            f"icmpv6 type nd-neighbor-advert iifname . {_TARGET} != @allowed_target drop",
            # From nobody comes only the question whether one's own address is free, and who is in which group.
            f"ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . {_TARGET} @allowed_target accept",
            "ip6 saddr :: icmpv6 type { mld-listener-report, mld2-listener-report } accept",
        ),
    ),
    Chain(
        "from_arp",
        rules=(
            "iifname . arp saddr ip @allowed_ipv4 accept",
            # Linux asks in the name of the address that it is going to send from (arp_announce).
            "iifname . arp saddr ip @routed_ipv4 accept",
            "arp saddr ip 0.0.0.0 iifname . arp daddr ip @allowed_ipv4 accept",
            "drop",
        ),
    ),
)
"""The order is the point: a base chain of another rule each leads to the first."""


def _port_table(namespace: str, project: str, role: str, endpoints: Sequence[PlannedEndpoint], first: str) -> Nftables:
    """A table whose base chain has the rule ``first`` and then asks what each endpoint may send."""
    allowed: dict[str, set[str]] = {kind: set() for kind in _TYPES}
    for endpoint in endpoints:
        for kind, value in _spoken(endpoint):
            allowed[kind].add(f"{forms.nft_link(port_name(endpoint.id))} . {value}")
    hook = "type filter hook prerouting priority -300; policy accept"
    return Nftables(
        namespace=namespace,
        family="bridge",
        name=table_name(project),
        role=role,
        sets=tuple(
            NftSet(f"allowed_{kind}", declaration, tuple(sorted(allowed[kind]))) for kind, declaration in _TYPES.items()
        ),
        chains=(*_PORT_CHAINS, Chain("prerouting", hook, (first, "goto from_port"))),
    )


def _spoken(endpoint: PlannedEndpoint) -> Iterable[tuple[str, str]]:
    """As who an endpoint may speak; of IPv6, if it has any, by its address of scope link, too."""
    yield "mac", forms.mac(endpoint.mac)
    has_ipv6 = 6 in map(family_of, endpoint.addresses)
    for address in map(forms.address, (*endpoint.addresses, *([link_local(endpoint.mac)] if has_ipv6 else ()))):
        if family_of(address) == 6:
            yield "ipv6", address
            yield "target", f"0x{ip_address(address).packed.hex()}"
        else:
            yield "ipv4", address


def _routed_sets(endpoints: Sequence[PlannedEndpoint], forwarded: Mapping[str, set[str]]) -> list[NftSet]:
    elements: dict[int, set[str]] = {family: set() for family in _FAMILIES}
    for endpoint in endpoints:
        link = forms.nft_link(port_name(endpoint.id))
        for source in forwarded.get(endpoint.id, ()):
            text = (forms.prefix if "/" in source else forms.address)(source)
            elements[family_of(source)].add(f"{link} . {text}")
    return [
        NftSet(f"routed_ipv{f}", f"type ifname . {NFT_TYPE[f]}; flags interval;", tuple(sorted(elements[f])))
        for f in _FAMILIES
    ]


def bridge_table(
    project: str,
    networks: Sequence[PlannedNetwork],
    endpoints: Sequence[PlannedEndpoint],
    forwarded: Mapping[str, set[str]],
) -> Nftables:
    """The table of rules for what sandboxes may send onto the host's bridges.

    ``endpoints`` may be on other networks, too; ``forwarded`` is `forwarded_sources`.  Ports are known as their
    network's by their link group: what others have on a bridge is theirs.
    """
    groups = {network.name: port_group(network.id) for network in networks}
    own = [endpoint for endpoint in endpoints if endpoint.network.name in groups]
    table = _port_table("", project, "bridges", own, "iifgroup != @networks accept")
    known = NftSet("networks", "type devgroup;", tuple(sorted(map(str, groups.values()))))
    return _with(table, [known, *_routed_sets(own, forwarded)])


def segment_table(
    project: str, network: PlannedNetwork, endpoints: Sequence[PlannedEndpoint], forwarded: Mapping[str, set[str]]
) -> Nftables:
    """The same in a segment's own namespace.  ``endpoints`` are those of the network; other hosts see to theirs."""
    segment = driver_of(network).segment(network)
    if segment is None:
        raise ValueError(f"{network.name} has no segment")
    first = f"iifname {forms.nft_link(segment.trunk)} accept"
    table = _port_table(segment.namespace, project, f"network/{network.name}", endpoints, first)
    return _with(table, _routed_sets(endpoints, forwarded))


def _with(table: Nftables, more: Sequence[NftSet]) -> Nftables:
    return Nftables(table.namespace, table.family, table.name, table.role, (*table.sets, *more), chains=table.chains)


# --- On the host, before conntrack ---


def source_sets(
    own: Iterable[str],
    behind: Mapping[str, Iterable[str]],
    speakers: Mapping[str, Iterable[str]],
    ports: Iterable[int],
) -> Iterable[NftSet]:
    """The sets of `source_chains` that no other chain of the host's table has.

    ``own`` are the guarded bridges that nobody else has put anybody on; ``behind`` has by bridge the prefixes that its
    sandboxes may send from, beside the network's subnets, ``speakers`` their addresses; ``ports`` are those of UDP by
    which overlays travel.
    """
    yield NftSet("own_bridges", "type ifname;", tuple(sorted(f'"{name}"' for name in own)))
    yield NftSet("data_path", "type inet_service;", tuple(sorted(map(str, ports))))
    for family in _FAMILIES:
        kind = f"type {NFT_TYPE[family]} . ifname;"
        yield NftSet(f"behind{family}", f"{kind} flags interval;", _at(behind, family))
        yield NftSet(f"speakers{family}", kind, _at(speakers, family))


def _at(found: Mapping[str, Iterable[str]], family: int) -> tuple[str, ...]:
    """Addresses or prefixes of a family with their bridge."""
    pairs = ((item, bridge) for bridge, items in found.items() for item in items)
    return tuple(sorted({f'{item} . "{bridge}"' for item, bridge in pairs if family_of(item) == family}))


def source_chains() -> list[Chain]:
    """What comes from a network's bridge has an address of the network, and what comes from elsewhere has none.

    After what was in pieces is put together (-400), so that no VXLAN passes in some; before conntrack (-200).
    """
    of_subnets = [
        f"{word} saddr @subnets{f} {word} saddr . iifname != @subnet_interfaces{f} drop"
        for f, word in NFT_PROTOCOL.items()
    ]
    return [
        Chain(
            "sources",
            "type filter hook prerouting priority -300; policy accept",
            (f"iifgroup {LINK_GROUP} goto from_bridge", 'iif "lo" accept', *of_subnets),
        ),
        Chain(
            "from_bridge",
            rules=(
                # Whatever the VNI and to whomever: what leaves masqueraded would be taken for the host's own.
                "udp dport @data_path drop",
                # A look-up by hash; those of intervals cost several times as much.
                *(f"{word} saddr . iifname @speakers{f} accept" for f, word in NFT_PROTOCOL.items()),
                *(f"{word} saddr . iifname @subnet_interfaces{f} accept" for f, word in NFT_PROTOCOL.items()),
                *(f"{word} saddr . iifname @behind{f} accept" for f, word in NFT_PROTOCOL.items()),
                *(f"{word} saddr @subnets{f} drop" for f, word in NFT_PROTOCOL.items()),
                # Another project's, which guards it; or one with somebody else on it.
                "iifname != @own_bridges accept",
                # Neighbour discovery, MLD, DHCP: what has such a source is not routed.
                "ip6 saddr fe80::/10 accept",
                "ip6 saddr :: ip6 daddr ff02::/16 accept",
                _NO_SOURCE4,
                "drop",
            ),
        ),
    ]
