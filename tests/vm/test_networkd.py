# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A network on a VLAN, which needs the kernel, on a host whose systemd-networkd takes links of any name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from networkd import ANSWERS, MANAGED, SEEN, STRANGER, on_networkd
from systems import BOOT_S, Controller, System, Systems

pytestmark = [pytest.mark.vm, pytest.mark.whole]

VARIABLES: dict[str, Any] = {
    "cnm_networks": {
        "office": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.168.78.0/24", "ip_range": "192.168.78.128/26"}]},
            "driver_opts": {"parent": "lan0.20"},
        },
    },
    "n1": {"cnm_sandboxes": {"m1": {"networks": ["office"]}}},
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Controller]]:
    """A system with such files, and its controller."""
    folder = tmp_path_factory.mktemp("networkd")
    with Systems(folder) as lan:
        system = on_networkd(lan, "n1", "trixie", "every name")
        yield system, Controller(folder, system)


def test_the_vlan_link_is_left_whatever_makes_networkd_configure_links_again(host: tuple[System, Controller]) -> None:
    system, controller = host
    assert controller.run("site", VARIABLES).changed("n1")
    before = system.sh(SEEN)
    assert "lan0.20@lan0" in before
    for change in ("networkctl reload; networkctl reconfigure lan0", "systemctl restart systemd-networkd"):
        system.sh(f"ip address add {STRANGER} dev lan0; {change}")
        system.until(f"! ip address show dev lan0 | grep -q {STRANGER} && {ANSWERS}", BOOT_S)
        assert set(system.sh(MANAGED).split()) <= {"lo", "lan0"}
        assert system.sh(SEEN) == before, change
    system.reboot()
    system.until(ANSWERS, BOOT_S)
    assert set(system.sh(MANAGED).split()) <= {"lo", "lan0"}
    controller.settled("n1", VARIABLES)


def test_it_would_be_taken_without_what_networkd_is_told(host: tuple[System, Controller]) -> None:
    system, controller = host
    system.sh("rm /etc/systemd/network/05-cnm-*; networkctl reload")
    system.until(f"{MANAGED} | grep -qx lan0.20", BOOT_S)
    assert controller.run("site", VARIABLES).changed("n1")
    system.until(f"! {MANAGED} | grep -qx lan0.20", BOOT_S)
