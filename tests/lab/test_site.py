# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The documents' bridge network, by ansible-playbook over ssh, as a user has it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from fleet import Fleet, Run, snapshot
from lab import OUTSIDE4, Lab
from sampling import WHOLE, each, some_of

NETWORKS = {"ps-bridge": {"driver": "bridge", "subnet": "10.0.0.0/24"}}
C1_C2 = {"cnm_sandboxes": {"c1": {"networks": ["ps-bridge"]}, "c2": {"networks": ["ps-bridge"]}}}


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """An empty inventory over node1 and node2; afterwards nothing of ours is left on them."""
    fleet = Fleet(lab, tmp_path)
    yield fleet
    fleet.clear()


@pytest.fixture
def documents(fleet: Fleet) -> Fleet:
    """The documents' example: c1 and c2 on ps-bridge, on node1."""
    fleet.declare({"cnm_networks": NETWORKS}, node1=C1_C2)
    return fleet


@dataclass
class Converged:
    """The example after a first run, with what there was before, and what check mode said of it."""

    fleet: Fleet
    before: dict[str, str]
    """Of each host."""
    foretold: Run
    unchanged: bool
    """Whether check mode left the host and the lease store alone."""
    done: Run


@pytest.fixture(scope="class")
def converged(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converged]:
    """The documents' example at work, for tests that read it."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("example"))
    fleet.declare({"cnm_networks": NETWORKS}, node1=C1_C2)
    before = {host: snapshot(fleet, host) for host in fleet.hosts}
    foretold = fleet.site("--check", "--diff")
    unchanged = snapshot(fleet, "node1") == before["node1"] and not fleet.store.exists()
    yield Converged(fleet, before, foretold, unchanged, fleet.site())
    fleet.clear()


@pytest.fixture
def example(converged: Converged) -> Fleet:
    return converged.fleet


class TestTheDocumentsExample:
    """The order matters: the last tests break the example, and take it down."""

    def test_check_foretells_exactly_what_a_run_does_and_changes_nothing(self, converged: Converged) -> None:
        foretold, done = converged.foretold, converged.done
        assert converged.unchanged
        assert foretold.operations("node1") == done.operations("node1")
        assert len(done.operations("node1")) > 10
        assert foretold.changed == done.changed
        assert "link c1/eth0" in foretold.output

    def test_other_hosts_have_nothing_of_it(self, converged: Converged) -> None:
        assert converged.done.operations("node2") == []
        now = snapshot(converged.fleet, "node2").splitlines()
        assert [line for line in now if "cnm" in line and "/var/lib" not in line] == [
            *(line for line in converged.before["node2"].splitlines() if "cnm" in line),
            *("/run/cnm", "/run/cnm/lock.json"),
        ]

    def test_a_sandbox_pings_another_by_name(self, example: Fleet) -> None:
        said = example.sh("node1", "ip netns exec c2 ping -c 1 -W 2 c1")
        assert "PING c1 (10.0.0.2)" in said
        assert "64 bytes from c1.ps-bridge (10.0.0.2)" in said

    def test_links_addresses_and_routes_are_as_on_the_slide(self, example: Fleet) -> None:
        for name, address, mac in (("c1", "10.0.0.2", "02:42:0a:00:00:02"), ("c2", "10.0.0.3", "02:42:0a:00:00:03")):
            assert f"inet {address}/24" in example.sh("node1", f"ip -n {name} address show eth0")
            assert mac in example.sh("node1", f"ip -n {name} link show eth0")
            assert "default via 10.0.0.1 dev eth0" in example.sh("node1", f"ip -n {name} route")
        assert example.sh("node1", "ip -n c1 -6 address show eth0") == ""

    def test_the_outside_is_reached_behind_the_host_s_address(self, example: Fleet) -> None:
        example.sh("node1", f"ip netns exec c1 ping -c 1 -W 2 {OUTSIDE4}")
        assert OUTSIDE4 in example.sh("node1", "ip netns exec c1 getent ahostsv4 outside.example")

    def test_the_resolver_is_at_docker_s_address_and_leaves_port_53_free(self, example: Fleet) -> None:
        assert "nameserver 127.0.0.11" in example.sh("node1", "ip netns exec c1 cat /etc/resolv.conf")
        bind = "import socket; [socket.socket(2, k).bind(('0.0.0.0', 53)) for k in (1, 2)]"
        example.sh("node1", f'ip netns exec c1 /usr/bin/python3 -c "{bind}"')

    def test_inspect_shows_docker_s_rows_and_keys(self, example: Fleet) -> None:
        run = example.play("inspect")
        assert "2 hosts, 1 network, 2 sandboxes; all as planned" in run.output
        assert re.search(r"NAME +DRIVER +SCOPE +SUBNETS +HOSTS +SANDBOXES", run.output)
        assert re.search(r"ps-bridge +bridge +local +10\.0\.0\.0/24 +node1 +2", run.output)
        assert re.search(r"c1 +node1 +up +ps-bridge 10\.0\.0\.2", run.output)
        assert "Without sandboxes: node2." in run.output
        (document,) = (
            item for item in run.of("cnm.fabric.inspect", "node1")["networks"]["node1"] if item["Name"] == "ps-bridge"
        )
        assert list(document) == [
            *("Name", "Id", "Created", "Scope", "Driver", "EnableIPv4", "EnableIPv6", "IPAM", "Internal", "Attachable"),
            *("Ingress", "ConfigFrom", "ConfigOnly", "Containers", "Options", "Labels"),
        ]
        assert list(document["IPAM"]) == ["Driver", "Options", "Config"]
        assert document["IPAM"]["Config"] == [{"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1"}]
        assert {
            (item["Name"], item["IPv4Address"], item["MacAddress"]) for item in document["Containers"].values()
        } == {
            ("c1", "10.0.0.2/24", "02:42:0a:00:00:02"),
            ("c2", "10.0.0.3/24", "02:42:0a:00:00:03"),
        }

    def test_a_second_run_changes_nothing_and_sends_a_digest_and_no_plan(self, example: Fleet) -> None:
        before = snapshot(example, "node1")
        again = example.site()
        assert again.changed == []
        assert "in its answer:" not in again.output
        assert again.of("cnm.fabric.plan", "node1")["hosts"]["node1"]["kept"] is True
        assert snapshot(example, "node1") == before
        assert "2 hosts are as declared: nothing to change." in again.output
        tasks = sorted(f"{entry['action'].rpartition('.')[2]} {entry['host']}" for entry in again.results)
        assert tasks == ["plan node1", "probe node1", "probe node2", "summary node1"]

    def test_the_order_of_the_inventory_changes_nothing(self, example: Fleet) -> None:
        text = yaml.safe_load(example.inventory.read_text())
        hosts = text["all"]["hosts"]
        hosts["node1"]["cnm_sandboxes"] = dict(reversed(hosts["node1"]["cnm_sandboxes"].items()))
        text["all"]["hosts"] = dict(reversed(hosts.items()))
        example.inventory.write_text(yaml.safe_dump(text, sort_keys=False))
        assert example.site().changed == []

    def test_verify_proves_it_and_names_what_does_not_hold(self, example: Fleet) -> None:
        good = example.play("verify")
        assert good.code == 0, good.output
        counts = {"reach": 4, "refuse": 0, "names": 2, "egress": 2, "connect": 0}
        assert good.of("cnm.fabric.verify", "node1")["counts"] == counts
        example.sh("node1", "ip -n c1 link set eth0 down")
        bad = example.play("verify")
        assert bad.code != 0
        misses = {
            (item["sandbox"], item["check"], item["target"]) for item in bad.of("cnm.fabric.verify", "node1")["misses"]
        }
        assert ("c2", "reach", "10.0.0.2") in misses
        assert "node1: link eth0 of c1 on ps-bridge (down)" in bad.output

    def test_teardown_leaves_the_host_as_it_was(self, converged: Converged) -> None:
        assert snapshot(converged.fleet, "node1") != converged.before["node1"]
        converged.fleet.teardown()
        assert snapshot(converged.fleet, "node1") == converged.before["node1"]


DRIFTS = {
    "an address flushed": (
        "ip -n c1 address flush dev eth0",
        {"create address c1/eth0/10.0.0.2/24", "create route c1/default"},
    ),
    "eth0 deleted": (
        "ip -n c1 link delete eth0",
        {"create link c1/eth0", "create address c1/eth0/10.0.0.2/24", "create route c1/default"},
    ),
    "the default route gone": ("ip -n c1 route delete default", {"create route c1/default"}),
    "the resolver killed": ("kill -9 $(head -n 1 /run/cnm/default/resolvers/c1.pid)", {"change resolver c1"}),
    "our table deleted": ("nft delete table inet cnm", {"create nftables inet cnm"}),
    "a rule of ours deleted": ("nft flush chain inet cnm forward", {"change nftables inet cnm"}),
    "a rule added to ours": ("nft insert rule inet cnm forward accept", {"change nftables inet cnm"}),
    "the bridge taken down": ("ip link set $(ls /sys/class/net | grep ^cnm-b) down", {"change link cnm-b"}),
    "the bridge deleted": (
        "ip link delete $(ls /sys/class/net | grep ^cnm-b)",
        {"create link cnm-b", "create address cnm-b", "change link c1/eth0", "change link c2/eth0"},
    ),
    "the bridge renamed": (
        "b=$(ls /sys/class/net | grep ^cnm-b); ip link set $b down; ip link set $b name foo up",
        {"delete link foo", "create link cnm-b", "create address cnm-b", "change link c1/eth0", "change link c2/eth0"},
    ),
    "the bridge's MTU changed": ("ip link set $(ls /sys/class/net | grep ^cnm-b) mtu 1400", {"change link cnm-b"}),
    "the host's route gone": ("ip route delete 10.0.0.0/24", {"change address cnm-b"}),
    "a sandbox's route gone": (
        "ip -n c1 route flush table main",
        {"change address c1/eth0/10.0.0.2/24", "create route c1/default"},
    ),
    "our table put to sleep": ("nft add table inet cnm '{ flags dormant; }'", {"change nftables inet cnm"}),
    "the resolvers' files lost": ("rm -r /run/cnm/default/resolvers", {"change resolver c1", "change resolver c2"}),
    "all files of a run lost": (
        "rm -r /run/cnm/default",
        {
            "create file /run/cnm/default/names",
            "create names /run/cnm/default/names",
            "change resolver c1",
            "change resolver c2",
        },
    ),
    "what was before lost": ("rm -r /var/lib/cnm", {"change sysctl net.ipv4.ip_forward", "create boot host"}),
    "a file made unreadable": (
        "chmod 600 /run/cnm/default/names/ps-bridge",
        {"change file /run/cnm/default/names", "change names /run/cnm/default/names"},
    ),
    "a port taken out": ("ip link set $(ls /sys/class/net | grep ^cnm-p | head -1) nomaster", {"change link c"}),
    "the namespace deleted": (
        "ip netns delete c1",
        {
            "create namespace c1",
            # The resolver kept the old namespace alive, and with it the old pair.
            "delete link cnm-p",
            "create link c1/eth0",
            "create address c1/eth0/10.0.0.2/24",
            "create route c1/default",
            "create nftables c1/inet cnm",
            "change resolver c1",
        },
    ),
    "a MAC changed": ("ip -n c1 link set eth0 address 02:00:00:00:00:01", {"change link c1/eth0"}),
    "the gateway's address gone": ("ip address flush dev $(ls /sys/class/net | grep ^cnm-b)", {"create address cnm-b"}),
    "an address added": (
        "ip address add 10.9.9.9/24 dev $(ls /sys/class/net | grep ^cnm-b)",
        {"delete address cnm-b"},
    ),
    "forwarding turned off": ("sysctl -qw net.ipv4.ip_forward=0", {"change sysctl net.ipv4.ip_forward"}),
    "a file edited": (
        "sed -i s/127.0.0.11/127.0.0.1/ /etc/netns/c1/resolv.conf",
        {"change file /etc/netns/c1"},
    ),
    "a name removed": (
        "sed -i /c1/d /run/cnm/default/names/ps-bridge",
        {"change file /run/cnm/default/names", "change names /run/cnm/default/names"},
    ),
    "IPv6 turned on": ("ip netns exec c1 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0", {"change link c1/eth0"}),
}


TOGETHER = (
    "the default route gone",
    "the resolver killed",
    "a rule added to ours",
    "the bridge's MTU changed",
    "an address added",
    "forwarding turned off",
    "a file edited",
    "a name removed",
    "IPv6 turned on",
)
"""Drifts that do not hide each other, so that one run shows them all."""


class TestDrift:
    def test_each_is_named_by_check_and_repaired_alone(self, documents: Fleet, subtests: pytest.Subtests) -> None:
        documents.site()
        clean = _comparable(documents)
        others = [(name,) for name in DRIFTS if WHOLE or name not in TOGETHER]
        for names in [TOGETHER, *some_of(others, 1, "drifts of a host")]:
            expected = {operation for name in names for operation in DRIFTS[name][1]}
            with subtests.test("; ".join(names)):
                for name in names:
                    documents.sh("node1", DRIFTS[name][0])
                foretold = documents.site("--check", "--diff").operations("node1")
                done = documents.site()
                assert foretold == done.operations("node1")
                assert len(foretold) == len(expected)
                for operation in expected:
                    assert any(item.startswith(operation) for item in foretold), (operation, foretold)
                assert documents.site().changed == []
                assert _comparable(documents) == clean
        verified = documents.play("verify")
        assert verified.code == 0, verified.output


def _comparable(fleet: Fleet) -> str:
    """The host's state without what a repaired link gets anew: its number."""
    text = snapshot(fleet, "node1") + fleet.sh(
        "node1", "for n in $(ls /run/netns); do ip -n $n -d address; ip -n $n route; done"
    )
    text = re.sub(r"(?m)^\d+: |@if\d+|link-netns\S* \S+|valid_lft.*|dadfailed", "", text)
    text = re.sub(
        r"(?m)^.*cnm-p.*link/ether.*$|bridge_id.*|group_fwd.*|max_age.*|(gc|hello|tcn|topology)_\w+ .*", "", text
    )
    return "\n".join(sorted(line.strip() for line in text.splitlines()))


