# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Sandboxes in the namespaces of Docker, podman, nspawn and others: back by themselves when these start again."""

from __future__ import annotations

import copy
import re
import statistics
import time
from collections.abc import Iterator
from typing import Any

import containers
import pytest
from containers import OF_RELEASE, PREPARE
from sampling import WHOLE
from systems import SUITES, Controller, System, systems

VARIABLES = copy.deepcopy(containers.VARIABLES)
VARIABLES["n1"]["cnm_sandboxes"]["side"] = {"network_mode": "sandbox:web"}
RESTARTS = {
    "web": "docker restart -t 0 web",
    "pod": "cd /; podman restart -t 0 pod",
    "m1": "systemctl restart m1",
    "old": "systemctl restart other",
}
NAMESPACE = {
    "web": "/proc/$(docker inspect -f '{{.State.Pid}}' web)/ns/net",
    "pod": "/proc/$(cd /; podman inspect -f '{{.State.Pid}}' pod)/ns/net",
    "m1": "/proc/$(machinectl show --value -p Leader m1)/ns/net",
    "old": "/run/netns/other",
}
BEGAN = {
    "web": "date +%s.%N -d $(docker inspect -f '{{.State.StartedAt}}' web)",
    "pod": "cd /; date +%s.%N -d $(podman inspect -f "
    """'{{.State.StartedAt.Format "2006-01-02T15:04:05.999999999Z07:00"}}' pod)""",
    "m1": "date +%s.%N -d @$(sed -nE 's/^REALTIME=(.*)(.{6})$/\\1.\\2/p' /run/systemd/machines/m1)",
    "old": 'date +%s.%N -d "$(systemctl show --timestamp=us --value -p InactiveExitTimestamp other)"',
}
"""When it was started last, as its owner has noted it."""
ADDRESS = {"web": "10.0.0.11", "pod": "10.0.0.12", "m1": "10.0.0.13", "old": "10.0.0.14"}

RULES = "nft list table inet cnm; nft list table bridge cnm"
FLUSH = "nft delete table inet cnm; nft delete table bridge cnm"
LINES = "journalctl -b -t cnm -o cat --no-pager"
LEFT = (
    "find /etc/systemd -name 'cnm-*'; systemctl list-units --all --no-legend 'cnm-*'; "
    "ls /run/cnm /var/lib/cnm /usr/local/sbin/cnm 2>/dev/null"
)

TIMES = 9 if WHOLE else 3
AT_MOST_S = 5.0
"""Of the median; it is below 1 s if the machine is not laden."""


Controlled = tuple[System, Controller]


@pytest.fixture(scope="module", params=SUITES)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    """A system with containers, a machine and a namespace, all of them sandboxes."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", suite=request.param, packages=OF_RELEASE[request.param]) as found:
        found[0].sh(PREPARE)
        controller = Controller(folder, *found)
        assert controller.run("site", VARIABLES).changed("n1")
        yield found[0], controller


def answers(system: System, name: str, seconds: float = 30.0) -> float:
    """Seconds until a sandbox is in its owner's present namespace and answers another one."""
    there = f"nsenter --net={NAMESPACE[name]} ip -br addr | grep -qwF {ADDRESS[name]}"
    return system.until(f"{there} && ip netns exec c1 ping -c 1 -W 1 {ADDRESS[name]}", seconds)


def quiet(system: System) -> None:
    """Wait until systemd has nothing to do."""
    system.until('test -z "$(systemctl list-jobs --no-legend)"', 20)


def from_start_to_answer(system: System, name: str) -> float:
    """Restart it: the seconds from its start, as its owner has noted it, to the first answer to a ping."""
    system.sh(f"ip netns exec {name} sysctl -qw net.ipv4.icmp_echo_ignore_all=1")  # the former one says nothing more
    pings = ["ip", "netns", "exec", "c1", "ping", "-n", "-D", "-i", "0.01", ADDRESS[name]]
    with system.popen(*pings, stdout=-1, stderr=-1) as ping:
        try:
            system.sh(RESTARTS[name])
            answers(system, name)
        finally:
            system.sh("pkill -INT -x ping")
        answer = re.search(r"^\[([\d.]+)\] \d+ bytes from", ping.communicate()[0], re.MULTILINE)
    quiet(system)
    assert answer
    return float(answer[1]) - float(system.sh(BEGAN[name]))


