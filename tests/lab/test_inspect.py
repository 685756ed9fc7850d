# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What inspect prints of hosts that are as planned, and of some that are not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from fleet import Fleet
from lab import Lab

NETWORKS = {"front": {"subnet": "10.0.0.0/24"}, "fabric": {"driver": "overlay", "subnet": "10.10.2.0/24"}}
NODE1 = {
    "c1": {"networks": {"front": {"aliases": ["www"]}, "fabric": None}, "ports": ["8080:80"]},
    "c2": {"networks": ["front"]},
    "web": {"networks": ["front"], "namespace": {"path": "/run/netns/theirs"}},
}
NODE2 = {"c3": {"networks": ["fabric"]}, "c4": {"networks": ["fabric", "front"]}}
LOSE_EVERYTHING = """
for name in $(ls /run/netns); do ip netns delete $name; done
nft delete table inet cnm
nft delete table bridge cnm
for name in $(ls /sys/class/net | grep '^cnm'); do ip link delete $name; done
rm -r /run/cnm
"""


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts, and a namespace of another's."""
    made = Fleet(lab, tmp_path_factory.mktemp("inspect"))
    made.sh("node1", "ip netns add theirs; ip -n theirs link set lo up")
    made.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": NODE1}, node2={"cnm_sandboxes": NODE2})
    made.site()
    yield made
    made.sh("node1", "ip netns delete theirs", check=False)
    made.clear()


def printed(fleet: Fleet, *settings: str) -> list[str]:
    """The lines of a run that succeeds."""
    run = fleet.play("inspect", *(word for setting in settings for word in ("-e", setting)))
    assert run.code == 0, run.output
    return run.output.splitlines()


class TestHostsAsPlanned:
    def test_the_summary_says_so_on_one_screen(self, fleet: Fleet) -> None:
        lines = printed(fleet)
        assert "2 hosts, 3 networks, 5 sandboxes; all as planned" in lines
        assert len(lines) <= 40
        assert any(re.fullmatch(r"fabric +overlay +swarm +10\.10\.2\.0/24 +node1, node2 +3", line) for line in lines)
        (row,) = (line for line in lines if line.startswith("c1 "))
        assert re.split(" {3,}", row)[1:] == [
            *("node1", "up", "front 10.0.0.2, fabric 10.10.2.2", "www", "0.0.0.0:8080->80/tcp"),
        ]

    def test_full_has_the_json_of_docker_for_what_is_asked(self, fleet: Fleet) -> None:
        lines = printed(fleet, "cnm_only=fabric", "cnm_show=full")
        (document,) = json.loads("\n".join(lines[lines.index("[") : lines.index("]") + 1]))
        assert document["Name"] == "fabric"
        assert {item["Name"] for item in document["Containers"].values()} == {"c1", "c3", "c4"}
        assert not any(line.startswith("c2 ") for line in lines)

    def test_quiet_is_one_line(self, fleet: Fleet) -> None:
        lines = printed(fleet, "cnm_show=quiet")
        assert not any(line.startswith(("HOST", "NAME", "c1 ")) for line in lines)
        assert "2 hosts, 3 networks, 5 sandboxes; all as planned" in lines

    def test_an_unknown_name_is_an_error_with_the_closest(self, fleet: Fleet) -> None:
        run = fleet.play("inspect", "-e", "cnm_only=fornt")
        assert run.code != 0
        assert run.of("cnm.fabric.inspect", "node1")["msg"] == (
            "cnm_only: nothing here is named `fornt`. Did you mean `front`?"
        )
        assert "is none of quiet, summary, full" in fleet.play("inspect", "-e", "cnm_show=all").output

    def test_in_a_play_by_batches_hosts_that_are_not_read_yet_are_not_missed(self, fleet: Fleet) -> None:
        book = fleet.directory / "batches.yml"
        probe = {"cnm.fabric.probe": {"live": True}, "register": "fabric_probe"}
        tasks = [probe, {"cnm.fabric.inspect": {}, "run_once": True}]
        book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "serial": 1, "tasks": tasks}]))
        lines = fleet.play(str(book)).output.splitlines()
        assert [line for line in lines if line.endswith("all as planned")] == [
            "1 host, 2 networks, 3 sandboxes; all as planned",
            "2 hosts, 3 networks, 5 sandboxes; all as planned",
        ]


class TestHostsThatAreNot:
    """In this order; the module's fixture removes it all."""

    def test_what_differs_is_said_a_line_a_part(self, fleet: Fleet) -> None:
        fleet.sh("node1", "ip netns delete theirs; ip -n c1 link delete eth0; ip -n c2 route delete default")
        fleet.sh("node2", LOSE_EVERYTHING)
        lines = printed(fleet)
        told = lines[lines.index("Not as planned (cnm.fabric.site repairs it):") + 1 :][:4]
        assert told[0] == "  node1: network front in sandbox c1 (missing)"
        assert told[1] == "  node1: default route of c2 (missing)"
        assert told[2].startswith("  node1: waits: sandbox web: ")
        assert told[3] == "  node2: nothing of what was planned is left (2 sandboxes): did the host reboot?"
        states = {line.split()[0]: line.split()[2] for line in lines if re.match("(c[1-4]|web) ", line)}
        assert states == {"c1": "differs", "c2": "differs", "web": "waits", "c3": "missing", "c4": "missing"}
        assert not any("WARNING" in line for line in lines)

    def test_a_host_that_does_not_answer_is_named(self, fleet: Fleet) -> None:
        ways = yaml.safe_load(fleet.ways.read_text(encoding="utf-8"))
        ways["all"]["hosts"]["node2"]["ansible_port"] = 9
        fleet.ways = fleet.directory / "ways.yml"
        fleet.ways.write_text(yaml.safe_dump(ways), encoding="utf-8")
        run = fleet.play("inspect", "-e", "cnm_show=quiet")
        fleet.ways = fleet.lab.inventory
        assert "2 hosts, 2 networks, 3 sandboxes; 1 host is not as planned, 1 host did not answer" in run.output
        assert "No usable answer from node2." in run.output

    def test_programs_get_all_of_it(self, fleet: Fleet) -> None:
        result = fleet.play("inspect", "-e", "cnm_only=c2").of("cnm.fabric.inspect", "node1")
        assert set(result["drift"]) == {"node1", "node2"}
        (waits,) = (item for item in result["drift"]["node1"] if item["action"] == "wait for")
        assert waits["name"] == "web"
        containers = {
            item["Name"]: {each["Name"] for each in item["Containers"].values()} for item in result["networks"]["node1"]
        }
        predefined: dict[str, set[str]] = {"bridge": set(), "host": set(), "none": set()}
        assert containers == {**predefined, "fabric": {"c1"}, "front": {"c2"}}
