# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One of two hosts reboots, with everything a host can have: each thing is back, and nothing else is open meanwhile."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from containers import OF_RELEASE, PREPARE
from containers import VARIABLES as OWNERS
from systems import SUITES, Controller, systems
from watching import address, calls, pings, reboot, serve, task_on

VARIABLES: dict[str, Any] = copy.deepcopy(OWNERS)
VARIABLES["cnm_networks"].update(
    {
        "back": {"subnet": "10.0.1.0/24", "internal": True},
        "office": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.168.77.0/24", "ip_range": "192.168.77.128/26"}]},
            "driver_opts": {"parent": "lan0"},
        },
    }
)
for box in ("pod", "m1"):
    VARIABLES["n1"]["cnm_sandboxes"][box]["networks"]["wide"] = {}
VARIABLES["n1"]["cnm_sandboxes"].update(
    {
        "app": {"networks": ["front", "wide"], "ports": ["8081:80"]},
        "b1": {"networks": {"back": {"ipv4_address": "10.0.1.10"}}},
        "lan": {"networks": {"office": {"ipv4_address": "192.168.77.140"}}},
    }
)
VARIABLES["n2"] = {"cnm_sandboxes": {"far": {"networks": ["wide"]}}}
VARIABLES["cnm_services"] = {
    "shop": {
        "networks": ["wide"],
        "deploy": {"replicas": 2, "placement": {"hosts": ["n1", "n2"]}},
        "ports": [{"target": 80, "published": 3000, "mode": "ingress"}],
    }
}

FORBIDDEN = {"front": "10.0.0.10", "app": "10.0.0.2", "docker": "10.0.0.11", "internal": "10.0.1.10"}


@pytest.fixture(scope="module", params=SUITES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two systems, the first with everything; the second knows ways to the first one's networks."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", "n2", suite=request.param, packages=OF_RELEASE[request.param]) as (one, other):
        one.sh(PREPARE)
        controller = Controller(folder, one, other)
        controller.run("site", VARIABLES)
        for system, name in ((one, "app"), (one, task_on(one)), (other, task_on(other))):
            serve(system, name)
        other.sh("for net in 0 1; do ip route add 10.0.$net.0/24 via 192.168.77.1; done")
        yield one, other, controller


def test_each_thing_is_back_after_a_moment_and_nothing_else_is_open(pair: Any, record_property: Any) -> None:
    one, other, controller = pair
    inside = {name: address(one, name, "10.10.9.") for name in ("app", "web", "pod", "m1")}

    allowed = {
        "the host": pings(other, "192.168.77.1"),
        "macvlan": pings(other, "192.168.77.140"),
        "overlay": pings(other, inside["app"], "far"),
        "docker on the overlay": pings(other, inside["web"], "far"),
        "podman on the overlay": pings(other, inside["pod"], "far"),
        "nspawn on the overlay": pings(other, inside["m1"], "far"),
        "published port": calls(other, "192.168.77.1", 8081),
        "mesh port": calls(other, "192.168.77.1", 3000),
    }
    forbidden = {name: pings(other, target) for name, target in FORBIDDEN.items()}
    back = reboot(one, allowed, 60)
    record_property("seconds after the boot", json.dumps(back))
    assert {name: len(watch.times()) for name, watch in forbidden.items()} == dict.fromkeys(FORBIDDEN, 0)
    # Docker finds forwarding on after a boot, and leaves its policy.
    assert one.sh("iptables -S FORWARD").splitlines()[0] == "-P FORWARD ACCEPT"
    again = controller.run("site", VARIABLES, "--diff")
    assert (again.changed("n1"), again.changed("n2")) == (0, 0), again.output
    # They would have been heard: without rules they are, but for the internal network.
    forbidden = {name: pings(other, target) for name, target in FORBIDDEN.items()}
    one.sh("nft flush ruleset")
    time.sleep(1)
    heard = {name: len(watch.times()) for name, watch in forbidden.items()}
    assert heard["front"] and heard["app"] and heard["docker"] and not heard["internal"]
