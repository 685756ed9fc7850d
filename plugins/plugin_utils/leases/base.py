# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store's protocol: one document a project, changed by compare-and-swap.

The document is plain JSON::

    {"networks":  {"node1/ps-bridge":    {"created": "2026-11-21T05:00:00Z", "subnets": ["10.0.0.0/24"], "vips": {…}}},
     "endpoints": {"node1/ps-bridge/c1": {"ipv4": "10.0.0.2"}},
     "hosts":     {"node1": {"underlay": "192.0.2.11", "mtu": 1500, "vnis": [], "peer_digest": "…"}},
     "overlays":  {"multinet": {"created": "…", "subnets": ["10.10.2.0/24"], "vni": 4096, "vips": {"redis": {…}}}},
     "services":  {"redis": {"tasks": {"1": "node1"}}}}

Keys begin with the host, but for networks and services that span hosts.  ``hosts`` is what was last seen of each: its
VTEP and the MTU there, VNIs that others use on it, and a digest of what it was last told of its networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Leases = dict[str, dict[str, dict[str, Any]]]

OVERLAYS, SERVICES = "overlays", "services"
OF_HOSTS = ("networks", "endpoints", "hosts")
SPANNING = (OVERLAYS, SERVICES)
"""Sections whose keys do not begin with a host."""
SECTIONS = (*OF_HOSTS, *SPANNING)
_ALWAYS = ("networks", "endpoints")


class LeaseError(Exception):
    """The store cannot be read or written; the message says what to do."""


class Conflict(LeaseError):
    """Another controller changed the document since it was read: read and plan again."""


class Store(Protocol):
    """What a lease store does."""

    def read(self, project: str) -> tuple[int, Leases]:
        """The document's revision and content; ``(0, empty())`` if there is none."""

    def write(self, project: str, expected: int, revision: int, leases: Leases) -> None:
        """Replace the document if its revision still is ``expected``, else raise Conflict; make the key if need be."""

    def key(self) -> bytes:
        """The secret by which the store knows what it gave out (see `signing`); b"" while nothing was written.

        It is made once, of `signing.KEY_SIZE` random octets, and kept where only those who may write leases read it.
        """


def empty() -> Leases:
    """A document with nothing in it."""
    return {section: {} for section in SECTIONS}


def split(leases: Leases) -> tuple[dict[str, Leases], Leases]:
    """The document by host, without the sections `SPANNING`, and those."""
    result: dict[str, Leases] = {}
    for section in OF_HOSTS:
        for key, value in leases.get(section, {}).items():
            host = key.partition("/")[0]
            if host not in result:
                result[host] = {each: {} for each in OF_HOSTS}
            result[host][section][key] = value
    return result, {section: dict(leases.get(section, {})) for section in SPANNING}


def join(parts: Mapping[str, Leases], spanning: Leases) -> Leases:
    """The whole document again."""
    result = {**empty(), **spanning}
    for part in parts.values():
        for section, entries in part.items():
            result[section].update(entries)
    return result


def kept_by(host: str, part: Leases, spanning: Leases) -> Leases:
    """What a host keeps: its own part, and of what spans hosts that of which it has an endpoint or a task."""
    names = {key.split("/")[1] for key in part.get("endpoints", ())}
    own = {
        **part,
        OVERLAYS: {name: entry for name, entry in spanning[OVERLAYS].items() if name in names},
        SERVICES: {name: entry for name, entry in spanning[SERVICES].items() if host in entry["tasks"].values()},
    }
    return {section: entries for section, entries in own.items() if any(entries.values()) or section in _ALWAYS}
