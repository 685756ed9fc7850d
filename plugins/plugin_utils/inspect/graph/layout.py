# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Where everything is in a drawing, in pixels.

Hosts are columns.  Networks are lanes: each runs across the hosts, and at a host that has it turns down along the
sandboxes, on a track that has the same place in every column.  Services follow the networks, and below each host its
sandboxes have a row each; as rows only grow downwards, one more moves nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from ....module_utils.plan.records import dataclass
from .fabric import Fabric, Host, Network, Sandbox, Service

LABELS = 276
"""Width of the names of lanes, at the left."""
NAMES = 224
"""Width of the names of sandboxes, in a column."""
HEAD = 74
LANE = 40
ROW = 44
GAP = 16
MARGIN = 12
TITLE = 30
"""Height of a section's title."""
_TRACKS = 160
_WIDEST, _NARROWEST = 17, 5
ALONE = 4
"""So many hosts are drawn together."""
TOGETHER = 3
"""Of more, so many are one drawing."""


@dataclass(frozen=True)
class Deck:
    """A drawing of some hosts, with the lanes that they have."""

    hosts: tuple[Host, ...]
    networks: tuple[Network, ...]
    services: tuple[Service, ...]
    pitch: float
    """Between the tracks of a column."""
    column: float
    """The width of a column."""
    width: float
    height: float
    x: Mapping[str, float] = field(default_factory=dict)
    """The left edge of each host's column."""
    lanes: Mapping[str, float] = field(default_factory=dict)
    """The middle of each network's lane."""
    tracks: Mapping[str, float] = field(default_factory=dict)
    """Each network's track, from the left edge of a column."""
    services_y: Mapping[str, float] = field(default_factory=dict)
    """The middle of each service's row."""
    top: float = 0.0
    """Where the sandboxes' rows begin."""

    def row(self, place: int) -> float:
        """The middle of a sandbox's row."""
        return self.top + place * ROW + ROW / 2

    def names_x(self, host: str) -> float:
        """Where the names of a host's sandboxes begin."""
        return self.x[host] + self.column - NAMES

    def rows(self, host: Host) -> Sequence[tuple[Sandbox, float]]:
        """The sandboxes with the middles of their rows."""
        return [(sandbox, self.row(place)) for place, sandbox in enumerate(host.sandboxes)]


def decks_of(fabric: Fabric) -> list[Deck]:
    """All hosts, a few together."""
    size = len(fabric.hosts) if len(fabric.hosts) <= ALONE else TOGETHER
    return [_deck(fabric, fabric.hosts[first : first + size]) for first in range(0, len(fabric.hosts), max(size, 1))]


def _deck(fabric: Fabric, hosts: tuple[Host, ...]) -> Deck:
    names = {host.name for host in hosts}
    networks = tuple(network for network in fabric.networks if not names.isdisjoint(network.hosts))
    services = tuple(
        service for service in fabric.services if service.ports or any(task.host in names for task in service.tasks)
    )
    pitch = max(_NARROWEST, min(_WIDEST, _TRACKS / max(1, len(networks))))
    column = GAP + len(networks) * pitch + NAMES
    lanes_top = MARGIN + HEAD + TITLE
    services_top = lanes_top + len(networks) * LANE + (TITLE if services else 0)
    top = services_top + len(services) * LANE + TITLE
    rows = max([1, *(len(host.sandboxes) for host in hosts)])
    return Deck(
        hosts,
        networks,
        services,
        pitch,
        column,
        LABELS + len(hosts) * (column + GAP) + MARGIN,
        top + rows * ROW + 2 * MARGIN,
        {host.name: LABELS + place * (column + GAP) for place, host in enumerate(hosts)},
        {network.name: lanes_top + place * LANE + LANE / 2 for place, network in enumerate(networks)},
        {network.name: GAP + place * pitch for place, network in enumerate(networks)},
        {service.name: services_top + place * LANE + LANE / 2 for place, service in enumerate(services)},
        top,
    )


CELL = 24
"""Width and height of a cell of the overview."""
OVERVIEW_LABELS = 190
OVERVIEW_HEAD = 96


@dataclass(frozen=True)
class Overview:
    """The hosts as narrow columns, networks and services as rows, for a first look at many."""

    width: float
    height: float
    x: Mapping[str, float]
    """The middle of each host's column."""
    y: Mapping[tuple[str, str], float]
    """The middle of each row, by ``network`` or ``service`` and name."""


def overview_of(fabric: Fabric) -> Overview:
    """Where all hosts, networks and services are."""
    rows = [("network", network.name) for network in fabric.networks]
    rows += [("service", service.name) for service in fabric.services]
    return Overview(
        OVERVIEW_LABELS + len(fabric.hosts) * CELL + 60,
        OVERVIEW_HEAD + (len(rows) + 1) * CELL + MARGIN,
        {host.name: OVERVIEW_LABELS + place * CELL + CELL / 2 for place, host in enumerate(fabric.hosts)},
        {row: OVERVIEW_HEAD + (place + 1) * CELL + CELL / 2 for place, row in enumerate(rows)},
    )
