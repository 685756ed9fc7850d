# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whoever is root on one managed host writes what it likes into what it keeps and answers: no other host heeds it.

The attacker is node3.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from fleet import Fleet, Run
from lab import Lab
from overlaying import ended, overlay, sandboxes

MARKER = "pwned"
NFT = f"198.51.100.12 }}; add table ip {MARKER}; add chain ip {MARKER} c {{ type filter hook input priority 0; }}; #"

KEPT = "/var/lib/cnm/default/plan.json"
_FORGE = """
import hashlib, json
path = "/var/lib/cnm/default/plan.json"
with open(path) as stream:
    envelope = json.load(stream)
plan = json.loads(envelope["plan"])
leases = plan["leases"]
{changes}
envelope["plan"] = json.dumps(plan, sort_keys=True, separators=(",", ":"))
envelope["digest"] = hashlib.sha256(envelope["plan"].encode()).hexdigest()
with open(path, "w") as stream:
    json.dump(envelope, stream)
"""
NEWER = 'envelope["revision"] += 50'

_WRAPPER = """#!/usr/bin/python3
import json, subprocess, sys
done = subprocess.run(["/usr/bin/python3", *sys.argv[1:]], stdin=sys.stdin, capture_output=True)
text = done.stdout.decode()
start, end = text.find("{"), text.rfind("}")
try:
    answer = json.loads(text[start : end + 1])
    answer.update(%r)
    text = text[:start] + json.dumps(answer) + text[end + 1 :]
except ValueError:
    pass
sys.stdout.write(text)
sys.stderr.write(done.stderr.decode())
sys.exit(done.returncode)
"""

CLAIMS = {
    "ansible_facts": {"cnm_sandboxes": {"evil": {"networks": ["multinet"]}}, "inventory_dir": "/tmp"},
    "add_host": {"host_name": "node9", "groups": ["all"]},
    "unknown": MARKER,
}
NETWORKS: dict[str, Any] = {"cnm_networks": {"multinet": overlay("10.20.0.0/24"), "inner": {"subnet": "10.21.0.0/24"}}}
ON = {
    "node1": sandboxes(c1=["multinet"]),
    "node2": sandboxes(c2=["multinet"]),
    "node3": sandboxes(c3=["inner"]),
}