class TestOwners:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_names_resolve_in_each_for_a_command_of_the_hosts(self, host: Controlled) -> None:
        for name in ADDRESS:
            assert host[0].sh(f"cnm exec {name} getent hosts c1").split() == ["10.0.0.10", "c1"]

    def test_what_has_restarted_is_connected_again_and_its_former_namespace_is_not(self, host: Controlled) -> None:
        system, controller = host
        for name, restart in RESTARTS.items():
            holder = system.popen("nsenter", f"--net=/run/netns/{name}", "sleep", "100")
            try:
                system.until("pgrep -x sleep -a | grep -qx '[0-9]* sleep 100'")
                former = system.sh("pgrep -x sleep -a | sed -n 's/ sleep 100$//p'").strip()
                assert ADDRESS[name] in system.sh(f"nsenter --net --target={former} ip -br addr")
                system.sh(restart)
                answers(system, name)
                quiet(system)
                assert ADDRESS[name] not in system.sh(f"nsenter --net --target={former} ip -br addr")
                system.sh(f"kill {former}")
            finally:
                holder.kill()
                holder.wait()
        assert system.sh("cnm exec side readlink /proc/self/ns/net") == system.sh(f"readlink {NAMESPACE['web']}")
        assert system.sh("cnm exec side getent hosts c1").split() == ["10.0.0.10", "c1"]
        assert system.sh("cnm status") == "project default: as planned\n"
        # What is left out is left alone, under whichever name it is seen.
        assert system.sh("cnm restore --own") == "everything was as planned\n"
        assert controller.run("site", VARIABLES).changed("n1") == 0

    @pytest.mark.parametrize("name", RESTARTS)
    def test_it_answers_soon_after_its_start(self, host: Controlled, name: str, record_property: Any) -> None:
        system, _controller = host
        seconds = sorted(from_start_to_answer(system, name) for _time in range(TIMES))
        record_property("seconds", seconds)
        assert seconds[0] > 0, "the former one has answered"
        assert statistics.median(seconds) < AT_MOST_S

    @pytest.mark.parametrize("by", ["site", "cnm restore"])
    def test_what_hears_of_starts_is_missed_when_it_has_ended(self, host: Controlled, by: str) -> None:
        system, controller = host
        system.sh("systemctl stop cnm-owners.path")
        assert "boot host" in system.run("cnm status -v").stdout
        if by == "site":
            assert controller.run("site", VARIABLES).changed("n1") == 1
        else:
            system.sh(by)
        system.sh("systemctl is-active cnm-owners.path; cnm status")
        system.sh(RESTARTS["web"])
        answers(system, "web")
        quiet(system)

    def test_no_restart_of_many_is_missed(self, host: Controlled) -> None:
        system, _controller = host
        for restart in RESTARTS.values():
            system.sh(f"for time in $(seq 20); do {restart}; done", 300)
        for name in RESTARTS:
            answers(system, name)
        quiet(system)
        assert system.sh("cnm status") == "project default: as planned\n"

    def test_what_has_nothing_to_do_with_a_start_runs_nothing_and_what_has_not_changed_says_nothing(
        self, host: Controlled
    ) -> None:
        system, _controller = host
        quiet(system)
        since = system.sh("date +%s.%N").strip()
        system.sh("docker exec web true; cd /; podman exec pod true; docker ps; sleep 0.5")
        assert "cnm-owners" not in system.sh(f"journalctl --since=@{since} -o cat --no-pager")
        before = system.sh(LINES)
        system.sh("docker run --rm --network none tree true; sleep 0.3")
        quiet(system)
        assert "cnm-owners" in system.sh(f"journalctl --since=@{since} -o cat --no-pager")
        assert system.sh(LINES) == before

    def test_what_has_stopped_is_no_more_and_its_state_is_said_once(self, host: Controlled) -> None:
        system, _controller = host
        quiet(system)
        before = system.sh(LINES)
        system.sh("docker stop -t 0 web")
        system.until("test ! -e /run/netns/web", 30)
        quiet(system)
        system.sh("docker run --rm --network none tree true")
        quiet(system)
        lines = system.sh(LINES)[len(before) :]
        assert lines.count("removed the networks of sandbox web: the container web of Docker is not running") == 1
        assert len(lines.splitlines()) == 1
        assert system.run("cnm status").stdout.count("web") >= 1
        assert "is not running (exited): start it" in system.run("cnm status").stdout
        answers(system, "pod")

    def test_a_stopped_one_keeps_nothing_else_from_being_put_right(self, host: Controlled) -> None:
        system, controller = host
        rules = system.sh(RULES)
        system.sh(f"{FLUSH}; ip netns exec c1 ip route del default")
        told = controller.run("site", VARIABLES, fails=True)
        assert "sandbox web: the container web of Docker is not running (exited): start it" in told.output
        assert system.sh(RULES) == rules
        assert "default via" in system.sh("ip netns exec c1 ip route")
        system.sh(FLUSH)
        assert system.status("cnm restore") == 3
        assert system.sh(RULES) == rules
        system.sh("docker start web")
        answers(system, "web")
        quiet(system)
        assert system.sh("cnm status") == "project default: as planned\n"
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_a_restart_during_a_run_is_seen_to_after_it(self, host: Controlled) -> None:
        system, _controller = host
        other = system.popen("flock", "/run/cnm/lock.json", "sleep", "3")
        try:
            time.sleep(0.2)
            system.sh(RESTARTS["web"])
            assert other.wait(10) == 0
            answers(system, "web")
        finally:
            other.kill()

    def test_after_a_reboot_they_are_connected_when_their_owners_start(self, host: Controlled) -> None:
        system, _controller = host
        system.reboot()
        for name in RESTARTS:
            answers(system, name, 10)
        quiet(system)
        assert system.sh("cnm status") == "project default: as planned\n"
        # Docker's socket is systemd's: who asks it before there is a network, waits for a Docker that waits for him.
        told = system.sh("journalctl --sync; journalctl --boot --output cat --no-pager --unit cnm-networks")
        assert "restored" in told
        assert "no answer in" not in told

    def test_what_cannot_be_connected_is_not_tried_again_because_it_was_tried(self, host: Controlled) -> None:
        system, _controller = host
        system.sh("systemctl stop other")
        system.until("test ! -e /run/netns/old", 10)
        # No resolver starts without an address of the loopback.
        system.sh(
            "touch /run/spoiled; unshare --net=/run/spoiled ip link set lo up; nsenter --net=/run/spoiled ip address "
            "flush dev lo; touch /run/netns/other; mount --bind /run/spoiled /run/netns/other"
        )
        system.until("cnm status | grep -q 'resolver of old did not start'", 20)
        quiet(system)
        system.sh("journalctl --sync")
        looks = "journalctl -b -u cnm-owners --no-pager | grep -c Reloading"
        before = system.sh(looks)
        time.sleep(4)
        system.sh("journalctl --sync")
        assert system.sh(looks) == before
        system.sh("ip netns delete other; umount /run/spoiled; rm /run/spoiled; systemctl start other")
        answers(system, "old")
        assert system.sh("cnm status") == "project default: as planned\n"

    def test_only_the_owners_of_the_plan_are_followed_and_a_teardown_leaves_nothing(self, host: Controlled) -> None:
        system, controller = host
        fewer = copy.deepcopy(VARIABLES)
        for name in ("web", "pod", "old", "side"):
            del fewer["n1"]["cnm_sandboxes"][name]
        controller.run("site", fewer)
        watched = system.sh("systemctl show --value -p Paths cnm-owners.path")
        assert watched == "/run/systemd/machines (PathChanged)\n"
        system.sh(RESTARTS["m1"])
        answers(system, "m1")
        quiet(system)
        del fewer["n1"]["cnm_sandboxes"]["m1"]
        controller.run("site", fewer)
        # The start of Docker is followed still, for our rule in its chain.
        assert "cnm-owners.path" not in system.run(LEFT).stdout
        assert "docker.service.wants/cnm-owners-event.service" in system.run(LEFT).stdout
        controller.run("teardown", VARIABLES)
        assert system.run(LEFT).stdout == ""
        assert system.sh("systemctl list-units --failed --no-legend 'cnm*'") == ""
