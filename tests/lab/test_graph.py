# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The graph of real hosts: as declared, changed, damaged, and silent."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, Run
from lab import Lab

NETWORKS = {"ps-bridge": {"subnet": "10.0.0.0/24"}, "multinet": {"driver": "overlay", "subnet": "10.10.2.0/24"}}
NODE1 = {"c1": {"networks": ["ps-bridge", "multinet"], "ports": ["8080:80"]}, "c2": {"networks": ["ps-bridge"]}}
NODE2 = {"web": {"networks": ["multinet"]}}


def declare(fleet: Fleet, node1: Any, node2: Any, **more: Any) -> None:
    fleet.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": node1}, node2={"cnm_sandboxes": node2, **more})


def draw(fleet: Fleet, *arguments: str) -> Run:
    """Run the playbook; it must succeed."""
    run = fleet.play("graph", "-e", f"cnm_graph_file={fleet.directory / 'graph.html'}", *arguments)
    assert run.code == 0, run.output
    return run


def told(fleet: Fleet) -> str:
    """The text of the page."""
    page = (fleet.directory / "graph.html").read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.S)))


@pytest.fixture(scope="class")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts that are as declared."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("graph"))
    declare(fleet, NODE1, NODE2)
    fleet.site()
    yield fleet
    fleet.clear()


class TestTheGraph:
    """The order matters: the last tests break the hosts."""

    def test_hosts_that_are_as_declared_are_drawn_so(self, fleet: Fleet) -> None:
        run = draw(fleet)
        assert run.changed == ["node1: Draw them"]
        assert "as declared" in run.output
        text = told(fleet)
        assert "Everything is as declared on 2 hosts." in text
        for fact in ("10.0.0.2/24", "10.10.2.2/24", "0.0.0.0:8080->80/tcp", "VNI 4096", "198.51.100.11"):
            assert fact in text
        for ending, first in ((".mmd", "flowchart LR"), (".dot", "graph fabric {")):
            assert (fleet.directory / f"graph{ending}").read_text(encoding="utf-8").startswith(first)

    def test_drawn_again_nothing_is_written(self, fleet: Fleet) -> None:
        before = (fleet.directory / "graph.html").read_bytes()
        assert draw(fleet).changed == []
        assert (fleet.directory / "graph.html").read_bytes() == before

    def test_a_name_that_is_no_page_s_is_refused(self, fleet: Fleet) -> None:
        run = fleet.play("graph", "-e", f"cnm_graph_file={fleet.directory / 'graph.dot'}")
        assert run.code != 0
        assert "has to end in .html" in run.output

    def test_what_was_lost_and_what_no_run_has_made_yet_is_drawn(self, fleet: Fleet) -> None:
        declare(fleet, {**NODE1, "a-new-one": {"networks": ["ps-bridge"]}}, {})
        fleet.sh("node1", "ip netns exec c1 ip link del eth1; nft delete table inet cnm")
        run = draw(fleet)
        text = told(fleet)
        assert "2 hosts not as declared" in text
        for words in (
            "sandbox a-new-one node1 + not there yet is declared and not there yet",
            "sandbox c1 node1 × missing is gone from multinet",
            "host node1 × missing nftables inet cnm is missing",
            "sandbox web node2 − no longer declared is there and no longer declared",
        ):
            assert words in text, text
        assert run.of("cnm.fabric.graph", "node1")["differences"] >= 4

    def test_what_is_new_comes_after_what_was_there(self, fleet: Fleet) -> None:
        page = (fleet.directory / "graph.html").read_text(encoding="utf-8")
        assert re.findall(r'<text [^>]*class="name w-[a-z]*">([^<]*)</text>', page)[:3] == ["c1", "c2", "a-new-one"]

    def test_a_host_that_does_not_answer_is_drawn_as_such(self, fleet: Fleet) -> None:
        declare(fleet, NODE1, NODE2)
        ways = Path(fleet.directory / "silent.yml")
        ways.write_text("all: {hosts: {node2: {ansible_port: 9, ansible_ssh_common_args: -oConnectTimeout=3}}}\n")
        run = draw(fleet, "-i", str(ways))
        text = told(fleet)
        assert "1 host not known : node2" in text
        assert "did not answer" in text
        assert "node2 did not answer" in run.output

    def test_when_no_host_answers_there_is_a_page_all_the_same(self, fleet: Fleet) -> None:
        ways = Path(fleet.directory / "silent.yml")
        silent = "{ansible_port: 9, ansible_ssh_common_args: -oConnectTimeout=3}"
        ways.write_text(f"all: {{hosts: {{node1: {silent}, node2: {silent}}}}}\n")
        draw(fleet, "-i", str(ways))
        assert "Nothing is known" in told(fleet)

    def test_hosts_that_lost_everything_are_drawn_so(self, fleet: Fleet) -> None:
        fleet.site()
        fleet.sh("node2", "for each in $(ls /run/netns); do ip netns del $each; done")
        draw(fleet)
        assert "lost everything it had: 1 sandbox" in told(fleet)
