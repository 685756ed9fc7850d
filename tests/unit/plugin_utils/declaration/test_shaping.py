# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Rates, times and shares of endpoints as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan.shaping import Shaping, quantity
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import Shape
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology


def shape(**options: Any) -> Any:
    boxes = {"c1": {"networks": {"n": options}}}
    topology = read_topology({"h": {"cnm_networks": {"n": {"subnet": "10.0.0.0/24"}}, "cnm_sandboxes": boxes}})
    return topology.host("h").sandboxes[0].endpoints[0].shape


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, None),
        ({"limits": {}, "netem": None}, None),
        ({"limits": {"ingress": "100mbit"}}, Shape(ingress=12_500_000)),
        ({"limits": {"ingress": "1.5 Gbit", "egress": "64kbit"}}, Shape(187_500_000, 8000)),
        ({"netem": {"delay": "20ms", "jitter": "500us"}}, Shape(delay_us=20_000, jitter_us=500)),
        ({"netem": {"delay": "1.25s", "loss": "0.1%"}}, Shape(delay_us=1_250_000, loss_ppm=1000)),
        ({"netem": {"rate": "10mbit", "loss": "100%"}}, Shape(rate=1_250_000, loss_ppm=10**6)),
    ],
)
def test_it_is_read_in_octets_microseconds_and_millionths(options: dict[str, Any], found: Any) -> None:
    assert shape(**options) == found


def test_quantities_are_shown_as_they_are_written() -> None:
    item = Shaping("", "p", ingress=12_500_000, egress=1, delay_us=20_000, jitter_us=1, loss_ppm=1500)
    shown = {name: quantity(name, value) for name, value in vars(item).items() if isinstance(value, int)}
    assert shown == {
        "ingress": "100mbit",
        "egress": "8bit",
        "delay_us": "20ms",
        "jitter_us": "1us",
        "loss_ppm": "0.15%",
        "rate": "none",
    }
