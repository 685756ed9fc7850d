# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The outcome that is kept for an unchanged fleet is what planning would give, or it is not used."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner import kept_outcome, planning
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.kept_outcome import KeptOutcome, digest_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.outcome import Outcome

HOSTS = [f"h{number}" for number in range(5)]
NETWORKS = {"ov": {"driver": "overlay", "subnet": "10.1.0.0/24"}, "auto": {}, "lonely": {}}


class Fleet:
    """What a run of a small fleet is given.  ``run`` plans, and its hosts do as they are told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.variables: dict[str, dict[str, Any]] = {
            host: {
                "cnm_networks": copy.deepcopy(NETWORKS),
                "cnm_sandboxes": {f"{host}-c": {"networks": ["ov", "auto"]}},
                "cnm_services": {"web": {"networks": ["ov"], "deploy": {"replicas": 3}}},
            }
            for host in HOSTS
        }
        self.facts = {
            host: Facts(addresses=((f"192.0.2.{number}", "eth0", 1500),)) for number, host in enumerate(HOSTS, 1)
        }
        self.groups: dict[str, list[str]] = {"all": HOSTS}
        self.connections = dict.fromkeys(HOSTS, "")
        self.failed: list[str] = []

    def plan(self, now: str = "2026-01-01T00:00:00Z", remember: bool = True) -> Outcome:
        given = (self.variables, self.groups, self.facts, str(self.directory), now, remember, True)
        return planning.make_plans(*given, self.connections, self.failed)

    def run(self) -> Outcome:
        outcome = self.plan()
        for host, sent in outcome.plans.items():
            self.facts[host] = replace(
                self.facts[host],
                digest=sent.digest,
                leases=sent.leases,
                module_state=sent.module_state,
                revision=outcome.revisions[host],
                signature=outcome.signatures[host],
                shared=tuple(sorted(sent.shared)),
            )
        return outcome

    @property
    def kept(self) -> list[Path]:
        return [*(self.directory / "cache" / "cnm.fabric").glob("*")]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(planning, "FEWEST", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Fleet(tmp_path)


@pytest.fixture
def settled(fleet: Fleet) -> Fleet:
    """A fleet that is as declared, and of which the outcome is kept."""
    fleet.run()
    assert not fleet.kept, "what has changed the leases does not follow from what was given"
    fleet.run()
    assert fleet.kept
    return fleet


def planned_anew(fleet: Fleet) -> Outcome:
    """What planning gives without what is kept."""
    cache = os.environ.pop("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = f"{cache}-none"
    try:
        return fleet.plan(remember=False)
    finally:
        os.environ["XDG_CACHE_HOME"] = cache


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of hosts, each time that any are planned."""
    found: list[int] = []
    real = planning.plan_hosts

    def counted(topology: Any, *more: Any) -> Any:
        found.append(len(topology.hosts))
        return real(topology, *more)

    monkeypatch.setattr(planning, "plan_hosts", counted)
    return found


def test_an_unchanged_fleet_is_not_planned_again(settled: Fleet, times: list[int]) -> None:
    found = settled.plan(now="2031-01-01T00:00:00Z")
    assert times == []
    assert found == planned_anew(settled)
    assert found.unused == ["lonely"]
    assert {host: sent.text for host, sent in found.plans.items()} == {
        host: sent.plan.to_json() for host, sent in planned_anew(settled).plans.items()
    }
    (path,) = settled.kept
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def _reorder(fleet: Fleet) -> None:
    box = fleet.variables["h1"]["cnm_sandboxes"]["h1-c"]
    box["networks"] = box["networks"][::-1]


def _open(fleet: Fleet) -> None:
    box = fleet.variables["h2"]["cnm_sandboxes"]["h2-c"]
    box["ports"] = [] if box.get("ports") else ["8080:80"]


def _listen(fleet: Fleet) -> None:
    used = () if fleet.facts["h2"].listeners else (("tcp", "0.0.0.0", 8080, "nginx"),)
    fleet.facts["h2"] = replace(fleet.facts["h2"], listeners=used)


def _move(fleet: Fleet) -> None:
    fleet.connections["h3"] = "" if fleet.connections["h3"] else "192.0.2.77"


def _fail(fleet: Fleet) -> None:
    fleet.failed = [] if fleet.failed else ["h4"]


def _leave(fleet: Fleet) -> None:
    fleet.groups["cnm_hosts"] = [] if fleet.groups.get("cnm_hosts") else HOSTS


def _silence(fleet: Fleet) -> None:
    fleet.facts["h4"] = replace(fleet.facts["h4"], leases={}, revision=0, signature="")


def _swap_keys(fleet: Fleet) -> None:
    fleet.variables["h0"]["cnm_networks"] = dict(reversed(fleet.variables["h0"]["cnm_networks"].items()))


