# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store's protocol: one document a project, changed by compare-and-swap.

How it is kept, in parts, is told in `parts`.  The document is plain JSON::

    {"networks":  {"node1/ps-bridge":    {"created": "2026-11-21T05:00:00Z", "subnets": ["10.0.0.0/24"], "vips": {…}}},
     "endpoints": {"node1/ps-bridge/c1": {"ipv4": "10.0.0.2"}},
     "hosts":     {"node1": {"underlay": "192.0.2.11", "mtu": 1500, "vnis": [], "peer_digests": {…}}},
     "overlays":  {"multinet": {"created": "…", "subnets": ["10.10.2.0/24"], "vni": 4096, "vips": {"redis": {…}}}},
     "services":  {"redis": {"tasks": {"1": "node1"}, "made": {"{\\"networks\\": …}": ["1"]}, "resting": ["1"]}}}

Keys begin with the host, except for networks and services that span hosts.  ``hosts`` has what was last known of each:
its VTEP and the MTU there, foreign VNIs on it, and by network a digest of the table and names that it last got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, Optional, Protocol, TypedDict

from ...module_utils.plan.records import dataclass

AddressLease = dict[str, str]
"""The bare addresses of an endpoint or a service, by ``ipv4`` and ``ipv6``."""


class NetworkLease(TypedDict, total=False):
    """What a network was given; ``vni`` that of an overlay, ``vips`` by service."""

    created: str
    subnets: list[str]
    vni: int
    vips: dict[str, AddressLease]


class HostLease(TypedDict, total=False):
    """What was last seen of a host: its VTEP and the MTU there, and the VNIs that others use on it."""

    underlay: str
    mtu: Optional[int]
    vnis: list[int]
    peer_digests: dict[str, str]
    """By network."""


class _Placed(TypedDict):
    tasks: dict[str, str]
    """The host of each task, by number."""


class ServiceLease(_Placed, total=False):
    """Where tasks are, and of a service whose changes are rolled out, how far it is (see `services.rolling`)."""

    made: dict[str, list[str]]
    """By what they are made from, the numbers of tasks."""
    resting: list[str]
    """The numbers of tasks that get no new connections meanwhile."""


class Leases(TypedDict, total=False):
    """The document, or the sections of it that somebody has."""

    networks: dict[str, NetworkLease]
    endpoints: dict[str, AddressLease]
    hosts: dict[str, HostLease]
    overlays: dict[str, NetworkLease]
    services: dict[str, ServiceLease]


Section = Literal["networks", "endpoints", "hosts", "overlays", "services"]
OVERLAYS: Literal["overlays"] = "overlays"
SERVICES: Literal["services"] = "services"
OF_HOSTS: tuple[Section, ...] = ("networks", "endpoints", "hosts")
SPANNING: tuple[Section, ...] = (OVERLAYS, SERVICES)
"""Sections whose keys do not begin with a host."""
SECTIONS = (*OF_HOSTS, *SPANNING)
_ALWAYS = ("networks", "endpoints")


class LeaseError(Exception):
    """The store cannot be read or written; the message says what to do."""


class Conflict(LeaseError):
    """Another controller has changed what this one has read: read and plan again."""


@dataclass(frozen=True)
class Root:
    """Which commits a project's parts are of (see `parts`).  A part is named ``<kind>/<name>``."""

    revision: int = 0
    recent: tuple[str, ...] = ()
    """The last commits, the newest at the end."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """By part, the commit that wrote it."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """The same of the parts that the last commit replaced."""
    moved: Mapping[str, str] = field(default_factory=dict)
    """Which store the leases are in now (``to``), and since when (``on``); empty if it is this one."""


@dataclass(frozen=True)
class Snapshot:
    """A project's document as it was read, and what it was read from; ``version`` is the store's own for the root."""

    leases: Leases
    root: Root = Root()
    version: Optional[int] = None

    @property
    def revision(self) -> int:
        """The document's; 0 if there is none."""
        return self.root.revision


class Store(Protocol):
    """The interface of a lease store.  Every method raises LeaseError if the store is away or has what it must not."""

    def read(self, project: str) -> Snapshot:
        """The newest state; it is one that a commit left, never half of one."""

    def write(
        self, project: str, before: Snapshot, leases: Leases, revision: int, hosts: Optional[frozenset[str]] = None
    ) -> int:
        """Commit the leases that were planned from ``before``; create a missing key.  Returns the commit's revision.

        That is ``revision``, or a later one if other commits came between.  Raises Conflict if one of them changed what
        the plan was made from: all parts, or, if it was one of ``hosts`` alone, theirs and those that span hosts.
        """

    def key(self) -> bytes:
        """The secret with which the store signs leases (see `signing`); b"" before the first write.

        It is created once, from `signing.KEY_SIZE` random octets, and only users who may write leases can read it.
        """

    def close(self) -> None:
        """End what connections there are."""


def empty() -> Leases:
    """A document with nothing in it."""
    return {"networks": {}, "endpoints": {}, "hosts": {}, "overlays": {}, "services": {}}


def section_of(leases: Leases, section: Section) -> dict[str, Any]:
    """A section's entries, of whatever type; made if there is none."""
    found: dict[str, Any] = leases.setdefault(section, {})
    return found


def no_part() -> Leases:
    """The sections of a host that has nothing."""
    return {"networks": {}, "endpoints": {}, "hosts": {}}


def split(leases: Leases) -> tuple[dict[str, Leases], Leases]:
    """The parts of the document by host, and its sections `SPANNING`."""
    result: dict[str, Leases] = {}
    for section in OF_HOSTS:
        for key, value in leases.get(section, {}).items():
            host = key.partition("/")[0]
            if host not in result:
                result[host] = no_part()
            section_of(result[host], section)[key] = value
    return result, {OVERLAYS: dict(leases.get(OVERLAYS, {})), SERVICES: dict(leases.get(SERVICES, {}))}


def join(parts: Mapping[str, Leases], spanning: Leases) -> Leases:
    """The reverse of `split`."""
    result: Leases = {**empty(), **spanning}
    for part in parts.values():
        for section in OF_HOSTS:
            section_of(result, section).update(part.get(section, {}))
    return result


def kept_by(host: str, part: Leases, spanning: Leases) -> Leases:
    """The leases that a host keeps: its own part, and those of shared networks and services that it uses."""
    names = {key.split("/")[1] for key in part.get("endpoints", ())}
    own: Leases = {
        **part,
        OVERLAYS: {name: entry for name, entry in spanning[OVERLAYS].items() if name in names},
        SERVICES: {name: entry for name, entry in spanning[SERVICES].items() if host in entry["tasks"].values()},
    }
    for section in SECTIONS:
        if section not in _ALWAYS and not any(own.get(section, {}).values()):
            own.pop(section, None)
    return own