class TestMembership:
    def test_sandboxes_come_and_go_and_the_others_keep_what_they_have(self, documents: Fleet) -> None:
        documents.site()
        more = {"cnm_sandboxes": {**C1_C2["cnm_sandboxes"], "a0": {"networks": ["ps-bridge"]}}}
        documents.declare({"cnm_networks": NETWORKS}, node1=more)
        done = documents.site().operations("node1")
        assert all("resolver" in item for item in done if "c1" in item or "c2" in item)
        # From nothing the first by name would have the first address, and it stays so without the lease store.
        assert "10.0.0.4/24" in documents.sh("node1", "ip -n a0 address")
        documents.sh("node1", "ip netns exec c1 ping -c 1 -W 2 a0")
        documents.store.unlink()
        assert documents.site().changed == []
        assert documents.store.exists()

        documents.declare({"cnm_networks": NETWORKS}, node1=C1_C2)
        documents.site()
        assert documents.sh("node1", "ls /run/netns").split() == ["c1", "c2"]
        assert documents.sh("node1", "ip -o link | grep -c cnm-p").strip() == "2"
        assert (
            documents.lab.run("node1", ["ip", "netns", "exec", "c1", "getent", "hosts", "a0"], check=False).stdout == ""
        )

        # The last sandbox takes the network with it.
        documents.declare({"cnm_networks": NETWORKS})
        documents.site()
        assert documents.sh("node1", "ip -o link show type bridge") == ""
        assert documents.sh("node1", "sysctl -n net.ipv4.ip_forward").strip() == "0"
        # The table stays, empty: the user may have rules in it.
        assert "user_forward" in documents.sh("node1", "nft list table inet cnm")
        assert documents.site().changed == []

    def test_several_networks_in_a_sandbox_and_network_modes_none_and_host(self, fleet: Fleet) -> None:
        networks = {**NETWORKS, "back": {"subnet": "10.0.1.0/24", "internal": True}, "apart": {}}
        sandboxes = {
            "both": {"networks": {"back": {"aliases": ["store"]}, "ps-bridge": {"ipv4_address": "10.0.0.9"}}},
            "front": {"networks": ["ps-bridge"]},
            "inner": {"networks": ["back"]},
            "alone": {"networks": ["apart"]},
            "n": {"network_mode": "none"},
            "h": {"network_mode": "host"},
        }
        fleet.declare({"cnm_networks": networks}, node1={"cnm_sandboxes": sandboxes})
        fleet.site()
        assert "10.0.1.2/24" in fleet.sh("node1", "ip -n both address show eth0")
        assert "10.0.0.9/24" in fleet.sh("node1", "ip -n both address show eth1")
        assert "default via 10.0.0.1 dev eth1" in fleet.sh("node1", "ip -n both route")
        assert "default" not in fleet.sh("node1", "ip -n inner route")
        assert "10.0.1.2" in fleet.sh("node1", "ip netns exec inner getent hosts store.back")
        assert "172.17.0.2/16" in fleet.sh("node1", "ip -n alone address")
        verified = fleet.play("verify")
        assert verified.code == 0, verified.output
        counts = verified.of("cnm.fabric.verify", "node1")["counts"]
        assert counts["refuse"] >= 6
        # Not even with a route does one network reach another, and an internal one has no way out nor names outside.
        fleet.sh("node1", "ip -n inner route add default via 10.0.1.1")
        for target in ("10.0.0.2", OUTSIDE4):
            assert fleet.lab.run(
                "node1", ["ip", "netns", "exec", "inner", "ping", "-c1", "-W1", target], check=False
            ).returncode
        asked = fleet.lab.run(
            "node1", ["ip", "netns", "exec", "inner", "getent", "hosts", "outside.example"], check=False
        )
        assert asked.stdout == ""

        assert fleet.sh("node1", "ls /run/netns").split() == ["alone", "both", "front", "inner", "n"]
        assert [line.split()[0] for line in fleet.sh("node1", "ip -n n -br link").splitlines()] == ["lo"]
        assert fleet.sh("node1", "ip netns exec n cat /etc/hostname").strip() == "n"
        run = fleet.play("inspect")
        by_name = {item["Name"]: item for item in run.of("cnm.fabric.inspect", "node1")["networks"]["node1"]}
        assert [item["Name"] for item in by_name["host"]["Containers"].values()] == ["h"]
        fleet.sh("node1", "ip -n inner route delete default")
        assert fleet.site().changed == []


