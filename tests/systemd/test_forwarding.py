# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host that begins to forward for itself, by its own settings or a Docker Engine, while networks are on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from systems import Controller, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "n1": {"cnm_sandboxes": {"c1": {"networks": ["front"]}}},
    "n2": {"cnm_sandboxes": {}},
}

# What an Engine makes of its default network: a bridge, a container on it, its chain, and masquerade.
ENGINE = """
ip link add docker0 type bridge
ip address add 172.17.0.1/16 dev docker0
ip link set docker0 up
ip netns add box
ip link add box0 master docker0 up type veth peer name eth0 netns box
ip -n box address add 172.17.0.2/16 dev eth0
ip -n box link set eth0 up
ip -n box route add default via 172.17.0.1
nft 'add table ip filter; add chain ip filter DOCKER-USER; add table ip nat'
nft 'add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }'
nft 'add rule ip nat POSTROUTING ip saddr 172.17.0.0/16 oifname != "docker0" masquerade'
echo 1 >/proc/sys/net/ipv4/ip_forward
"""

ENGINE_S_OTHER = (
    ENGINE.partition("nft")[0].replace("docker0", "br-0123456789ab").replace("172.17", "172.18").replace("box", "other")
    + "nft 'add rule ip nat POSTROUTING ip saddr 172.18.0.0/16 masquerade'"
)
OTHER_WAY_OUT = "ip netns exec other ping -c 1 -W 1 192.168.77.2"

WAY_OUT = "ip netns exec box ping -c 1 -W 1 192.168.77.2"
FORWARDS = "test $(cat /proc/sys/net/ipv4/ip_forward) = 1"


@pytest.fixture
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Controller]]:
    """A system with a network that did not forward before, beside another; and the controller."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", "n2") as (one, other):
        controller = Controller(folder, one, other)
        assert one.status(FORWARDS)
        controller.run("site", VARIABLES)
        one.sh(FORWARDS)
        yield one, controller


def router(system: System) -> bool:
    """Whether the host forwards between links that are not ours."""
    return "meta nfproto ipv4 accept" in system.sh("nft list chain inet cnm forward_unmanaged")


def test_a_docker_engine_that_comes_later_has_its_way_out_and_keeps_it(found: tuple[System, Controller]) -> None:
    system, controller = found
    system.sh(ENGINE)
    system.sh(WAY_OUT)
    # Another network of its, whose bridge a run has to see once.
    system.sh(ENGINE_S_OTHER)
    assert system.status(OTHER_WAY_OUT)
    controller.run("site", VARIABLES)
    system.sh(OTHER_WAY_OUT)
    assert not router(system)
    controller.settled("n1", VARIABLES)
    controller.run("teardown", VARIABLES)
    system.sh(OTHER_WAY_OUT)
    system.sh(FORWARDS)
    system.sh(WAY_OUT)


def test_a_host_whose_settings_begin_to_forward_is_a_router_after_its_next_boot(
    found: tuple[System, Controller],
) -> None:
    system, controller = found
    system.write("/etc/sysctl.d/50-router.conf", "net.ipv4.ip_forward=1")
    system.reboot()
    system.sh(FORWARDS)
    assert router(system)
    controller.settled("n1", VARIABLES)
    assert router(system)
    controller.run("teardown", VARIABLES)
    system.sh(FORWARDS)


def test_a_host_that_ceases_to_forward_is_no_router_after_its_next_boot(found: tuple[System, Controller]) -> None:
    system, controller = found
    system.write("/etc/sysctl.d/50-router.conf", "net.ipv4.ip_forward=1")
    controller.run("site", VARIABLES)
    assert router(system)
    system.sh("rm /etc/sysctl.d/50-router.conf")
    system.reboot()
    assert not router(system)
    system.sh(FORWARDS)  # for the networks
    controller.settled("n1", VARIABLES)
    controller.run("teardown", VARIABLES)
    assert system.status(FORWARDS)
