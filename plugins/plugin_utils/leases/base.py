# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lease store's protocol: one document a project, changed by compare-and-swap.

The document is plain JSON::

    {"networks":  {"node1/ps-bridge":    {"created": "2026-11-21T05:00:00Z", "subnets": ["10.0.0.0/24"]}},
     "endpoints": {"node1/ps-bridge/c1": {"ipv4": "10.0.0.2"}}}

Keys begin with the host a network of local scope is on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Leases = dict[str, dict[str, dict[str, Any]]]

SECTIONS = ("networks", "endpoints")


class LeaseError(Exception):
    """The store cannot be read or written; the message says what to do."""


class Conflict(LeaseError):
    """Somebody else changed the document since it was read: read and plan again."""


class Store(Protocol):
    """What a lease store does."""

    def read(self, project: str) -> tuple[int, Leases]:
        """The document's revision and content; ``(0, empty())`` if there is none."""

    def write(self, project: str, expected: int, revision: int, leases: Leases) -> None:
        """Replace the document if its revision still is ``expected``, else raise Conflict."""


def empty() -> Leases:
    """A document with nothing in it."""
    return {section: {} for section in SECTIONS}


def of_host(leases: Leases, host: str) -> Leases:
    """The part of the document a host keeps."""
    prefix = f"{host}/"
    return {
        section: {key: value for key, value in leases.get(section, {}).items() if key.startswith(prefix)}
        for section in SECTIONS
    }


def adopt(revision: int, leases: Leases, reported: Mapping[str, tuple[int, Leases]]) -> tuple[int, Leases]:
    """The document, completed by hosts that know better.

    ``reported`` is each host's revision and part.  A host whose part is newer than the store (an empty store, one put
    back from a backup, another controller's) replaces the store's part of it.  Returns the newest revision.
    """
    result = {section: dict(leases.get(section, {})) for section in SECTIONS}
    newest = revision
    for host, (host_revision, part) in sorted(reported.items()):
        if host_revision <= revision:
            continue
        newest = max(newest, host_revision)
        for section in SECTIONS:
            kept = {key: value for key, value in result[section].items() if not key.startswith(f"{host}/")}
            result[section] = {**kept, **part.get(section, {})}
    return newest, result
