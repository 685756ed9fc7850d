# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Three nodes of each store, of which one dies, stops or is cut off while two controllers write."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from controllers import in_a_process
from histories import check, with_box, with_network
from reporting import HOSTS, VARIABLES, Controller, texts
from stores import SAMPLE, Cluster, Network

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Conflict, LeaseError, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store

EACH = 20
"""Commits of each controller."""
FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=SAMPLE)
def trio(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Cluster, Network]]:
    with Network() as network, network.entered(), Cluster(request.param, tmp_path / "store", 3) as cluster:
        yield cluster, network


def _controller(settings: LeaseStore, host: str, pipe: Any) -> None:
    with contextlib.closing(open_store(settings, "/")) as store:
        for number in range(EACH):
            key = f"{host}/n/box{number}"
            while True:
                before = store.read("p")
                wanted = with_box(before.leases, key)
                with contextlib.suppress(Conflict):
                    revision = store.write("p", before, wanted, before.revision + 1, frozenset({host}))
                    break
            pipe.send((key, wanted["endpoints"][key]["ipv4"], revision))
    pipe.send(None)


class Controllers:
    """Two controllers, each with a host of its own and all addresses on a network of both."""

    def __init__(self, settings: LeaseStore) -> None:
        self._settings = settings
        with contextlib.closing(open_store(settings, "/")) as store:
            store.write("p", store.read("p"), with_network(empty(), "n"), 1)
        self.landed: list[tuple[str, str, int]] = []
        self._pipes, self._workers = [], []
        for host in ("a", "b"):
            reading, writing = FORK.Pipe(duplex=False)
            worker = FORK.Process(target=_controller, args=(settings, host, writing))
            worker.start()
            writing.close()
            self._pipes.append(reading)
            self._workers.append(worker)

    def until(self, count: int) -> None:
        """Wait until so many commits have landed."""
        while len(self.landed) < count:
            assert self._pipes, "the controllers have ended"
            ready = multiprocessing.connection.wait(self._pipes, timeout=60)
            assert ready, f"nothing lands any more after {len(self.landed)}"
            for pipe in ready:
                found = pipe.recv()  # type: ignore[union-attr]
                if found is None:
                    self._pipes.remove(pipe)
                else:
                    self.landed.append(found)

    def end(self) -> None:
        """Let them write the rest; every commit that was told to have landed is there, once, and no other."""
        self.until(2 * EACH)
        for worker in self._workers:
            worker.join(30)
            assert worker.exitcode == 0
        with contextlib.closing(open_store(self._settings, "/")) as store:
            found = store.read("p")
        check(found.leases)
        assert {key: entry["ipv4"] for key, entry in found.leases["endpoints"].items()} == {
            key: address for key, address, _revision in self.landed
        }
        assert sorted(revision for _key, _address, revision in self.landed) == list(range(2, 2 * EACH + 2))
        assert found.revision == 2 * EACH + 1

    def kill(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.join()


@pytest.fixture
def controllers(trio: tuple[Cluster, Network]) -> Iterator[Controllers]:
    made = Controllers(trio[0].settings(timeout=20))
    yield made
    made.kill()


@contextlib.contextmanager
def dead(cluster: Cluster, _network: Network, node: int) -> Iterator[None]:
    cluster.kill(node)
    yield
    cluster.start(node)


@contextlib.contextmanager
def stopped(cluster: Cluster, _network: Network, node: int) -> Iterator[None]:
    cluster.freeze(node)
    yield
    cluster.thaw(node)


@contextlib.contextmanager
def cut_off(cluster: Cluster, network: Network, node: int) -> Iterator[None]:
    rule = f"meta skgid {cluster.group(node)} drop"
    network.run("nft", f"table ip cut {{ chain out {{ type filter hook output priority 0; {rule}; }}; }}")
    yield
    network.run("nft", "delete table ip cut")


@pytest.mark.parametrize(
    "lost", [dead, pytest.param(stopped, marks=pytest.mark.whole), pytest.param(cut_off, marks=pytest.mark.whole)]
)
def test_without_its_leader_a_store_goes_on_and_takes_it_back(
    trio: tuple[Cluster, Network],
    controllers: Controllers,
    lost: Callable[[Cluster, Network, int], contextlib.AbstractContextManager[None]],
) -> None:
    cluster, network = trio
    controllers.until(EACH // 2)
    with lost(cluster, network, cluster.await_leader()):
        controllers.until(EACH)
    controllers.end()


@pytest.mark.whole
def test_with_the_majority_gone_nothing_is_said_to_have_landed_or_to_have_failed(
    trio: tuple[Cluster, Network],
) -> None:
    cluster, _network = trio
    settings = cluster.settings(timeout=3)
    with contextlib.closing(open_store(settings, "/")) as store:
        store.write("p", store.read("p"), with_network(empty(), "n"), 1)
        before = store.read("p")
        for node in (1, 2):
            cluster.kill(node)
        begun = time.monotonic()
        with pytest.raises(LeaseError) as error:
            store.write("p", before, with_box(before.leases, "a/n/c"), 2)
        assert time.monotonic() - begun < 8
        for node in (1, 2, 3):
            assert f"127.0.0.{node}:" in str(error.value)
        assert "the next run finds out" in str(error.value)
        for node in (1, 2):
            cluster.start(node)
        cluster.await_leader()

    def work(store: PartStore) -> int:
        found = store.read("p")
        assert found.leases in (before.leases, with_box(before.leases, "a/n/c"))
        return store.write("p", found, with_box(found.leases, "a/n/d"), found.revision + 1)

    ended, revision = in_a_process(cluster.settings(timeout=20), work)
    assert ended
    assert revision in (2, 3)


@pytest.mark.parametrize("server", SAMPLE)
def test_a_store_restored_from_a_backup_adopts_what_hosts_report(server: str, tmp_path: Path) -> None:
    with Network() as network, network.entered(), Cluster(server, tmp_path / "store") as cluster:
        store = {"cnm_leases": cluster.url}
        few = {host: {**own, **store, "cnm_sandboxes": {}} for host, own in VARIABLES.items()}
        controller = Controller(tmp_path / "inventory", few)
        controller.run(controller.answers())
        cluster.kill(1)
        shutil.copytree(tmp_path / "store/data1", tmp_path / "backup")
        cluster.start(1)
        cluster.await_leader()
        controller.variables = {host: {**own, **store} for host, own in VARIABLES.items()}
        controller.run(controller.answers())
        known = controller.run(controller.answers())
        cluster.kill(1)
        cluster.wipe()
        shutil.copytree(tmp_path / "backup", tmp_path / "store/data1")
        cluster.start(1)
        cluster.await_leader()
        restored = controller.run(controller.answers())
        assert texts(restored) == texts(known)
        assert not any(restored.warnings.values())
        assert all(restored.revisions[host] >= known.revisions[host] for host in HOSTS)
        with contextlib.closing(open_store(cluster.settings(), "/")) as opened:
            assert opened.read("default").leases["endpoints"]
