# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Changed services, rolled out step by step: which tasks rest, change and serve when, and what is remembered."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.roll_lines import lines_of_rolls
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.forms import SERVICE
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.outcome import Outcome, SentPlan
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import make_plans
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.placement import PlacedService, place_services
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.rolling import BEGIN, DONE, HOLD, STEP, Roll

NOW = "2026-11-21T05:00:00Z"
NETWORKS = {name: {"driver": "overlay"} for name in ("vote", "other")}
HOSTS = ("h1", "h2", "h3")
_AT_MOST = 100
"""Steps of any roll-out here."""


def redis(replicas: int = 3, link: str = "eth0", constraint: str = "", **update: Any) -> dict[str, Any]:
    placement = {"placement": {"constraints": [constraint]}} if constraint else {}
    deploy = {"replicas": replicas, "update_config": update, **placement}
    return {"networks": {"vote": {"interface_name": link}}, "deploy": deploy}


def variables(service: dict[str, Any], hosts: tuple[str, ...] = HOSTS, **networks: Any) -> dict[str, dict[str, Any]]:
    return {
        host: {
            "cnm_networks": networks or NETWORKS,
            "cnm_services": {"redis": service},
            "cnm_node_labels": {"at": host},
            "cnm_load_balancer": "nftables",
        }
        for host in hosts
    }


class Rolling:
    """A service with the leases that runs leave of it."""

    def __init__(self, service: Optional[dict[str, Any]] = None) -> None:
        self.leases: dict[str, Any] = {}
        if service is not None:
            self.run(service, DONE)

    def run(
        self, service: dict[str, Any], rolling: str, hosts: tuple[str, ...] = HOSTS, **networks: Any
    ) -> tuple[PlacedService, Optional[Roll]]:
        """One plan; what is remembered has the form that stores and hosts are held to."""
        placement = place_services(read_topology(variables(service, hosts, **networks)), self.leases, rolling)
        errors: list[Any] = []
        assert SERVICE(json.loads(json.dumps(self.leases["redis"])), errors) == self.leases["redis"]
        assert errors == []
        found = placement.rolls.get("redis")
        return placement.found["redis"], found[1] if found is not None else None

    def every(self, service: dict[str, Any], **networks: Any) -> Iterator[tuple[PlacedService, Roll]]:
        """The plans of a run, until the service is as declared."""
        rolling = BEGIN
        for _number in range(_AT_MOST):
            placed, found = self.run(service, rolling, **networks)
            if found is None:
                return
            yield placed, found
            if not found.steps_left:
                return
            rolling = STEP
        raise AssertionError("it never ends")


def open_tasks(placed: PlacedService) -> set[int]:
    """Those that get new connections."""
    return {number for number, task in zip(placed.tasks, placed.names) if placed.weight(task, placed.tasks[number])}


def shown(placed: PlacedService) -> str:
    """A letter a task: o as before, n made anew; in brackets while it rests."""
    letters = {number: "o" if number in placed.former else "n" for number in placed.tasks}
    return " ".join(f"({letters[n]})" if n in placed.resting else letters[n] for n in placed.tasks)


