# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The suite of tests/lab/test_services.py with IPVS in place of nftables, on a kernel that has it.

A part of it, as everything is slow here, and only with ``./run test --all vm``; test_site.py has a service for every
run.  All there is:
``./run vm --timeout 14400 env CNM_LOAD_BALANCER=ipvs CNM_PATIENCE=1800 python -m pytest tests/lab/test_services.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fleet import Fleet
from lab import Lab

os.environ["CNM_LOAD_BALANCER"] = "ipvs"

import test_services as suite
from test_services import at_work, fleet, joining, vips, worker

__all__ = ["at_work", "fleet", "joining", "vips", "worker"]
"""Fixtures of the suite."""

pytestmark = [pytest.mark.vm, pytest.mark.whole]

_SERVICES = ("redis", "twin")


@pytest.fixture(scope="class")
def voting(trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Of the example what the tests below ask for."""
    some = {name: suite.VOTING[name] for name in _SERVICES}
    with suite.example(trio, tmp_path_factory.mktemp("voting"), some) as whole:
        yield whole


class TestTheVotingExample:
    _whole = suite.TestTheVotingExample

    def test_it_is_ipvs_that_balances(self, voting: Fleet) -> None:
        assert "-A -f" in voting.sh("node1", "ip netns exec worker ipvsadm -Sn")
        assert "numgen" not in voting.sh("node1", "ip netns exec worker nft list table inet cnm")

    test_a_name_is_one_virtual_address = _whole.test_a_name_is_one_virtual_address_of_each_family_that_is_no_tasks
    test_twelve_requests_reach_every_task_evenly = _whole.test_twelve_requests_reach_every_task_evenly
    test_tasks_see_who_calls = _whole.test_tasks_see_who_calls
    test_names_are_those_of_docker = _whole.test_names_are_those_of_docker
    test_virtual_addresses_answer_pings = _whole.test_virtual_addresses_answer_pings
    test_a_service_calls_itself_and_lands_on_itself_too = _whole.test_a_service_calls_itself_and_lands_on_itself_too
    test_a_service_on_two_networks = _whole.test_a_service_on_two_networks_has_an_address_on_each
    test_every_host_answers_from_outside = _whole.test_every_host_answers_on_a_published_port_from_outside
    test_a_second_run_changes_nothing = _whole.test_a_second_run_changes_nothing
    test_drift_is_named_and_repaired = _whole.test_drift_is_named_and_repaired


class TestScaling(suite.TestScaling):
    """Under load, and with open connections."""


class TestHosts(suite.TestHosts):
    """One that joins, and one that dies."""