class TestRefusals:
    def test_a_foreign_namespace_is_named_and_the_others_are_converged(self, fleet: Fleet) -> None:
        everyone = {"cnm_networks": NETWORKS, **C1_C2}
        fleet.declare(everyone)
        fleet.sh("node1", "ip netns add c1; ip -n c1 link set lo up")
        before = snapshot(fleet, "node1")
        run = fleet.play("site")
        assert run.code != 0
        (said,) = run.refusals("node1")
        assert said.startswith("cnm_sandboxes.c1: the namespace /run/netns/c1 is there and was not created by")
        assert run.of("cnm.fabric.converge", "node1")["msg"].endswith("1 problem, listed above")
        after = [line for line in snapshot(fleet, "node1").splitlines() if not line.startswith("/run/cnm")]
        assert after == before.splitlines()
        assert run.of("cnm.fabric.converge", "node2")["status"] == "ok"
        fleet.sh("node2", "ip netns exec c2 ping -c 1 -W 2 c1")
        fleet.sh("node1", "ip netns delete c1")
        fleet.site()

    def test_an_inventory_without_declarations_refuses_to_run(self, fleet: Fleet) -> None:
        run = fleet.play("site")
        assert run.code != 0
        assert "no cnm_ declaration" in run.output
        assert "Traceback" not in run.output

    def test_networks_that_nothing_uses_are_mentioned_once(self, fleet: Fleet) -> None:
        fleet.declare(
            {"cnm_networks": {"front": {}, "lab": {}, "spare": {}}},
            node2={"cnm_sandboxes": {"c": {"networks": ["front"]}}},
        )
        said = "Declared, but used by no sandbox or service, so not created: lab, spare\n"
        assert fleet.site("--check").output.count(said) == 1
        assert said not in fleet.site("--check", "-e", "cnm_show=quiet").output

    def test_a_file_of_variables_that_no_host_has_is_warned_of_before_what_it_declares_is_removed(
        self, fleet: Fleet
    ) -> None:
        fleet.declare({"cnm_networks": {"front": {}}}, node2={"cnm_sandboxes": {"c": {"networks": ["front"]}}})
        fleet.afresh = True  # a start that has imported the plugin for such files finds none
        folder = fleet.directory / "host_vars"
        folder.mkdir()
        try:
            (folder / "noed1.yml").write_text("cnm_sandboxes:\n  c1: {networks: [front]}\n", encoding="utf-8")
            output = " ".join(fleet.site("--check").output.split())
            why = "cnm_ variables, which nobody gets: the inventory has no host noed1; did you mean node1?"
            assert output.count(f"host_vars/noed1.yml has {why}") == 1
            (folder / "noed1.yml").rename(folder / "node1.yml")
            run = fleet.site("--check")
            assert "which nobody gets" not in run.output
            assert "create namespace c1" in run.operations("node1")
        finally:
            shutil.rmtree(folder)

    def test_a_subnet_the_host_is_in_already(self, fleet: Fleet) -> None:
        underlay = fleet.lab.address("node1")
        subnet = ".".join(underlay.split(".")[:3]) + ".0/24"
        fleet.declare(
            {"cnm_networks": {"clash": {"subnet": subnet}}}, node1={"cnm_sandboxes": {"x": {"networks": ["clash"]}}}
        )
        run = fleet.play("site")
        assert run.code != 0
        assert "overlaps" in run.refusals("node1")[0]
        assert run.of("cnm.fabric.converge", "node2")["status"] == "ok"

    def test_two_runs_at_once_the_second_says_who_holds_the_lock(self, documents: Fleet) -> None:
        documents.site()
        holder = documents.lab.popen("node1", ["flock", "/run/cnm/lock.json", "cat"], stdin=subprocess.PIPE)
        try:
            documents.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": {}})
            playbook = documents.directory / "impatient.yml"
            text = Path(__file__).parents[2].joinpath("playbooks/site.yml").read_text(encoding="utf-8")
            playbook.write_text(text.rstrip() + "\n  module_defaults: {cnm.fabric.converge: {lock_timeout: 1}}\n")
            run = documents.play(str(playbook))
            assert "another run is working on this host" in run.of("cnm.fabric.converge", "node1")["msg"]
        finally:
            holder.communicate()