def pictures(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [shown(placed) for placed, _roll in Rolling(before).every(after)]


class TestSteps:
    def test_each_task_rests_changes_and_serves_and_the_next_rests_as_it_serves(self) -> None:
        assert pictures(redis(), redis(link="votes")) == [
            "(o) o o",
            "(n) o o",
            "n (o) o",
            "n (n) o",
            "n n (o)",
            "n n (n)",
            "n n n",
        ]

    def test_with_a_delay_all_serve_between_two_batches(self) -> None:
        service = Rolling(redis(4))
        steps = list(service.every(redis(4, "votes", parallelism=2, delay="1m30s")))
        assert [(shown(placed), roll.pause) for placed, roll in steps] == [
            ("(o) (o) o o", 0),
            ("(n) (n) o o", 0),
            ("n n o o", 90_000),
            ("n n (o) (o)", 0),
            ("n n (n) (n)", 0),
            ("n n n n", 0),
        ]
        assert steps[0][1].batches == (("redis.1", "redis.2"), ("redis.3", "redis.4"))

    def test_start_first_makes_further_tasks_before_any_rests(self) -> None:
        assert pictures(redis(), redis(link="votes", order="start-first", parallelism=2)) == [
            "o o o (n) (n)",
            "o o o n n",
            "(o) (o) o n n",
            "(n) (n) o n n",
            "n n (o) n n",
            "n n (n) n n",
            "n n n n n",
            "n n n (n) (n)",
            "n n n",
        ]

    def test_parallelism_0_is_all_at_once(self) -> None:
        assert pictures(redis(), redis(link="votes", parallelism=0)) == ["(o) (o) (o)", "(n) (n) (n)", "n n n"]

    def test_tasks_that_come_serve_when_they_listen_and_those_that_go_rest_first(self) -> None:
        assert pictures(redis(2), redis(4)) == ["n n (n) (n)", "n n n n"]
        assert pictures(redis(4), redis(2)) == ["n n (n) (n)", "n n"]

    def test_tasks_that_go_serve_while_others_change(self) -> None:
        assert pictures(redis(3), redis(2, "votes", order="start-first"))[0] == "(o) o o"

    def test_a_task_that_moves_rests_where_it_was(self) -> None:
        service = Rolling(redis())
        moved = redis(constraint="node.labels.at != h2")
        hosts = [(dict(placed.tasks), placed.resting) for placed, _roll in service.every(moved)]
        assert hosts == [
            ({1: "h1", 2: "h2", 3: "h3"}, {2}),
            ({1: "h1", 2: "h1", 3: "h3"}, {2}),
            ({1: "h1", 2: "h1", 3: "h3"}, set()),
        ]

    def test_tasks_of_a_host_that_is_gone_come_anew(self) -> None:
        service = Rolling(redis())
        placed, roll = service.run(redis(), BEGIN, ("h1", "h3"))
        assert (placed.tasks, placed.resting) == ({1: "h1", 2: "h1", 3: "h3"}, {2})
        assert roll is not None
        assert roll.waiting.coming == {"h1": {"redis.2": 5000}}

    def test_hosts_wait_for_connections_before_and_for_processes_after_a_change(self) -> None:
        service = Rolling(redis())
        steps = list(service.every({**redis(link="votes", monitor="2s"), "stop_grace_period": "1s"}))
        assert [roll.waiting.leaving for _placed, roll in steps[:3]] == [{}, {"h1": {"redis.1": 1000}}, {}]
        assert [roll.waiting.coming for _placed, roll in steps[:3]] == [{}, {"h1": {"redis.1": 2000}}, {}]
        assert [roll.waiting.ending for _placed, roll in steps] == [{}] * len(steps)
        *_others, (_placed, last) = service.every(redis(2, "votes"))
        assert last.waiting.ending == {"h3": ["redis.3"]}

    @given(
        st.integers(1, 7),
        st.integers(1, 7),
        st.integers(0, 4),
        st.sampled_from(["stop-first", "start-first"]),
        st.booleans(),
    )
    @settings(deadline=None)
    def test_never_fewer_serve_than_are_left_beside_a_batch(
        self, before: int, after: int, parallelism: int, order: str, delayed: bool
    ) -> None:
        update = {"parallelism": parallelism, "order": order, "delay": "1s" if delayed else "0s"}
        service = Rolling(redis(before, **update))
        kept = min(before, after)
        fewest = kept if order == "start-first" else kept - (parallelism or kept)
        last = None
        for last, roll in service.every(redis(after, "votes", **update)):
            assert len(open_tasks(last)) >= fewest
            assert all(task in last.names for tasks in roll.waiting.coming.values() for task in tasks)
        assert last is not None
        assert (list(last.tasks), last.former, last.resting) == (list(range(1, after + 1)), {}, set())
        assert list(service.every(redis(after, "votes", **update))) == []


class TestWhatIsRolledOut:
    @pytest.mark.parametrize(
        "after",
        [
            {**redis(), "networks": {"vote": {"interface_name": "eth0", "aliases": ["cache"]}}},
            {**redis(), "dns": ["192.0.2.53"]},
            {**redis(), "networks": {"vote": {"interface_name": "eth0", "gw_priority": None}}, "sysctls": None},
        ],
    )
    def test_what_no_sandbox_is_made_anew_for_changes_at_once(self, after: dict[str, Any]) -> None:
        assert pictures(redis(), after) == []

    def test_a_network_in_a_list_or_a_mapping_is_the_same(self) -> None:
        assert pictures({**redis(), "networks": ["vote"]}, {**redis(), "networks": {"vote": {}}}) == []

    @pytest.mark.parametrize(
        "after",
        [
            {**redis(), "sysctls": {"net.core.somaxconn": 200}},
            {**redis(), "networks": ["vote", "other"]},
            {**redis(), "networks": {"vote": {"interface_name": "eth0", "ipv4_addresses": ["10.0.0.9"]}}},
        ],
    )
    def test_what_makes_a_task_is_rolled_out(self, after: dict[str, Any]) -> None:
        networks = {**NETWORKS, "vote": {"driver": "overlay", "subnet": "10.0.0.0/24"}}
        service = Rolling(redis())
        steps = [shown(placed) for placed, _roll in service.every(after, **networks)]
        assert steps[0] == "(o) o o"
        assert len(steps) == 7

    def test_a_service_that_is_new_comes_at_once(self) -> None:
        placed, roll = Rolling().run(redis(), BEGIN)
        assert (shown(placed), roll) == ("n n n", None)

    def test_without_update_config_nothing_is_remembered_and_all_changes_at_once(self) -> None:
        plain = {**redis(), "deploy": {"replicas": 3}}
        service = Rolling(plain)
        assert service.leases == {"redis": {"tasks": {"1": "h1", "2": "h2", "3": "h3"}}}
        placed, roll = service.run({**redis(link="votes"), "deploy": {"replicas": 3}}, BEGIN)
        assert (shown(placed), roll) == ("n n n", None)
        placed, roll = service.run(redis(), BEGIN)
        assert (shown(placed), roll) == ("n n n", None)
        assert pictures(redis(), plain) == []

    def test_tasks_on_a_network_that_is_declared_no_longer_change_at_once(self) -> None:
        service = Rolling({**redis(), "networks": ["other"]})
        placed, roll = service.run(redis(), BEGIN, vote={"driver": "overlay"})
        assert (shown(placed), roll) == ("n n n", None)

    def test_what_was_said_then_and_is_valid_no_longer_is_forgotten(self) -> None:
        service = Rolling(redis())
        service.leases["redis"]["made"] = {'{"networks": {"vote": {"no": 1}}}': ["1"], "[": ["2"], "1": ["3"]}
        placed, roll = service.run(redis(), BEGIN)
        assert (shown(placed), roll) == ("n n n", None)


class TestCutOff:
    def test_the_next_run_goes_on_from_where_it_stands(self) -> None:
        service, after = Rolling(redis()), redis(link="votes")
        whole = [shown(placed) for placed, _roll in copy.deepcopy(service).every(after)]
        for at in range(1, len(whole)):
            cut = copy.deepcopy(service)
            steps = cut.every(after)
            for _number in range(at):
                next(steps)
            again = [shown(placed) for placed, _roll in cut.every(after)]
            assert again == whole[at - 1 :]

    def test_what_was_declared_before_may_be_declared_again(self) -> None:
        service = Rolling(redis())
        steps = service.every(redis(link="votes"))
        for _number in range(3):
            next(steps)
        assert [shown(placed) for placed, _roll in service.every(redis())] == [
            "o (n) n",
            "(o) n n",
            "(n) n n",
            "n n n",
        ]

    def test_held_it_stays_as_it_is(self) -> None:
        service = Rolling(redis())
        placed, roll = service.run(redis(4, "votes"), HOLD)
        assert shown(placed) == "o o o"
        assert roll is not None
        assert roll.batches == (("redis.1",), ("redis.2",), ("redis.3",))


class TestPlans:
    """By the plans of all hosts."""

    def facts(self, host: str) -> Facts:
        own = ((f"192.0.2.{host[1:]}", "eth0", 1500),)
        return Facts(resolvers=("192.0.2.1",), addresses=own, routes=(("default", "eth0", "192.0.2.1"),))

    def has_changed(self, sent: SentPlan) -> bool:
        """Whether a task on the host has the link of the later declaration."""
        return any(isinstance(item, Link) and item.name == "votes" for item in sent.plan.resources)

    def planned(
        self, directory: Path, service: dict[str, Any], rolling: str, hosts: tuple[str, ...] = HOSTS, **more: Any
    ) -> Outcome:
        facts = {host: self.facts(host) for host in hosts}
        remember = bool(more.pop("remember", True))
        return make_plans(variables(service), {}, facts, str(directory), NOW, remember, rolling=rolling, **more)

    def test_a_step_is_a_plan_of_all_hosts(self, tmp_path: Path) -> None:
        self.planned(tmp_path, redis(), BEGIN)
        first = self.planned(tmp_path, redis(link="votes"), BEGIN)
        assert first.rolls["redis"]["steps_left"] == 6
        assert not any(map(self.has_changed, first.plans.values()))
        second = self.planned(tmp_path, redis(link="votes"), STEP)
        assert (second.leaving, second.coming) == ({"h1": {"redis.1": 10_000}}, {"h1": {"redis.1": 5000}})
        assert [self.has_changed(second.plans[host]) for host in HOSTS] == [True, False, False]
        assert second.all_or_nothing

    def test_a_check_plans_the_end_and_names_the_batches(self, tmp_path: Path) -> None:
        self.planned(tmp_path, redis(), BEGIN)
        outcome = self.planned(tmp_path, redis(link="votes", parallelism=2), DONE, remember=False)
        assert all(map(self.has_changed, outcome.plans.values()))
        assert list(lines_of_rolls(outcome.rolls, [], check=True, in_the_middle=False)) == [
            "service redis: batch 1 of 2 would change, stop-first: redis.1, redis.2",
            "service redis: batch 2 of 2 would change, stop-first: redis.3",
        ]
        assert self.planned(tmp_path, redis(link="votes"), BEGIN).rolls["redis"]["steps_left"] == 6

    def test_without_all_hosts_the_change_waits(self, tmp_path: Path) -> None:
        before = self.planned(tmp_path, redis(), BEGIN)
        outcome = self.planned(tmp_path, redis(link="votes"), BEGIN, ("h1", "h2"))
        assert (outcome.held, outcome.rolls) == (["redis"], {})
        assert outcome.plans["h1"].plan.resources == before.plans["h1"].plan.resources
        assert list(lines_of_rolls({}, outcome.held, check=False, in_the_middle=False)) == [
            "service redis: its change waits for a run that all hosts take part in, as it is rolled out"
        ]

    def test_nothing_begins_while_a_host_cannot_be_as_declared(self, tmp_path: Path) -> None:
        self.planned(tmp_path, redis(), BEGIN)
        busy = replace(self.facts("h2"), occupied={"gone": "sleep (412)"})
        facts = {**{host: self.facts(host) for host in HOSTS}, "h2": busy}
        after = variables(redis(link="votes"))
        outcome = make_plans(after, {}, facts, str(tmp_path), NOW, remember=True, rolling=BEGIN)
        assert (outcome.held, outcome.rolls, list(outcome.refusals)) == (["redis"], {}, ["h2"])
        assert self.planned(tmp_path, redis(link="votes"), BEGIN).rolls["redis"]["steps_left"] == 6

    def test_a_task_that_ends_may_have_processes(self, tmp_path: Path) -> None:
        self.planned(tmp_path, redis(), BEGIN)
        busy = replace(self.facts("h3"), occupied={"redis.3": "python3 (412)"})
        facts = {**{host: self.facts(host) for host in HOSTS}, "h3": busy}
        for rolling in (DONE, BEGIN, STEP):
            after = variables(redis(2))
            outcome = make_plans(after, {}, facts, str(tmp_path), NOW, remember=rolling != DONE, rolling=rolling)
            assert outcome.refusals == {}
        assert outcome.ending == {"h3": ["redis.3"]}

    def test_a_step_that_a_host_cannot_go_is_not_gone(self, tmp_path: Path) -> None:
        self.planned(tmp_path, redis(), BEGIN)
        self.planned(tmp_path, redis(link="votes"), BEGIN)
        assert self.planned(tmp_path, redis(link="votes"), STEP, failed=["h2"]).rolls["redis"]["steps_left"] == 5
        assert self.planned(tmp_path, redis(link="votes"), STEP).rolls["redis"]["steps_left"] == 5

    def test_failure_action_continue_only_warns(self, tmp_path: Path) -> None:
        self.planned(tmp_path, redis(), BEGIN)
        after = redis(link="votes", failure_action="continue")
        self.planned(tmp_path, after, BEGIN)
        outcome = self.planned(tmp_path, after, STEP)
        assert (outcome.coming, outcome.tried) == ({}, {"h1": {"redis.1": 5000}})
