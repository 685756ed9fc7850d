# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One of two hosts reboots, with everything a host can have: each thing is back, and nothing else is open meanwhile."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from containers import OF_RELEASE, PREPARE, WITH_SYSTEMD
from containers import VARIABLES as OWNERS
from systems import SUITES, Controller, System, systems
from watching import SERVER_PROGRAM, Watch, address, calls, pings, reboot, serve, task_on, wait_for

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

PINGED = {"front": "10.0.0.10", "app": "10.0.0.2", "docker": "10.0.0.11", "internal": "10.0.1.10"}
CALLED = {
    "front, port 80": ("10.0.0.10", 80),
    "app, port 80 past the published one": ("10.0.0.2", 80),
    "app, port 81": ("10.0.0.2", 81),
    "internal, port 80": ("10.0.1.10", 80),
}
"""Where somebody listens or answers, and the neighbour is not let by."""

MACHINE = "/var/lib/machines/m1"
OF_MACHINE = "[Service]\nExecStart=/usr/bin/python3 /root/server.py 80\n[Install]\nWantedBy=multi-user.target\n"


@pytest.fixture(scope="module", params=SUITES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two systems, the first with everything; the second knows ways to the first one's networks."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", "n2", suite=request.param, packages=OF_RELEASE[request.param]) as (one, other):
        one.sh(PREPARE)
        one.sh(WITH_SYSTEMD)
        one.write(f"{MACHINE}/root/server.py", SERVER_PROGRAM)
        one.write(f"{MACHINE}/etc/systemd/system/server.service", OF_MACHINE)
        one.sh(f"systemctl --root={MACHINE} enable -q server && machinectl start m1")
        controller = Controller(folder, one, other)
        controller.run("site", VARIABLES)
        for system, name in ((one, "app"), (one, "c1"), (one, "b1"), (one, task_on(one)), (other, task_on(other))):
            serve(system, name)
        other.until("for net in 0 1; do ip route replace 10.0.$net.0/24 via 192.168.77.1 || exit; done", 30)
        yield one, other, controller


def forbidden(system: System) -> dict[str, Watch]:
    """What the neighbour may not reach, and tries all the time."""
    return {
        **{name: pings(system, target) for name, target in PINGED.items()},
        **{name: calls(system, *target) for name, target in CALLED.items()},
    }


def counts(watches: dict[str, Watch]) -> dict[str, int]:
    """How often each succeeded."""
    return {name: len(watch.times()) for name, watch in watches.items()}


def test_each_thing_is_back_after_a_moment_and_nothing_else_is_open(pair: Any, record_property: Any) -> None:
    one, other, controller = pair
    inside = {name: address(one, name, "10.10.9.") for name in ("app", "web", "pod", "m1")}
    vip = other.sh("cnm exec far getent hosts shop").split()[0]

    allowed = {
        "the host": pings(other, "192.168.77.1"),
        "macvlan": pings(other, "192.168.77.140"),
        "overlay": pings(other, inside["app"], "far"),
        "docker on the overlay": pings(other, inside["web"], "far"),
        "podman on the overlay": pings(other, inside["pod"], "far"),
        "nspawn on the overlay": pings(other, inside["m1"], "far"),
        "a service of the nspawn machine's own systemd": calls(other, inside["m1"], 80, "far", "m1"),
        "published port": calls(other, "192.168.77.1", 8081),
        "mesh port": calls(other, "192.168.77.1", 3000),
        "its task at the VIP": calls(other, vip, 80, "far", "n1"),
    }
    of_other = calls(other, vip, 80, "far", "n2")
    watched = forbidden(other)
    back = reboot(one, allowed, 60)
    for name, seconds in back.items():
        record_property(f"{name} is back after", f"{seconds} s")
    pause = max(later - sooner for sooner, later in itertools.pairwise(of_other.times()))
    record_property("longest pause of the other host's task at the VIP", f"{pause:.2f} s")
    assert pause < back["its task at the VIP"]
    assert counts(watched) == dict.fromkeys(watched, 0)
    # Docker finds forwarding on after a boot, and leaves its policy.
    assert one.sh("iptables -S FORWARD").splitlines()[0] == "-P FORWARD ACCEPT"
    again = controller.run("site", VARIABLES, "--diff")
    assert (again.changed("n1"), again.changed("n2")) == (0, 0), again.output


@pytest.mark.parametrize("sandbox", ["app", "web", "pod", "m1"])
def test_the_vip_leads_from_each_kind_of_sandbox_to_both_hosts(pair: Any, sandbox: str) -> None:
    one, other, _controller = pair
    vip = other.sh("cnm exec far getent hosts shop").split()[0]
    watched = {host: calls(one, vip, 80, sandbox, host) for host in ("n1", "n2")}
    wait_for(watched, 20)
    assert all(counts(watched).values())


def test_without_rules_all_but_the_internal_network_would_have_been_reached(pair: Any) -> None:
    one, other, _controller = pair
    watched = forbidden(other)
    kept = {name: watched.pop(name) for name in ("internal", "internal, port 80")}
    watched["internal, from within"] = calls(one, "10.0.1.10", 80, "b1")
    one.sh("nft flush ruleset")
    wait_for(watched, 20)
    assert all(counts(watched).values())
    assert counts(kept) == dict.fromkeys(kept, 0)
