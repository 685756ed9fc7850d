# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Moving, exporting and importing leases, and checking them against what hosts report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from reporting import VARIABLES, Controller

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import LeaseError, Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.sqlite import SqliteBackend
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.transfer import (
    exported,
    import_into,
    move,
    read_export,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.lease_check import Checked, check_leases
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.probe import read_probe


def _store(path: Path) -> PartStore:
    return PartStore(SqliteBackend(path))


def _leases(*addresses: str) -> Leases:
    found: Any = {
        **empty(),
        "endpoints": {f"a/n/c{number}": {"ipv4": address} for number, address in enumerate(addresses)},
        "overlays": {"n": {"subnets": ["10.0.0.0/24"], "vni": 4096}},
    }
    return found  # type: ignore[no-any-return]


@pytest.fixture
def old(tmp_path: Path) -> PartStore:
    store = _store(tmp_path / "old")
    store.write("p", store.read("p"), _leases("10.0.0.2"), 5)
    return store


def _move(old: PartStore, new: PartStore, to: str = "etcd://new:2379/cnm", remember: bool = True) -> int:
    return move(old, new, "p", to, "2026-11-30", remember)


class TestMove:
    def test_leases_revision_and_key_are_the_same_there(self, old: PartStore, tmp_path: Path) -> None:
        new = _store(tmp_path / "new")
        assert _move(old, new) == 5
        found = _store(tmp_path / "new").read("p")
        assert (found.revision, found.leases) == (5, _leases("10.0.0.2"))
        assert new.key() == old.key() != b""
        new.write("p", found, _leases("10.0.0.9"), 6)
        assert _move(old, new) == 0

    def test_a_check_changes_nothing(self, old: PartStore, tmp_path: Path) -> None:
        assert _move(old, _store(tmp_path / "new"), remember=False) == 5
        assert not (tmp_path / "new").exists()
        assert old.read("p").revision == 5

    def test_who_still_uses_the_old_store_is_told_where_they_are(self, old: PartStore, tmp_path: Path) -> None:
        before = old.read("p")
        _move(old, _store(tmp_path / "new"))
        again = _store(tmp_path / "old")
        for work in (
            lambda: again.read("p"),
            lambda: old.write("p", before, _leases("10.0.0.2", "10.0.0.3"), 6),
            lambda: move(again, _store(tmp_path / "other"), "p", "consul://other:8500/cnm", "2026-12-01", True),
        ):
            with pytest.raises(LeaseError, match=r"were moved .* to etcd://new:2379/cnm on 2026-11-30: set cnm_leases"):
                work()
        assert old.read("p", moved=True).leases == _leases("10.0.0.2")
        assert old.read("q").revision == 0

    def test_leases_that_come_back_are_there(self, old: PartStore, tmp_path: Path) -> None:
        new = _store(tmp_path / "new")
        _move(old, new)
        assert _move(new, old, "sqlite:///old") == 5
        assert old.read("p").leases == _leases("10.0.0.2")
        old.write("p", old.read("p"), _leases("10.0.0.2", "10.0.0.3"), 7)
        assert _move(old, new) == 7
        assert new.read("p").leases == _leases("10.0.0.2", "10.0.0.3")

    def test_a_move_that_was_killed_between_the_stores_is_finished(self, old: PartStore, tmp_path: Path) -> None:
        new = _store(tmp_path / "new")
        for source, target in ((old, new), (new, old)):  # the second has a mark to take away
            leave, source.leave = source.leave, _killed  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                _move(source, target)
            source.leave = leave  # type: ignore[method-assign]
            assert source.read("p").leases == target.read("p").leases
            assert _move(source, target)
            assert source.read("p", moved=True).root.moved
            assert target.read("p").leases == _leases("10.0.0.2")

    def test_a_commit_meanwhile_is_not_lost(self, old: PartStore, tmp_path: Path) -> None:
        new, leave = _store(tmp_path / "new"), old.leave

        def late(*arguments: Any) -> bool:
            old.write("p", old.read("p"), _leases("10.0.0.2", "10.0.0.3"), 6)
            return leave(*arguments)

        old.leave = late  # type: ignore[method-assign]
        with pytest.raises(LeaseError, match="revision 6, and 5 was moved"):
            _move(old, new)
        old.leave = leave  # type: ignore[method-assign]
        assert _move(old, new) == 6
        assert new.read("p").leases == _leases("10.0.0.2", "10.0.0.3")

    def test_a_new_store_that_was_lost_gets_what_the_old_one_had(self, old: PartStore, tmp_path: Path) -> None:
        _move(old, _store(tmp_path / "new"))
        (tmp_path / "new").unlink()
        new = _store(tmp_path / "new")
        assert _move(old, new) == 5
        assert new.read("p").leases == _leases("10.0.0.2")

    def test_leases_of_others_are_not_overwritten(self, old: PartStore, tmp_path: Path) -> None:
        new = _store(tmp_path / "new")
        new.write("p", new.read("p"), _leases("10.0.0.9"), 1)
        with pytest.raises(LeaseError, match="leases of project p already"):
            _move(old, new)
        assert new.read("p").leases == _leases("10.0.0.9")

    def test_nor_are_later_ones(self, old: PartStore, tmp_path: Path) -> None:
        shutil.copy(tmp_path / "old", tmp_path / "new")
        new = _store(tmp_path / "new")
        new.write("p", new.read("p"), _leases("10.0.0.9"), 9)
        with pytest.raises(LeaseError, match="revision 9"):
            _move(old, new)


def _killed(*_arguments: Any) -> bool:
    raise KeyboardInterrupt


class TestExport:
    def test_what_is_exported_is_imported(self, old: PartStore, tmp_path: Path) -> None:
        text = exported(old, ["p", "q"])
        found = read_export(text)
        assert found == {"p": (5, _leases("10.0.0.2")), "q": (0, empty())}
        new = _store(tmp_path / "new")
        assert import_into(new, "p", *found["p"], remember=True)
        assert new.read("p").revision == 5
        assert not import_into(new, "p", *found["p"], remember=True)

    def test_of_a_new_store_that_is_lost_what_the_old_one_had_is_exported_and_imported(
        self, old: PartStore, tmp_path: Path
    ) -> None:
        _move(old, _store(tmp_path / "new"))
        found = read_export(exported(old, ["p"]))["p"]
        assert import_into(old, "p", *found, remember=False)
        with pytest.raises(LeaseError, match="were moved"):
            old.read("p")
        assert import_into(old, "p", *found, remember=True)
        assert old.read("p").leases == _leases("10.0.0.2")
        assert not import_into(old, "p", *found, remember=True)

    def test_the_key_is_not_in_it(self, old: PartStore) -> None:
        assert old.key().hex() not in exported(old, ["p"])
        assert set(json.loads(exported(old, ["p"]))) == {"format", "projects"}

    def test_other_leases_are_not_overwritten(self, old: PartStore, tmp_path: Path) -> None:
        new = _store(tmp_path / "new")
        new.write("p", new.read("p"), _leases("10.0.0.9"), 1)
        with pytest.raises(LeaseError, match="other leases of project p"):
            import_into(new, "p", 5, _leases("10.0.0.2"), remember=True)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "7",
            '{"format": 2, "projects": {}}',
            '{"format": 1, "projects": {"p": {"revision": 1}}}',
            '{"format": 1, "projects": {"../p": {"revision": 1, "parts": {}}}}',
            '{"format": 1, "projects": {"p": {"revision": 1, "parts": {"host/a": {"endpoints": {"b/n/c": {}}}}}}}',
        ],
    )
    def test_another_file_is_refused(self, text: str) -> None:
        with pytest.raises(LeaseError) as error:
            read_export(text)
        assert str(error.value).isprintable()