class TestOthersOnTheHost:
    @pytest.mark.whole
    def test_two_projects_do_not_disturb_each_other_nor_share_names(self, documents: Fleet, tmp_path: Path) -> None:
        documents.site()
        blue = Fleet(documents.lab, tmp_path / "blue")
        blue.declare({"cnm_project": "blue"}, node1={"cnm_sandboxes": {"c1": {"network_mode": "none"}}})
        assert "the namespace /run/netns/c1 is there" in blue.play("site").refusals("node1")[0]
        sandboxes = {name: {"networks": ["other"]} for name in ("b1", "b2")}
        blue.declare(
            {"cnm_project": "blue", "cnm_networks": {"other": {"subnet": "10.5.0.0/24"}}},
            node1={"cnm_sandboxes": sandboxes},
        )
        blue.site()
        for fleet in (documents, blue):
            assert fleet.site().changed == []
            assert fleet.play("verify").code == 0
        for name in ("c1", "b1"):
            documents.sh("node1", f"ip netns exec {name} ping -c 1 -W 2 {OUTSIDE4}")
        # Not even with a route does one project's sandbox reach another's.
        across = ["ip", "netns", "exec", "b1", "ping", "-c1", "-W1", "10.0.0.2"]
        assert documents.lab.run("node1", across, check=False).returncode
        documents.teardown()
        documents.sh("node1", f"ip netns exec b1 ping -c 1 -W 2 {OUTSIDE4}")
        documents.sh("node1", "ip netns exec b1 ping -c 1 -W 2 b2")
        assert blue.site().changed == []
        blue.teardown()
        assert documents.sh("node1", "sysctl -n net.ipv4.ip_forward").strip() == "0"

    def test_a_bridge_of_somebody_else_is_used_and_stays(self, fleet: Fleet) -> None:
        fleet.sh(
            "node1",
            """
            ip link add br0 type bridge; ip link set br0 up; ip address add 10.6.0.1/24 dev br0
            ip link add port0 type veth peer name port1; ip link set port0 master br0 up; ip link set port1 up
            until ip link show br0 | grep -q 'state UP'; do sleep 0.1; done; sleep 2
            """,
        )
        try:
            before = snapshot(fleet, "node1")
            network = {"subnet": "10.6.0.0/24", "driver_opts": {"com.docker.network.bridge.name": "br0"}}
            boxes = {name: {"networks": ["theirs"]} for name in ("c1", "c2")}
            fleet.declare({"cnm_networks": {"theirs": network}}, node1={"cnm_sandboxes": boxes})
            foretold = fleet.site("--check", "--diff")
            assert "adopted/network/theirs" in foretold.output
            assert fleet.site().operations("node1") == foretold.operations("node1")
            assert fleet.site().changed == []
            assert fleet.play("verify").code == 0
            fleet.sh("node1", f"ip netns exec c1 ping -c 1 -W 2 c2; ip netns exec c1 ping -c 1 -W 2 {OUTSIDE4}")
            fleet.declare({"cnm_networks": {}})
            assert "delete link br0" in fleet.site().operations("node1")
            fleet.teardown()
            assert snapshot(fleet, "node1") == before
        finally:
            fleet.sh("node1", "ip link delete br0; ip link delete port0")

    def test_the_frames_of_a_foreign_bridge_pass(self, documents: Fleet) -> None:
        documents.sh(
            "node1",
            """
            ip link add vmbr0 type bridge && ip link set vmbr0 up
            for n in 1 2; do
                ip netns add vm$n
                ip link add vm$n type veth peer name eth0 netns vm$n; ip link set vm$n master vmbr0 up
                ip -n vm$n address add 192.0.2.$n/24 dev eth0; ip -n vm$n link set eth0 up
            done
            sysctl -qw net.bridge.bridge-nf-call-iptables=1 || true
            """,
        )
        try:
            documents.sh("node1", "ip netns exec vm1 ping -c 1 -W 2 192.0.2.2")
            documents.site()
            documents.sh("node1", "ip netns exec vm1 ping -c 1 -W 2 192.0.2.2")
        finally:
            documents.sh("node1", "ip link delete vmbr0; ip netns delete vm1; ip netns delete vm2; sleep 0.2")

    def test_the_user_s_own_rules_stay_and_the_host_no_router_even_when_its_record_is_lost(
        self, documents: Fleet
    ) -> None:
        documents.site()
        documents.sh("node1", "nft add set inet cnm user_blocked '{ type ipv4_addr; elements = { 203.0.113.9 }; }'")
        documents.sh("node1", "nft add rule inet cnm user_forward ip daddr @user_blocked drop")
        assert documents.site().changed == []
        documents.sh("node1", "rm -r /var/lib/cnm")
        documents.declare(
            {"cnm_networks": {**NETWORKS, "more": {}}}, node1={"cnm_sandboxes": {"c3": {"networks": ["more"]}}}
        )
        documents.site()
        assert "@user_blocked drop" in documents.sh("node1", "nft list chain inet cnm user_forward")
        assert "drop" in documents.sh("node1", "nft list chain inet cnm forward_unmanaged")
        documents.teardown()
        assert documents.sh("node1", "sysctl -n net.ipv4.ip_forward").strip() == "0"


