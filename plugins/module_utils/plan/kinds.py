# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""All kinds of resources and the checks of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .addresses import Address, Fdb, Neighbours, Route, Rule
from .balancing import Ipvs, IpvsTimeouts, RealServer
from .base import Resource
from .encryption import Xfrm
from .fields import FOUND, PLANNED, Check, part_of
from .frr import Frr
from .links import BridgePort, Geneve, Link, LinkManager, Namespace, Parent, VethPeer, Vxlan
from .nftables import Chain, DockerUser, Nftables, NftSet
from .settings import Boot, File, LoadedNames, Resolved, Resolver, Sysctl, Target
from .shaping import Shaping


def shared_by(resource: Resource) -> list[str]:
    """Digests of the shared texts that a resource names."""
    if isinstance(resource, (Fdb, Neighbours)):
        return [resource.table] if resource.table else []
    if isinstance(resource, File):
        return [digest for digests in resource.shared.values() for digest in digests]
    if isinstance(resource, Nftables):
        return [digest for item in resource.sets for digest in item.tables]
    if isinstance(resource, Xfrm):
        return list(resource.tables)
    return []


KINDS: dict[str, type[Resource]] = {
    cls.kind: cls
    for cls in (
        *(
            Nftables,
            DockerUser,
            Xfrm,
            Sysctl,
            Rule,
            LinkManager,
            Namespace,
            Link,
            Address,
            Fdb,
            Neighbours,
            Shaping,
            Route,
        ),
        *(Ipvs, IpvsTimeouts, File, Resolver, LoadedNames, Resolved, Frr, Boot, Target),
    )
}

PARTS: dict[tuple[str, str], tuple[type[Any], bool]] = {
    ("link", "peer"): (VethPeer, False),
    ("link", "port"): (BridgePort, False),
    ("link", "vxlan"): (Vxlan, False),
    ("link", "geneve"): (Geneve, False),
    ("link", "parent"): (Parent, False),
    ("nftables", "sets"): (NftSet, True),
    ("nftables", "chains"): (Chain, True),
    ("ipvs", "servers"): (RealServer, True),
}
"""The class of a field's value by kind and field, and whether it is a list."""


def _complete(table: Mapping[str, Mapping[str, Check]]) -> dict[str, dict[str, Check]]:
    """The checks of all fields by kind, including fields that hold parts."""
    result: dict[str, dict[str, Check]] = {kind: {"kind": str, **table[kind]} for kind in KINDS}
    for (kind, name), (cls, several) in PARTS.items():
        result[kind][name] = part_of(cls, table[cls.__name__], several)
    return result


PLANNED_CHECKS, FOUND_CHECKS = _complete(PLANNED), _complete(FOUND)
