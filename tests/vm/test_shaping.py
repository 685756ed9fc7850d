# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Limits and emulated links of endpoints on a kernel that has netem and policers."""

from __future__ import annotations

import re

import pytest
from host import becomes, compare, converge, on_a_host, resources_of, sh, snapshot
from test_kinds import DRIFTS, HERE, Drift, operations_for
from test_shaping_by_packets import octets_through, shaped

pytestmark = pytest.mark.vm


def round_trips(count: int) -> list[float]:
    """Milliseconds of the pings from c2 to c1 that came back."""
    said = sh(f"ip netns exec c2 ping -c {count} -i 0.01 -W 1 10.0.0.11 || :")
    return [float(found) for found in re.findall(r"time=([0-9.]+) ms", said)]


@on_a_host
def test_an_emulated_link_delays_varies_and_loses() -> None:
    before = snapshot()
    converge(shaped())
    near = min(round_trips(5))
    wanted = shaped(netem={"delay": "50ms", "jitter": "20ms", "loss": "30%"})
    converge(wanted)
    assert compare(wanted) == []
    found = round_trips(200)
    assert 80 < len(found) < 190
    assert near + 25 < min(found) < near + 55 < max(found)
    converge(shaped())
    assert len(round_trips(20)) == 20
    converge(())
    becomes(before)


@on_a_host
def test_a_link_of_a_rate_carries_no_more_and_a_limit_stands_below_it() -> None:
    wanted = shaped(netem={"rate": "8mbit", "delay": "1ms"}, limits={"ingress": "80mbit"})
    converge(wanted)
    assert compare(wanted) == []
    assert octets_through("c2", "c1", "10.0.0.11") < 1.3e6
    other = shaped(netem={"rate": "80mbit", "delay": "1ms"}, limits={"ingress": "8mbit"})
    converge(other)
    assert compare(other) == []
    assert octets_through("c2", "c1", "10.0.0.11") < 1.3e6


@on_a_host
def test_a_sandbox_sends_no_more_than_its_limit_whatever_its_root_does() -> None:
    before = snapshot()
    wanted = shaped(limits={"egress": "4mbit", "ingress": "8mbit"})
    converge(wanted)
    assert compare(wanted) == []
    sh("ip netns exec c1 sh -c 'tc qdisc delete dev eth0 root; tc qdisc add dev eth0 clsact' || :")
    assert 0.3e6 < octets_through("c1", "c2", "10.0.0.2") < 0.8e6
    converge(shaped(limits={"ingress": "8mbit"}))
    assert octets_through("c1", "c2", "10.0.0.2") > 0.8e6  # emulated on a busy machine it is little more
    converge(())
    becomes(before)


@on_a_host
def test_filters_of_others_and_their_place_outlive_ours() -> None:
    converge(shaped(limits={"egress": "8mbit"}))
    port = re.findall(r"dev (\S+)", sh("tc qdisc show | grep clsact"))[0]
    sh(f"tc filter add dev {port} egress pref 7 matchall action pass")
    converge(shaped())
    assert "pref 7 matchall" in sh(f"tc filter show dev {port} egress")
    assert "police" not in sh(f"tc filter show dev {port} ingress")


@on_a_host
def test_drift_that_takes_this_kernel_is_seen_and_repaired() -> None:
    wanted = resources_of(HERE)
    converge(wanted)
    for attribute in ("egress", "delay_us", "jitter_us", "loss_ppm", "rate"):
        drift = DRIFTS["shaping"][attribute]
        assert isinstance(drift, Drift)
        sh(drift.harm)
        found = [item.attribute for operation in operations_for(wanted) for item in operation.differences]
        assert attribute in found
        assert converge(wanted)
        assert compare(wanted) == []
