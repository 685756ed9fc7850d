# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Changes of a service that are rolled out (``deploy.update_config``), under a load of which no request fails.

``CNM_LOAD_BALANCER`` says which engine is proven: ``nftables`` (the default) or ``ipvs``, on a kernel that has it.
"""

from __future__ import annotations

import math
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from asking import in_namespace
from fleet import Fleet
from lab import SWITCH
from overlaying import overlay, sandboxes
from sampling import WHOLE
from serving import PORT, Caller, Load, Servers, inside, where
from test_services import at_work, fleet

__all__ = ["at_work", "fleet"]
"""Fixtures."""

ENGINE = os.environ.get("CNM_LOAD_BALANCER", "nftables")
RATE = 200 if WHOLE else 50
"""Requests a second of each load."""
WORKER = {"node1": sandboxes(worker=["vote"])}


def redis(link: str = "", replicas: int = 6, **deploy: Any) -> dict[str, Any]:
    """The service of six tasks, whose links are called so."""
    return {
        "cnm_networks": {"vote": overlay("10.10.2.0/24")},
        "cnm_load_balancer": ENGINE,
        "cnm_services": {
            "redis": {
                "networks": {"vote": {"interface_name": link} if link else {}},
                "ports": [{"target": PORT, "published": 3000}],
                "deploy": {"replicas": replicas, **deploy},
            }
        },
    }


@dataclass
class Seen:
    """What becomes of tasks while a run is under way: when each was made, got another link, and went."""

    fleet: Fleet
    at_work: Servers
    silent: set[str] = field(default_factory=set)
    """Tasks whose server ends when they get another link."""
    made: dict[str, float] = field(default_factory=dict)
    changed: dict[str, float] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    _links: dict[str, set[str]] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Once; a server is started in each task that is new."""
        there = where(self.fleet, "redis")
        for task, host in there.items():
            try:
                links = {name for _index, name in in_namespace(inside(self.fleet, host, task), socket.if_nameindex)}
                if task not in self._links:
                    self.at_work.serve({task: host})
                    self.made[task] = time.time()
                elif not links >= self._links[task] and task not in self.changed:
                    if task in self.silent:
                        self.at_work.stop(task)
                    self.changed[task] = time.time()
            except OSError:
                continue  # it is about to go
            self._links.setdefault(task, links)
        for task in self._links.keys() - there.keys():
            self.gone.setdefault(task, time.time())
            self.changed.pop(task, None)  # its link went before its namespace did

    def _work(self) -> None:
        while not self._ended.wait(0.05):
            self.look()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Inside the block it looks all the time."""
        self.look()
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._ended.clear()

    def batches(self, size: int) -> list[set[str]]:
        """Tasks that got another link, so many at a time."""
        found = sorted(self.changed, key=lambda task: self.changed[task])
        return [set(found[at : at + size]) for at in range(0, len(found), size)]


@contextmanager
def under_load(fleet: Fleet) -> Iterator[tuple[Load, Load]]:
    """Requests by the VIP from a sandbox, and by the mesh from outside."""
    worker = Caller(fleet, "node1", "worker")
    loads = (
        Load(worker, worker.lookup("redis")[0], RATE, 10),
        Load(Caller(fleet, SWITCH), fleet.lab.address("node2"), RATE, 10, 3000),
    )
    with ExitStack() as stack:
        for load in loads:
            stack.enter_context(load.running())
        time.sleep(0.5)
        yield loads
        time.sleep(0.5)


def served(load: Load, task: str) -> list[float]:
    """When a task answered."""
    return [at for at, said in load.said if said.split(" ")[0] == task]


def rested(load: Load, task: str, at: float) -> tuple[float, float]:
    """The last answer of a task before that time, and the first one after it."""
    times = served(load, task)
    return max(each for each in times if each < at), min((each for each in times if each > at), default=math.inf)


def test_start_first_has_others_serve_before_a_batch_rests_and_fails_no_request(fleet: Fleet, at_work: Servers) -> None:
    config = {"order": "start-first", "parallelism": 3}
    fleet.declare(redis(update_config=config), **WORKER)
    fleet.site()
    seen = Seen(fleet, at_work)
    with seen.looking(), under_load(fleet) as loads:
        fleet.declare(redis("votes", update_config=config), **WORKER)
        foretold = fleet.site("--check")
        assert "service redis: batch 2 of 2 would change, start-first: redis.4, redis.5, redis.6" in foretold.output
        assert seen.changed == {}
        done = fleet.site()
    assert "service redis: redis.7, redis.8 and redis.9 are removed (the last step)" in done.output
    assert [load.failed for load in loads] == [[], []]
    assert min(len(load.said) for load in loads) > RATE
    assert seen.batches(3) == [{"redis.1", "redis.2", "redis.3"}, {"redis.4", "redis.5", "redis.6"}]
    assert seen.gone.keys() == {"redis.7", "redis.8", "redis.9"}
    for load in loads:
        spare = max(min(served(load, task)) for task in seen.gone)
        for task, at in seen.changed.items():
            before, after = rested(load, task, at)
            assert spare < before
            assert before < at < after < math.inf
        last = max(rested(load, task, at)[1] for task, at in seen.changed.items())
        assert all(last < max(served(load, task)) < seen.gone[task] for task in seen.gone)
    assert where(fleet, "redis").keys() == {f"redis.{number}" for number in range(1, 7)}
    assert fleet.site().changed == []


@pytest.mark.whole
def test_stop_first_goes_by_batches_with_a_delay_and_stops_where_nothing_listens(
    fleet: Fleet, at_work: Servers
) -> None:
    config = {"parallelism": 2, "delay": "2s", "monitor": "1s"}
    fleet.declare(redis(update_config=config), **WORKER)
    fleet.site()
    seen = Seen(fleet, at_work, {"redis.3"})
    with seen.looking(), under_load(fleet) as loads:
        fleet.declare(redis("votes", update_config=config), **WORKER)
        stopped = fleet.play("site")
        stood = set(seen.changed)
        at_work.serve({"redis.3": where(fleet)["redis.3"]})
        fleet.site()
    assert stopped.code != 0
    assert "nothing listens in redis.3 after 1 s" in stopped.output
    assert "services are rolled out no further, as node" in stopped.output
    assert stood == {"redis.1", "redis.2", "redis.3", "redis.4"}
    assert [load.failed for load in loads] == [[], []]
    assert seen.batches(2) == [{"redis.1", "redis.2"}, {"redis.3", "redis.4"}, {"redis.5", "redis.6"}]
    assert seen.gone == {}
    for load in loads:
        turns = {task: rested(load, task, at) for task, at in seen.changed.items()}
        for first, second in (("redis.1", "redis.3"), ("redis.2", "redis.4"), ("redis.3", "redis.5")):
            assert turns[first][1] + 1.5 < turns[second][0]
    assert fleet.site().changed == []


def test_tasks_come_when_they_listen_and_go_when_they_rest(fleet: Fleet, at_work: Servers) -> None:
    fleet.declare(redis(replicas=2, update_config={}), **WORKER)
    fleet.site()
    seen = Seen(fleet, at_work)
    with seen.looking(), under_load(fleet) as loads:
        for replicas in (4, 1):
            fleet.declare(redis(replicas=replicas, update_config={}), **WORKER)
            fleet.site()
    assert [load.failed for load in loads] == [[], []]
    assert all(load.tasks.keys() == {f"redis.{number}" for number in range(1, 5)} for load in loads)
    assert seen.gone.keys() == {"redis.2", "redis.3", "redis.4"}


@pytest.mark.whole
def test_a_run_that_is_killed_is_continued_by_the_next(fleet: Fleet, at_work: Servers) -> None:
    config = {"order": "start-first", "parallelism": 3}
    fleet.declare(redis(update_config=config), **WORKER)
    fleet.site()
    seen = Seen(fleet, at_work)
    fleet.afresh = True
    with seen.looking(), under_load(fleet) as loads:
        fleet.declare(redis("votes", update_config=config), **WORKER)
        for patience in (8, 16):
            fleet.patience = patience
            with suppress(subprocess.TimeoutExpired):
                fleet.play("site")
        fleet.patience = 300
        done = fleet.site()
    assert "the change that a run had begun goes on" in done.output
    assert [load.failed for load in loads] == [[], []]
    assert seen.batches(3) == [{"redis.1", "redis.2", "redis.3"}, {"redis.4", "redis.5", "redis.6"}]
    assert where(fleet, "redis").keys() == {f"redis.{number}" for number in range(1, 7)}
    assert fleet.site().changed == []
