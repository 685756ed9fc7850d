# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Rules of the host's table about VXLAN: which senders are accepted for our VNIs, and which VNIs must be encrypted.

VXLAN and Geneve do not authenticate senders (see CVE-2020-10136).  Only our own VNIs are filtered; others pass.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...module_utils.plan.families import NFT_PROTOCOL, family_of
from ...module_utils.plan.forms import address
from ...module_utils.plan.marks import LINK_GROUP, OPEN_GROUP, request_id
from ...module_utils.plan.nftables import Chain, NftSet
from ..drivers.base import PlannedNetwork

_VNI = "@th,96,24"
"""The VNI, after eight octets of UDP and four of VXLAN (RFC 7348 §5) or Geneve (RFC 8926 §3.4).  Conntrack has
reassembled fragments before."""

PREROUTING = "type filter hook prerouting priority -300; policy accept"
"""After reassembly (-400), so that VXLAN cannot pass in fragments; before conntrack (-200)."""


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


def overlay_chains(
    project: str,
    networks: Sequence[PlannedNetwork],
    underlay: str = "",
    before: Chain = Chain("overlay_prerouting", PREROUTING),  # noqa: B008 - frozen
) -> list[Chain]:
    """The chains that go with `overlay_sets`; ``underlay`` is the link that has the host's VTEP, if known.

    ``before`` is the chain of `PREROUTING` that goes on with packets that are none of ours: one chain costs a packet
    less than two.
    """
    known = [(network.tunnel, network) for network in networks if network.tunnel is not None]
    if not known:
        return [before] if before.rules else []
    own = _own(networks)
    vxlan = f"{_to_tunnels(networks)} {_VNI}"
    sent = [
        # VXLAN that a sandbox or another host sends through this one, and that would be masqueraded as this host's.
        # What is not translated leaves at the first condition.
        f"ct status snat {vxlan} @vnis ct original {NFT_PROTOCOL[family_of(own)]} saddr != {own} drop"
    ]
    received = [f"{vxlan} @vnis jump overlay_received"]
    if underlay:
        # What nearly all of it is, in one lookup: what `overlay_received` would accept, too.
        word = NFT_PROTOCOL[family_of(own)]
        here = f'iifname "{underlay}" {word} daddr {own}'
        received.insert(0, f"{here} {vxlan} . {word} saddr @vteps{family_of(own)} notrack accept")
    chains = [
        # Before conntrack, so that forged packets create no entry.
        replace(before, rules=(*received, *before.rules)),
        _received(underlay),
        _base("overlay_output", "output", -300, [f"{vxlan} @vnis goto overlay_sent"]),
        Chain(
            "overlay_sent",
            rules=(
                # VXLAN packets of the kernel have no socket, or one in a sandbox's namespace, and so no user here.
                "meta skuid != 0 drop",
                # Tunnels of both directions have different ports, so conntrack never sees an answer: it would cost
                # each packet a lookup, and the host an entry for each flow, for nothing.
                "notrack",
            ),
        ),
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


def _received(underlay: str) -> Chain:
    """What becomes of packets to our tunnels that no single lookup has accepted."""
    return Chain(
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
            *([f'iifname "{underlay}" return'] if underlay else []),
            # For a route with several next hops, each of their links is accepted.  IPv6 checks a random one of them
            # (seen on 6.18), so it is not checked if the VTEP's link is unknown, as on fabrics with such routes.
            f"{'' if underlay else 'meta nfproto ipv4 '}fib saddr . iif oif missing fib daddr type local drop",
        ),
    )


def untracked_tunnels(networks: Sequence[PlannedNetwork]) -> list[str]:
    """The rule by which what `overlay_chains` accepted without conntrack leaves chains that ask for its state."""
    if not any(network.tunnel is not None for network in networks):
        return []
    own = _own(networks)
    return [f"ct state untracked {NFT_PROTOCOL[family_of(own)]} daddr {own} {_to_tunnels(networks)} accept"]


def _own(networks: Sequence[PlannedNetwork]) -> str:
    """The host's VTEP, the same for all of its networks."""
    return next(address(item.tunnel.vteps[item.host]) for item in networks if item.tunnel is not None)


def _to_tunnels(networks: Sequence[PlannedNetwork]) -> str:
    return f"udp dport {_any_of(sorted({item.tunnel.port for item in networks if item.tunnel is not None}))}"


def _any_of(ports: Sequence[int]) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{{ {', '.join(map(str, ports))} }}"


def _base(name: str, hook: str, priority: int, rules: Sequence[str]) -> Chain:
    return Chain(name, f"type filter hook {hook} priority {priority}; policy accept", tuple(rules))
