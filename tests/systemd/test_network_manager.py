# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host with NetworkManager, from Debian's package, which would configure every link that it is not told to leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from systems import SUITES, Controller, System, repository, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "named": {"subnet": "10.0.2.0/24", "driver_opts": {"com.docker.network.bridge.name": "br-named"}},
        "office": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.168.77.0/24", "ip_range": "192.168.77.128/26"}]},
            "driver_opts": {"parent": "lan0", "host_access": True},
        },
    },
    "n1": {"cnm_sandboxes": {"c1": {"networks": ["front", "named"]}, "m1": {"networks": ["office"]}}},
}

OWN = """[main]
dns=none

[keyfile]
unmanaged-devices=interface-name:lan0

[device]
match-device=*
managed=1
"""
"""What somebody has said: their own link is ifupdown's, all others are NetworkManager's, resolv.conf is neither's."""

FILE = "/etc/NetworkManager/conf.d/05-cnm-default.conf"
SEEN = "ip -o link | sed 's/qlen.*//'; ip -br address; ip route; bridge link"
MANAGED = "nmcli -t -f DEVICE,STATE device | grep -v ':unmanaged$' | cut -d: -f1"


@pytest.fixture(scope="module", params=SUITES)
def managed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Controller]]:
    """A system with NetworkManager, and its controller."""
    folder = tmp_path_factory.mktemp("manager")
    packages = repository(request.param, "network-manager")
    with systems(folder, "n1", suite=request.param) as (system,):
        system.give(packages, "packages")
        system.write("/etc/NetworkManager/conf.d/50-own.conf", OWN)
        system.sh("DEBIAN_FRONTEND=noninteractive dpkg -i /root/packages/*.deb")
        system.until("nmcli general status", 30)
        yield system, Controller(folder, system)


class TestNetworkManager:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_leaves_what_a_run_makes_and_would_take_it_otherwise(self, managed: tuple[System, Controller]) -> None:
        system, controller = managed
        system.sh("ip link add theirs0 type veth peer name theirs1")
        system.until(f"{MANAGED} | grep theirs0")
        system.sh("ip link delete theirs0")
        assert controller.run("site", VARIABLES).changed("n1")
        assert set(system.sh(MANAGED).split()) <= {"lo"}
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_a_restart_changes_nothing_nor_does_a_reboot(self, managed: tuple[System, Controller]) -> None:
        system, controller = managed
        before = system.sh(SEEN)
        system.sh("systemctl restart NetworkManager")
        system.until("nmcli general reload")
        assert set(system.sh(MANAGED).split()) <= {"lo"}
        assert system.sh(SEEN) == before
        system.reboot()
        assert set(system.sh(MANAGED).split()) <= {"lo"}
        done = controller.run("site", VARIABLES, "--diff")
        assert done.changed("n1") == 0, done.output

    def test_a_teardown_leaves_what_others_told_it(self, managed: tuple[System, Controller]) -> None:
        system, controller = managed
        controller.run("teardown", VARIABLES)
        assert system.sh("ls /etc/NetworkManager/conf.d") == "50-own.conf\n"
        assert system.status(f"test -e {FILE}") == 1
