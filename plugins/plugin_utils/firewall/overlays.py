# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Rules of the host's table about VXLAN: which senders are accepted for our VNIs, and which VNIs must be encrypted.

VXLAN and Geneve do not authenticate senders (see CVE-2020-10136).  Only our own VNIs are filtered; others pass.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...module_utils.plan.families import NFT_PROTOCOL, family_of
from ...module_utils.plan.forms import address
from ...module_utils.plan.marks import LINK_GROUP, OPEN_GROUP, request_id
from ...module_utils.plan.nftables import Chain, NftSet
from ..drivers.base import PlannedNetwork

_VNI = "@th,96,24"
"""The VNI, after eight octets of UDP and four of VXLAN (RFC 7348 §5) or Geneve (RFC 8926 §3.4).  Conntrack has
reassembled fragments before."""


def overlay_sets(networks: Sequence[PlannedNetwork]) -> list[NftSet]:
    """Sets of our VNIs on the host and of the VTEPs accepted for each; none without a tunnel."""
    own = [(network.tunnel, network.shared) for network in networks]
    found = [(tunnel, shared) for tunnel, shared in own if tunnel is not None and shared is not None]
    if not found:
        return []
    vnis = [tunnel.vni for tunnel, _shared in found]
    tables = tuple(sorted(shared.table for _tunnel, shared in found))
    return [
        NftSet("vnis", f"typeof {_VNI};", tuple(str(vni) for vni in sorted(vnis))),
        *(
            NftSet(f"vteps{family}", f"typeof {_VNI} . {word} saddr;", family=family, tables=tables)
            for family, word in NFT_PROTOCOL.items()
        ),
    ]


def overlay_chains(project: str, networks: Sequence[PlannedNetwork], underlay: str = "") -> list[Chain]:
    """The chains that go with `overlay_sets`; ``underlay`` is the link that has the host's VTEP, if known."""
    known = [(network.tunnel, network) for network in networks if network.tunnel is not None]
    if not known:
        return []
    tunnel, first = known[0]
    ports = sorted({tunnel.port for tunnel, _network in known})
    vxlan = f"udp dport {_any_of(ports)} {_VNI}"
    own = address(tunnel.vteps[first.host])
    sent = [
        # VXLAN that a sandbox or another host sends through this one, and that would be masqueraded as this host's.
        f"{vxlan} @vnis ct status snat ct original {NFT_PROTOCOL[family_of(own)]} saddr != {own} drop"
    ]
    chains = [
        # Before conntrack, so that forged packets create no entry.
        _base("overlay_prerouting", "prerouting", -300, [f"{vxlan} @vnis goto overlay_received"]),
        Chain(
            "overlay_received",
            rules=(
                f"iifgroup {{ {LINK_GROUP}, {OPEN_GROUP} }} drop",
                # Packets not for this host, routed or (with br_netfilter) bridged, may belong to another fabric.
                *(
                    f"{_VNI} . {word} saddr != @vteps{family} fib daddr type local drop"
                    for family, word in NFT_PROTOCOL.items()
                ),
                # Drop a host's address on another link, where it is forged.  On the underlay's own link a forged
                # address cannot be recognised.
                *([f'iifname "{underlay}" accept'] if underlay else []),
                # For a route with several next hops, each of their links is accepted.  IPv6 checks a random one of them
                # (seen on 6.18), so it is not checked if the VTEP's link is unknown, as on fabrics with such routes.
                f"{'' if underlay else 'meta nfproto ipv4 '}fib saddr . iif oif missing fib daddr type local drop",
            ),
        ),
        # VXLAN packets of the kernel have no socket, or one in a sandbox's namespace, and so no user here.
        _base("overlay_output", "output", -300, [f"{vxlan} @vnis meta skuid != 0 drop"]),
    ]
    encrypted = next((tunnel.port for tunnel, network in known if network.network.encrypted), None)
    if encrypted is not None:
        # A packet that XFRM will encrypt passes here before, marked for encryption, and then again as ESP.
        vxlan = f"udp dport {encrypted} {_VNI}"
        sent.append(f"{vxlan} @vnis rt ipsec missing drop")
        foreign = f"ipsec in reqid != {request_id(project)} drop"
        chains += [
            _base("overlay_input", "input", -300, [f"{vxlan} @vnis goto overlay_decrypted"]),
            Chain("overlay_decrypted", rules=("meta ipsec missing drop", foreign)),
        ]
    # After all chains that may change a packet's destination or source.
    return [*chains, _base("overlay_postrouting", "postrouting", 300, sent)]


def _any_of(ports: Sequence[int]) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{{ {', '.join(map(str, ports))} }}"


def _base(name: str, hook: str, priority: int, rules: Sequence[str]) -> Chain:
    return Chain(name, f"type filter hook {hook} priority {priority}; policy accept", tuple(rules))