class TestUndo:
    def test_a_host_that_fails_half_way_is_as_it_was(self, documents: Fleet) -> None:
        documents.sh("node1", "mkdir -p /etc/netns && touch /etc/netns/c2")
        before = snapshot(documents, "node1")
        run = documents.play("site")
        message = run.of("cnm.fabric.converge", "node1")["msg"]
        assert "/etc/netns/c2" in message
        assert "The changes of this run were undone." in message
        after = [line for line in snapshot(documents, "node1").splitlines() if not line.startswith("/run/cnm")]
        assert after == before.splitlines()
        documents.sh("node1", "rm /etc/netns/c2")
        documents.site()
        assert documents.play("verify").code == 0

    @pytest.mark.whole
    def test_what_it_removed_comes_back_and_works(self, documents: Fleet) -> None:
        before = {"cnm_sandboxes": {name: {"networks": ["ps-bridge", "second"]} for name in ("c1", "c3")}}
        networks = {**NETWORKS, "second": {"subnet": "10.0.1.0/24"}}
        documents.declare({"cnm_networks": networks}, node1=before)
        documents.site()
        clean = _comparable(documents)
        documents.sh("node1", "touch /etc/netns/c2")
        documents.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": {"c2": {"networks": ["ps-bridge"]}}})
        message = documents.play("site").of("cnm.fabric.converge", "node1")["msg"]
        assert "The changes of this run were undone." in message
        documents.sh("node1", "rm /etc/netns/c2")
        assert _comparable(documents) == clean
        documents.declare({"cnm_networks": networks}, node1=before)
        assert documents.site().changed == []
        assert documents.play("verify").code == 0


