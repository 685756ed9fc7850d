# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Places: a sandbox more moves nothing else, and a page remembers them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fabrics import Variables, fabric_after, fleet, reports_of, three
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of, order_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.fabric import Fabric
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.layout import ALONE, TOGETHER, decks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.order import LONGEST, Order, arranged, order_in
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.page import page

NAMES = some.lists(some.text(max_size=12), unique=True, max_size=8)


def places(fabric: Fabric) -> dict[Any, Any]:
    """Where everything is."""
    found: dict[Any, Any] = {}
    for number, deck in enumerate(decks_of(fabric)):
        found.update({("lane", number, name): (y, deck.tracks[name]) for name, y in deck.lanes.items()})
        found.update({("service", number, name): y for name, y in deck.services_y.items()})
        found.update({("host", name): (number, x) for name, x in deck.x.items()})
        for host in deck.hosts:
            found.update({("sandbox", host.name, box.name): (number, y) for box, y in deck.rows(host)})
    return found


@pytest.mark.parametrize("name", ["aaa", "middle", "zzz", "proxy0"])
@pytest.mark.parametrize("networks", [["front"], ["back", "ps-bridge"], ["ps-bridge"]])
def test_a_sandbox_more_moves_nothing_else(name: str, networks: list[str]) -> None:
    before = fabric_of(reports_of(three()), "default")

    def change(variables: Variables) -> None:
        variables["node2"]["cnm_sandboxes"][name] = {"networks": networks}

    after = fabric_after(change, order=order_in(page(before)))
    moved = {key: value for key, value in places(after).items() if places(before).get(key) != value}
    assert list(moved) == [("sandbox", "node2", name)]


def test_in_a_fleet_a_sandbox_more_moves_nothing_else() -> None:
    variables = fleet(20, 4)
    before = fabric_of(reports_of(variables), "default")

    def change(changed: Variables) -> None:
        changed["node7"]["cnm_sandboxes"]["another"] = {"networks": ["mesh"]}

    after = fabric_after(change, variables, order=order_of(before))
    moved = {key for key, value in places(after).items() if places(before).get(key) != value}
    assert moved == {("sandbox", "node7", "another")}


def test_a_network_and_a_host_more_come_last() -> None:
    order = Order(("node2", "node1"), ("z", "a"), {"node1": ("y", "x")})
    assert arranged({"node0", "node1", "node2"}, order.hosts) == ["node2", "node1", "node0"]


def test_numbers_in_names_count_as_numbers() -> None:
    assert arranged(["n10", "n9", "n1", "m", "n9a"], ()) == ["m", "n1", "n9", "n9a", "n10"]


@given(NAMES, NAMES)
def test_what_is_remembered_keeps_its_order(names: list[str], remembered: list[str]) -> None:
    found = arranged(names, remembered)
    assert sorted(found) == sorted(names)
    assert [name for name in found if name in remembered] == [name for name in remembered if name in names]


@given(NAMES, NAMES, some.dictionaries(some.text(max_size=12), NAMES, max_size=3))
def test_a_page_remembers_any_names(hosts: list[str], networks: list[str], sandboxes: dict[str, list[str]]) -> None:
    order = Order(tuple(hosts), tuple(networks), {host: tuple(names) for host, names in sandboxes.items()})
    text = f'<p><script type="application/json" id="cnm-order">{order.to_json()}</script>'
    found = order_in(text)
    printable = all(
        name.isprintable()
        for name in (*hosts, *networks, *sandboxes, *(name for names in sandboxes.values() for name in names))
    )
    assert "<" not in order.to_json()
    if printable:
        assert found == order


@pytest.mark.parametrize(
    "memory",
    ["", "no JSON", "[]", "7", '{"hosts": 7}', '{"hosts": [7, {}], "more": 1}', "[" * 100000, '{"sandboxes": ["a"]}'],
)
def test_a_page_of_another_form_is_taken_for_one_that_remembers_nothing(memory: str) -> None:
    assert order_in(f'<script type="application/json" id="cnm-order">{memory}</script>') == Order()


def test_what_a_page_remembers_decides_about_places_alone() -> None:
    forged = Order(("nobody", "node3"), ("no network",), {"node1": ("nobody", "worker"), "nobody": ("x",)})
    fabric = fabric_of(reports_of(three()), "default", forged)
    assert [host.name for host in fabric.hosts] == ["node3", "node1", "node2"]
    assert "nobody" not in page(fabric)
    assert LONGEST > 10**7


def test_columns_and_rows_do_not_overlap() -> None:
    for deck in decks_of(fabric_of(reports_of(three()), "default")):
        edges = sorted(deck.x.values())
        assert all(right - left >= deck.column for left, right in zip(edges, edges[1:]))
        assert edges[-1] + deck.column <= deck.width
        rows = [*sorted(deck.lanes.values()), *sorted(deck.services_y.values()), deck.row(0)]
        assert all(below - above >= 30 for above, below in zip(rows, rows[1:]))
        assert max(deck.tracks.values()) < deck.names_x("node1") - deck.x["node1"]
        assert deck.row(max(len(host.sandboxes) for host in deck.hosts) - 1) < deck.height


@pytest.mark.parametrize("hosts", [1, ALONE, ALONE + 1, 21])
def test_every_host_is_in_one_drawing(hosts: int) -> None:
    fabric = fabric_of(reports_of(fleet(hosts, 2)), "default")
    names = [host.name for deck in decks_of(fabric) for host in deck.hosts]
    assert names == [host.name for host in fabric.hosts]
    assert len(decks_of(fabric)) == (1 if hosts <= ALONE else -(-hosts // TOGETHER))


def test_many_networks_still_fit_beside_the_names() -> None:
    networks = {f"net{number}": {"subnet": f"10.{number}.0.0/24"} for number in range(40)}
    boxes = {"all": {"networks": list(networks)}}
    fabric = fabric_of(reports_of({"node1": {"cnm_networks": networks, "cnm_sandboxes": boxes}}), "default")
    (deck,) = decks_of(fabric)
    assert max(deck.tracks.values()) < deck.names_x("node1") - deck.x["node1"]
    assert len(set(deck.tracks.values())) == 40


def test_drawings_have_no_number_that_is_none() -> None:
    assert not re.search(r'="(?:nan|inf|-inf|None)"', page(fabric_of(reports_of(three()), "default")))
