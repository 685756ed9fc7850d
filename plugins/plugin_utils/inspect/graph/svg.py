# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A drawing of some hosts as SVG: networks as lanes across them, sandboxes in rows below."""

from __future__ import annotations

from ..health import counted, few
from .fabric import FINE, STATES, UNKNOWN, Endpoint, Fabric, Host, Network, Part, Sandbox, Service, State, worst
from .layout import HEAD, LABELS, LANE, MARGIN, NAMES, ROW, Deck
from .markup import Markup, element
from .signs import HEADING, NORMAL, SMALL, WORDS, colour, label, sign, tip
from .words import bare, cut, of_network, of_sandbox, of_service, short_ports


def drawing(deck: Deck, fabric: Fabric, number: int) -> Markup:
    """The drawing of a deck.  To those who do not see it, it is one picture; the tables have all that it has."""
    names = few([host.name for host in deck.hosts], 6)
    places = {network.name: place for place, network in enumerate(fabric.networks)}
    return element(
        "svg",
        element("title", f"Networks of {names}", id=f"title-{number}"),
        element("desc", _described(deck), id=f"desc-{number}"),
        [_column(host, deck) for host in deck.hosts],
        _signs(deck),
        _section("Networks", MARGIN + HEAD + 20),
        _section("Services", min(deck.services_y.values()) - LANE / 2 - 10) if deck.services else "",
        _section("Sandboxes", deck.top - 10),
        [_lane(network, deck, colour(places[network.name])) for network in deck.networks],
        [_service(service, deck) for service in deck.services],
        [_drops(host, deck, places) for host in deck.hosts],
        [_rows(host, deck, places) for host in deck.hosts],
        class_="deck",
        role="img",
        aria_labelledby=f"title-{number}",
        aria_describedby=f"desc-{number}",
        viewBox=f"0 0 {deck.width:.0f} {deck.height:.0f}",
        width=deck.width,
        height=deck.height,
    )


def _described(deck: Deck) -> str:
    hosts = ", ".join(f"{host.name} ({host.words})" for host in deck.hosts)
    networks = ", ".join(network.name for network in deck.networks) or "none"
    services = ", ".join(service.name for service in deck.services) or "none"
    return (
        f"{counted(len(deck.hosts), 'host')} as columns: {hosts}. "
        f"{counted(len(deck.networks), 'network')} as lanes across them: {networks}. "
        f"{counted(len(deck.services), 'service')}: {services}. "
        f"{counted(sum(len(host.sandboxes) for host in deck.hosts), 'sandbox')} in rows below their hosts, with a dot "
        "on each lane that they are on. The tables below say the same in text."
    )


def _section(title: str, y: float) -> Markup:
    return label(MARGIN, y, title, "section")


def _signs(deck: Deck) -> list[Markup]:
    """What the signs of this drawing mean, in the room below the names of the lanes."""
    found = {sandbox.state for host in deck.hosts for sandbox in host.sandboxes} | {host.state for host in deck.hosts}
    rows = [state for state in STATES if state in found]
    return [
        element(
            "g",
            sign(state, MARGIN + 8, deck.top + 14 + place * 22),
            label(MARGIN + 24, deck.top + 18 + place * 22, state.words, "about"),
        )
        for place, state in enumerate(rows[: max(1, int((deck.height - deck.top) / 22) - 1)])
    ]


def _column(host: Host, deck: Deck) -> Markup:
    x, rows = deck.x[host.name], max(1, len(host.sandboxes))
    height = deck.top + rows * ROW + MARGIN / 2 - MARGIN
    words = [
        element("rect", x=x, y=MARGIN, width=deck.column, height=height, rx=10, class_=f"host h-{host.state.key}"),
        element("rect", x=x + 1, y=MARGIN + 1, width=deck.column - 2, height=HEAD - 2, rx=9, class_="head"),
        label(x + 16, MARGIN + 27, cut(host.name, int((deck.column - 32) / HEADING)), "hostname"),
        sign(host.state, x + 22, MARGIN + 45),
        label(x + 34, MARGIN + 49, cut(host.words, int((deck.column - 48) / NORMAL)), f"words w-{host.state.key}"),
        label(x + 16, MARGIN + 66, cut(_about(host), int((deck.column - 32) / SMALL)), "address"),
    ]
    words += [
        element(
            "rect",
            x=x + 5,
            y=y - ROW / 2 + 2,
            width=deck.column - 10,
            height=ROW - 4,
            rx=6,
            class_=f"row r-{sandbox.state.key}",
        )
        for sandbox, y in deck.rows(host)
        if sandbox.state is not FINE
    ]
    if not host.sandboxes:
        empty = "not known" if host.state is UNKNOWN else "no sandboxes"
        words.append(label(deck.names_x(host.name), deck.row(0) + 4, empty, "none"))
    return element("g", tip(f"{host.name}: {host.words}"), words)


