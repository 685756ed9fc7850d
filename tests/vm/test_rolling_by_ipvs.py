# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A roll-out of tests/lab/test_rolling.py with IPVS in place of nftables, on a kernel that has it.

Only with ``./run test --all vm``, or by its name, as everything is slow here.
"""

from __future__ import annotations

import os

import pytest

os.environ["CNM_LOAD_BALANCER"] = "ipvs"

import test_rolling as suite
from fleet import Fleet
from serving import Servers
from test_rolling import at_work, fleet

__all__ = ["at_work", "fleet"]
"""Fixtures of the suite."""

pytestmark = [pytest.mark.vm, pytest.mark.whole]


@pytest.fixture(autouse=True)
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 requests a second in all, of which each may take as long as the machine needs."""
    monkeypatch.setattr(suite, "RATE", 100)
    monkeypatch.setattr(suite, "TIMEOUT", 30)


def test_start_first_has_others_serve_before_a_batch_rests(fleet: Fleet, at_work: Servers) -> None:
    suite.test_start_first_has_others_serve_before_a_batch_rests_and_fails_no_request(fleet, at_work)
    rules = fleet.sh("node1", "ip netns exec worker ipvsadm -Sn")
    assert rules.count("-a -f") == 6
