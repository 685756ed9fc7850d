# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who may call a published port (``allow_from``): sets and chains of the host's table.  Pure.

What others send to the port is dropped while its destination is the host's own address: each packet, so that open
connections end, too.  What the host itself sends does not pass here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE, family_of
from ...module_utils.plan.nftables import Chain, NftSet
from ..declaration.addresses import network_of, within
from .published_ports import PublishedPort

_GUARDED = "guarded_ports"
_CALLERS = ("callers", "caller_prefixes")
"""Single addresses apart from prefixes: nft 1.0.6 cannot delete them from a set of ranges."""


def guarded_ports(ports: Iterable[PublishedPort]) -> list[PublishedPort]:
    """The ports of the host that not everybody may call."""
    return [item for item in ports if item.translated and item.allow_from is not None]


def caller_sets(ports: Sequence[PublishedPort]) -> Iterator[NftSet]:
    """By guarded port, at one address of the host or (``any``) at all, who may call it."""
    for family in (4, 6) if ports else ():
        address, length = NFT_TYPE[family], "/32" if family == 4 else "/128"
        found: dict[tuple[str, str], set[str]] = {
            (bound, kind): set() for bound in ("", "_any") for kind in (_GUARDED, *_CALLERS)
        }
        for port in ports:
            if port.family != family:
                continue
            bound, at = ("", f"{port.host_ip} . ") if port.host_ip else ("_any", "")
            prefixes = _outermost(text for text in port.allow_from or () if family_of(text) == family)
            for number in range(port.published[0], port.published[1] + 1):
                key = f"{at}{port.protocol} . {number}"
                found[bound, _GUARDED].add(key)
                for text in prefixes:
                    kind = _CALLERS[0 if text.endswith(length) else 1]
                    found[bound, kind].add(f"{key} . {text.removesuffix(length)}")
        for (bound, kind), elements in found.items():
            key = f"{'' if bound else f'{address} . '}inet_proto . inet_service"
            source = "" if kind == _GUARDED else f" . {address}"
            flags = " flags interval;" if kind == _CALLERS[1] else ""
            yield NftSet(f"{kind}{family}{bound}", f"type {key}{source};{flags}", tuple(sorted(elements)))


def _outermost(prefixes: Iterable[str]) -> list[str]:
    """The prefixes that are not inside another one, as nft allows no overlaps."""
    every = list(dict.fromkeys(prefixes))
    return [
        text
        for text in every
        if not any(other != text and within(network_of(text), network_of(other)) for other in every)
    ]


def caller_chains(ports: Sequence[PublishedPort]) -> Iterator[Chain]:
    """The chains that go with `caller_sets`."""
    called: list[str] = []
    for family, word in NFT_PROTOCOL.items() if ports else ():
        for bound, where, at in (
            ("", "", f"{word} daddr . "),
            ("_any", f"meta nfproto ipv{family} fib daddr type local ", ""),
        ):
            name, key = f"callers_of{family}{bound}", f"{at}meta l4proto . th dport"
            called.append(f"{where}{key} @{_GUARDED}{family}{bound} goto {name}")
            passing = (f"{key} . {word} saddr @{kind}{family}{bound} return" for kind in _CALLERS)
            yield Chain(name, rules=(*passing, "drop"))
    if called:
        # After conntrack, as fragments are whole then, and before DNAT.
        hook = "type filter hook prerouting priority -140; policy accept"
        yield Chain("port_callers", hook, ('iif "lo" accept', *called))
