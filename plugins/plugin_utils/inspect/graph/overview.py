# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""All hosts at a glance: narrow columns, with networks and services as rows."""

from __future__ import annotations

from ..health import counted
from .fabric import FINE, Fabric, Host, State, worst
from .layout import CELL, MARGIN, OVERVIEW_HEAD, OVERVIEW_LABELS, Overview
from .markup import Markup, element
from .signs import NORMAL, colour, label, sign, tip
from .words import cut


def overview(fabric: Fabric, layout: Overview) -> Markup:
    """Hosts as narrow columns, and how many endpoints or tasks each has of each network and service."""
    counts: dict[tuple[str, str, str], list[State]] = {}
    for host in fabric.hosts:
        for sandbox in host.sandboxes:
            for end in sandbox.endpoints:
                counts.setdefault(("network", end.network, host.name), []).append(end.state)
    for service in fabric.services:
        for task in service.tasks:
            counts.setdefault(("service", service.name, task.host), []).append(task.state)
    places = {network.name: colour(place) for place, network in enumerate(fabric.networks)}
    columns = int((OVERVIEW_LABELS - 30) / NORMAL)
    rows = []
    for (kind, name), y in layout.y.items():
        mark = (
            element("rect", x=MARGIN, y=y - 8, width=6, height=16, rx=3, class_="swatch")
            if kind == "network"
            else element("path", d=f"M{MARGIN + 3} {y - 7:.1f}l6 7l-6 7l-6 -7z", class_="diamond")
        )
        cells = [
            _count(states, layout.x[host], y, f"{kind} {name} on {host}")
            for host in layout.x
            if (states := counts.get((kind, name, host)))
        ]
        line = element("path", d=f"M{OVERVIEW_LABELS - 6} {y:.1f}H{layout.width - 60:.1f}", class_="guide")
        rows.append(
            element(
                "g",
                mark,
                label(MARGIN + 16, y + 4, cut(name, columns), "lane"),
                line,
                cells,
                class_=f"network {places.get(name, '') if kind == 'network' else ''}".strip(),
            )
        )
    return element(
        "svg",
        element("title", "All hosts at a glance", id="title-all"),
        element(
            "desc",
            f"{counted(len(fabric.hosts), 'host')} as columns, {counted(len(fabric.networks), 'network')} and "
            f"{counted(len(fabric.services), 'service')} as rows; each cell has the number of endpoints or tasks. The "
            "tables below say the same in text.",
            id="desc-all",
        ),
        [_heading(host, layout) for host in fabric.hosts],
        rows,
        class_="deck",
        role="img",
        aria_labelledby="title-all",
        aria_describedby="desc-all",
        viewBox=f"0 0 {layout.width:.0f} {layout.height:.0f}",
        width=layout.width,
        height=layout.height,
    )


def _heading(host: Host, layout: Overview) -> Markup:
    x, y = layout.x[host.name], OVERVIEW_HEAD
    return element(
        "g",
        tip(f"{host.name}: {host.words}"),
        element(
            "text", cut(host.name, 13), class_="turned", transform=f"translate({x + 3:.1f} {y - 6:.1f}) rotate(-60)"
        ),
        element("rect", x=x - CELL / 2 + 2, y=y, width=CELL - 4, height=CELL - 4, rx=5, class_="cellbox"),
        sign(host.state, x, y + CELL / 2 - 2),
        class_="heading",
        data_find=host.name,
    )


def _count(states: list[State], x: float, y: float, what: str) -> Markup:
    state = worst(states)
    box = element("rect", x=x - 10, y=y - 10, width=20, height=20, rx=5, class_=f"count k-{state.key}")
    corner = "" if state is FINE else sign(state, x + 9, y - 9, 3.2)
    return element(
        "g",
        tip(f"{what}: {len(states)}, {state.words}"),
        box,
        label(x, y + 4, str(len(states)), "number", "middle"),
        corner,
    )
