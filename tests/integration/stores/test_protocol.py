# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What every lease store does alike: one suite, on one node of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Conflict, LeaseError, Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.signing import KEY_SIZE

Open = Callable[[], PartStore]
NETWORK: Any = {"subnets": ["10.0.0.0/16"], "vni": 4096}


def leases(endpoints: dict[str, str], networks: tuple[str, ...] = ()) -> Leases:
    found: Any = {
        **empty(),
        "endpoints": {key: {"ipv4": address} for key, address in endpoints.items()},
        "overlays": dict.fromkeys(networks, NETWORK),
    }
    return found


def commit(store: PartStore, project: str, wanted: Leases, hosts: frozenset[str] | None = None) -> int:
    before = store.read(project)
    return store.write(project, before, wanted, before.revision + 1, hosts)


class TestDocument:
    def test_what_is_written_is_what_is_read(self, opened: Open, project: str) -> None:
        one = opened()
        before = one.read(project)
        assert (before.revision, before.leases) == (0, empty())
        wanted: Any = {
            "networks": {"a/n": {"created": "2026-01-01T00:00:00Z", "subnets": ["10.0.0.0/24"], "vips": {}}},
            "endpoints": {"a/n/c1": {"ipv4": "10.0.0.2", "ipv6": "fd00::2"}, "a/n/@host": {"ipv4": "10.0.0.3"}},
            "hosts": {"a": {"underlay": "192.0.2.1", "mtu": None, "vnis": [7], "peer_digests": {"n": "0123456789ab"}}},
            "overlays": {"front": {**NETWORK, "vips": {"redis": {"ipv4": "10.0.0.9"}}}},
            "services": {"redis": {"tasks": {"1": "a", "2": "é b/c"}}},
        }
        assert one.write(project, before, wanted, 5) == 5
        for store in (one, opened()):
            found = store.read(project)
            assert (found.revision, found.leases) == (5, wanted)

    def test_a_host_s_name_may_be_any_line(self, opened: Open, project: str) -> None:
        names = ["é", "a b@1.c", "%2F:host", "..", "x" * 60]
        wanted = leases({f"{name}/n/c1": "10.0.0.2" for name in names})
        commit(opened(), project, wanted)
        assert opened().read(project).leases == wanted

    def test_what_is_taken_out_is_gone(self, opened: Open, project: str) -> None:
        commit(opened(), project, leases({"a/n/c1": "10.0.0.2", "b/n/c2": "10.0.0.3"}, ("n",)))
        commit(opened(), project, empty())
        found = opened().read(project)
        assert (found.revision, found.leases) == (2, empty())

    def test_projects_do_not_see_each_other(self, opened: Open, project: str) -> None:
        commit(opened(), project, leases({"a/n/c1": "10.0.0.2"}))
        assert opened().read(f"{project}x").revision == 0

    def test_the_key_is_made_once(self, opened: Open, project: str) -> None:
        commit(opened(), project, empty())
        key = opened().key()
        assert len(key) == KEY_SIZE
        commit(opened(), f"{project}x", empty())
        assert opened().key() == key

    def test_a_fleet_is_larger_than_one_request(self, opened: Open, project: str) -> None:
        """Twice what the smallest of them takes in one value, and more parts than any in one transaction."""
        endpoints = {
            f"node{host:03}/front/box{number:02}-whose-name-is-as-long-as-some": f"10.0.{host % 250}.{number}"
            for host in range(400)
            for number in range(1, 41)
        }
        wanted = leases(endpoints, ("front",))
        assert len(json.dumps(wanted)) > 2 * 512 * 1024
        commit(opened(), project, wanted)
        assert opened().read(project).leases == wanted

    def test_what_is_larger_than_the_store_takes_is_refused_and_changes_nothing(
        self, opened: Open, server: str, project: str
    ) -> None:
        commit(opened(), project, leases({"a/n/c1": "10.0.0.2"}))
        many = {f"a/n/box-whose-name-is-as-long-as-some-names-{number:05}": "10.0.0.3" for number in range(30_000)}
        store = opened()
        before = store.read(project)
        if server == "sqlite":
            assert store.write(project, before, leases(many), 2) == 2
            return
        with pytest.raises(LeaseError, match=r"(too large|larger than).* Divide the hosts into several projects"):
            store.write(project, before, leases(many), 2)
        found = opened().read(project)
        assert (found.revision, found.leases) == (1, leases({"a/n/c1": "10.0.0.2"}))


