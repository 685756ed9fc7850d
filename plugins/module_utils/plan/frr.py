# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resource: FRR of our own on a host, which tells other hosts of its endpoints by BGP EVPN; and the text it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import ClassVar

from .base import Key, Resource
from .records import dataclass

UNKNOWN = "record"
"""The flaw of one of which the host has lost what it was told."""
GROUP = "cnm"
"""The peer group that all sessions belong to."""
ADDRESS_FAMILY = "address-family l2vpn evpn"
HOLD_S, KEEPALIVE_S, CONNECT_S = 9, 3, 2
"""After this time without a sign of life a host's endpoints are gone; the time between signs; between two attempts."""
_SESSIONS = 5000
"""How many hosts may connect to a reflector; FRR's own default is 100."""


@dataclass(frozen=True)
class Frr(Resource):
    """zebra beside the overlays, bgpd in the host's namespace (RFC 7432, RFC 8365).

    The sessions' password is not in the plan.
    """

    kind: ClassVar[str] = "frr"
    asn: int
    local: str
    """The host's VTEP, an IPv4 address: where its sessions come from, and its router ID."""
    reflectors: tuple[str, ...] = ()
    """The route reflectors' addresses, sorted, without the host's own."""
    clients: tuple[str, ...] = ()
    """Of a route reflector: prefixes, sorted, from which hosts may connect to it."""
    fingerprint: str = ""
    """A digest of the password, so that a new password makes a new plan."""
    namespace: str = ""
    """That of the overlays."""
    flaws: dict[str, str] = field(default_factory=dict)
    """As found: what is not as it should be, by daemon."""

    @property
    def key(self) -> Key:
        return (self.kind, "evpn")

    @property
    def restorable(self) -> bool:
        return UNKNOWN not in self.flaws


def bgp_lines(item: Frr, password: str) -> Iterator[str]:
    """What ``router bgp`` has, line by line, as ``show running-config`` of FRR 8.4 to 10 has it in another order."""
    yield f"bgp router-id {item.local}"
    yield "no bgp default ipv4-unicast"
    yield f"neighbor {GROUP} peer-group"
    yield f"neighbor {GROUP} remote-as {item.asn}"
    yield f"neighbor {GROUP} password {password}"
    yield f"neighbor {GROUP} timers {KEEPALIVE_S} {HOLD_S}"
    yield f"neighbor {GROUP} timers connect {CONNECT_S}"
    yield f"neighbor {GROUP} update-source {item.local}"
    yield from (f"neighbor {address} peer-group {GROUP}" for address in item.reflectors)
    if item.clients:
        yield f"bgp listen limit {_SESSIONS}"
        yield from (f"bgp listen range {prefix} peer-group {GROUP}" for prefix in item.clients)


def evpn_lines(item: Frr) -> Iterator[str]:
    """What ``address-family l2vpn evpn`` has below it."""
    yield f"neighbor {GROUP} activate"
    if item.clients:
        yield f"neighbor {GROUP} route-reflector-client"
    yield "advertise-all-vni"


def bgpd_text(item: Frr, password: str) -> str:
    """The configuration of bgpd."""
    return "\n".join(
        (
            f"router bgp {item.asn}",
            *(f" {line}" for line in bgp_lines(item, password)),
            f" {ADDRESS_FAMILY}",
            *(f"  {line}" for line in evpn_lines(item)),
            " exit-address-family",
            "exit",
            "",
        )
    )
