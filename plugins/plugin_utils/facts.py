# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the probe found on a host, as the planner uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass(frozen=True)
class Facts:
    """One host's answer to the probe."""

    routes: tuple[tuple[str, str, Optional[str]], ...] = ()
    """``(prefix, link, gateway or None)`` of every route that is not ours; None means on link."""
    bridges: tuple[str, ...] = ()
    """Bridges that are not ours."""
    resolvers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """The host's own upstream resolvers and resolv.conf settings; loopback stubs already looked through."""
    forwarding_before: bool = False
    """Whether the host forwarded IPv4 before we first asked it to."""
    missing: tuple[str, ...] = ()
    """Programs it lacks: ``nft``, ``dnsmasq``."""
    has_table: bool = False
    """Whether our table is there: a run never removes it, the user may have rules in it."""
    revision: int = 0
    digest: str = ""
    leases: Mapping[str, Any] = field(default_factory=dict)
    """The kept plan's age, digest and part of the lease store."""

    @classmethod
    def from_probe(cls, result: Mapping[str, Any]) -> Facts:
        """Read the module probe's result."""
        return cls(
            routes=tuple((route["destination"], route["link"], route["via"]) for route in result["routes"]),
            bridges=tuple(result["bridges"]),
            resolvers=tuple(result["resolvers"]["servers"]),
            search=tuple(result["resolvers"]["search"]),
            options=tuple(result["resolvers"]["options"]),
            forwarding_before=bool(result["forwarding_before"]),
            missing=tuple(result["missing"]),
            has_table=bool(result["has_table"]),
            revision=int(result["kept"].get("revision", 0)),
            digest=str(result["kept"].get("digest", "")),
            leases=result["kept"].get("leases", {}),
        )