class TestConflicts:
    """Two controllers that read the same state: what the second may still write."""

    @pytest.fixture(autouse=True)
    def begun(self, opened: Open, project: str) -> None:
        self.project = project
        self.wanted = {"a/n/c": "10.0.0.2", "b/n/c": "10.0.0.3", "a/local/c": "10.1.0.2", "b/local/c": "10.1.0.2"}
        commit(opened(), project, leases(self.wanted, ("n", "m")))
        self.one, self.other = opened(), opened()
        self.before, self.seen = self.one.read(project), self.other.read(project)

    def write(self, store: PartStore, before: Any, change: dict[str, str], hosts: str = "", also: Any = ()) -> int:
        wanted = leases({**self.wanted, **change}, ("n", "m", *also))
        return store.write(self.project, before, wanted, before.revision + 1, frozenset(hosts) or None)

    def test_a_complete_plan_has_read_everything(self) -> None:
        self.write(self.one, self.before, {"a/local/d": "10.1.0.3"})
        with pytest.raises(Conflict):
            self.write(self.other, self.seen, {"b/local/d": "10.1.0.3"})
        found = self.other.read(self.project)
        assert found.revision == 2
        assert found.leases == leases({**self.wanted, "a/local/d": "10.1.0.3"}, ("n", "m"))

    def test_plans_of_different_hosts_merge(self) -> None:
        assert self.write(self.one, self.before, {"a/local/d": "10.1.0.3"}, "a") == 2
        assert self.write(self.other, self.seen, {"b/local/d": "10.1.0.3"}, "b") == 3
        both = {**self.wanted, "a/local/d": "10.1.0.3", "b/local/d": "10.1.0.3"}
        assert self.one.read(self.project).leases == leases(both, ("n", "m"))

    def test_plans_of_one_host_do_not(self) -> None:
        self.write(self.one, self.before, {"a/local/d": "10.1.0.3"}, "a")
        with pytest.raises(Conflict, match="host/a"):
            self.write(self.other, self.seen, {"a/local/e": "10.1.0.3"}, "a")

    def test_addresses_of_a_network_that_spans_hosts_are_given_by_one_at_a_time(self) -> None:
        self.write(self.one, self.before, {"a/n/d": "10.0.0.4"}, "a")
        with pytest.raises(Conflict, match="network/n"):
            self.write(self.other, self.seen, {"b/n/d": "10.0.0.4"}, "b")

    def test_networks_that_span_hosts_are_made_by_one_at_a_time(self) -> None:
        self.write(self.one, self.before, {}, "a", also=["x"])
        with pytest.raises(Conflict, match="network/x"):
            self.write(self.other, self.seen, {}, "b", also=["y"])

    def test_a_merged_plan_s_revision_is_later_than_both(self) -> None:
        for _turn in range(3):
            self.before = self.one.read(self.project)
            self.write(self.one, self.before, {"a/local/d": f"10.1.0.{self.before.revision + 3}"}, "a")
        assert self.write(self.other, self.seen, {"b/local/d": "10.1.0.3"}, "b") == 5

    def test_nothing_is_left_of_a_plan_in_conflict(self) -> None:
        self.write(self.one, self.before, {"a/local/d": "10.1.0.3"})
        with pytest.raises(Conflict):
            self.write(self.other, self.seen, {"b/local/d": "10.1.0.3"})
        assert self.one.sweep(self.project, remove=False) == []


class TestRemains:
    def test_a_commit_deletes_what_the_one_before_replaced(self, opened: Open, project: str) -> None:
        store = opened()
        for number in range(4):
            commit(store, project, leases({"a/n/c": f"10.0.0.{number + 2}"}))
        kept = store._backend.keys(f"{project}/parts/")
        assert len(kept) == 2  # what is there, and what who reads at this moment may still ask for

    def test_who_reads_while_parts_are_replaced_reads_again(self, opened: Open, project: str) -> None:
        writer, reader = opened(), opened()
        commit(writer, project, leases({"a/n/c": "10.0.0.2"}))
        get_many = reader._backend.get_many

        def slowly(keys: Any) -> dict[str, bytes]:
            reader._backend.get_many = get_many  # type: ignore[method-assign]
            for number in range(3):
                commit(writer, project, leases({"a/n/c": f"10.0.0.{number + 3}"}))
            return get_many(keys)

        reader._backend.get_many = slowly  # type: ignore[method-assign]
        assert reader.read(project).leases == leases({"a/n/c": "10.0.0.5"})

    def test_parts_of_a_dead_attempt_are_swept_and_those_of_a_running_one_are_not(
        self, opened: Open, project: str
    ) -> None:
        store = opened()
        commit(store, project, leases({"a/n/c": "10.0.0.2"}))
        backend = store._backend
        dead, alive = (f"{project}/parts/host:b@{number}.0123456789" for number in (1, 2))
        backend.put_many({dead: b"{}", alive: b"{}"})
        assert store.sweep(project, remove=False) == [dead]
        assert store.sweep(project) == [dead]
        assert set(backend.keys(f"{project}/parts/")) >= {alive}
        assert dead not in backend.keys(f"{project}/parts/")
        assert store.read(project).leases == leases({"a/n/c": "10.0.0.2"})


