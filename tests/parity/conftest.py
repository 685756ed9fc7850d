# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lab in which a Docker Engine and our collection stand side by side, each with a neighbour on their segment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, LabError, labs

sys.path.insert(0, str(Path(__file__).parent))

from docker_engine import missing, remove_groups
from scenarios import SCENARIOS
from world import World, both_sides

PREFIX = "pytest-parity-"


def _remove_leftovers() -> None:
    for name in labs():
        owner = name[len(PREFIX) :] if name.startswith(PREFIX) else ""
        if owner.isdigit() and not Path("/proc", owner).exists():
            Lab(name).down()
    remove_groups()


@pytest.fixture(scope="session")
def parity_lab() -> Iterator[Lab]:
    """Three hosts, ours, Docker's and one for both, each with a neighbour."""
    if missing():
        pytest.fail(
            f"there is no Docker Engine: install the package {missing()}, as ./run test parity does", pytrace=False
        )
    _remove_leftovers()
    lab = Lab(f"{PREFIX}{os.getpid()}", hosts=6)
    try:
        lab.up()
        for node in lab.hosts:
            # so that a refusal is never mistaken for silence
            lab.run(node, ["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"])
        yield lab
    except LabError as problem:
        pytest.fail(f"no lab: {problem}")
    finally:
        lab.down()
        remove_groups()


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest, parity_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> World:
    """All scenarios that a selected test asks for, and everything tried: one Engine and one run of site."""
    wanted = {name for item in request.session.items for name in _asked_for(item)}
    chosen = {name: scenario for name, scenario in SCENARIOS.items() if name in wanted}
    return both_sides(parity_lab, tmp_path_factory.mktemp("ours"), chosen)


def _asked_for(item: pytest.Item) -> Iterable[str]:
    """The scenarios that a test looks at."""
    given: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {"scenario": "named"}
    return given["known"].scenarios if "known" in given else [given.get("scenario", "")]
