# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: nftables tables, and the one rule in Docker's."""

from __future__ import annotations

from typing import ClassVar

from .base import Key, Resource
from .records import dataclass

UDP_PORTS = "udp"
"""Published ports: ``[address . ]protocol . port[-port] : target``."""
VIP_TASKS = "tasks"
"""The tasks of services by virtual IP: ``VIP . task``."""
INGRESS_TASKS, HOST_TASKS = "ingress", "local"
"""Tasks by published port, in the ingress sandbox and for callers on the host: ``protocol . port[-port] . task``."""
TASKS = (VIP_TASKS, INGRESS_TASKS, HOST_TASKS)

JUDGED, DROPPED, DROPPED_LATELY = "policy_", "policy_dropped_", "policy_lately_"
"""What the names of sets begin with that count packets of sandboxes with policies, by port."""
SIDES = {"ingress": "to", "egress": "from"}
"""What they end with: packets to the sandbox, and from it."""
LATELY = 3600
"""Seconds for which a port is in `DROPPED_LATELY` after the last packet that was dropped."""


@dataclass(frozen=True)
class Chain:
    """A chain of a table: ``hook`` is ``type filter hook forward priority 0``-like text, "" for a regular chain."""

    name: str
    hook: str = ""
    rules: tuple[str, ...] = ()
    user: bool = False
    """Whether the chain is the user's: created if missing, its content never compared or changed."""


@dataclass(frozen=True)
class NftSet:
    """A set or map of a table, its declaration and elements in nft's language."""

    name: str
    declaration: str
    """``type ifname;`` for a set, ``type ipv4_addr : verdict;`` for a map, with flags if any."""
    elements: tuple[str, ...] = ()
    tracks: str = ""
    """What its elements are if their conntrack entries are deleted when they change: `UDP_PORTS` or one of `TASKS`."""
    family: int = 0
    """4 or 6: the family of its elements' addresses, said by sets of `TASKS` and those with ``tables``."""
    tables: tuple[str, ...] = ()
    """Digests of the peer tables whose remote VTEPs of its family are its elements: ``VNI . VTEP``."""

    @property
    def noun(self) -> str:
        """``set`` or ``map``."""
        return "map" if ":" in self.declaration else "set"


def task_set(tracks: str, family: int, declaration: str = "", elements: tuple[str, ...] = ()) -> NftSet:
    """The set of a table that has the services' tasks, for conntrack: no rule uses it."""
    return NftSet(f"{tracks}{family}", declaration, elements, tracks, family)


@dataclass(frozen=True)
class Nftables(Resource):
    """One nftables table with everything in it, changed in one transaction."""

    kind: ClassVar[str] = "nftables"
    namespace: str
    family: str
    name: str
    role: str = ""
    sets: tuple[NftSet, ...] = ()
    chains: tuple[Chain, ...] = ()
    flags: str = ""
    """As found: ``dormant`` is a table whose rules are disabled."""
    users: str = ""
    """As found: the user's chains and sets as nft prints them, restored if the table has to be recreated."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.family, self.name)

    @property
    def parents(self) -> tuple[Key, ...]:
        return (("namespace", self.namespace),) if self.namespace else ()

    @property
    def label(self) -> str:
        table = f"{self.family} {self.name}"
        return f"{self.namespace}/{table}" if self.namespace else table


@dataclass(frozen=True)
class DockerUser(Resource):
    """The rule in Docker's chain DOCKER-USER that accepts what our table has accepted."""

    kind: ClassVar[str] = "docker_user"
    family: int
    """4 or 6: ``iptables`` or ``ip6tables``."""

    @property
    def key(self) -> Key:
        return (self.kind, str(self.family))

    @property
    def label(self) -> str:
        return f"DOCKER-USER ipv{self.family}"
