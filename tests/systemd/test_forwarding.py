# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host that forwards for itself, by its own settings or by a Docker Engine, before our networks or after them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from containers import OF_RELEASE
from systems import SUITES, Controller, System, Systems, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "n1": {"cnm_sandboxes": {"c1": {"networks": ["front"]}}},
    "n2": {"cnm_sandboxes": {}},
}

START_DOCKER = """
set -e
systemctl enable -q --now docker.socket docker.service
mkdir -p /var/tmp/tree/bin
cp /bin/busybox /var/tmp/tree/bin
for name in sleep ping; do ln -s busybox /var/tmp/tree/bin/$name; done
tar -C /var/tmp/tree -c . | docker import - tree
docker run -d --stop-timeout 0 --restart always --name box tree sleep 100000
"""
MAKE_NETWORK = """
set -e
docker network create more
docker run -d --stop-timeout 0 --restart always --name other --network more tree sleep 100000
"""

OUT = "ping -c 1 -W 1 192.168.77.2"
WAYS_OUT = {name: f"docker exec {name} {OUT}" for name in ("box", "other")}
SANDBOX_S = f"ip netns exec c1 {OUT}"
FORWARDS = "test $(cat /proc/sys/net/ipv4/ip_forward) = 1"

# A LAN behind the host, which the other system has to pass the host to reach.
BEHIND = """
set -e
ip netns add behind
ip link add lan1 type veth peer name eth0 netns behind
ip address add 10.99.0.1/24 dev lan1
ip link set lan1 up
ip -n behind address add 10.99.0.2/24 dev eth0
ip -n behind link set eth0 up
ip -n behind route add default via 10.99.0.1
"""
PASSES = "ping -c 1 -W 1 10.99.0.2"


Found = tuple[System, System, Controller]


@pytest.fixture
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """A system with a network that did not forward before, beside another; and the controller."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", "n2") as (one, other):
        assert one.status(FORWARDS)
        other.until("ip route replace 10.99.0.0/24 via 192.168.77.1", 30)
        controller = Controller(folder, one, other)
        controller.run("site", VARIABLES)
        one.sh(f"{FORWARDS} && {SANDBOX_S}")
        yield one, other, controller


@pytest.fixture(params=SUITES)
def with_docker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """The same without the network, and with a Docker Engine that is as if it had never run."""
    folder = tmp_path_factory.mktemp("systems")
    with Systems(folder) as lan:
        one = lan.new("n1", request.param, packages=OF_RELEASE[request.param])
        other = lan.new("n2", request.param)
        one.sh("systemctl disable -q --now docker.socket docker.service && rm -r /var/lib/docker")
        one.reboot()
        assert one.status(FORWARDS) and one.status("ip link show docker0")
        other.until("ip route replace 10.99.0.0/24 via 192.168.77.1", 30)
        yield one, other, Controller(folder, one, other)


def out_after_a_reboot(system: System) -> None:
    """Reboot it; Docker's containers have their way out then, and so has the sandbox."""
    system.reboot()
    for way in WAYS_OUT.values():
        system.until(way, 20)
    system.sh(f"{FORWARDS} && {SANDBOX_S} && cnm status")


def test_a_docker_engine_that_comes_later_has_its_way_out_and_keeps_it(with_docker: Found) -> None:
    system, other, controller = with_docker
    controller.run("site", VARIABLES)
    system.sh(START_DOCKER + WAYS_OUT["box"])
    # The bridge of another network has to be seen by a run.
    system.sh(MAKE_NETWORK)
    assert system.status(WAYS_OUT["other"])
    controller.run("site", VARIABLES)
    system.sh(WAYS_OUT["other"])
    system.sh(BEHIND)
    assert other.status(PASSES)
    controller.settled("n1", VARIABLES)
    out_after_a_reboot(system)
    controller.settled("n1", VARIABLES)
    controller.run("teardown", VARIABLES)
    for way in (FORWARDS, *WAYS_OUT.values()):
        system.sh(way)


@pytest.mark.whole
def test_a_docker_engine_that_was_there_before_has_its_way_out_after_a_reboot_too(with_docker: Found) -> None:
    system, _other, controller = with_docker
    system.sh(START_DOCKER + MAKE_NETWORK)
    assert "-P FORWARD DROP" in system.sh("iptables -S FORWARD")
    controller.run("site", VARIABLES)
    for way in (SANDBOX_S, *WAYS_OUT.values()):
        system.sh(way)
    out_after_a_reboot(system)
    controller.settled("n1", VARIABLES)
    controller.run("teardown", VARIABLES)
    for way in (FORWARDS, *WAYS_OUT.values()):
        system.sh(way)


def test_a_host_whose_settings_begin_to_forward_is_a_router_after_its_next_boot(routed: Found) -> None:
    system, other, controller = routed
    system.sh(BEHIND)
    assert other.status(PASSES)
    system.write("/etc/sysctl.d/50-router.conf", "net.ipv4.ip_forward=1")
    system.reboot()
    system.sh(BEHIND + SANDBOX_S)
    other.sh(PASSES)
    controller.settled("n1", VARIABLES)
    other.sh(PASSES)
    controller.run("teardown", VARIABLES)
    other.sh(PASSES)


def test_a_host_that_ceases_to_forward_is_no_router_after_its_next_boot(routed: Found) -> None:
    system, other, controller = routed
    system.write("/etc/sysctl.d/50-router.conf", "net.ipv4.ip_forward=1")
    controller.run("site", VARIABLES)
    system.sh(BEHIND)
    other.sh(PASSES)
    system.sh("rm /etc/sysctl.d/50-router.conf")
    system.reboot()
    system.sh(BEHIND + SANDBOX_S)
    assert other.status(PASSES)
    controller.settled("n1", VARIABLES)
    assert other.status(PASSES)
    controller.run("teardown", VARIABLES)
    assert system.status(FORWARDS)
