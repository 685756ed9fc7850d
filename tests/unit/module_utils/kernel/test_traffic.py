# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Messages of traffic control as pyroute2 reads them, and what we read of them ourselves."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink import Message, traffic

RATES = [1000, 12_500_000, 2**32, 2**39]


def read(message: Message) -> tuple[Any, dict[str, Any]]:
    found = tcmsg(message.payload)
    found.decode()
    return found, dict(found.get_attr("TCA_OPTIONS")["attrs"]) if found.get_attr("TCA_OPTIONS") else {}


def discipline(message: Message) -> traffic.Discipline:
    return traffic._read_one(message.payload, 16, len(message.payload))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("below", [None, traffic.NETEM_HANDLE | 1])
def test_a_limit(rate: int, below: Any) -> None:
    message = traffic.new_tbf(7, rate, below)
    found, options = read(message)
    assert (found["index"], found["handle"]) == (7, traffic.TBF_HANDLE)
    assert found["parent"] == (below or traffic.ROOT)
    assert found.get_attr("TCA_KIND") == "tbf"
    parms = options["TCA_TBF_PARMS"]
    assert parms["rate"] == min(rate, 2**32 - 1)
    assert parms["limit"] >= traffic.burst_of(rate)
    assert discipline(message) == (7, "tbf", traffic.TBF_HANDLE, below is None, rate, 0, 0, 0)


@pytest.mark.parametrize("rate", [0, *RATES])
def test_an_emulated_link(rate: int) -> None:
    for loss in (0, 1, 999, 10**6):
        message = traffic.new_netem(7, delay_us=20_000, jitter_us=1, loss_ppm=loss, rate=rate)
        found, _options = read(message)
        assert found.get_attr("TCA_KIND") == "netem"
        assert found["handle"] == traffic.NETEM_HANDLE
        assert discipline(message) == (7, "netem", traffic.NETEM_HANDLE, True, rate, 20_000, 1, loss)


@pytest.mark.parametrize("rate", RATES)
def test_a_policer(rate: int) -> None:
    message = traffic.new_policer(7, rate)
    found = tcmsg(message.payload)
    found.decode()
    assert found.get_attr("TCA_KIND") == "matchall"
    assert (found["index"], found["parent"], found["handle"]) == (7, traffic.RECEIVED, traffic.POLICER_HANDLE)
    assert traffic._read_filter(message.payload, 16, len(message.payload)) == (traffic.POLICER_HANDLE, rate)


@pytest.mark.parametrize("octets", range(0, 120, 7))
def test_what_is_cut_off_is_not_as_we_make_it(octets: int) -> None:
    """The kernel's messages are whole; ours is the one that must not fail on another version's."""
    whole = traffic.new_policer(7, 10**6).payload
    if octets >= 36:
        assert traffic._read_filter(whole[:octets], 16, octets) in (None, (traffic.POLICER_HANDLE, 0))
