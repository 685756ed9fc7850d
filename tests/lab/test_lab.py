# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The lab keeps what it promises: hosts like real ones, and a machine that does not notice them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import DOMAIN, OUTSIDE4, OUTSIDE6, SWITCH, Lab, LabError, address, machine_network

PROGRAM = Path(__file__).parents[1] / "support" / "lab.py"
NODES = ["node1", "node2"]


@pytest.fixture
def name() -> Iterator[str]:
    """A name for a lab of a test's own, which is gone afterwards."""
    chosen = f"pytest-own-{os.getpid()}"
    yield chosen
    Lab(chosen).down()


def _json(lab: Lab, node: str, *argv: str) -> Any:
    return json.loads(lab.run(node, argv).stdout)


def _command(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), *argv], capture_output=True, text=True, check=False)


def _living(word: str) -> list[str]:
    """The command lines on this machine that contain a word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if word in line:
                found.append(line)
    return found


class TestTheMachine:
    def test_its_network_is_the_same_before_during_and_after(self, name: str) -> None:
        before = machine_network()
        mounts = Path("/proc/self/mounts").read_text()
        with Lab(name, hosts=3) as lab:
            lab.run("node1", ["ping", "-c1", "-W2", "node3"])
            lab.run("node1", ["ip", "netns", "add", "somewhere"])
            subprocess.run(["ssh", "-F", lab.ssh_config, "node2", "true"], check=True, timeout=20)
            assert machine_network() == before
            assert Path("/proc/self/mounts").read_text() == mounts
        assert machine_network() == before
        assert Path("/proc/self/mounts").read_text() == mounts

    def test_its_files_are_not_the_hosts(self, lab: Lab) -> None:
        for folder in ("/etc", "/run", "/var/lib", "/usr", "/root"):
            file = f"{folder}/cnm-lab-{os.getpid()}"
            lab.run("node1", ["touch", file])
            assert not Path(file).exists()
            assert lab.run("node2", ["test", "-e", file], check=False).returncode == 1
            lab.run("node1", ["rm", file])

    def test_its_namespaces_are_not_seen_by_the_hosts(self, lab: Lab) -> None:
        assert lab.run("node1", ["ip", "netns", "list"]).stdout == ""

    def test_its_processes_are_not_seen_by_the_hosts(self, lab: Lab) -> None:
        numbers = [name for name in lab.run("node1", ["ls", "/proc"]).stdout.split() if name.isdigit()]
        assert len(numbers) < 10


class TestAHost:
    def test_has_a_name_of_its_own(self, lab: Lab) -> None:
        assert [lab.run(node, ["hostname"]).stdout.strip() for node in NODES] == NODES
        assert len({lab.run(node, ["cat", "/etc/machine-id"]).stdout for node in NODES}) == 2

    def test_has_lo_and_eth0_and_nothing_else(self, lab: Lab) -> None:
        links = {link["ifname"]: link for link in _json(lab, "node1", "ip", "-j", "link")}
        assert set(links) == {"lo", "eth0"}
        assert links["eth0"]["mtu"] == 1500
        assert set(lab.run("node1", ["ls", "/sys/class/net"]).stdout.split()) == {"lo", "eth0"}

    def test_has_a_default_route(self, lab: Lab) -> None:
        assert [route["gateway"] for route in _json(lab, "node1", "ip", "-j", "route", "show", "default")] == [
            address(SWITCH)
        ]

    def test_does_not_forward(self, lab: Lab) -> None:
        assert lab.run("node1", ["cat", "/proc/sys/net/ipv4/ip_forward"]).stdout.strip() == "0"

    @pytest.mark.parametrize("target", ["node2", address("node2"), address("node2", 6), address(SWITCH), OUTSIDE4])
    def test_reaches(self, lab: Lab, target: str) -> None:
        lab.run("node1", ["ping", "-c1", "-W2", target])

    def test_reaches_outside_over_ipv6(self, lab: Lab) -> None:
        lab.run("node1", ["ping", "-c1", "-W2", OUTSIDE6])

    def test_is_answered_only_to_addresses_that_outside_knows(self, lab: Lab) -> None:
        """Without masquerade a sandbox's packet gets no answer: the switch has no route to private subnets."""
        lab.run("node1", ["ip", "addr", "add", "10.0.0.9/32", "dev", "lo"])
        try:
            assert lab.run("node1", ["ping", "-c1", "-W1", "-I", "10.0.0.9", OUTSIDE4], check=False).returncode == 1
        finally:
            lab.run("node1", ["ip", "addr", "del", "10.0.0.9/32", "dev", "lo"])

    def test_resolves_outside_names(self, lab: Lab) -> None:
        assert OUTSIDE4 in lab.run("node1", ["getent", "ahostsv4", DOMAIN]).stdout
        assert OUTSIDE6 in lab.run("node1", ["getent", "ahostsv6", DOMAIN]).stdout

    def test_does_not_resolve_unknown_names(self, lab: Lab) -> None:
        assert lab.run("node1", ["getent", "hosts", "nobody.example"], check=False).returncode == 2

    def test_can_have_namespaces(self, lab: Lab) -> None:
        lab.run("node1", ["ip", "netns", "add", "c1"])
        try:
            links = json.loads(lab.run("node1", ["ip", "netns", "exec", "c1", "ip", "-j", "link"]).stdout)
            assert [link["ifname"] for link in links] == ["lo"]
            assert lab.run("node2", ["ip", "netns", "list"]).stdout == ""
        finally:
            lab.run("node1", ["ip", "netns", "del", "c1"])

    def test_lets_ssh_in(self, lab: Lab) -> None:
        for node in NODES:
            argv = ["ssh", "-F", str(lab.ssh_config), node, "hostname"]
            assert subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout.strip() == node

    def test_lets_ansible_in(self, lab: Lab) -> None:
        ansible = shutil.which("ansible", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if ansible is None:
            pytest.skip("ansible is not installed")
        argv = [ansible, "all", "-i", str(lab.inventory), "-m", "ansible.builtin.command", "-a", "hostname", "-o"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout
        assert all(f"(stdout) {node}" in said for node in NODES)


class TestALab:
    def test_does_not_meet_another(self, lab: Lab, name: str) -> None:
        with Lab(name, hosts=2) as other:
            other.run("node1", ["touch", "/run/only-here"])
            assert lab.run("node1", ["test", "-e", "/run/only-here"], check=False).returncode == 1
            other.run("node2", ["ip", "link", "set", "eth0", "down"])
            lab.run("node1", ["ping", "-c1", "-W2", "node2"])
            assert other.run("node1", ["ping", "-c1", "-W1", "node2"], check=False).returncode != 0
        lab.run("node1", ["ping", "-c1", "-W2", "node2"])

    def test_is_made_once(self, name: str) -> None:
        lab = Lab(name, hosts=1)
        lab.up()
        pid = lab.pid("node1")
        lab.up()
        assert lab.pid("node1") == pid

    def test_is_mended(self, name: str) -> None:
        lab = Lab(name, hosts=2)
        lab.up()
        kept = lab.pid("node1")
        os.kill(lab.pid("node2"), signal.SIGKILL)
        until = time.monotonic() + 5
        while lab.status()["node2"]["processes"] and time.monotonic() < until:
            time.sleep(0.01)
        lab.up()
        assert lab.pid("node1") == kept
        lab.run("node1", ["ping", "-c1", "-W2", "node2"])

    def test_mended_includes_the_switch(self, name: str) -> None:
        lab = Lab(name, hosts=1)
        lab.up()
        os.kill(lab.pid(SWITCH), signal.SIGKILL)
        until = time.monotonic() + 5
        while lab.status()[SWITCH]["processes"] and time.monotonic() < until:
            time.sleep(0.01)
        lab.up()
        lab.run("node1", ["ping", "-c1", "-W2", OUTSIDE4])

    def test_down_ends_what_ran_in_it(self, name: str) -> None:
        lab = Lab(name, hosts=1)
        lab.up()
        lab.run("node1", ["ip", "netns", "add", "c1"])
        word = str(10**9 + os.getpid())
        lab.run("node1", ["sh", "-c", f"ip netns exec c1 setsid sleep {word} >/dev/null 2>&1 &"])
        until = time.monotonic() + 5
        while not _living(f"sleep {word}") and time.monotonic() < until:
            time.sleep(0.01)
        assert _living(f"sleep {word}")
        lab.down()
        assert not _living(word)
        assert not lab.state.exists()

    def test_down_finds_a_lab_whose_directory_is_gone(self, name: str) -> None:
        lab = Lab(name, hosts=1)
        lab.up()
        shutil.rmtree(lab.state)
        Lab(name).down()
        assert not _living(str(lab.state))

    def test_down_without_a_lab_is_fine(self, name: str) -> None:
        Lab(name).down()

    def test_down_leaves_other_directories_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(LabError, match="not a lab's directory"):
            Lab("lab", state=tmp_path).down()
        assert (tmp_path / "thesis.txt").exists()

    @pytest.mark.parametrize("delay", [0.02, 0.06, 0.1, 0.15, 0.2, 0.3])
    def test_down_follows_an_up_that_was_killed(self, name: str, delay: float) -> None:
        before = machine_network()
        up = subprocess.Popen([sys.executable, str(PROGRAM), "up", "--name", name, "--hosts", "3"], stdout=-3)
        time.sleep(delay)
        up.kill()
        up.wait()
        assert _command("down", "--if-there", "--name", name).returncode == 0
        time.sleep(0.1)
        assert not _living(name)
        assert machine_network() == before

    def test_can_lack_a_program(self, name: str) -> None:
        with Lab(name, hosts=1, hide=["nft", "/usr/lib/*/libnftables.so*"]) as lab:
            assert lab.run("node1", ["sh", "-c", "command -v nft"], check=False).returncode != 0
            assert lab.run("node1", ["sh", "-c", "ls /usr/lib/*/libnftables.so*"], check=False).returncode != 0
        assert shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin")


class TestTheCommandLine:
    def test_goes_up_and_down(self, name: str) -> None:
        up = _command("up", "--name", name, "--hosts", "1")
        assert (up.returncode, up.stderr) == (0, "")
        assert f"lab {name}: switch, node1 up in" in up.stdout
        assert _command("exec", "--name", name, "node1", "--", "hostname").stdout == "node1\n"
        assert _command("ssh", "--name", name, "node1", "--", "hostname").stdout == "node1\n"
        status = _command("status", "--name", name)
        assert status.returncode == 0
        assert "198.51.100.11" in status.stdout
        assert _command("exec", "--name", name, "node1", "--", "sh", "-c", "exit 7").returncode == 7
        assert _command("down", "--name", name).returncode == 0
        assert _command("status", "--name", name).returncode == 1

    @pytest.mark.parametrize(
        ("argv", "sentence"),
        [
            (["up", "--name", "a/b"], "is no name for a lab"),
            (["up", "--hosts", "0", "--name", "pytest-none"], "between 1 and"),
            (["up", "--state", "/tmp/" + "x" * 80], "is too long"),
            (["exec", "--name", "pytest-none", "node1"], "no lab pytest-none"),
            (["down", "--name", "pytest-none"], "no lab pytest-none"),
        ],
    )
    def test_says_what_is_wrong(self, argv: list[str], sentence: str) -> None:
        said = _command(*argv)
        assert said.returncode == 1
        assert sentence in said.stderr
        assert "Traceback" not in said.stderr

    def test_a_cleanup_is_content_with_no_lab(self) -> None:
        said = _command("down", "--if-there", "--name", "pytest-none")
        assert (said.returncode, said.stdout, said.stderr) == (0, "", "")

    def test_says_that_it_needs_root(self) -> None:
        argv = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-", "up"]
        said = subprocess.run(argv, input=PROGRAM.read_text(), capture_output=True, text=True, check=False)
        assert (said.returncode, said.stderr) == (1, "lab: a lab needs root\n")

    def test_says_which_program_is_missing(self, name: str, tmp_path: Path) -> None:
        # in a lab host, for the machine has them all
        with Lab(name, hosts=1, hide=["dnsmasq"]) as lab:
            argv = ["/usr/bin/python3", "-", "up", "--state", str(tmp_path / "inner")]
            said = lab.run("node1", argv, given=PROGRAM.read_text(), check=False)
        assert said.returncode == 1
        assert "needs the program dnsmasq (package dnsmasq-base)" in said.stderr
