# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controllers that are killed, between any two requests and in random histories: nothing is lost, nothing twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from controllers import in_a_process
from histories import check, with_box, with_network
from hypothesis import given
from hypothesis import strategies as st
from sampling import WHOLE, sampled
from stores import SERVERS, Cluster, Network, Single

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Conflict, Leases, Snapshot, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store

Open = Callable[[], PartStore]
MOST_REQUESTS = 30


def without(leases: Leases, key: str) -> Leases:
    return {**leases, "endpoints": {other: entry for other, entry in leases["endpoints"].items() if other != key}}


def test_a_controller_killed_between_any_two_requests_leaves_the_old_state_or_the_new(
    single: Single, server: str, opened: Open, project: str
) -> None:
    settings = single.settings(server)
    first = opened()
    first.write(project, first.read(project), with_network(with_box(empty(), "a/n/c0"), "n"), 1)
    old = first.read(project)
    deaths = 0
    for number in range(MOST_REQUESTS):

        def work(store: PartStore) -> int:
            before = store.read(project)
            wanted = with_box(with_box(before.leases, "a/n/c1"), "b/n/c2")
            return store.write(project, before, wanted, before.revision + 1)

        ended, revision = in_a_process(settings, work, number)
        found = opened().read(project)
        new = with_box(with_box(old.leases, "a/n/c1"), "b/n/c2")
        if found.leases == old.leases:
            assert not ended
            assert found.revision == old.revision
        else:
            assert found.leases == new
            assert found.revision == old.revision + 1
            assert not ended or revision == found.revision
            first.write(project, found, old.leases, found.revision + 1)  # back, for the next death
            old = first.read(project)
        if ended:
            break
        deaths += 1
    assert 5 <= deaths < MOST_REQUESTS
    first.sweep(project)
    assert first.sweep(project) == []
    live = len(old.root.parts) + len(old.root.replaced)
    assert len(first._backend.keys(f"{project}/parts/")) == live


HOSTS = ("a", "b")
PLANS = st.tuples(
    st.sampled_from(["box", "gone", "network"]),
    st.sampled_from(HOSTS),
    st.sampled_from(["n", "local"]),
    st.integers(0, 3),
    st.booleans(),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 1)),
        st.tuples(st.just("write"), st.integers(0, 1), PLANS),
        st.tuples(st.just("dies"), st.integers(0, 1), PLANS, st.integers(0, 9)),
        st.tuples(st.just("sweep"), st.integers(0, 1)),
    ),
    min_size=4,
    max_size=14,
)


def planned(leases: Leases, plan: Any) -> Leases:
    kind, host, network, number, _complete = plan
    if kind == "network":
        return with_network(leases, f"net{number}")
    key = f"{host}/{network}/box{number}"
    return with_box(leases, key) if kind == "box" else without(leases, key)


def hosts_of(plan: Any) -> frozenset[str] | None:
    return None if plan[4] else frozenset({plan[1]})


class History:
    """Two controllers, each with what it has read last; what the store must have is known after every step."""

    def __init__(self, settings: LeaseStore, project: str) -> None:
        self.settings, self.project = settings, project
        self.stack = contextlib.ExitStack()
        self.stores = [self.stack.enter_context(contextlib.closing(open_store(settings, "/"))) for _number in range(2)]
        begin = with_network(empty(), "n")
        self.stores[0].write(project, self.stores[0].read(project), begin, 1)
        self.seen = [store.read(project) for store in self.stores]
        self.revision, self.leases = 1, begin

    def step(self, step: Any) -> None:
        who = step[1]
        if step[0] == "read":
            self.seen[who] = self.stores[who].read(self.project)
            assert (self.seen[who].revision, self.seen[who].leases) == (self.revision, self.leases)
        elif step[0] == "sweep":
            self.stores[who].sweep(self.project)
        else:
            self._write(who, step[2], step[3] if step[0] == "dies" else None)
        now = self.stores[1 - who].read(self.project)
        assert now.leases == self.leases
        assert now.revision == self.revision
        check(self.leases)

    def _write(self, who: int, plan: Any, dies_at: int | None) -> None:
        before: Snapshot = self.seen[who]
        wanted = planned(before.leases, plan)
        if wanted == before.leases:
            return

        def work(store: PartStore) -> int | None:
            try:
                return store.write(self.project, before, wanted, before.revision + 1, hosts_of(plan))
            except Conflict:
                return None

        if dies_at is None:
            revision = work(self.stores[who])
        else:
            ended, revision = in_a_process(self.settings, work, dies_at)
            if not ended:
                found = self.stores[who].read(self.project)
                revision = found.revision if found.revision != self.revision else None
        if revision is None:
            return
        assert revision > self.revision
        # What others have changed since is still there: had it been planned from that, this were a conflict.
        self.leases = planned(self.leases, plan)
        self.revision = revision
        changed = {key for key in wanted["endpoints"] if self.leases["endpoints"].get(key) != wanted["endpoints"][key]}
        assert not any(key.startswith(f"{plan[1]}/") for key in changed), "it landed on what it had not read"


_number = iter(range(1, 1_000_000))


@sampled(8, 1000)
@given(STEPS)
def test_histories_of_two_controllers_lose_nothing_and_give_nothing_twice(
    single: Single, server: str, steps: Any
) -> None:
    history = History(single.settings(server), f"h{next(_number)}")
    with history.stack:
        for step in steps:
            history.step(step)


@pytest.fixture(scope="module", params=SERVERS)
def three(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, Network]]:
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        with network.entered():
            folder = tmp_path_factory.mktemp("three")
            cluster = stack.enter_context(Cluster(request.param, folder / "store", 3))
        yield cluster, network


DEATHS = st.sampled_from(range(200 if WHOLE else 40))
"""The step before which the leader dies: of most histories a later one than there are, as each death takes seconds."""


@pytest.mark.whole
@sampled(40, 1000)
@given(STEPS, DEATHS)
def test_histories_with_a_leader_s_death_in_the_middle(three: tuple[Cluster, Network], steps: Any, death: int) -> None:
    cluster, network = three
    dead = None
    with network.entered():
        history = History(cluster.settings(timeout=30), f"t{next(_number)}")
        try:
            with history.stack:
                for number, step in enumerate(steps):
                    if number == death:
                        dead = cluster.await_leader()
                        cluster.kill(dead)
                    history.step(step)
        finally:
            if dead is not None:
                cluster.start(dead)
                cluster.await_all()