def _others_write(fleet: Fleet) -> None:
    """Another controller runs, of which this one knows nothing."""
    other = Fleet(fleet.directory)
    other.variables["h0"]["cnm_sandboxes"][f"x{len(other.kept)}"] = {"networks": ["auto"]}
    os.environ["XDG_CACHE_HOME"] += "-other"
    other.run()
    os.environ["XDG_CACHE_HOME"] = os.environ["XDG_CACHE_HOME"].removesuffix("-other")


STEPS: list[Callable[[Fleet], None]] = [
    *(_reorder, _open, _listen, _move, _fail, _leave, _silence, _swap_keys, _others_write),
    *(lambda fleet: None for _pause in range(8)),
]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_changes_the_outcome_is_what_planning_gives(fleet: Fleet, seed: int, times: list[int]) -> None:
    chance = random.Random(seed)
    fleet.run()
    used = 0
    for _step in range(12):
        chance.choice(STEPS)(fleet)
        before = len(times)
        found = fleet.plan()
        used += len(times) == before
        assert found == planned_anew(fleet)
        if chance.random() < 0.7:
            fleet.run()
    assert used, "it was never used: the test says nothing"


OTHER: dict[str, Any] = {
    "links": {"eth0": LinkFacts("bond")},
    "foreign": {"link": frozenset({"br0"})},
    "absent_owners": {("docker", "web"): ("no container web", False)},
}


@pytest.mark.parametrize("name", [spec.name for spec in fields(Facts)])
def test_each_fact_that_planning_reads_counts(fleet: Fleet, name: str) -> None:
    def digest(facts: Facts) -> str:
        return KeptOutcome(str(fleet.directory), {"h1": facts})._given

    other = replace(Facts(), **{name: OTHER.get(name, ("another",))})
    assert (digest(other) == digest(Facts())) == (name in kept_outcome._FOR_THE_ACTION)


class Unread:
    """A value that nobody may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} of a fact that planning does not read")


def test_facts_that_do_not_count_are_not_read(fleet: Fleet) -> None:
    wanted = planned_anew(fleet)
    unread: Any = dict.fromkeys(kept_outcome._FOR_THE_ACTION, Unread())
    fleet.facts = {host: replace(known, **unread) for host, known in fleet.facts.items()}
    assert planned_anew(fleet) == wanted


@pytest.mark.parametrize(
    "changed", ["first", "outcome", "text", "short", "empty", "not text", "readable by others", "a link", "a directory"]
)
def test_a_kept_file_that_is_wrong_costs_only_time(settled: Fleet, changed: str, times: list[int]) -> None:
    (path,) = settled.kept
    lines = path.read_bytes().splitlines(keepends=True)
    where = {"first": 0, "outcome": 1, "text": 3}.get(changed)
    if where is not None:
        lines[where] = lines[where].replace(b"1", b"2")
        path.write_bytes(b"".join(lines))
    elif changed in ("short", "empty", "not text"):
        path.write_bytes({"short": b"".join(lines[:-1]), "empty": b"", "not text": b"\xff\n"}[changed])
    elif changed == "readable by others":
        path.chmod(0o644)
    else:
        path.rename(path.with_name("moved"))
        path.symlink_to(path.with_name("moved")) if changed == "a link" else path.mkdir()
    found = settled.plan()
    assert times == [len(HOSTS)]
    assert found == planned_anew(settled)


def test_other_code_plans_anew(settled: Fleet, times: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    known = kept_outcome._code()
    monkeypatch.setattr(kept_outcome, "_code", lambda: [*known[1:], (*known[0][:2], known[0][2] + 1)])
    settled.plan()
    assert times == [len(HOSTS)]


def test_equal_values_of_different_types_are_different() -> None:
    values: list[Any] = [1, True, 1.0, "1", [1], (1,), {1: 1}, {"1": 1}, ["1"], [[1]], [1, 1], date(2026, 1, 1), None]
    assert len({digest_of([value]) for value in values}) == len(values)
    assert digest_of(["a", "b"]) != digest_of(["ab", ""])
    assert digest_of([{"a": object()}]) == ""
    assert digest_of(["\ud800"])


def test_what_another_collection_s_driver_had_a_part_in_is_not_kept(fleet: Fleet) -> None:
    """Its code is not among what is compared."""
    for own in fleet.variables.values():
        own["cnm_networks"]["auto"] = {"driver": "faulty.drivers.failing"}
    for _run in range(3):
        assert fleet.run().plans
    assert not fleet.kept


def test_where_nothing_can_be_written_all_is_as_without(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, times: list[int]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cnm")
    fleet.run()
    fleet.run()
    fleet.run()
    assert len(times) == 3