def _about(host: Host) -> str:
    return " · ".join([*(f"VTEP {address}" for address in host.addresses), counted(len(host.sandboxes), "sandbox")])


def _lane(network: Network, deck: Deck, class_: str) -> Markup:
    y, columns = deck.lanes[network.name], int((LABELS - MARGIN - 22) / NORMAL)
    here = [host.name for host in deck.hosts]
    parts = [part for part in network.parts if not set(part.hosts).isdisjoint(here)]
    states = dict(state for part in parts for state in part.states if state[0] in deck.x)
    shown = worst(list(states.values()))
    about = of_network(network)
    lines: list[Markup] = []
    for part in parts:
        lines += _bar(part, network, deck, here)
    for host, state in states.items():
        lines.append(_node(network, host, state, deck))
    return element(
        "g",
        tip(f"network {network.name}: {about}; {few(network.hosts, 8)}; {shown.words}"),
        element("rect", x=MARGIN, y=y - 11, width=6, height=22, rx=3, class_="swatch"),
        label(MARGIN + 16, y - 3, cut(network.name, columns), "lane"),
        label(MARGIN + 16, y + 13, cut(about, int((LABELS - MARGIN - 22) / SMALL)), "about"),
        lines,
        class_=f"network {class_}",
    )


def _bar(part: Part, network: Network, deck: Deck, here: list[str]) -> list[Markup]:
    y, track = deck.lanes[network.name], deck.tracks[network.name]
    ends = {
        host.name: sum(end.network == network.name for box in host.sandboxes for end in box.endpoints)
        for host in deck.hosts
    }
    there = [host for host in here if host in part.hosts]
    if len(part.hosts) > 1 or part.vteps:
        start, end = LABELS - 8, deck.x[there[-1]] + track
        more = [host for host in part.hosts if host not in here]
        result = [element("path", d=f"M{start:.1f} {y:.1f}H{end:.1f}", class_="bar")]
        if more:
            edge = deck.x[here[-1]] + deck.column
            result += [element("path", d=f"M{end:.1f} {y:.1f}H{edge - 4:.1f}", class_="bar more")]
            result += [label(edge - 14, y - 7, f"and on {counted(len(more), 'more host')}", "cell", "end")]
        return result + [_cell(deck, host, y, counted(ends[host], "endpoint")) for host in there if not more]
    (host,) = there
    x = deck.x[host]
    subnets = {other.subnets for other in network.parts}
    words = (
        counted(ends[host], "endpoint") if len(subnets) == 1 else cut(" ".join(part.subnets), int((NAMES - 10) / SMALL))
    )
    line = element("path", d=f"M{x + track:.1f} {y:.1f}H{x + deck.column - 12:.1f}", class_="bar local")
    return [line, _cell(deck, host, y, words)]


def _cell(deck: Deck, host: str, y: float, text: str) -> Markup:
    return label(deck.x[host] + deck.column - 14, y - 7, text, "cell", "end")


def _node(network: Network, host: str, state: State, deck: Deck) -> Markup:
    x, y = deck.x[host] + deck.tracks[network.name], deck.lanes[network.name]
    node = element("circle", cx=x, cy=y, r=6, class_="node")
    return (
        node
        if state is FINE
        else element("g", node, sign(state, x, y), tip(f"{network.name} on {host}: {state.words}"))
    )


