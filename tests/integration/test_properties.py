# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What holds of any inventory: from variables to kernel state by probe, planner and engine, on a host of its own."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from host import becomes, on_a_host, run_command, sh, snapshot, the_same
from hypothesis import assume, event, given
from hypothesis import strategies as some
from sampling import sampled
from topologies import NOT_DRAWN, SHAPES, Variables, inventories, keys_drawn, shuffled

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration import schema
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError
from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers.registry import DRIVERS
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

UNDERLAY = """
ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up
ip address add 192.0.2.1/24 dev w0; ip address add 2001:db8::1/64 dev w0 nodad; ip route add default via 192.0.2.254
for number in 0 1 2 3; do
    ip link add lan$number type veth peer name wall$number; ip link set lan$number up; ip link set wall$number up
done
"""
"""What overlays travel by, and parents of networks on the LAN."""

LINKS = {name: LinkFacts() for name in ("eth0", "lan0", "lan1", "lan2", "lan3")}
OTHER = Facts(addresses=(("192.0.2.2", "eth0", 1500),), resolvers=("192.0.2.253",), links=LINKS)


def probed() -> Facts:
    return Facts.from_probe(entrypoints.probe("default", False, False, run_command))


def planned(variables: Variables, leases: Leases) -> Planned:
    known = {"node1": probed(), "node2": OTHER}
    return plan(read_topology(variables, {"all": list(variables)}), known, copy.deepcopy(leases), "now")


def request(made: Planned, check: bool = False) -> entrypoints.Request:
    of_host = made.plans["node1"]
    return entrypoints.Request(
        "default", of_host.to_json(), made.shared, digest=of_host.digest, revision=1, check=check, lock_timeout=5
    )


def run(made: Planned, check: bool = False) -> list[dict[str, Any]]:
    """A run of the module converge; what it did."""
    result = entrypoints.converge(request(made, check), run_command)
    assert result["changed"] == bool(result["operations"])
    return list(result["operations"])


def seen() -> dict[str, Any]:
    """The host, without the note of who holds the lock and VXLANs' MAC addresses, which are the kernel's choice."""
    found = {key: value for key, value in snapshot().items() if key != "/run/cnm/lock.json"}
    for links in (value for key, value in found.items() if key.endswith(": links")):
        links[:] = [{**link, "address": None} if link["kind"] == "vxlan" else link for link in links]
    return found


def right_or_assumed(variables: Variables, leases: Leases) -> Planned:
    """The plan, if there is one: an inventory that is refused is another test's."""
    with suppress(DeclarationError):
        made = planned(variables, leases)
        if not made.refusals:
            event("planned")
            return made
    event("refused")
    assume(False)
    raise AssertionError


def brought_to(variables: Variables, leases: Leases) -> Planned:
    """Plan and run, and what holds of every run."""
    made = right_or_assumed(variables, leases)
    before = seen()
    foretold = run(made, check=True)
    the_same(before, seen(), "after a check")
    assert run(made) == foretold
    after = seen()
    again = planned(variables, made.leases)
    assert again.plans["node1"].to_json() == made.plans["node1"].to_json()
    assert run(again) == []
    the_same(after, seen(), "after a second run")
    return made


class TestAnyInventory:
    @on_a_host
    def test_runs_are_idempotent_predicted_independent_of_history_and_removed_by_teardown(self) -> None:
        sh(UNDERLAY)
        here = drivers_of_the_kernel()

        @sampled(quick=8, whole=200)
        @given(inventories(here), inventories(here))
        def property_of(one: Variables, other: Variables) -> None:
            start = snapshot()
            try:
                first = brought_to(one, empty())
                second = brought_to(other, first.leases)
                after_another = seen()
                gone()
                becomes(start)
                run(second)
                the_same(after_another, seen(), "as from nothing")
            finally:
                gone()
            becomes(start)

        property_of()


def drivers_of_the_kernel() -> tuple[str, ...]:
    """Those whose kind of link there is: which a kernel lacks are tried in tests/vm."""
    attempt = "ip link add link lan0 name try0 type {} && ip link delete try0"
    lacking = {kind for kind in ("macvlan", "ipvlan") if run_command(["sh", "-c", attempt.format(kind)])[0] != 0}
    return tuple(sorted(set(SHAPES) - lacking))


def gone() -> None:
    entrypoints.converge(entrypoints.Request("default", absent=True), run_command)


@sampled(quick=100, whole=3000)
@given(inventories(), some.integers())
def test_the_order_of_an_inventory_is_irrelevant(variables: Variables, seed: int) -> None:
    known = {"node1": replace(OTHER, addresses=(("192.0.2.1", "eth0", 1500),)), "node2": OTHER}
    groups = {"all": list(variables)}
    try:
        topology = read_topology(variables, groups)
    except DeclarationError as error:
        with suppress(DeclarationError):
            read_topology(shuffled(variables, random.Random(seed)), groups)
            raise AssertionError("right in another order") from error
        return
    one = plan(topology, known, empty(), "now")
    another = read_topology(shuffled(variables, random.Random(seed)), groups)
    other = plan(another, dict(reversed(known.items())), empty(), "now")
    assert {name: item.to_json() for name, item in one.plans.items()} == {
        name: item.to_json() for name, item in other.plans.items()
    }
    assert (one.refusals, one.leases, one.shared) == (other.refusals, other.leases, other.shared)


def _keys(path: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """The paths of every key of ours in a schema, those of a user's own names left out."""
    for key, value in entry.get("properties", {}).items():
        yield f"{path}.{key}"
        yield from _keys(f"{path}.{key}", value)
    for inner in ("items", "additionalProperties"):
        if isinstance(entry.get(inner), Mapping):
            yield from _keys(path, entry[inner])


def test_every_driver_and_every_key_can_be_drawn() -> None:
    assert set(SHAPES) == set(DRIVERS.names) - {"host", "none"}, (
        "say in topologies.py what networks of that driver may be like"
    )
    every = {path for name, entry in schema.ENTRIES.items() for path in _keys(name, entry)}
    undrawn = {path for path in every - keys_drawn() if not any(path.startswith(key) for key in NOT_DRAWN)}
    assert not undrawn, "say in topologies.py what these may be like, or why they are not drawn"
    options = {key for name in DRIVERS.names for key in DRIVERS.find(name).options} - {"encrypted"}
    assert {f"cnm_networks.driver_opts.{key}" for key in options} - keys_drawn() == set()
