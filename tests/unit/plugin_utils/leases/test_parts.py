# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How a document is kept in parts: what no server shows at will, on SQLite; see also tests/integration/stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.backend import batches
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Conflict, LeaseError, Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore, parts_of, read_parts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.sqlite import SqliteBackend

KEYS = st.tuples(st.sampled_from("abc"), st.sampled_from(["n", "m"]), st.sampled_from(["c1", "c2", "@host"]))


class Forgetful(SqliteBackend):
    """Its answer to a swap is lost: it says that the version did not match, as a server does to the second request."""

    meanwhile: Optional[Any] = None

    def swap(self, key: str, version: Optional[int], value: bytes) -> bool:
        done = super().swap(key, version, value)
        if done and key.endswith("/root"):
            if self.meanwhile is not None:
                work, self.meanwhile = self.meanwhile, None
                work()
            return False
        return done


def _leases(*endpoints: str) -> Leases:
    return {**empty(), "endpoints": {key: {"ipv4": f"10.0.0.{number}"} for number, key in enumerate(endpoints, 2)}}


def test_a_commit_whose_answer_was_lost_has_landed_once(tmp_path: Path) -> None:
    store = PartStore(Forgetful(tmp_path / "store"))
    for revision in (1, 2):
        before = store.read("p")
        assert store.write("p", before, _leases("a/n/c1", f"a/n/c{revision}x"), revision) == revision
    assert store.read("p").revision == 2


@pytest.mark.parametrize("commits", [3, 20])  # 20: more than a root remembers
def test_it_has_also_if_other_commits_came_before_that_was_found_out(tmp_path: Path, commits: int) -> None:
    backend = Forgetful(tmp_path / "store")
    one, other = PartStore(backend), PartStore(SqliteBackend(tmp_path / "store"))
    one.write("p", one.read("p"), _leases("a/n/c1"), 1)

    def meanwhile() -> None:
        for _turn in range(commits):
            found = other.read("p")
            key = f"b/n/c{found.revision}"
            wanted: Leases = {**found.leases, "endpoints": {**found.leases["endpoints"], key: {"ipv4": "10.0.0.9"}}}
            other.write("p", found, wanted, found.revision + 1)

    backend.meanwhile = meanwhile
    assert one.write("p", one.read("p"), _leases("a/n/c1", "a/n/c2"), 2) == 2
    found = other.read("p")
    assert found.revision == 2 + commits
    assert {"a/n/c2", *(f"b/n/c{number}" for number in range(2, 2 + commits))} <= found.leases["endpoints"].keys()


def test_leases_have_left_also_if_the_answer_was_lost(tmp_path: Path) -> None:
    store = PartStore(Forgetful(tmp_path / "store"))
    store.write("p", store.read("p"), _leases("a/n/c1"), 1)
    assert store.leave("p", store.read("p"), "etcd://new:2379/cnm", "2026-11-30")
    with pytest.raises(LeaseError, match="were moved"):
        store.read("p")


def test_a_revision_that_hosts_have_seen_is_kept(tmp_path: Path) -> None:
    """The store was restored from a backup: the commit that adopts what hosts report has their revision."""
    store = PartStore(SqliteBackend(tmp_path / "store"))
    store.write("p", store.read("p"), _leases("a/n/c1"), 3)
    assert store.write("p", store.read("p"), _leases("a/n/c1", "a/n/c2"), 40) == 40
    assert store.write("p", store.read("p"), empty(), 2) == 41


def test_a_commit_of_nothing_but_a_revision_disturbs_nobody(tmp_path: Path) -> None:
    store = PartStore(SqliteBackend(tmp_path / "store"))
    store.write("p", store.read("p"), _leases("a/n/c1"), 1)
    before = store.read("p")
    store.write("p", store.read("p"), before.leases, 7)
    assert store.write("p", before, _leases("a/n/c1", "a/n/c2"), 2) == 8


def test_two_first_commits_are_in_conflict(tmp_path: Path) -> None:
    one, other = (PartStore(SqliteBackend(tmp_path / "store")) for _number in range(2))
    before = other.read("p")
    one.write("p", one.read("p"), _leases("a/n/c1"), 1)
    with pytest.raises(Conflict):
        other.write("p", before, _leases("b/n/c1"), 1)


@given(st.dictionaries(KEYS, st.integers(2, 250)), st.sets(st.sampled_from("nmx")), st.sets(st.sampled_from("rs")))
def test_parts_are_the_whole(endpoints: Any, networks: set[str], services: set[str]) -> None:
    leases: Any = {
        **empty(),
        "endpoints": {"/".join(key): {"ipv4": f"10.0.0.{number}"} for key, number in endpoints.items()},
        "overlays": {name: {"vni": 4096} for name in networks},
        "services": {name: {"tasks": {"1": "a"}} for name in services},
    }
    assert read_parts(parts_of(leases)) == leases


@pytest.mark.parametrize("parts", [7, {7: {}}, {"future/x": {}}, {"network/a b": {}}, {"service/x": {}}])
def test_other_parts_are_refused(parts: Any) -> None:
    with pytest.raises(LeaseError):
        read_parts(parts)


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 5), st.integers(1, 60))
def test_requests_are_within_the_limits_and_lose_nothing(sizes: list[int], most: int, octets: int) -> None:
    items = [(str(number), size) for number, size in enumerate(sizes)]
    found = list(batches(items, most, octets))
    assert [key for batch in found for key in batch] == [key for key, _size in items]
    for batch in found:
        assert len(batch) <= most
        assert len(batch) == 1 or sum(sizes[int(key)] for key in batch) <= octets
