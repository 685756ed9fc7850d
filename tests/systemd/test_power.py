# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The power is cut at any moment of a run: after the boot the host is as before or as declared, and says which."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sampling import WHOLE
from systems import HAS_DISKS, Controller, System, Systems

BEFORE: dict[str, Any] = {
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "back": {"subnet": "10.0.1.0/24", "internal": True},
        "wide": {"driver": "overlay", "subnet": "10.10.9.0/24"},
    },
    "n1": {
        "cnm_sandboxes": {
            **{f"c{number}": {"networks": ["front", "wide"]} for number in range(1, 6)},
            "gone": {"networks": ["front", "back"], "ports": ["8080:80"]},
        }
    },
    "n2": {"cnm_sandboxes": {"d1": {"networks": ["wide"]}}},
}

AFTER: dict[str, Any] = {
    "cnm_networks": {**BEFORE["cnm_networks"], "new": {"subnet": "10.0.3.0/24"}},
    "n1": {
        "cnm_sandboxes": {
            **{f"c{number}": {"networks": ["front", "wide"]} for number in range(1, 6)},
            "added": {"networks": ["new", "back", "wide"], "ports": ["8081:80"]},
        }
    },
    "n2": BEFORE["n2"],
}

CUTS = 20 if WHOLE else 3

MOMENTS = [(True, 0.1), (True, 0.4), (True, 2.0), (False, 6.0)]
"""Whether the cut comes after the first change, and within how many seconds of that, or of the run's start."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Controller]]:
    """A system with networks, beside another; and the controller."""
    folder = tmp_path_factory.mktemp("systems")
    with Systems(folder) as lan:
        one, other = lan.new("n1", disk=HAS_DISKS), lan.new("n2")
        controller = Controller(folder, one, other)
        controller.run("site", BEFORE)
        yield one, controller


def state(system: System) -> str:
    """What tells the two declarations apart, each part of it."""
    return system.sh(
        "ip netns list | cut -d' ' -f1 | sort; ip -br link | grep -c cnm; nft list table inet cnm | grep -o '808[01]'; "
        "ls /etc/netns"
    )


def test_after_a_cut_at_any_moment_the_host_is_as_before_or_as_declared_and_says_which(
    found: tuple[System, Controller], record_property: Any
) -> None:
    system, controller = found
    before = state(system)
    controller.run("site", AFTER)
    after = state(system)
    assert before != after
    outcomes = []
    chance = random.Random()
    for cut in range(CUTS):
        controller.run("site", BEFORE)
        assert state(system) == before
        run = threading.Thread(target=lambda: controller.run("site", AFTER, fails=None))
        run.start()
        # The note is there while the host is changed, for some tenths of a second.
        noted, within = MOMENTS[cut % len(MOMENTS)]
        while noted and run.is_alive() and not system.on_disk("/var/lib/cnm/default/underway.json").exists():
            time.sleep(0.002)
        moment = chance.random() * within
        time.sleep(moment)
        system.kill()
        run.join()
        system.start()
        now = state(system)
        said = system.sh("journalctl -b -t cnm -o cat --no-pager")
        assert now in (before, after), f"cut {cut}, {moment} s: {now} {said}"
        told = "was cut off" in said
        outcomes.append(f"{moment:.2f} s: " + ("as before" if now == before else "as declared") + ", told" * told)
        assert not told or now == before
        assert system.status("cnm status") == 0, system.run("cnm status").stdout
    record_property("outcomes", outcomes)
    record_property("what had not reached the disk was lost", HAS_DISKS)
    assert any(outcome.endswith("as before, told") for outcome in outcomes)
    controller.run("site", AFTER)
    assert state(system) == after
    controller.settled("n1", AFTER)
