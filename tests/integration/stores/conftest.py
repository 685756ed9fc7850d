# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Stores that the tests of this folder share: each test has a project of its own in them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
from stores import STORES, Certificates, Network, Single, programs

from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store

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


@pytest.fixture(scope="session")
def single(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Single]:
    made = Single(tmp_path_factory.mktemp("stores"))
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