class TestMoved:
    """Two controllers, and the leases went to another store meanwhile."""

    def test_who_reads_or_commits_is_told_where_they_are_until_they_are_back(self, opened: Open, project: str) -> None:
        one, other = opened(), opened()
        wanted = leases({"a/n/c": "10.0.0.2"})
        commit(one, project, wanted)
        before = other.read(project)
        assert one.leave(project, one.read(project), "etcd://new:2379/cnm", "2026-11-30")
        gone = "moved from this store to etcd://new:2379/cnm on 2026-11-30"
        with pytest.raises(LeaseError, match=gone) as error:
            other.write(project, before, leases({"a/n/c": "10.0.0.2", "b/n/c": "10.0.0.3"}), 2)
        assert not isinstance(error.value, Conflict)  # or it would be tried again
        with pytest.raises(LeaseError, match=gone):
            opened().read(project)
        assert one.sweep(project, remove=False) == []
        kept = one.read(project, moved=True)
        assert kept.leases == wanted
        assert one.write(project, kept, wanted, 9) == 9
        assert other.read(project).leases == wanted

    def test_they_do_not_go_while_somebody_commits(self, opened: Open, project: str) -> None:
        one, other = opened(), opened()
        commit(one, project, leases({"a/n/c": "10.0.0.2"}))
        before = one.read(project)
        commit(other, project, leases({"a/n/c": "10.0.0.3"}))
        assert not one.leave(project, before, "etcd://new:2379/cnm", "2026-11-30")
        assert one.read(project).leases == leases({"a/n/c": "10.0.0.3"})


class TestDamage:
    """What somebody else wrote into the store."""

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (b"\xff", "not JSON"),
            (b"[" * 5000, "not JSON"),
            (b"[]", "not a mapping"),
            (b'{"endpoints": {"b/n/c": {"ipv4": "10.0.0.2"}}}', "does not belong to this host"),
            (b'{"endpoints": {"a/n/c": {"ipv4": "10.0.0.2\\n"}}}', "not a valid address"),
            (b'{"future": {}}', "unknown key"),
        ],
    )
    def test_a_part_of_another_form_is_named(self, opened: Open, project: str, value: bytes, words: str) -> None:
        store = opened()
        commit(store, project, leases({"a/n/c": "10.0.0.2"}))
        (key,) = store._backend.keys(f"{project}/parts/")
        store._backend.delete_many([key])
        store._backend.put_many({key: value})
        with pytest.raises(LeaseError) as error:
            opened().read(project)
        assert key in str(error.value)
        assert words in str(error.value)
        assert str(error.value).isprintable()

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"7",
            b'{"revision": 0}',
            b'{"revision": 1, "recent": "x"}',
            b'{"revision": 1, "recent": [], "parts": {}, "replaced": {}, "moved": {"to": "\\u001b[2J", "on": "x"}}',
        ],
    )
    def test_a_root_of_another_form_is_named(self, opened: Open, project: str, value: bytes) -> None:
        store = opened()
        commit(store, project, leases({"a/n/c": "10.0.0.2"}))
        found = store._backend.get(f"{project}/root")
        assert found is not None
        assert store._backend.swap(f"{project}/root", found[0], value)
        with pytest.raises(LeaseError, match=f"`{project}/root` in the lease store cannot be used"):
            opened().read(project)

    def test_a_lost_part_is_named(self, opened: Open, project: str) -> None:
        store = opened()
        commit(store, project, leases({"a/n/c": "10.0.0.2"}))
        (key,) = store._backend.keys(f"{project}/parts/")
        store._backend.delete_many([key])
        with pytest.raises(LeaseError, match="has lost") as error:
            opened().read(project)
        assert key in str(error.value)
