# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The suite of tests/lab/test_rolling.py with IPVS in place of nftables, on a kernel that has it.

Few requests a second, as everything is slow here, and only with ``./run test --all vm`` or by its name.
"""

from __future__ import annotations

import os

import pytest

os.environ["CNM_LOAD_BALANCER"] = "ipvs"

import test_rolling as suite
from fleet import Fleet
from serving import Servers
from test_services import at_work, fleet

__all__ = ["at_work", "fleet"]
"""Fixtures of the suite."""

pytestmark = [pytest.mark.vm, pytest.mark.whole]


@pytest.fixture(autouse=True)
def _few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "RATE", 10)


def test_start_first_fails_no_request(fleet: Fleet, at_work: Servers) -> None:
    suite.test_start_first_has_others_serve_before_a_batch_rests_and_fails_no_request(fleet, at_work)
    assert "-A -f" in fleet.sh("node1", "ip netns exec worker ipvsadm -Sn")
    assert "numgen" not in fleet.sh("node1", "ip netns exec worker nft list table inet cnm")


test_tasks_come_when_they_listen_and_go_when_they_rest = suite.test_tasks_come_when_they_listen_and_go_when_they_rest
