# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a run says it does, in the words of the inventory, on three hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import Fleet, Run
from lab import Lab
from overlaying import ended

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "voting" / "group_vars" / "all.yml"
PAGE = ROOT / "docs" / "runs.md"


def told(run: Run) -> list[str]:
    """The lines that a run ends with."""
    _before, _title, after = run.output.partition("Show what ")
    lines = [line[2:] for line in after.splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert lines, run.output
    return lines


def documented(name: str) -> list[str]:
    """The lines of a transcript on the page about runs."""
    _before, _mark, after = PAGE.read_text(encoding="utf-8").partition(f"<!-- transcript: {name} -->\n```text\n")
    return after.partition("\n```")[0].splitlines()


def voting() -> dict[str, Any]:
    variables: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return {**variables, "cnm_load_balancer": "nftables"}


@pytest.fixture(scope="class")
def fleet(trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The voting example on three hosts."""
    with ended(Fleet(trio, tmp_path_factory.mktemp("summary"))) as fleet:
        fleet.declare(voting())
        yield fleet


class TestVoting:
    """In this order: each test begins with what the one before has left."""

    def test_first_run_is_a_page(self, fleet: Fleet) -> None:
        foretold, done = told(fleet.site("--check")), told(fleet.site())
        assert foretold[:-1] == done[:-1]
        assert foretold[-1] == "3 hosts would be changed: 18 added."
        assert done[-1] == "3 hosts changed: 18 added."
        assert len(done) <= 40
        assert done == documented("first run")

    def test_unchanged_run_is_one_line(self, fleet: Fleet) -> None:
        assert told(fleet.site()) == documented("unchanged") == ["3 hosts are as declared: nothing to change."]

    def test_port_changed_is_one_line(self, fleet: Fleet) -> None:
        declared = voting()
        declared["cnm_services"]["web"]["ports"] = ["3002:80"]
        fleet.declare(declared)
        found = told(fleet.site())
        assert found == documented("port")
        assert found == [
            "node1, node2, node3: ~ service web: port 3000->80/tcp → 3002->80/tcp",
            "3 hosts changed: 1 changed.",
        ]

    def test_sandbox_more_is_one_line(self, fleet: Fleet) -> None:
        declared = voting()
        declared["cnm_services"]["web"]["ports"] = ["3002:80"]
        fleet.declare(declared, node2={"cnm_sandboxes": {"c1": {"networks": ["vote"]}}})
        found = told(fleet.site())
        assert found == documented("sandbox")
        assert found == [
            "node2: + sandbox c1 on vote (10.10.1.11)",
            "3 hosts changed: 1 added.",
        ]

    def test_sandbox_that_moves_is_told_where_it_goes(self, fleet: Fleet) -> None:
        declared = voting()
        declared["cnm_services"]["web"]["ports"] = ["3002:80"]
        fleet.declare(declared, node3={"cnm_sandboxes": {"c1": {"networks": ["vote"]}}})
        assert "node3: ~ sandbox c1 moves here from node2 on vote (10.10.1.11)" in told(fleet.site())

    def test_drift_is_told_as_repairs_with_what_was_found(self, fleet: Fleet) -> None:
        fleet.sh("node1", "ip -n web.1 link set eth0 mtu 1300; ip -n worker.1 route del default")
        fleet.sh("node2", "ip netns del db.2; pkill -KILL -f [r]edis.3 || true")
        fleet.sh("node3", "nft delete table inet cnm; sysctl -qw net.ipv4.ip_forward=0")
        expected = [
            "node3: ! repair: setting net.ipv4.ip_forward (value 0 → 1)",
            "node3: ! repair: table inet cnm (missing)",
            "node2: ! repair: sandbox db.2 (missing)",
            "node1: ! repair: link eth0 of web.1 on vote (mtu 1300 → 1450)",
            "node1: ! repair: default route of worker.1 (missing)",
        ]
        found = told(fleet.site("--check"))
        assert set(expected) <= set(found)
        assert found[-1].startswith("3 hosts would be changed: ")
        done = told(fleet.site())
        assert done[:-1] == found[:-1]
        assert done == documented("drift")
        assert told(fleet.site()) == ["3 hosts are as declared: nothing to change."]

    def test_diff_shows_objects_and_only_what_differs(self, fleet: Fleet) -> None:
        fleet.sh("node1", "ip -n web.1 link set eth0 mtu 1300")
        run = fleet.site("--check", "--diff")
        assert " link web.1/eth0\n-  mtu: 1300\n+  mtu: 1450\n" in run.output
        assert "VALUE_SPECIFIED" not in run.output
        assert len(run.output.splitlines()) < 60

    def test_quiet_is_the_count_and_only_is_what_was_asked_for(self, fleet: Fleet) -> None:
        count = "1 host would be changed: 1 repaired; 2 hosts as declared."
        assert told(fleet.site("--check", "-e", "cnm_show=quiet")) == [count]
        assert told(fleet.site("--check", "-e", "cnm_only=worker.1")) == [count]
        assert len(told(fleet.site("--check", "-e", "cnm_only=web.1"))) == 2
        wrong = fleet.play("site", "--check", "-e", "cnm_show=all")
        assert wrong.code != 0
        assert "cnm_show: `all` is none of quiet, summary, full" in wrong.output

    def test_failed_host_is_named_beside_those_that_changed(self, fleet: Fleet) -> None:
        fleet.sh("node2", "ip link add cnm0 type bridge")
        declared = voting()
        fleet.declare(declared, node2={"cnm_sandboxes": {"c1": {}}}, node3={"cnm_sandboxes": {"c2": {}}})
        run = fleet.play("site")
        assert run.code != 0
        lines = told(run)
        assert any(line.startswith("node3: + sandbox c2 on bridge (") for line in lines)
        assert any(line.startswith("node2: failed: ") and "cnm0" in line for line in lines)
        fleet.sh("node2", "ip link del cnm0")

    def test_teardown_tells_what_it_removes(self, fleet: Fleet) -> None:
        fleet.site()
        assert fleet.play("teardown", "-e", "cnm_show=all").code != 0
        assert fleet.site().changed == []
        lines = told(fleet.teardown())
        assert "node1, node2, node3: - network vote" in lines
        assert "node3: - sandbox c2" in lines
        assert lines[-1].startswith("3 hosts changed: ")
