# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""All kinds of resources.  The imports are static, as Ansible sends only imported files to a host."""

from __future__ import annotations

from typing import Any

from ..kernel.host import Host
from . import file, own_namespaces, resolver
from .address import AddressKind
from .base import Kind
from .boot import BootKind
from .docker_user import DockerUserKind
from .fdb import FdbKind
from .file import FileKind
from .frr import FrrKind
from .ipvs import IpvsKind, IpvsTimeoutsKind
from .link.kind import LinkKind
from .link_manager import LinkManagerKind
from .names import NamesKind
from .namespace import NamespaceKind
from .neighbour import NeighbourKind
from .nftables import NftablesKind
from .resolved import ResolvedKind
from .resolver import ResolverKind
from .route import RouteKind
from .rule import RuleKind
from .shaping import ShapingKind
from .sysctl import SysctlKind
from .target import TargetKind
from .xfrm import XfrmKind


def read_ahead(host: Host) -> None:
    """Begin to read in another process, where that pays, what takes kinds longest."""
    looks = {file.FILES: lambda: file.look(host.project), resolver.RESOLVERS: lambda: resolver.look(host.project)}
    host.read_ahead(own_namespaces.recorded(host.project) or (), looks)


def kinds() -> list[Kind[Any]]:
    """An instance of each kind for one run, in the order of observation: parents first."""
    return [
        LinkManagerKind(),
        NamespaceKind(),
        LinkKind(),
        AddressKind(),
        FdbKind(),
        NeighbourKind(),
        ShapingKind(),
        RouteKind(),
        RuleKind(),
        SysctlKind(),
        NftablesKind(),
        DockerUserKind(),
        XfrmKind(),
        IpvsTimeoutsKind(),
        IpvsKind(),
        FileKind(),
        ResolverKind(),
        NamesKind(),
        ResolvedKind(),
        FrrKind(),
        BootKind(),
        TargetKind(),
    ]