WRONG = Path(__file__).parents[1] / "unit" / "inventories" / "wrong"
KINDS_OF_MISTAKES = (
    *("declarations-of-the-wrong-type", "declared-twice", "driver-options", "ipam-config", "links", "mac-addresses"),
    *("keys-at-the-wrong-level", "keys-of-containers"),
    *("names", "ipam-drivers", "networks-of-a-sandbox", "overlapping-networks", "static-addresses", "subnets"),
    *("text-instead-of-a-list", "types", "undeclared-networks", "unknown-keys"),
)


class TestWrongInventories:
    @pytest.mark.parametrize("name", each(KINDS_OF_MISTAKES, 3, "mistakes"))
    def test_all_mistakes_are_said_at_once_before_any_change(self, fleet: Fleet, name: str) -> None:
        case = yaml.safe_load((WRONG / f"{name}.yml").read_text(encoding="utf-8"))
        variables = {host: case["hosts"].get(host, {}) for host in fleet.hosts}
        fleet.declare({}, **variables)
        before = [snapshot(fleet, host) for host in fleet.hosts]
        run = fleet.play("site")
        assert run.code != 0
        assert "Traceback" not in run.output
        known = [item for item in case["expected"] if set(fleet.hosts).intersection(item.get("hosts", fleet.hosts))]
        for path, times in Counter(item["path"] for item in known).items():
            assert run.output.count(f"{path} (on ") == times
        assert f"  in:      {fleet.inventory.name}:" in run.output
        assert not [entry for entry in run.results if entry["action"] == "cnm.fabric.converge"]
        assert [snapshot(fleet, host) for host in fleet.hosts] == before

    def test_a_variable_that_cannot_be_rendered_is_named(self, fleet: Fleet) -> None:
        fleet.declare({"cnm_networks": {"n": {"subnet": "{{ no_such_variable }}"}}})
        run = fleet.play("site")
        assert run.code != 0
        assert "cnm_networks" in run.output
        assert "no_such_variable" in run.output
        assert "Traceback" not in run.output