@pytest.fixture(scope="module")
def fleet(trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts as declared; each test leaves what node3 keeps as it found it."""
    with ended(Fleet(trio, tmp_path_factory.mktemp("hostile") / "fleet")) as made:
        made.declare(NETWORKS, **ON)
        made.site()
        yield made


@pytest.fixture(autouse=True)
def honest_again(fleet: Fleet) -> Iterator[None]:
    """node3 keeps what it was given, before and after."""
    fleet.sh("node3", f"cp {KEPT} {KEPT}.honest")
    yield
    fleet.sh("node3", f"mv {KEPT}.honest {KEPT}")


def forge(fleet: Fleet, *changes: str) -> None:
    """Change what node3 keeps."""
    fleet.sh("node3", f"python3 -c {shlex.quote(_FORGE.format(changes=chr(10).join(changes)))}")


def kept(fleet: Fleet, host: str) -> dict[str, Any]:
    envelope = json.loads(fleet.sh(host, "cat /var/lib/cnm/default/plan.json"))
    plan: dict[str, Any] = json.loads(envelope["plan"])
    return plan


def nobody_else_heeds(fleet: Fleet, run: Run, before: dict[str, Any]) -> None:
    """node1 and node2 have what they had, and did nothing."""
    for host, plan in before.items():
        assert kept(fleet, host) == plan, run.output
        assert MARKER not in fleet.sh(host, "nft list tables")


def test_what_it_keeps_for_others_is_no_command_to_them(fleet: Fleet) -> None:
    before = {host: kept(fleet, host) for host in ("node1", "node2")}
    forge(fleet, f'leases["hosts"] = {{"node2": {{"underlay": {NFT!r}, "mtu": 1500, "vnis": []}}}}', NEWER)
    run = fleet.play("site", "--limit", "node1,node3")
    assert run.code == 0, run.output
    nobody_else_heeds(fleet, run, before)
    assert "node3: ignored kept.leases.hosts.node2 in its answer" in run.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('leases["endpoints"]["node1/multinet/c1"] = {"ipv4": "10.20.0.77"}', "does not belong to this host"),
        ('leases["overlays"] = {"multinet": {"subnets": ["10.20.0.0/24"], "vni": 7777}}', "not declared on it"),
        ('envelope["revision"] = 2**63 - 1', "is not between 0 and"),
        ('plan["leases"] = [1]', "not a mapping"),
        ('plan["module_state"] = {"cnm_sandboxes": {"c9": {"networks": ["multinet"]}}}', "which spans hosts"),
    ],
)
def test_what_it_keeps_moves_and_stops_nobody_else(fleet: Fleet, change: str, said: str) -> None:
    before = {host: kept(fleet, host) for host in ("node1", "node2")}
    forge(fleet, change, NEWER if "revision" not in change else "")
    run = fleet.play("site")
    assert said in " ".join(run.output.split())
    nobody_else_heeds(fleet, run, before)
    for host in before:
        assert run.of("cnm.fabric.converge", host)["status"] == "ok"


@pytest.fixture
def forging(fleet: Fleet) -> Iterator[None]:
    """node3's Python puts more into every module's answer than there is."""
    wrapper = "/var/tmp/cnm-test-python"
    fleet.sh("node3", f"printf %s {shlex.quote(_WRAPPER % (CLAIMS,))} > {wrapper} && chmod 755 {wrapper}")
    told = yaml.safe_load(fleet.ways.read_text(encoding="utf-8"))
    told["all"]["hosts"]["node3"]["ansible_python_interpreter"] = wrapper
    fleet.ways = fleet.directory / "ways.yml"
    fleet.ways.write_text(yaml.safe_dump(told), encoding="utf-8")
    yield
    fleet.ways = fleet.lab.inventory
    fleet.sh("node3", f"rm -f {wrapper}")


@pytest.mark.usefixtures("forging")
def test_what_it_answers_becomes_no_variable(fleet: Fleet) -> None:
    before = {host: kept(fleet, host) for host in ("node1", "node2")}
    for playbook in ("site", "inspect", "verify"):
        run = fleet.play(playbook)
        assert run.code == 0, run.output
        nobody_else_heeds(fleet, run, before)
        assert "evil" not in str(kept(fleet, "node3"))
        assert "ignored `ansible_facts` in the answer of" in " ".join(run.output.split())
        for entry in run.results:
            facts = entry["result"].get("ansible_facts", {})
            assert set(facts) <= {"discovered_interpreter_python"}
            assert not {"add_host", "unknown"} & entry["result"].keys()


@pytest.mark.usefixtures("forging")
def test_facts_that_others_gathered_declare_nothing(fleet: Fleet) -> None:
    """A task of the user's, before ours, of which Ansible keeps what node3 says are facts."""
    before = {host: kept(fleet, host) for host in ("node1", "node2")}
    book = fleet.directory / "facts.yml"
    ping = {"hosts": "node3", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}
    book.write_text(yaml.safe_dump([ping, {"import_playbook": "cnm.fabric.site"}]))
    run = fleet.play(str(book))
    assert run.code != 0
    assert "this host's facts contain cnm_sandboxes, inventory_dir" in " ".join(run.output.split())
    nobody_else_heeds(fleet, run, before)
    assert "evil" not in str(kept(fleet, "node3"))
    for host in before:
        assert run.of("cnm.fabric.converge", host)["status"] == "ok"


def test_facts_that_the_user_sets_for_a_run_do(fleet: Fleet) -> None:
    book = fleet.directory / "facts.yml"
    own = {"ansible.builtin.set_fact": {"cnm_sandboxes": {"mine": {"networks": ["inner"]}}}}
    fact = {"hosts": "node3", "gather_facts": False, "tasks": [own]}
    book.write_text(yaml.safe_dump([fact, {"import_playbook": "cnm.fabric.site"}]))
    run = fleet.play(str(book), "--check")
    assert "create namespace mine" in run.operations("node3")