class TestCheck:
    @pytest.fixture
    def controller(self, tmp_path: Path) -> Controller:
        made = Controller(tmp_path / "inventory")
        made.run(made.answers())
        made.run(made.answers())
        return made

    def check(self, controller: Controller, answers: Any = None, remove: bool = True) -> Checked:
        reports = {host: read_probe(host, answer) for host, answer in (answers or controller.answers()).items()}
        facts = {host: report.facts for host, report in reports.items() if report.facts is not None}
        found = check_leases(controller.variables, {}, facts, str(controller.directory), remove)
        return found["default"]

    def store(self, controller: Controller) -> PartStore:
        return open_store(LeaseStore(), str(controller.directory))

    def test_hosts_that_have_what_they_were_given_are_right(self, controller: Controller) -> None:
        found = self.check(controller)
        assert (found.wrong, found.notes, found.remains) == ({}, {}, [])
        assert found.revision == self.store(controller).read("default").revision

    def test_a_store_that_is_older_than_its_hosts_was_restored(self, controller: Controller) -> None:
        backup = controller.store.read_bytes()
        boxes = {"new": {"networks": ["multinet"]}}
        controller.variables = {**VARIABLES, "node1": {**VARIABLES["node1"], "cnm_sandboxes": boxes}}
        controller.run(controller.answers())
        controller.store.write_bytes(backup)
        assert "restored from a backup" in str(self.check(controller).wrong["node1"])

    def test_a_lost_store_contradicts_nobody(self, controller: Controller) -> None:
        controller.store.unlink()
        assert self.check(controller).wrong == {}
        assert not controller.store.exists()

    def test_a_host_that_claims_another_s_address_is_named(self, controller: Controller) -> None:
        answers = controller.answers()
        theirs = self.store(controller).read("default").leases["endpoints"]["node2/multinet/c2"]
        kept = answers["node1"]["kept"]
        kept["revision"] += 1
        kept["leases"]["endpoints"]["node1/multinet/c1"] = dict(theirs)
        assert "node1/multinet/c1" in str(self.check(controller, answers).wrong["node1"])

    def test_a_host_that_was_not_in_the_last_runs_is_noted(self, controller: Controller) -> None:
        old = controller.answers()["node3"]
        few = {**VARIABLES["node3"], "cnm_sandboxes": {}}
        controller.variables = {**VARIABLES, "node3": few}
        controller.run(controller.answers())
        found = self.check(controller, {**controller.answers(), "node3": old})
        assert found.wrong == {}
        assert "endpoints node3/front/c3" in str(found.notes["node3"])

    def test_an_address_that_is_there_twice_is_named(self, controller: Controller) -> None:
        store = self.store(controller)
        before = store.read("default")
        endpoints = {**before.leases["endpoints"]}
        endpoints["node1/multinet/c1"] = endpoints["node2/multinet/c2"]
        store.write("default", before, {**before.leases, "endpoints": endpoints}, before.revision + 1)
        (sentence,) = self.check(controller).wrong[""]
        assert "on multinet to node1/multinet/c1 and to node2/multinet/c2" in sentence

    def test_what_a_dead_controller_left_is_removed_unless_in_check_mode(self, controller: Controller) -> None:
        dead = "default/parts/host:node1@1.0123456789"
        self.store(controller)._backend.put_many({dead: b"{}"})
        assert self.check(controller, remove=False).remains == [dead]
        assert self.check(controller).remains == [dead]
        assert self.check(controller).remains == []
