# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the model of a host says of policies: those that hold for its sandboxes, with their rules in words.  Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from ..declaration.policies import ICMP4, ICMP_TYPES, PROTOCOLS, WITH_PORTS
from ..declaration.topology import DIRECTIONS, EVERYTHING, ICMP, PORTS, PROTOCOL, Host, Match
from .model import PolicyRulesModel

_PORTS_OF = {number: word for word, number in WITH_PORTS.items()}
_NAMES: dict[tuple[str, int, int], str] = {
    **{(PROTOCOL, number, 0): word for word, numbers in PROTOCOLS.items() for number in numbers},
    **{(ICMP, *pair): word for word, pairs in ICMP_TYPES.items() for pair in pairs},
}


def policies_of(host: Host, names: Collection[str]) -> dict[str, PolicyRulesModel]:
    """The policies of these names."""
    return {
        policy.name: cast(
            "PolicyRulesModel",
            {
                direction: {
                    "default": policy.default(direction),
                    "rules": [
                        {
                            "action": rule.action,
                            "peers": [[peer.kind, peer.name] for peer in rule.peers],
                            "about": list(dict.fromkeys(text for each in rule.matches if (text := about(each)))),
                        }
                        for rule in policy.rules(direction)
                    ],
                }
                for direction in DIRECTIONS
            },
        )
        for policy in sorted(host.policies, key=lambda item: item.name)
        if policy.name in names
    }


def about(match: Match) -> str:
    """What a rule is about, as users write it: ``80/tcp``, ``icmp``, ``echo-request``; "" for everything."""
    if match.kind == EVERYTHING:
        return ""
    if match.kind == PORTS:
        numbers = str(match.first) if match.first == match.last else f"{match.first}-{match.last}"
        return f"{numbers}/{_PORTS_OF[match.protocol]}"
    if match.kind == PROTOCOL:
        return _NAMES.get((PROTOCOL, match.protocol, 0), str(match.protocol))
    known = _NAMES.get((ICMP, match.protocol, match.first))
    return known or f"{'icmp' if match.protocol == ICMP4 else 'icmpv6'}/{match.first}"
