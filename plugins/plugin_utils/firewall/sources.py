# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Anti-spoofing: rules about the source of a packet.  Pure.

There are two checks.  At its bridge port, a sandbox may send only from its own MAC and IP addresses, and from prefixes
that it routes (`bridge_table`, `segment_table`).  Before conntrack, the host accepts from a bridge only addresses of
its network, and accepts these from nowhere else (`source_chains`): so no forged packet begins a connection or looks
like an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address

from ...module_utils.plan import forms
from ...module_utils.plan.families import FORWARDING, NFT_PROTOCOL, NFT_TYPE, family_of
from ...module_utils.plan.marks import EVPN_NAMESPACE, LINK_GROUP, TRUNK_GROUP, table_name
from ...module_utils.plan.nftables import Chain, Nftables, NftSet
from ..declaration.topology import Endpoint, Network
from ..drivers.base import PlannedEndpoint, PlannedNetwork, by_network
from ..drivers.registry import driver_of
from ..ipam.identifiers import port_group, port_name
from ..networks.evpn import ROLE as EVPN_ROLE
from .kernel_settings import closed_families
from .overlays import PREROUTING

_FAMILIES = (4, 6)

_TARGET = "@th,64,128"
"""The target address of neighbour discovery, 8 octets into ICMPv6 (RFC 4861 §4).  nft 1.0.6 has no name for it."""
_TYPES = {
    "mac": "typeof iifname . ether saddr;",
    "ipv4": "typeof iifname . ip saddr;",
    "ipv6": "typeof iifname . ip6 saddr;",
    "target": f"typeof iifname . {_TARGET};",
    "flow4": "typeof iifname . ether saddr . ether type . ip saddr;",
    "flow6": "typeof iifname . ether saddr . ether type . ip6 saddr . meta l4proto;",
}

_KNOWN = tuple(
    # The type as it is in the frame, so that no tag of a VLAN is before the packet.
    f"iifname . ether saddr . ether type . {source} @allowed_{kind} accept"
    for kind, source in (("flow4", "ip saddr"), ("flow6", "ip6 saddr . meta l4proto"))
)
"""What nearly all packets are, in one lookup; whatever is not among it meets `_PORT_CHAINS`, which decide the same.

Of IPv6 it is TCP and UDP: neighbour discovery has rules of its own.
"""

_NO_SOURCE4 = "ip saddr 0.0.0.0 ip daddr { 224.0.0.0/24, 255.255.255.255 } accept"
"""Packets without a source address: DHCP, and IGMP on a link without an address."""


