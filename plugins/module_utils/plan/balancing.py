# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: virtual servers of IPVS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Key, Resource


@dataclass(frozen=True)
class RealServer:
    """Where a virtual server sends connections."""

    address: str
    weight: int = 1
    """Its share of new connections; 0 is none, and those that are open go on."""
    port: int = 0
    """0 is the port that was called."""
    method: str = "masquerade"
    """How packets get there: ``masquerade``, ``direct`` or ``tunnel`` (IPIP)."""
    upper: int = 0
    lower: int = 0
    """It gets no new connections from the upper number of them on, until there are fewer than the lower; 0 is none."""


@dataclass(frozen=True)
class Ipvs(Resource):
    """A virtual server of IPVS, known by a packet mark or by protocol, address and port.

    They carry no mark of ours: in our namespaces all are ours, anywhere else those that are named.
    """

    kind: ClassVar[str] = "ipvs"
    namespace: str
    family: int = 4
    """4 or 6: of a mark there is one for each."""
    mark: int = 0
    protocol: str = ""
    """``tcp``, ``udp`` or ``sctp``."""
    address: str = ""
    port: int = 0
    scheduler: str = "rr"
    flags: tuple[str, ...] = ()
    """``fallback`` and ``port`` of the schedulers sh and mh, ``one_packet``; sorted."""
    persistence: int = 0
    """Seconds for which a caller stays with its real server; 0 is not at all."""
    prefix: int = 0
    """How much of their addresses callers have in common that stay together; 0 is all of it."""
    servers: tuple[RealServer, ...] = ()
    """Sorted by address and port."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def name(self) -> str:
        """By what it is known: ``mark 0x0a000009 ipv4``, ``tcp 10.0.0.9:80``."""
        if self.mark:
            return f"mark {self.mark:#010x} ipv{self.family}"
        address = f"[{self.address}]" if self.family == 6 else self.address
        return f"{self.protocol} {address}:{self.port}"

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()


@dataclass(frozen=True)
class IpvsTimeouts(Resource):
    """For how many seconds IPVS remembers a namespace's connections without a packet; the kernel's own by default."""

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
