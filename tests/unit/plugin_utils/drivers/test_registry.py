# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Drivers of other collections: whatever one does wrong is an error with its name, for those who use it alone."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.driver import DriverError
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError
from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers import api
from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers.registry import _RETURNED, DRIVERS
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

FAILING = "faulty.drivers.failing"
FRONT = {"cnm_networks": {"front": {"subnet": "10.1.0.0/24"}}, "cnm_sandboxes": {"c2": {"networks": ["front"]}}}


def told(options: dict[str, str]) -> str:
    """What is said of node1, which has a network of the driver; node2 gets its plan, or nobody does."""
    network = {"driver": FAILING, "subnet": "10.0.0.0/24", "driver_opts": options}
    variables: dict[str, Any] = {
        "node1": {"cnm_networks": {"n": network}, "cnm_sandboxes": {"c1": {"networks": ["n"]}}},
        "node2": FRONT,
    }
    try:
        made = plan(read_topology(variables), dict.fromkeys(variables, Facts(filters_bridges=True)), empty(), "now")
    except DeclarationError as error:
        return "\n".join(f"{item.path}: {item.problem}" for item in error.errors)
    assert set(made.plans) == {"node2"}
    return "\n".join(made.refusals["node1"])


@pytest.mark.parametrize("method", sorted(_RETURNED))
def test_what_a_method_raises_names_driver_and_method(method: str) -> None:
    text = told({"raise": method})
    assert f"The driver {FAILING} failed in {method}: KeyError" in text
    assert text.isprintable()


@pytest.mark.parametrize("method", sorted(_RETURNED))
def test_a_wrong_value_names_driver_and_method(method: str) -> None:
    assert f"The driver {FAILING} returned a wrong value from {method}" in told({"return": method})


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("bridge-name", "returned a wrong value from bridge"),
        ("bridge-alone", "names a bridge of the host, or has the trait forwarding, and not both"),
        ("same-name", "Two parts of the plan make namespace c1"),
        ("no-plan", "returned a wrong value from network_resources"),
        ("ways-out", "has a wrong value in traits.ways_out"),
        ("tunnel", "has traits with a tunnel that do not span hosts globally"),
        ("reader", "failed to read fault: RuntimeError"),
    ],
)
def test_what_does_not_fit_a_plan_is_the_driver_s_fault(fault: str, text: str) -> None:
    found = told({"fault": fault})
    assert FAILING in found or fault == "same-name"
    assert text in found


def test_without_a_fault_it_is_planned() -> None:
    variables = {
        "node1": {
            "cnm_networks": {"n": {"driver": FAILING, "subnet": "10.0.0.0/24"}},
            "cnm_sandboxes": {"c1": {"networks": ["n"]}},
        }
    }
    assert plan(read_topology(variables), {"node1": Facts()}, empty(), "now").plans["node1"].resources


def test_our_own_drivers_go_by_their_short_names() -> None:
    with pytest.raises(DriverError, match="Write `bridge`"):
        DRIVERS.find("cnm.fabric.bridge")


def test_all_that_the_interface_promises_is_there() -> None:
    assert all(hasattr(api, name) for name in api.__all__)
