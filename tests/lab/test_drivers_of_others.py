# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A driver of another collection: the example, built, installed, and used beside a bridge and an overlay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, snapshot
from lab import Lab
from overlaying import answered, ended, overlay, sandboxes

CHECKOUT = Path(__file__).resolve().parents[2]
WIRE = {"driver": "acme.net.wire", "subnet": "10.9.0.0/24", "driver_opts": {"encapsulation": "vxlan"}}
NETWORKS: dict[str, Any] = {
    "wire": WIRE,
    "multinet": overlay("10.10.2.0/24"),
    "front": {"subnet": "10.0.0.0/24"},
}
HOSTS: dict[str, Any] = {
    "node1": sandboxes(c1=["wire", "multinet", "front"]),
    "node2": sandboxes(c2=["wire", "multinet"]),
    "node3": sandboxes(c3=["multinet"]),
}
FILE = Path("plugins") / "plugin_utils" / "cnm_drivers" / "wire.py"


def galaxy(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("ansible-galaxy")), "collection", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="class")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the example, installed beside this collection; Ansible finds no other."""
    folder = tmp_path_factory.mktemp("collections")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANSIBLE_COLLECTIONS_PATH", str(folder))
        for source in (CHECKOUT, CHECKOUT / "examples" / "collections" / "acme" / "net"):
            galaxy("build", str(source), "--output-path", str(folder))
        for archive in sorted(folder.glob("*.tar.gz"), key=lambda path: path.name != "cnm-fabric-0.1.0.tar.gz"):
            galaxy("install", str(archive), "-p", str(folder), "--offline")
        yield folder / "ansible_collections" / "acme" / "net"


@pytest.fixture(scope="class")
def fleet(installed: Path, trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The three networks over three hosts, which are afterwards as they were before."""
    del installed
    fleet = Fleet(trio, tmp_path_factory.mktemp("wire"))
    fleet.afresh = True
    with ended(fleet):
        fleet.declare({"cnm_networks": NETWORKS}, **HOSTS)
        foretold = fleet.site("--check")
        done = fleet.site()
        for host in fleet.hosts:
            assert foretold.operations(host) == done.operations(host)
        yield fleet


class TestWire:
    def test_it_connects_by_name_and_address_beside_the_others(self, fleet: Fleet) -> None:
        assert answered(fleet, "node1", "c1", "c2.wire")
        assert answered(fleet, "node2", "c2", "c1.wire")
        assert answered(fleet, "node1", "c1", "c2.multinet")
        assert answered(fleet, "node1", "c1", "c3.multinet")
        assert not fleet.play("verify").code

    def test_broadcasts_cross_it_and_forged_sources_do_not(self, fleet: Fleet) -> None:
        fleet.sh("node2", "ip netns exec c2 sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0")
        assert "from 10.9.0.2" in fleet.sh("node1", "ip netns exec c1 ping -bc 2 -W 2 10.9.0.255", check=False)
        fleet.sh("node1", "ip -n c1 address add 10.9.0.77/24 dev eth0")
        assert not answered(fleet, "node1", "c1", "-I", "10.9.0.77", "10.9.0.2")
        fleet.sh("node1", "ip -n c1 address delete 10.9.0.77/24 dev eth0")

    @pytest.mark.whole
    def test_a_second_run_changes_nothing_and_drift_is_repaired(self, fleet: Fleet) -> None:
        again = fleet.site()
        assert [again.operations(host) for host in fleet.hosts] == [[], [], []]
        trunk = fleet.sh("node1", "ls /run/netns | grep ^wi-").strip().replace("wi-", "wt-")
        fleet.sh("node1", f"ip -n {trunk.replace('wt-', 'wi-')} link delete {trunk}")
        assert not answered(fleet, "node1", "c1", "c2.wire")
        assert any(trunk in operation for operation in fleet.site().operations("node1"))
        assert answered(fleet, "node1", "c1", "c2.wire")


class TestErrors:
    """Each is told before anything changes, with the driver's name."""

    @pytest.fixture(autouse=True)
    def _as_before(self, fleet: Fleet, installed: Path) -> Iterator[None]:
        before, text = {host: snapshot(fleet, host) for host in fleet.hosts}, (installed / FILE).read_text("utf-8")
        yield
        (installed / FILE).write_text(text, "utf-8")
        assert {host: snapshot(fleet, host) for host in fleet.hosts} == before

    @pytest.mark.whole
    def test_a_third_host(self, fleet: Fleet) -> None:
        fleet.declare({"cnm_networks": NETWORKS}, **{**HOSTS, "node3": sandboxes(c3=["wire"])})
        run = fleet.play("site")
        fleet.declare({"cnm_networks": NETWORKS}, **HOSTS)
        assert run.code
        assert "connects two hosts; this one has sandboxes on 3: node1, node2, node3" in _flat(run.output)

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("interface = 1", "interface = 99", "driver acme.net.wire is written against version 99"),
            ("DRIVER = Wire()", "raise OSError('on fire')", "driver acme.net.wire cannot be loaded: OSError: on fire"),
            ("remote = next(", "remote = nxt(", "driver acme.net.wire failed in network_resources: NameError"),
        ],
        ids=["version", "import", "resources"],
    )
    def test_of_the_driver(self, fleet: Fleet, installed: Path, old: str, new: str, told: str) -> None:
        text = (installed / FILE).read_text("utf-8")
        assert old in text
        (installed / FILE).write_text(text.replace(old, new), "utf-8")
        run = fleet.play("site")
        assert run.code
        assert told in _flat(run.output)

    def test_a_driver_that_is_not_installed(self, fleet: Fleet) -> None:
        networks = {**NETWORKS, "wire": {**WIRE, "driver": "acme.net.rope"}}
        fleet.declare({"cnm_networks": networks}, **HOSTS)
        run = fleet.play("site")
        fleet.declare({"cnm_networks": NETWORKS}, **HOSTS)
        assert run.code
        assert "collection acme.net has no driver rope" in _flat(run.output)


def _flat(text: str) -> str:
    return " ".join(text.split())
