# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Stores that the tests of this folder share: each test has a project of its own in them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores import SERVERS, Certificates, Cluster, Network, programs

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store

STORES = ("sqlite", *SERVERS)
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    programs()  # from outside, where Debian's archive is reached
    with Network() as made:
        yield made


@pytest.fixture(autouse=True)
def inside(network: Network) -> Iterator[None]:
    """This process in the stores' network, for one test."""
    with network.entered():
        yield


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates") / "made")


class Single:
    """One node of each store, started when it is first asked for; only one runs at a time, as all are 127.0.0.1."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._network, self._folder = network, folder
        self._clusters: dict[str, Cluster] = {}
        self._open = contextlib.ExitStack()

    def settings(self, server: str) -> LeaseStore:
        if server == "sqlite":
            return LeaseStore(where=str(self._folder / "leases.sqlite3"))
        return self.cluster(server).settings()

    def cluster(self, server: str) -> Cluster:
        kind = server.partition("-")[0]
        other = next((item for item in self._clusters if item != server and item.startswith(kind)), None)
        if other is not None:  # of the same ports
            self._clusters.pop(other).__exit__()
        if server not in self._clusters:
            self._clusters[server] = Cluster(server, self._folder / server).__enter__()
        return self._clusters[server]

    def end(self) -> None:
        for cluster in self._clusters.values():
            cluster.__exit__()
        self._clusters.clear()


@pytest.fixture(scope="session")
def single(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Single]:
    made = Single(network, tmp_path_factory.mktemp("stores"))
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(params=STORES, scope="module")
def server(request: pytest.FixtureRequest) -> str:
    """Every store in turn; all tests of a module with one of them before the next."""
    return str(request.param)


@pytest.fixture
def opened(single: Single, server: str) -> Iterator[Callable[[], PartStore]]:
    """Opens the store as another controller does."""
    settings = single.settings(server)
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(open_store(settings, "/")))


@pytest.fixture
def project() -> str:
    """A project that nobody else has."""
    return f"p{next(_NUMBERS)}"