class TestABareHost:
    def test_check_reads_a_missing_program_as_nothing_there_yet(self, tmp_path: Path) -> None:
        hidden = ["nft", "dnsmasq", "/usr/lib/*/libnftables.so*"]
        with Lab(f"pytest-bare-{os.getpid()}", hosts=1, hide=hidden) as lab:
            fleet = Fleet(lab, tmp_path)
            fleet.declare({"cnm_networks": NETWORKS}, node1=C1_C2)
            foretold = fleet.site("--check", "--diff")
            assert "create nftables inet cnm" in foretold.operations("node1")
            assert "Would install dnsmasq-base, nftables" in foretold.output
            before = snapshot(fleet, "node1")
            # Without the role that installs, the host says what it lacks, and nothing is half done.
            playbook = tmp_path / "no-packages.yml"
            playbook.write_text(
                yaml.safe_dump(
                    [
                        {
                            "hosts": "all",
                            "gather_facts": False,
                            "tasks": [
                                {"cnm.fabric.probe": None, "register": "fabric_probe"},
                                {"cnm.fabric.plan": None, "run_once": True, "register": "fabric_plan"},
                                {"cnm.fabric.converge": None},
                            ],
                        }
                    ]
                )
            )
            refused = fleet.play(str(playbook)).of("cnm.fabric.converge", "node1")["msg"]
            assert "install the package nftables" in refused
            assert "dnsmasq" in refused
            after = [line for line in snapshot(fleet, "node1").splitlines() if not line.startswith("/run/cnm")]
            assert after == before.splitlines()
