# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host's table and the sandbox's, as nftables resources.

The rules are fixed; what grows with networks stands in sets.  Whatever is neither from nor to a bridge of ours leaves
the table at the second rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..module_utils.plan import LINK_GROUP, OTHERS, Chain, Collection, Nftables, table_name
from .drivers.base import PlannedNetwork
from .drivers.bridge import ICC, MASQUERADE

RESOLVER_ADDRESS = "127.0.0.11"
RESOLVER_PORT = 20053


def host_table(
    project: str, networks: Sequence[tuple[PlannedNetwork, str]], forwarding_before: bool, foreign: Sequence[str]
) -> Nftables:
    """The host's table for these networks and their bridges; ``foreign`` are the bridges of others.

    A host that did not forward before us goes on dropping what is not ours: turning forwarding on for the sandboxes
    must not make it a router between its other links.
    """
    quoted = {network.name: f'"{bridge}"' for network, bridge in networks}
    connected = [n for n, _bridge in networks if n.network.option(ICC, "true") != "false"]
    masqueraded = [
        n for n, _bridge in networks if not n.network.internal and n.network.option(MASQUERADE, "true") != "false"
    ]
    return Nftables(
        namespace="",
        family="inet",
        name=table_name(project),
        role="host",
        collections=(
            Collection("bridges", "type ifname;", tuple(sorted(quoted.values()))),
            Collection(
                "connected",
                "type ifname . ifname;",
                tuple(sorted(f"{quoted[n.name]} . {quoted[n.name]}" for n in connected)),
            ),
            Collection("foreign", "type ifname . ifname;", tuple(f'"{name}" . "{name}"' for name in sorted(foreign))),
            Collection(
                "internal", "type ifname;", tuple(sorted(quoted[n.name] for n, _b in networks if n.network.internal))
            ),
            Collection(
                "masqueraded",
                "type ipv4_addr; flags interval;",
                tuple(sorted(subnet.subnet for n in masqueraded for subnet in n.subnets)),
            ),
        ),
        chains=(
            Chain("user_forward", user=True),
            # With br_netfilter a foreign bridge's own frames come by here too: they are not routed.
            Chain(OTHERS, rules=("iifname . oifname @foreign accept", "accept" if forwarding_before else "drop")),
            Chain(
                "forward",
                "type filter hook forward priority 0; policy accept",
                (
                    "jump user_forward",
                    f"iifgroup != {LINK_GROUP} oifgroup != {LINK_GROUP} goto {OTHERS}",
                    "ct state established,related accept",
                    "ct state invalid drop",
                    "iifname . oifname @connected accept",
                    "oifname @bridges drop",
                    "iifname @internal drop",
                ),
            ),
            Chain(
                "postrouting",
                "type nat hook postrouting priority 100; policy accept",
                ("ip saddr @masqueraded oifname != @bridges masquerade",),
            ),
        ),
    )


def sandbox_table(project: str, sandbox: str) -> Nftables:
    """What leads 127.0.0.11:53 to the sandbox's resolver, so that port 53 stays free for the sandbox itself."""
    return Nftables(
        namespace=sandbox,
        family="inet",
        name=table_name(project),
        role=f"resolver/{sandbox}",
        chains=(
            Chain(
                "output",
                "type nat hook output priority -100; policy accept",
                tuple(
                    f"ip daddr {RESOLVER_ADDRESS} {protocol} dport 53 dnat ip to {RESOLVER_ADDRESS}:{RESOLVER_PORT}"
                    for protocol in ("udp", "tcp")
                ),
            ),
        ),
    )
