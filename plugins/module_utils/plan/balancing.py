# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: virtual servers of IPVS."""

from __future__ import annotations

from typing import ClassVar

from .base import Key, Resource
from .records import dataclass


@dataclass(frozen=True)
class RealServer:
    """Where a virtual server sends connections."""

    address: str
    weight: int = 1
    """Its share of new connections; with 0 it gets none, and open ones continue."""
    port: int = 0
    """0 keeps the destination port."""
    method: str = "masquerade"
    """The forwarding method: ``masquerade``, ``direct`` or ``tunnel`` (IPIP)."""
    upper: int = 0
    lower: int = 0
    """At the upper number of connections it gets no new ones until it has fewer than the lower one; 0 is no limit."""


@dataclass(frozen=True)
class Ipvs(Resource):
    """A virtual server of IPVS, identified by a packet mark or by protocol, address and port.

    They cannot carry a mark: in our namespaces all are ours, elsewhere only those that a module names.
    """

    kind: ClassVar[str] = "ipvs"
    namespace: str
    family: int = 4
    """4 or 6; a mark can have one virtual server of each."""
    mark: int = 0
    protocol: str = ""
    """``tcp``, ``udp`` or ``sctp``."""
    address: str = ""
    port: int = 0
    scheduler: str = "rr"
    flags: tuple[str, ...] = ()
    """``fallback`` and ``port`` of the schedulers sh and mh, ``one_packet``; sorted."""
    persistence: int = 0
    """Seconds for which a client stays with its real server; 0 turns this off."""
    prefix: int = 0
    """Prefix length by which clients are grouped for that; 0 is the whole address."""
    servers: tuple[RealServer, ...] = ()
    """Sorted by address and port."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def name(self) -> str:
        """Its identity: ``mark 0x0a000009 ipv4``, ``tcp 10.0.0.9:80``."""
        if self.mark:
            return f"mark {self.mark:#010x} ipv{self.family}"
        address = f"[{self.address}]" if self.family == 6 else self.address
        return f"{self.protocol} {address}:{self.port}"

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()


@dataclass(frozen=True)
class IpvsTimeouts(Resource):
    """A namespace's IPVS timeouts of idle connections in seconds; the defaults are the kernel's."""

    kind: ClassVar[str] = "ipvs_timeouts"
    namespace: str
    tcp: int = 900
    tcp_fin: int = 120
    udp: int = 300

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()
