# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A link that networks are made on and that comes after the boot: they follow it, and nothing else waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from systems import Controller, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "card": {"driver": "macvlan", "subnet": "10.7.0.0/24", "driver_opts": {"parent": "card-1.x"}},
    },
    "n1": {
        "cnm_sandboxes": {
            "c1": {"networks": ["front"]},
            "m1": {"networks": ["card"]},
            "both": {"networks": ["front", "card"]},
        }
    },
}

CARD = "ip link add card-1.x type veth peer name card-end && ip link set card-1.x up"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Controller]]:
    """A system whose card is gone after a boot; and the controller."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1") as (one,):
        one.sh(CARD)
        controller = Controller(folder, one)
        controller.run("site", VARIABLES)
        yield one, controller


def test_without_the_card_all_else_is_back_and_what_is_missing_is_told(found: tuple[System, Controller]) -> None:
    system, _controller = found
    system.reboot()
    system.sh("ip netns exec c1 ping -c 1 10.0.0.3 && ip netns exec both ping -c 1 10.0.0.2")
    assert "card-1.x" in system.sh("journalctl -b -t cnm -p err -o cat --no-pager")
    told = system.run("cnm status")
    assert told.returncode == 1
    assert "network card in sandbox both" in told.stdout
    assert system.sh("systemctl --failed --no-legend") == ""


def test_with_the_card_what_was_missing_is_back_by_itself(found: tuple[System, Controller]) -> None:
    system, controller = found
    system.sh(CARD)
    system.until("ip -n m1 -br addr show eth0 | grep 10.7.0. && ip -n both -br addr | grep 10.7.0.", 20)
    system.until("cnm status", 20)
    controller.settled("n1", VARIABLES)
    controller.run("teardown", VARIABLES)
    assert system.run("find /etc/systemd -name '*cnm*'").stdout == ""
