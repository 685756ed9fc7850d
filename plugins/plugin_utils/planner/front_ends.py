# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""ufw and firewalld on a host: the commands by which they let the networks' traffic by.

Our own rules decide on that traffic, so all of it may pass.  What a host has been told already is not asked again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from ...module_utils.plan.families import family_of
from ..facts import Facts
from ..networks.spanning import TunnelEnds

UFW, FIREWALLD = "ufw", "firewalld"

CHAINS = {
    UFW: frozenset(f"{family} filter {chain}" for family in ("ip", "ip6") for chain in ("FORWARD", "INPUT")),
    FIREWALLD: frozenset({"inet firewalld"}),
}
"""The chains of each, as the probe names them."""

Tunnels = Sequence[tuple[TunnelEnds, bool]]
"""A host's tunnels, and whether they are encrypted."""


def chains_of(facts: Facts) -> frozenset[str]:
    """Foreign chains that belong to a front end of the host."""
    return frozenset().union(*(CHAINS[name] for name in facts.front_ends))


def warnings(host: str, facts: Facts, bridges: Iterable[str], tunnels: Tunnels) -> list[str]:
    """What each front end that is active drops, with the commands that let it by."""
    found = []
    for name in facts.front_ends:
        commands: list[str] = []
        if CHAINS[name].intersection(facts.dropping):
            commands += [text for bridge in sorted(bridges) for text in _for_bridge(name, bridge, facts.let_by)]
        if CHAINS[name].intersection(facts.closed):
            commands += [
                text
                for word, peer, port in sorted(_from_others(host, tunnels))
                if _entry(word, peer, port) not in facts.let_by
                for text in (_for_peer(name, word, peer, port),)
            ]
        if commands and name == FIREWALLD:
            commands.append("firewall-cmd --reload")
        if commands:
            found.append(f"{name} drops traffic of the networks. As root on this host: {' && '.join(commands)}")
    return found


def _for_bridge(name: str, bridge: str, let_by: Sequence[str]) -> Iterator[str]:
    missing = [way for way in ("in", "out") if f"{way} {bridge}" not in let_by]
    word = shlex.quote(bridge)
    if name == UFW:
        yield from (f"ufw route allow {way} on {word}" for way in missing)
    elif missing:
        yield f"firewall-cmd --permanent --zone=trusted --add-interface={word}"


def _from_others(host: str, tunnels: Tunnels) -> set[tuple[str, str, int]]:
    """Protocol, address and port (0 for none) of what the other hosts send to this one."""
    found = set()
    for tunnel, encrypted in tunnels:
        for peer in {address for name, address in (tunnel.fabric or tunnel.vteps).items() if name != host}:
            # What has been decrypted comes by once more, as what it is then.
            found.add(("udp", peer, tunnel.port))
            if encrypted:
                found.add(("esp", peer, 0))
    return found


def _entry(protocol: str, peer: str, port: int) -> str:
    return f"{protocol} {peer} {port}"


def _for_peer(name: str, protocol: str, peer: str, port: int) -> str:
    if name == UFW:
        return f"ufw allow proto {protocol} from {peer}" + (f" to any port {port}" if port else "")
    what = f'port port="{port}" protocol="udp"' if port else f'protocol value="{protocol}"'
    rule = f'rule family="ipv{family_of(peer)}" source address="{peer}" {what} accept'
    return f"firewall-cmd --permanent --add-rich-rule='{rule}'"