def link_local(mac: str) -> str:
    """The address of scope link that a link with this MAC address has (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + host))


def routed_by(declared: Iterable[Network | Endpoint]) -> dict[str, set[str]]:
    """By gateway, the prefixes of all declared routes through it."""
    result: dict[str, set[str]] = {}
    for owner in declared:
        for route in owner.routes:
            result.setdefault(route.gateway, set()).add(route.destination)
    return result


def _declared_on(network: PlannedNetwork, endpoints: Iterable[PlannedEndpoint]) -> dict[str, set[str]]:
    """`routed_by` for a network, including the endpoints on other hosts if it spans hosts."""
    if network.spanning is not None:
        mates: Iterable[Endpoint] = network.spanning.routing
    else:
        mates = (item.endpoint for item in endpoints)
    return routed_by([network.network, *mates])


def _answering(endpoint: PlannedEndpoint, mates: Iterable[PlannedEndpoint]) -> set[str]:
    """The sandbox's addresses on its other networks that it may answer from by this one.

    In gateway mode routed or nat-unprotected, others can connect to these addresses directly.
    """
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
    """By endpoint id, the prefixes that it may send from besides its own addresses; only endpoints with such."""
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
    """By network, the prefixes that packets from it may have besides its subnets: `forwarded_sources`, and prefixes
    behind gateways that are not sandboxes.
    """
    result: dict[str, set[str]] = {}
    for name, group in by_network(endpoints).items():
        own = {subnet.gateway for subnet in group[0].network.subnets}
        routed = _declared_on(group[0].network, group)
        found = {prefix for gateway, prefixes in routed.items() if gateway not in own for prefix in prefixes}
        result[name] = found.union(*(forwarded.get(endpoint.id, ()) for endpoint in group))
    return result


def idle_routers(endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """Warnings about sandboxes that are the gateway of a declared route and do not forward."""
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
                        f"{box.name} is the gateway of the route to {', '.join(sorted(routed[address]))}, but does not "
                        f"forward: set `{FORWARDING[family]}: 1` in its sysctls"
                    )
    return found


# --- At a sandbox's bridge port ---

_PORT_CHAINS = (
    Chain(
        "from_port",
        rules=(
            # The other rules do not look behind a VLAN tag, and a receiver removes a tag of VLAN 0.
            "ether type { 8021q, 8021ad } drop",
            # Before the bridge learns, so that nobody can fill its table or claim another's MAC address.
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
            # A sandbox must not announce itself as a router.
            "icmpv6 type { nd-router-advert, nd-redirect } drop",
            f"icmpv6 type nd-neighbor-advert iifname . {_TARGET} != @allowed_target drop",
            # From the unspecified address only duplicate address detection and MLD reports are accepted.
            f"ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . {_TARGET} @allowed_target accept",
            "ip6 saddr :: icmpv6 type { mld-listener-report, mld2-listener-report } accept",
        ),
    ),
    Chain(
        "from_arp",
        rules=(
            "iifname . arp saddr ip @allowed_ipv4 accept",
            # Linux sends ARP requests from the address that it is going to send from (arp_announce).
            "iifname . arp saddr ip @routed_ipv4 accept",
            "arp saddr ip 0.0.0.0 iifname . arp daddr ip @allowed_ipv4 accept",
            "drop",
        ),
    ),
)
"""In order of evaluation: the base chain's rules lead to the first of these chains."""


def _port_table(
    namespace: str, project: str, role: str, endpoints: Sequence[PlannedEndpoint], rules: Sequence[str]
) -> Nftables:
    """A table whose base chain has the rules and then checks the sources of each endpoint's packets."""
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
        chains=(*_PORT_CHAINS, Chain("prerouting", hook, (*rules, "goto from_port"))),
    )


def _spoken(endpoint: PlannedEndpoint) -> Iterable[tuple[str, str]]:
    """The addresses that an endpoint may send from, by kind; with IPv6 also its link-local address."""
    mac = forms.mac(endpoint.mac)
    yield "mac", mac
    has_ipv6 = 6 in map(family_of, endpoint.addresses)
    spoken = (*endpoint.addresses, *endpoint.endpoint.link_local_ips, *([link_local(endpoint.mac)] if has_ipv6 else ()))
    for address in map(forms.address, spoken):
        if family_of(address) == 6:
            yield "ipv6", address
            yield "target", f"0x{ip_address(address).packed.hex()}"
            for protocol in (6, 17):  # a host may lack the names
                yield "flow6", f"{mac} . 0x86dd . {address} . {protocol}"
        else:
            yield "ipv4", address
            yield "flow4", f"{mac} . 0x0800 . {address}"


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
    """The table that checks the sources of packets from sandboxes on the host's bridges.

    ``endpoints`` may include those of other networks; ``forwarded`` is `forwarded_sources`.  Our ports have the link
    group of their network; other ports of a bridge are not checked.  What comes by an overlay is not for the host.
    """
    groups = {network.name: port_group(network.id) for network in networks}
    apart = [groups[network.name] for network in networks if network.tunnel is not None]
    own = [endpoint for endpoint in endpoints if endpoint.network.name in groups]
    table = _port_table("", project, "bridges", own, [*_KNOWN, "iifgroup != @networks accept"])
    known = NftSet("networks", "type devgroup;", tuple(sorted(map(str, groups.values()))))
    if apart:
        # What comes by an overlay is not for the host, whether from a port or a tunnel: no ARP and no multicast either.
        kept = NftSet("apart", "type devgroup;", tuple(sorted(map(str, [TRUNK_GROUP, *apart]))))
        hook = "type filter hook input priority -300; policy accept"
        return _with(
            table,
            [known, kept, *_routed_sets(own, forwarded)],
            [Chain("input", hook, ("iifgroup @apart drop",))],
        )
    return _with(table, [known, *_routed_sets(own, forwarded)])


