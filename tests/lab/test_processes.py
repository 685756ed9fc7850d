# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whose processes resolvers are: their own user, hosts that see each other's, and users who claim to be one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import lookalike
import pytest
from fleet import Fleet
from lab import Lab

NETWORKS = {"front": {"subnet": "10.0.0.0/24"}}
BOXES = {"cnm_sandboxes": {name: {"networks": ["front"]} for name in ("c1", "c2")}}
COUNT = "for p in /proc/[0-9]*; do readlink $p/exe; done 2>/dev/null | grep -c /dnsmasq || true"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Two hosts of a lab of their own, on which no playbook has run yet, with the same sandboxes on both."""
    with Lab(f"pytest-processes-{os.getpid()}", hosts=2) as lab:
        fleet = Fleet(lab, tmp_path)
        fleet.declare({"cnm_networks": NETWORKS}, node1=BOXES, node2=BOXES)
        yield fleet


def works(fleet: Fleet) -> None:
    for host in fleet.hosts:
        for name in ("c1", "c2"):
            fleet.sh(host, f"ip netns exec c1 getent hosts {name} && ip netns exec c2 ping -c 1 -W 2 {name}")


def test_role_makes_the_user_of_the_resolvers_and_check_says_so(fleet: Fleet) -> None:
    foretold = fleet.site("--check")
    assert fleet.sh("node1", "getent passwd cnm-resolver; getent group cnm-resolver", check=False) == ""
    done = fleet.site()
    assert sorted(foretold.changed) == sorted(done.changed)
    assert any("Create the user that resolvers run as" in task for task in done.changed)
    name, _password, uid, gid, _words, home, shell = fleet.sh("node1", "getent passwd cnm-resolver").strip().split(":")
    assert (name, home, shell) == ("cnm-resolver", "/nonexistent", "/usr/sbin/nologin")
    assert 0 < int(uid) < 1000
    assert fleet.sh("node1", f"getent group {gid}").startswith("cnm-resolver:")
    assert fleet.sh("node1", "ls -d /nonexistent", check=False) == ""
    assert fleet.site().changed == []
    assert fleet.site("--check").changed == []
    assert fleet.sh("node1", "stat -c %u /proc/$(head -n 1 /run/cnm/default/resolvers/c1.pid)").strip() == uid


@pytest.mark.whole
def test_hosts_that_see_each_other_s_processes_keep_their_names(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = share_processes(fleet.lab)
    on = fleet.lab.command
    monkeypatch.setattr(
        fleet.lab, "command", lambda node, argv: [*inside, "--", *argv] if node == "node2" else on(node, argv)
    )
    assert fleet.sh("node2", "ps -e -o comm= | grep -c '^init$'").strip() == "1"
    fleet.site()
    assert fleet.site().changed == []
    assert fleet.play("verify").code == 0
    works(fleet)
    assert fleet.sh("node2", COUNT).strip() == "4"
    # one is taken down beside the other, and the files of the one that stays are lost
    fleet.sh("node1", "rm -r /run/cnm")
    fleet.hosts = ["node2"]
    fleet.teardown()
    fleet.hosts = ["node1"]
    fleet.site()
    assert fleet.site().changed == []
    assert fleet.play("verify").code == 0
    assert fleet.sh("node2", COUNT).strip() == "2"


def share_processes(lab: Lab) -> list[str]:
    """From now on node2's processes are born among those of node1, and each host sees them all.

    Returns the command that runs another there.
    """
    lab.run("node2", ["sh", "-c", "kill $(pidof sshd)"])
    one, two = f"/proc/{lab.pid('node1')}/ns", f"/proc/{lab.pid('node2')}/ns"
    inside = ["nsenter", f"--pid={one}/pid", f"--mount={two}/mnt", f"--uts={two}/uts", f"--net={two}/net"]
    # the host's own first process keeps its namespaces; what comes by ssh is in these
    serve = "mount -t proc proc /proc && mkdir -p /run/sshd && exec $(command -v sshd) -e >/dev/null 2>&1"
    subprocess.run([*inside, "sh", "-c", f"PATH=$PATH:/usr/sbin; {serve}"], check=True, timeout=30)
    deadline = time.monotonic() + 10
    while not lab.status()["node2"]["serves"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return inside


def test_command_line_of_a_user_makes_root_write_delete_and_show_nothing(fleet: Fleet) -> None:
    fleet.hosts = ["node1"]
    fleet.sh("node1", lookalike.PLACES)
    started = [
        fleet.lab.popen("node1", lookalike.command(target), stdout=subprocess.PIPE) for target in lookalike.TARGETS
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        runs = [fleet.site("--diff"), fleet.site("--diff"), fleet.play("teardown", "--diff")]
        assert [run.code for run in runs] == [0, 0, 0]
        assert runs[1].changed == []
        assert not any("secret" in run.output or "root id" in run.output for run in runs)
        fleet.sh("node1", lookalike.UNHARMED)
        assert [process.poll() for process in started] == [None] * 4
    finally:
        for process in started:
            process.kill()
