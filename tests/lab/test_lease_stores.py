# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Runs of the playbooks with leases in another store than a file, by ansible-playbook in the store's network."""

from __future__ import annotations

import contextlib
import json
import re
import stat
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import Fleet, Run, snapshot
from lab import Lab
from sampling import WHOLE
from stores import PASSWORD, SERVERS, Certificates, Cluster, Network, programs
from test_modules import Result, Task, a, ok, play

NETWORKS = {"ps-bridge": {"driver": "bridge", "subnet": "10.0.0.0/24"}}
BOXES = {"cnm_sandboxes": {"c1": {"networks": ["ps-bridge"]}, "c2": {"networks": ["ps-bridge"]}}}


class World:
    """An inventory over node1 and node2, and a store with TLS and accounts."""

    def __init__(self, fleet: Fleet, cluster: Cluster, network: Network) -> None:
        self.fleet, self.cluster, self.network = fleet, cluster, network
        fleet.afresh = True

    def declare(self, url: str = "", options: Any = None) -> None:
        store = {
            "cnm_leases": url or self.cluster.url,
            "cnm_leases_options": self.cluster.options if options is None else options,
        }
        self.fleet.declare({"cnm_networks": NETWORKS, **store}, node1=BOXES, node2=BOXES)

    def play(self, *arguments: str) -> Run:
        with self.network.entered():
            return self.fleet.play(*arguments)

    def tasks(self, *tasks: Task) -> list[Result]:
        with self.network.entered():
            results = ok(self.fleet, *tasks)
        assert PASSWORD not in str(results)
        return results

    def leases(self, what: str, *arguments: str) -> Run:
        run = self.play("leases", "-e", f"cnm_leases_do={what}", *arguments)
        assert run.code == 0, run.output
        assert PASSWORD not in run.output
        return run

    def site(self, *arguments: str) -> Run:
        run = self.play("site", *arguments)
        assert run.code == 0, run.output
        assert PASSWORD not in run.output
        return run


@pytest.fixture(scope="class", params=[*SERVERS, "zookeeper-sasl"] if WHOLE else ["etcd-3.4"])
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("stores")
    programs()
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        with network.entered():
            certificates = Certificates(folder / "made")
            cluster = stack.enter_context(Cluster(request.param, folder / "store", tls=certificates, accounts=True))
        fleet = Fleet(lab, folder / "inventory")
        made = World(fleet, cluster, network)
        made.declare()
        yield made
        fleet.declare({})
        fleet.clear()


class TestStore:
    """In order: a first run, what the playbook does with its leases, and runs that get no answer."""

    def test_a_run_gives_addresses_that_the_next_one_finds(self, world: World) -> None:
        assert world.site().operations("node1")
        assert not world.fleet.store.exists()
        assert world.site().changed == []

    def test_the_playbook_shows_and_checks_what_is_there(self, world: World) -> None:
        shown = world.leases("show")
        assert f"{world.cluster.url}, project default: revision 1, 2 hosts, 4 endpoints" in shown.output
        checked = world.leases("check")
        assert "project default: revision 1" in checked.output
        assert "keeps other leases" not in checked.output
        assert shown.changed == checked.changed == []

    @pytest.mark.whole
    def test_modules_keep_theirs_there_too(self, world: World) -> None:
        box = a("sandbox", name="c9", networks=["ps-bridge"])
        for changed in (True, False):
            assert [result["changed"] for result in world.tasks(box)] == [changed, changed]
        assert "2 hosts, 6 endpoints" in world.leases("show").output
        assert not world.fleet.store.exists()
        world.tasks(a("sandbox", name="c9", state="absent"))
        assert "2 hosts, 4 endpoints" in world.leases("show").output

    def test_the_leases_move_to_another_store_with_their_key(self, world: World) -> None:
        to = ["-e", "cnm_leases_to=sqlite:///moved.sqlite3"]
        moved = world.fleet.directory / "moved.sqlite3"
        foretold = world.leases("move", *to, "--check")
        assert re.search(r"revision \d+ would be moved", foretold.output)
        assert not moved.exists()
        assert re.search(r"revision \d+ moved", world.leases("move", *to).output)
        world.declare("sqlite:///moved.sqlite3", {})
        # Had the key stayed behind, the hosts would get new signatures.
        assert world.site().changed == []

    @pytest.mark.whole
    def test_who_uses_the_old_store_is_told_so_until_the_leases_are_back(self, world: World) -> None:
        world.declare()
        run = world.play("site")
        assert run.code != 0
        said = " ".join(run.output.split())
        assert "the leases of project default were moved from this store to sqlite:///moved.sqlite3 on 20" in said
        world.declare("sqlite:///moved.sqlite3", {})
        back = world.fleet.directory / "back.json"
        back.write_text(json.dumps({"cnm_leases_to_options": world.cluster.options}), encoding="utf-8")
        assert world.leases("move", "-e", f"cnm_leases_to={world.cluster.url}", "-e", f"@{back}").changed
        world.declare()
        assert world.site().changed == []

    def test_leases_are_exported_and_imported(self, world: World) -> None:
        assert world.leases("export").changed
        assert stat.S_IMODE((world.fleet.directory / "cnm-leases.json").stat().st_mode) == 0o600
        world.declare("sqlite:///imported.sqlite3", {})
        assert world.leases("import", "--check").changed
        assert not (world.fleet.directory / "imported.sqlite3").exists()
        assert world.leases("import").changed
        assert "is not signed by this store" in world.leases("check").output
        world.declare()

    def test_a_store_to_move_to_is_read_as_any_other(self, world: World) -> None:
        wrong = world.play("leases", "-e", "cnm_leases_do=move", "-e", "cnm_leases_to=etcd://a:99999/cnm")
        assert wrong.code != 0
        assert "cnm_leases_to" in wrong.output
        assert "is not an address and a port" in wrong.output

    def test_a_run_with_the_wrong_password_changes_nothing_and_says_whose_it_is(self, world: World) -> None:
        options = world.cluster.options
        wrong = {key: "another-one" if key in ("password", "token") else value for key, value in options.items()}
        world.declare(options=wrong)
        before = snapshot(world.fleet, "node1")
        run = world.play("site")
        assert run.code != 0
        assert "refuses this" in run.output
        assert "another-one" not in run.output
        with world.network.entered():
            results = play(world.fleet, a("sandbox", name="c9", networks=["ps-bridge"]))
        assert ["refuses this" in result["msg"] for result in results] == [True, True]
        assert "another-one" not in str(results)
        assert snapshot(world.fleet, "node1") == before
        world.declare()

    def test_a_run_without_the_store_changes_nothing_and_says_so(self, world: World) -> None:
        world.cluster.kill(1)
        before = snapshot(world.fleet, "node1")
        world.declare(options={**world.cluster.options, "timeout": 2})
        run = world.play("site")
        assert run.code != 0
        assert "Connection refused" in run.output
        assert snapshot(world.fleet, "node1") == before
