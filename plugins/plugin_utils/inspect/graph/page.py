# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The page: one HTML file that needs no network, no script and nothing beside it."""

from __future__ import annotations

import base64
import hashlib

from ..health import counted, few
from . import tables
from .comparing import order_of
from .fabric import FINE, STATES, UNKNOWN, Fabric, Host, State, worst
from .layout import Deck, decks_of, overview_of
from .markup import Content, Markup, element
from .order import MARK
from .overview import overview
from .script import SCRIPT
from .style import CSS
from .svg import drawing

_OPEN = 2
"""So many drawings are open at first; of more, those with differences."""

_FOOTER = (
    "Made by cnm.fabric.graph from what the inventory declares and what the hosts have. Beside this file are the same "
    "for Mermaid (.mmd) and for Graphviz (.dot). A page that is written over this one leaves everything in its place."
)


def page(fabric: Fabric) -> str:
    """The whole page."""
    decks = decks_of(fabric)
    policy = (
        f"default-src 'none'; style-src 'sha256-{_hash(CSS)}'; script-src 'sha256-{_hash(SCRIPT)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"Networks of the project {fabric.project}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content="cnm.fabric.graph"),
        element("meta", name="referrer", content="no-referrer"),
        Markup('<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Markup(CSS)),
    )
    memory = element("script", Markup(order_of(fabric).to_json()), type="application/json", id=MARK)
    body = element(
        "body",
        element("a", "Skip to the tables", href="#not-as-declared", class_="skip"),
        _top(fabric, title),
        element(
            "main",
            _filter(),
            _section("map", "Map", _maps(fabric, decks)),
            _section("not-as-declared", "Not as declared", tables.differences(fabric)),
            _section("hosts", "Hosts", tables.hosts(fabric), plain=True),
            _section("networks", "Networks", tables.networks(fabric), plain=True),
            _section("services", "Services", tables.services(fabric), plain=True) if fabric.services else "",
            _section("policies", "Policies", tables.policies(fabric), plain=True) if fabric.policies else "",
            _section("sandboxes", "Sandboxes", _sandboxes(fabric)),
            _section("ports", "Published ports", _ports(fabric), plain=True),
            _section("signs", "Signs", tables.legend(), plain=True),
            element("footer", _FOOTER),
        ),
        memory,
        element("script", Markup(SCRIPT)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _section(id_: str, title: str, content: Content, plain: bool = False) -> Markup:
    return element("section", element("h2", title), content, id=id_, class_="plain" if plain else None)


def _top(fabric: Fabric, title: str) -> Markup:
    cards = [
        (len(fabric.hosts), "host"),
        (len(fabric.networks), "network"),
        (len(fabric.services), "service"),
        (len(fabric.sandboxes), "sandbox"),
        (fabric.known_differences, "difference"),
    ]
    links = ["Map", "Not as declared", "Hosts", "Networks", "Services"]
    links += ["Policies", "Sandboxes", "Published ports", "Signs"]
    absent = {"Services": not fabric.services, "Policies": not fabric.policies}
    return element(
        "header",
        element("h1", title),
        element("p", _verdict(fabric), class_="verdict"),
        element(
            "ul",
            [
                element("li", element("b", str(number)), element("span", counted(number, noun).partition(" ")[2]))
                for number, noun in cards
            ],
            class_="cards",
        ),
        element(
            "nav",
            element(
                "ul",
                [element("li", element("a", link, href=f"#{_id(link)}")) for link in links if not absent.get(link)],
            ),
            aria_label="Sections",
        ),
        class_="top",
    )


def _id(link: str) -> str:
    return "ports" if link == "Published ports" else link.lower().replace(" ", "-")


def _verdict(fabric: Fabric) -> Content:
    """The first thing to know, in a sentence or two."""
    silent = [host.name for host in fabric.hosts if host.state is UNKNOWN]
    wrong = [host.name for host in fabric.hosts if host.state not in (UNKNOWN, FINE)]
    if not fabric.hosts:
        return "There are no hosts."
    words: list[Content] = []
    if wrong:
        words += [element("b", f"{counted(len(wrong), 'host')} not as declared"), f": {few(wrong)}. "]
    else:
        answered = len(fabric.hosts) - len(silent)
        words.append(element("b", "Everything is as declared") if answered else element("b", "Nothing is known"))
        words.append(f" on {counted(answered, 'host')}. " if answered else ". ")
    if silent:
        words += [element("b", f"{counted(len(silent), 'host')} not known"), f": {few(silent)}."]
    return words


def _filter() -> Markup:
    return element(
        "div",
        element("label", "Filter ", for_="filter"),
        element("input", type="search", id="filter", placeholder="a name, an address, a state", autocomplete="off"),
        element("button", "Show all", type="button", id="all"),
        element("span", "", id="found", role="status", class_="soft"),
        class_="filter",
        hidden=True,
    )


def _maps(fabric: Fabric, decks: list[Deck]) -> Content:
    if not decks:
        return element("p", "There is nothing to draw.")
    if len(decks) == 1:
        return _picture(drawing(decks[0], fabric, 1), "Map of all hosts")
    first = _picture(overview(fabric, overview_of(fabric)), "All hosts at a glance")
    return [first, [_folded_deck(deck, fabric, number, len(decks)) for number, deck in enumerate(decks, 1)]]


def _picture(svg: Markup, name: str) -> Markup:
    return element("div", svg, class_="scroll picture", role="region", tabindex="0", aria_label=name)


def _folded_deck(deck: Deck, fabric: Fabric, number: int, decks: int) -> Markup:
    names = f"{deck.hosts[0].name} to {deck.hosts[-1].name}" if len(deck.hosts) > 1 else deck.hosts[0].name
    wrong = sum(len(host.differences) for host in deck.hosts)
    state = worst([host.state for host in deck.hosts])
    summary = [
        names,
        element("span", f" · {counted(sum(len(host.sandboxes) for host in deck.hosts), 'sandbox')} · ", class_="soft"),
        tables.state_cell(state, counted(wrong, "difference") if wrong and state is not UNKNOWN else ""),
    ]
    opened = decks <= _OPEN or state is not FINE
    return tables.folded(summary, _picture(drawing(deck, fabric, number), f"Map of {names}"), opened)


def _sandboxes(fabric: Fabric) -> Content:
    shown = [host for host in fabric.hosts if host.sandboxes]
    if not shown:
        return element("p", "No host has a sandbox, and none is declared.")
    return [
        tables.folded(
            _of_host(host), tables.sandboxes(host), len(fabric.hosts) <= tables.FOLD or host.state is not FINE
        )
        for host in shown
    ]


def _of_host(host: Host) -> Content:
    found: dict[State, int] = {}
    for sandbox in host.sandboxes:
        found[sandbox.state] = found.get(sandbox.state, 0) + 1
    counts = [[" ", tables.state_cell(state), f" {found[state]}"] for state in STATES if state in found]
    return [host.name, element("span", f" · {counted(len(host.sandboxes), 'sandbox')}", class_="soft"), counts]


def _ports(fabric: Fabric) -> Content:
    if any(sandbox.ports for sandbox in fabric.sandboxes) or any(service.ports for service in fabric.services):
        return tables.ports(fabric)
    return element("p", "Nothing is published.")