def segment_table(
    project: str,
    networks: Sequence[PlannedNetwork],
    endpoints: Sequence[PlannedEndpoint],
    forwarded: Mapping[str, set[str]],
) -> Nftables:
    """The same in a namespace of segments, for all networks that have theirs there.

    ``endpoints`` are those of the networks on this host.
    """
    segments = [segment for network in networks if (segment := driver_of(network).segment(network)) is not None]
    trunks = sorted(forms.nft_link(segment.trunk) for segment in segments)
    rules = [f"iifname {trunks[0] if len(trunks) == 1 else '{ ' + ', '.join(trunks) + ' }'} accept", *_KNOWN]
    place = segments[0].namespace
    if not place.startswith(EVPN_NAMESPACE):
        return _with(
            _port_table(place, project, f"network/{networks[0].name}", endpoints, rules),
            _routed_sets(endpoints, forwarded),
        )
    # Nothing but frames on their way is to come to where zebra is: no ARP and no multicast either.
    hook = "type filter hook input priority -300; policy accept"
    table = _port_table(place, project, EVPN_ROLE, endpoints, rules)
    return _with(table, _routed_sets(endpoints, forwarded), [Chain("input", hook, ("drop",))])


def _with(table: Nftables, sets: Sequence[NftSet], chains: Sequence[Chain] = ()) -> Nftables:
    return replace(table, sets=(*table.sets, *sets), chains=(*table.chains, *chains))


# --- On the host, before conntrack ---


def source_sets(
    own: Iterable[str],
    behind: Mapping[str, Iterable[str]],
    speakers: Mapping[str, Iterable[str]],
    ports: Iterable[int],
) -> Iterable[NftSet]:
    """The sets that only `source_chains` uses.

    ``own`` are the guarded bridges on which all ports are ours.  ``behind`` has, by bridge, the prefixes that its
    sandboxes may send from besides the network's subnets, ``speakers`` the sandboxes' addresses.  ``ports`` are the UDP
    ports of overlays.
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
    """The chains that accept a network's addresses only from its bridge, and from the bridge only these.

    The first is the base chain, which is also that of `overlay_chains`.
    """
    of_subnets = [
        f"{word} saddr @subnets{f} {word} saddr . iifname != @subnet_interfaces{f} drop"
        for f, word in NFT_PROTOCOL.items()
    ]
    return [
        Chain(
            "sources",
            PREROUTING,
            (f"iifgroup {LINK_GROUP} goto from_bridge", 'iif "lo" accept', *of_subnets),
        ),
        Chain(
            "from_bridge",
            rules=(
                # For any VNI and destination, as masqueraded VXLAN would look like the host's own.
                "udp dport @data_path drop",
                # A hash lookup; lookups in interval sets take several times as long.
                *(f"{word} saddr . iifname @speakers{f} accept" for f, word in NFT_PROTOCOL.items()),
                *(f"{word} saddr . iifname @subnet_interfaces{f} accept" for f, word in NFT_PROTOCOL.items()),
                *(f"{word} saddr . iifname @behind{f} accept" for f, word in NFT_PROTOCOL.items()),
                *(f"{word} saddr @subnets{f} drop" for f, word in NFT_PROTOCOL.items()),
                # A bridge of another project, which has its own rules, or one with foreign ports.
                "iifname != @own_bridges accept",
                # Neighbour discovery, MLD and DHCP: packets with such a source are never routed.
                "ip6 saddr fe80::/10 accept",
                "ip6 saddr :: ip6 daddr ff02::/16 accept",
                _NO_SOURCE4,
                "drop",
            ),
        ),
    ]