def _service(service: Service, deck: Deck) -> Markup:
    y, about = deck.services_y[service.name], of_service(service)
    columns = int((LABELS - MARGIN - 22) / NORMAL)
    cells: list[Markup] = []
    end = 0.0
    for host in deck.hosts:
        tasks = [task for task in service.tasks if task.host == host.name]
        x = deck.names_x(host.name)
        if tasks:
            words = cut(few([task.name for task in tasks], 3), int((NAMES - 40) / NORMAL))
            cells.append(
                element("rect", x=x - 14, y=y - 12, width=len(words) * NORMAL + 40, height=24, rx=12, class_="tasks")
            )
            cells.append(sign(worst([task.state for task in tasks]), x, y))
            cells.append(label(x + 14, y + 4, words, "task"))
            end = x
        elif service.ports:
            cells.append(label(x, y + 4, f"{cut(' '.join(short_ports(service.ports)), 16)} · tasks elsewhere", "cell"))
    if any(task.host in deck.x for task in service.tasks):
        cells.insert(0, element("path", d=f"M{LABELS - 8:.1f} {y:.1f}H{end - 14:.1f}", class_="tie"))
    return element(
        "g",
        tip(f"service {service.name}, {service.mode}: {about}; {service.state.words}"),
        element("path", d=f"M{MARGIN + 3} {y - 8:.1f}l7 8l-7 8l-7 -8z", class_="diamond"),
        label(MARGIN + 16, y - 3, cut(service.name, columns), "lane"),
        label(MARGIN + 16, y + 13, cut(about, int((LABELS - MARGIN - 22) / SMALL)), "about"),
        cells,
        class_="service",
    )


def _drops(host: Host, deck: Deck, places: dict[str, int]) -> list[Markup]:
    """The lanes beside a host's sandboxes, each down to the last that is on it."""
    last = {end.network: y for sandbox, y in deck.rows(host) for end in sandbox.endpoints}
    result = []
    for name, y in last.items():
        if name in deck.tracks:
            x = deck.x[host.name] + deck.tracks[name]
            path = f"M{x:.1f} {deck.lanes[name] + 6:.1f}V{y:.1f}"
            result.append(element("path", d=path, class_=f"drop {colour(places[name])}"))
    return result


def _rows(host: Host, deck: Deck, places: dict[str, int]) -> list[Markup]:
    return [_row(sandbox, y, deck, places) for sandbox, y in deck.rows(host)]


def _row(sandbox: Sandbox, y: float, deck: Deck, places: dict[str, int]) -> Markup:
    left, names_x = deck.x[sandbox.host], deck.names_x(sandbox.host)
    right = left + deck.column - 12
    ends = [end for end in sandbox.endpoints if end.network in deck.tracks]
    parts: list[Markup] = []
    if ends:
        first = left + min(deck.tracks[end.network] for end in ends)
        parts.append(element("path", d=f"M{first:.1f} {y:.1f}H{names_x - 8:.1f}", class_="wire"))
    parts += [_dot(end, left + deck.tracks[end.network], y, colour(places[end.network])) for end in ends]
    room = right - names_x
    ports = _some(short_ports(sandbox.ports), 15)
    port_width = len(ports) * SMALL + 14 if ports else 0
    name = f"{sandbox.name} (drained)" if sandbox.drained else sandbox.name
    parts.append(label(names_x, y - 3, cut(name, int((room - port_width) / NORMAL)), f"name w-{sandbox.state.key}"))
    if ports:
        parts.append(element("rect", x=right - port_width, y=y - 17, width=port_width, height=18, rx=4, class_="port"))
        parts.append(label(right - port_width / 2, y - 4, ports, "ports", "middle"))
    state_width = 0.0
    if sandbox.state is not FINE:
        state_width = len(sandbox.state.words) * WORDS + 20
        parts.append(sign(sandbox.state, right - state_width + 8, y + 10, 4.5))
        parts.append(label(right - state_width + 19, y + 14, sandbox.state.words, f"words w-{sandbox.state.key}"))
    parts.append(label(names_x, y + 14, cut(_addresses(sandbox), int((room - state_width) / SMALL)), "address"))
    return element("g", tip(of_sandbox(sandbox)), parts, class_="sandbox", data_row=True)


def _addresses(sandbox: Sandbox) -> str:
    if sandbox.mode:
        return f"network mode {sandbox.mode}"
    first = [bare(end.addresses[0]) for end in sandbox.endpoints if end.addresses] or ["no address"]
    policies = [f"policy {', '.join(sandbox.policies)}"] if sandbox.policies else []
    return " · ".join([*first, *policies])


def _some(words: list[str], columns: int) -> str:
    """The first of the words, and how many there are besides."""
    if not words:
        return ""
    more = f" +{len(words) - 1}" if len(words) > 1 else ""
    return cut(words[0], columns) + more


def _dot(end: Endpoint, x: float, y: float, class_: str) -> Markup:
    what = f"{end.network}: {end.link} {', '.join(end.addresses)} ({end.state.words})"
    return element("g", tip(what), sign(end.state, x, y), class_=f"end {class_}")
