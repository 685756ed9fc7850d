# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Hosts whose links systemd-networkd configures, by files that match more than whoever wrote them thought of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from networkd import ANSWERS, CARELESS, FILES, MANAGED, SEEN, STRANGER, on_networkd
from systems import RELEASES, Controller, System, Systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "back": {"subnet": "10.0.1.0/24", "internal": True},
        "named": {"subnet": "10.0.2.0/24", "driver_opts": {"com.docker.network.bridge.name": "br-named"}},
        "office": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.168.77.0/24", "ip_range": "192.168.77.128/26"}]},
            "driver_opts": {"parent": "lan0", "host_access": True},
        },
        "wide": {"driver": "overlay", "subnet": "10.10.9.0/24"},
    },
    "n1": {
        "cnm_sandboxes": {
            "c1": {"networks": ["front", "named"], "ports": ["8080:80"]},
            "c2": {"networks": ["back"]},
            "d1": {"networks": ["wide"]},
            "m1": {"networks": ["office"]},
        }
    },
}

_CARELESS = [
    pytest.param(pair, marks=[] if pair == ("trixie", "every name") else pytest.mark.whole, id=" ".join(pair))
    for pair in itertools.product(RELEASES, CARELESS)
]


@pytest.fixture(scope="module", params=_CARELESS)
def careless(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Controller]]:
    """A system with such files, and its controller."""
    folder = tmp_path_factory.mktemp("networkd")
    with Systems(folder) as lan:
        system = on_networkd(lan, "n1", *request.param)
        yield system, Controller(folder, system)


class TestNetworkd:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_a_check_names_what_it_is_told_and_a_run_tells_it(self, careless: tuple[System, Controller]) -> None:
        system, controller = careless
        told = controller.run("site", VARIABLES, "--check", "--diff").output
        assert "link_manager networkd" in told and "br-named" in told
        assert system.sh(FILES) == ""
        assert controller.run("site", VARIABLES).changed("n1")
        assert set(system.sh(MANAGED).split()) <= {"lo", "lan0"}
        system.sh("ip -br link show br-named; ip -n c1 address show dev eth0 | grep -q 10.0.0.2")
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_whatever_makes_it_configure_links_again_changes_nothing(self, careless: tuple[System, Controller]) -> None:
        system, controller = careless
        before = system.sh(SEEN)
        assert "blackhole" in before  # the rules that keep the internal network internal
        for change in ("networkctl reload; networkctl reconfigure lan0", "systemctl restart systemd-networkd"):
            system.sh(f"ip address add {STRANGER} dev lan0; {change}")
            system.until(f"! ip address show dev lan0 | grep -q {STRANGER} && {ANSWERS}")
            assert system.sh(SEEN) == before, change
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_neither_does_a_reboot(self, careless: tuple[System, Controller]) -> None:
        system, controller = careless
        system.reboot()
        system.until(ANSWERS)
        assert set(system.sh(MANAGED).split()) <= {"lo", "lan0"}
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_files_that_somebody_has_changed_are_written_anew(self, careless: tuple[System, Controller]) -> None:
        system, controller = careless
        before = system.sh(f"cat $({FILES} | sort)")
        system.sh("sed -i s/=yes/=no/ /etc/systemd/network/05-cnm-default.network; rm /etc/systemd/networkd.conf.d/*")
        assert controller.run("site", VARIABLES).changed("n1")
        assert system.sh(f"cat $({FILES} | sort)") == before
        assert set(system.sh(MANAGED).split()) <= {"lo", "lan0"}

    def test_a_file_of_somebody_else_s_at_its_path_is_told_and_left(self, careless: tuple[System, Controller]) -> None:
        system, controller = careless
        path = "/etc/systemd/network/05-cnm-default.link"
        system.sh(f"mv {path} /root; ln -s /dev/null {path}")
        refused = controller.run("site", VARIABLES, fails=True)
        assert f"{path} is there and not made by this project" in refused.output
        system.sh(f"test -L {path}; mv /root/{path.rpartition('/')[2]} {path}")
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_a_teardown_leaves_none_of_it(self, careless: tuple[System, Controller]) -> None:
        system, controller = careless
        controller.run("teardown", VARIABLES)
        assert system.sh(FILES) == ""
        assert system.status("test -e /etc/systemd/networkd.conf.d") == 1
        assert "192.168.77.1/24" in system.sh("ip -br address show dev lan0")

    def test_without_a_bus_it_is_told_by_a_restart(self, careless: tuple[System, Controller]) -> None:
        system, controller = careless
        system.sh("systemctl mask -q --now dbus.socket dbus.service")
        variables = {**VARIABLES, "cnm_boot": False, "n1": {"cnm_sandboxes": {"c1": {"networks": ["front"]}}}}
        assert controller.run("site", variables).changed("n1")
        assert controller.run("site", variables).changed("n1") == 0
        assert "networkd.conf.d" not in system.sh(FILES)  # there is no rule to keep
        assert "192.168.77.1/24" in system.sh("ip -br address show dev lan0")
