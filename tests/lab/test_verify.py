# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""verify over three hosts with real faults: each is told once, by its true cause, as docs/verify.md shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from fleet import Fleet, Run
from lab import Lab
from overlaying import ended, overlay, reached_by, sandboxes

NETWORKS: dict[str, Any] = {"cnm_networks": {"multinet": overlay("10.10.2.0/24"), "front": {"subnet": "10.20.0.0/24"}}}
HOSTS: dict[str, Any] = {
    "node1": sandboxes(c1=["multinet"], web=["front", "multinet"]),
    "node2": sandboxes(c2=["multinet"]),
    "node3": sandboxes(c3=["multinet"]),
}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "verify.md"
_TRANSCRIPT = re.compile(r"<!-- transcript: ([^\n]+) -->\n```text\n\$ [^\n]+\n(.*?)```", re.S)


def transcripts() -> dict[str, list[str]]:
    """What verify prints according to the document, by fault."""
    return {name: text.splitlines() for name, text in _TRANSCRIPT.findall(DOCUMENT.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def fleet(trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts as declared; each test leaves them so."""
    with ended(Fleet(trio, tmp_path_factory.mktemp("verify") / "fleet")) as made:
        made.declare(NETWORKS, **HOSTS)
        made.site()
        yield made


def said(run: Run) -> list[str]:
    """What the last task printed, without Ansible's own lines."""
    _before, _task, text = run.output.partition("TASK [Show what verify found]")
    lines = []
    for line in text.splitlines()[1:]:
        if line.startswith(("ok:", "fatal:", "[ERROR]", "PLAY RECAP", "Origin:")):
            break
        lines.append(line)
    return [line for line in lines if line]


TABLE = "add table inet mine; add chain inet mine input { type filter hook input priority 0; policy accept; }"
RULE = f"nft '{TABLE}; add rule inet mine input udp dport 4789 drop'"
POLICY = (
    f"nft '{TABLE.replace('policy accept', 'policy drop')}; add rule inet mine input tcp dport 22 accept; "
    "add rule inet mine input ct state established,related accept; add rule inet mine input iif lo accept'"
)
REPAIR = "/usr/local/sbin/cnm restore"
NO_RULE = "nft delete table inet mine"
KILL = "kill -9 $(head -n1 /run/cnm/default/resolvers/c1.pid)"
FORGET = (
    "N=$(ls /run/netns | grep ^ov-); V=vx-${N#ov-}; "
    "for mac in $(bridge -n $N fdb show dev $V | grep 'dst 198.51.100.13' | cut -d' ' -f1 | sort -u); "
    "do bridge -n $N fdb del $mac dev $V self; done"
)


class Fault(NamedTuple):
    """A shell script that breaks something on a host, and one that repairs it."""

    host: str
    harm: str
    repair: str = REPAIR


FAULTS: dict[str, list[Fault]] = {
    "all is well": [],
    "a rule drops VXLAN": [Fault("node3", RULE, NO_RULE)],
    "a policy drops VXLAN": [Fault("node3", POLICY, NO_RULE)],
    "a resolver was killed": [Fault("node1", KILL)],
    "a route was deleted": [Fault("node1", "ip -n web route delete default")],
    "a forwarding entry was deleted": [Fault("node1", FORGET)],
    "a host is cut off": [
        Fault(host, "ip route add blackhole 198.51.100.13", "ip route delete blackhole 198.51.100.13")
        for host in ("node1", "node2")
    ],
    "two faults at once": [Fault("node3", RULE, NO_RULE), Fault("node1", KILL)],
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_as_the_document_shows_it(fleet: Fleet, name: str) -> None:
    faults = FAULTS[name]
    for fault in faults:
        fleet.sh(fault.host, fault.harm)
    try:
        run = fleet.play("verify")
    finally:
        for fault in faults:
            fleet.sh(fault.host, fault.repair)
    assert said(run) == transcripts()[name], run.output
    assert (run.code != 0) is bool(faults)
    assert len(said(run)) <= 5 * max(1, len(faults))


def test_each_transcript_of_the_document_is_one_of_these() -> None:
    assert transcripts().keys() == FAULTS.keys()


def test_a_host_that_ansible_does_not_reach_explains_who_misses_it(fleet: Fleet) -> None:
    broken = fleet.directory / "no-ssh"
    broken.write_text("#!/bin/sh\nexit 255\n", encoding="utf-8")
    broken.chmod(0o755)
    ways = fleet.ways
    reached_by(fleet, node3={"ansible_ssh_executable": str(broken)})
    fleet.sh("node3", RULE)
    try:
        run = fleet.play("verify")
    finally:
        fleet.ways = ways
        fleet.sh("node3", NO_RULE)
    assert run.code != 0
    assert said(run) == [
        "node3 could not be verified: Ansible does not reach it",
        "    do: make it reachable and verify again",
        "    explains 3 misses: c1 → c3, c2 → c3 and web → c3",
    ], run.output


def test_only_some_are_shown_of_what_failed_and_programs_get_all(fleet: Fleet) -> None:
    fleet.sh("node1", KILL)
    fleet.sh("node3", RULE)
    try:
        run = fleet.play("verify", "-e", "cnm_only=node2", "-e", "cnm_show=quiet")
    finally:
        fleet.sh("node3", NO_RULE)
        fleet.sh("node1", REPAIR)
    assert run.code != 0
    assert said(run) == ["node3 answers nobody by VXLAN: its firewall drops UDP 4789 (chain inet mine input)"]
    misses = run.of("cnm.fabric.verify", "node1")["misses"]
    assert {(miss["check"], miss["target"]) for miss in misses} >= {("resolve", "c2"), ("plan", "sandbox c1")}
    assert run.of("cnm.fabric.verify", "node3")["drops"] == [
        {"packet": "udp 4789", "chain": "inet mine input", "hook": "input", "rule": "udp dport 4789 drop", "sure": True}
    ]


def test_a_play_of_ones_own_explains_each_host_by_itself(fleet: Fleet) -> None:
    tasks = [
        {"cnm.fabric.probe": None, "register": "fabric_probe"},
        {"cnm.fabric.plan": None, "run_once": True, "check_mode": True, "register": "fabric_plan"},
        {"cnm.fabric.verify": None},
    ]
    book = fleet.directory / "own.yml"
    book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    fleet.sh("node1", KILL)
    try:
        run = fleet.play(str(book))
    finally:
        fleet.sh("node1", REPAIR)
    assert run.code != 0
    assert "node1: the resolver of c1 does not run" in run.output
    assert len(re.findall(r"1 sandbox on 1 host: \d+ checks, no miss", run.output)) == 2


def heads(run: Run) -> list[str]:
    return [line for line in said(run) if not line.startswith(" ")]


SERVICE = {"shop": {"networks": ["multinet"], "ports": ["8080:80"], "deploy": {"replicas": 3}}}
FORWARD = "nft 'add table inet mine; add chain inet mine forward { type filter hook forward priority 0; policy drop; }'"


def test_what_keeps_a_service_from_answering_is_told_and_not_the_service(fleet: Fleet) -> None:
    fleet.declare({**NETWORKS, "cnm_services": SERVICE}, **HOSTS)
    fleet.site()
    (task,) = (name for name in fleet.sh("node1", "ls /run/netns").split() if name.startswith("shop."))
    told = {
        RULE: "node3 answers nobody by VXLAN: its firewall drops UDP 4789 (chain inet mine input)",
        POLICY: "node3 answers nobody by VXLAN: its firewall drops UDP 4789 (chain inet mine input)",
        FORWARD: "port 8080 of node3 does not answer: its firewall drops TCP 8080 (chain inet mine forward)",
    }
    for harm, head in told.items():
        fleet.sh("node3", harm)
        try:
            run = fleet.play("verify")
        finally:
            fleet.sh("node3", NO_RULE)
        assert heads(run) == [head], run.output
    fleet.sh("node1", f"ip -n {task} link set eth0 down")
    run = fleet.play("verify")
    (head,) = heads(run)
    assert head.startswith("node1: ")
    assert task in head
