# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resolvers that systemd supervises: who may end, and they do not; and when they end, they are back as they were."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flows import questions
from systems import SUITES, Controller, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "n1": {"cnm_sandboxes": {name: {"networks": ["front"]} for name in ("c1", "c2", "with-dash")}},
}
FILES = "/run/cnm/default/resolvers"
NAMES = "for name in c1 c2 with-dash; do ip netns exec $name getent hosts c2 | grep -qF 10.0.0.3 || exit 1; done"
WITHOUT_ANSWER_S = 2.0
"""At most, while a resolver is replaced; it is 0.1 s if the machine is not laden."""
RUNNING = "ps -C dnsmasq -o pid= -o user:20= -o unit:60="
ENDED_BY = """#!/bin/sh
# Python for Ansible, in a unit that ends with it.
exec systemd-run --quiet --pipe --wait --collect /usr/bin/python3 "$@"
"""


@pytest.fixture(scope="module", params=SUITES)
def one(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Controller]]:
    """A system with three sandboxes, and its controller."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", suite=request.param) as found:
        controller = Controller(folder, *found)
        controller.run("site", VARIABLES)
        yield found[0], controller


def pid(system: System, sandbox: str) -> int:
    """The resolver on record."""
    return int(system.sh(f"head -n 1 {FILES}/{sandbox}.pid"))


def as_planned(system: System) -> bool:
    return system.run("cnm status").stdout == "project default: as planned\n"


def back(system: System, before: int, sandbox: str = "c1") -> float:
    """Seconds until a sandbox has another resolver, which answers."""
    return system.until(
        f"read -r pid <{FILES}/{sandbox}.pid && [ $pid != {before} ] && ip netns exec {sandbox} getent hosts c2", 20
    )


def test_each_has_a_unit_with_limits_and_no_privileges(one: tuple[System, Controller]) -> None:
    system, controller = one
    found = sorted(line.split() for line in system.sh(RUNNING).splitlines())
    units = [rf"cnm-resolver-{name}-\d+\.scope" for name in ("c1", "c2", r"with\\x2ddash")]
    assert sorted(user for _pid, user, _unit in found) == ["cnm-resolver"] * 3
    assert all(re.fullmatch(form, unit) for form, unit in zip(units, sorted(unit for *_rest, unit in found)))
    for number, _user, unit in found:
        status = dict(line.split(":\t", 1) for line in system.sh(f"cat /proc/{number}/status").splitlines())
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
        assert status["NSpid"].split()[-1] == "1"
        limits = system.sh(f"systemctl show -p MemoryMax -p TasksMax -p Slice '{unit}'")
        assert set(limits.split()) == {"MemoryMax=134217728", "TasksMax=64", "Slice=system.slice"}
    # journald knows the former unit of a process for some seconds.
    reload_names = f"kill -HUP {pid(system, 'c1')}"
    system.until(
        f"{reload_names}; journalctl -b -o cat --no-pager -u 'cnm-resolver-c1-*' | grep -qF 'read /run/cnm'", 20
    )
    assert controller.run("site", VARIABLES).changed("n1") == 0


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_one_that_ends_is_back_as_it_was(one: tuple[System, Controller], signal: str, record_property: Any) -> None:
    system, _controller = one
    before = pid(system, "c1")
    system.sh(f"kill -{signal} {before}")
    record_property(signal, back(system, before))
    # Alone on its port again.
    take = (
        "import socket; one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); one.bind(('127.0.0.11', 20053))"
    )
    assert "Address already in use" in system.run(f'ip netns exec c1 python3 -c "{take}"').stderr
    assert as_planned(system)


def test_no_user_can_keep_one_from_being_started_again(one: tuple[System, Controller]) -> None:
    system, _controller = one
    lock = system.sh(
        "sed -n 's,^ExecStart=/usr/bin/flock \\(\\S*\\) .*,\\1,p' /etc/systemd/system/cnm-resolver@.service"
    ).strip()
    assert system.status(f"flock -n {lock} true") == 0
    assert "Permission denied" in system.run(f"setpriv --reuid=65534 --clear-groups flock -n {lock} true").stderr


def test_one_that_ends_again_and_again_is_not_given_up(one: tuple[System, Controller], record_property: Any) -> None:
    system, _controller = one
    started = time.monotonic()
    for _round in range(4):
        before = pid(system, "c1")
        system.sh(f"kill -9 {before}")
        # At once, while the unit that has started it is still at work.
        system.until(f"read -r pid <{FILES}/c1.pid && [ $pid != {before} ]", 30)
    back(system, before)
    record_property("four times", time.monotonic() - started)
    system.until("! systemctl is-active -q 'cnm-resolver@*'")
    assert as_planned(system)


def test_all_that_end_at_once_are_back_at_once(one: tuple[System, Controller], record_property: Any) -> None:
    system, controller = one
    started = time.monotonic()
    before = {name: pid(system, name) for name in ("c1", "c2", "with-dash")}
    system.sh("kill -9 $(pidof dnsmasq)")
    for name, former in before.items():
        back(system, former, name)
    record_property("all", time.monotonic() - started)
    system.until("! systemctl is-active -q 'cnm-resolver@*'")
    assert controller.run("site", VARIABLES).changed("n1") == 0


def test_new_names_reach_one_that_systemd_has_started_again(one: tuple[System, Controller]) -> None:
    system, controller = one
    before = pid(system, "c1")
    system.sh(f"kill -9 {before}; ip netns add others; ip -n others link set lo up")
    back(system, before)
    there = pid(system, "c1")
    added = {
        "d9": {"networks": ["front"]},
        "joined": {"networks": ["front"], "namespace": {"path": "/run/netns/others"}},
    }
    more = {**VARIABLES, "n1": {"cnm_sandboxes": {**VARIABLES["n1"]["cnm_sandboxes"], **added}}}
    assert controller.run("site", more).changed("n1")
    assert system.sh("ip netns exec c1 getent hosts d9")
    assert pid(system, "c1") == there
    # In a namespace of somebody else's it is no other.
    before = pid(system, "joined")
    system.sh(f"kill -9 {before}")
    back(system, before, "joined")
    assert as_planned(system)


def test_names_that_were_changed_by_hand_before_it_ended_are_put_right(one: tuple[System, Controller]) -> None:
    system, _controller = one
    before = pid(system, "c1")
    system.sh(f"sed -i s/10.0.0.3/10.0.0.9/ /run/cnm/default/names/front; kill -9 {before}")
    system.until(f"read -r pid <{FILES}/c1.pid && [ $pid != {before} ]")
    assert "10.0.0.9" in system.sh("ip netns exec c1 getent hosts c2")
    system.sh("cnm restore")
    system.sh(NAMES)
    assert as_planned(system)


def test_who_holds_its_port_meanwhile_is_named_and_it_comes_back_after_that(one: tuple[System, Controller]) -> None:
    system, _controller = one
    before = pid(system, "c1")
    hold = (
        "import os, signal, socket, sys, time; one = socket.socket(); os.kill(int(sys.argv[1]), signal.SIGKILL)\n"
        "while True:\n"
        " try: one.bind(('127.0.0.11', 20053)); one.listen(); break\n"
        " except OSError: pass\n"
        "print(os.getpid(), flush=True); time.sleep(600)"
    )
    with system.popen("ip", "netns", "exec", "c1", "python3", "-c", hold, str(before), stdout=-1) as holder:
        assert holder.stdout is not None
        number = int(holder.stdout.readline())
        said = "127.0.0.11 port 20053 is in use there by python3"
        system.until(f"journalctl -b -o cat --no-pager -t cnm | grep -qF '{said}'", 20)
        assert (
            "running"
            in json.loads(system.run("cnm status --json").stdout)["default"]["drift"][0]["differences"][0].values()
        )
        system.sh(f"kill {number}")
    back(system, before)
    system.until("! systemctl is-active -q 'cnm-resolver@*'", 20)
    assert as_planned(system)


@pytest.mark.parametrize("replaced_by", ["site", "cnm restore"])
def test_one_answers_through_an_upgrade_by_dpkg_and_is_replaced_by_the_next_run(
    one: tuple[System, Controller], replaced_by: str, record_property: Any
) -> None:
    system, controller = one
    package = system.newer("dnsmasq-base")
    before = {name: pid(system, name) for name in ("c1", "c2", "with-dash")}
    with questions(system, "c1", "c2", "10.0.0.3") as upgrade:
        said = system.sh(f"dpkg -i {package}")
    record_property("seconds without an answer in the upgrade", upgrade.longest)
    assert "Unpacking dnsmasq-base" in said and "Setting up dnsmasq-base" in said
    assert upgrade.lost == 0
    system.sh(NAMES)
    status = system.run("cnm status").stdout
    assert all(f"resolver of {name} (outdated)" in status for name in before)
    assert {name: pid(system, name) for name in before} == before
    with questions(system, "c1", "c2", "10.0.0.3") as run:
        if replaced_by == "site":
            assert controller.run("site", VARIABLES).changed("n1")
        else:
            system.sh(replaced_by)
    record_property(f"seconds without an answer in {replaced_by}", run.longest)
    assert run.longest < WITHOUT_ANSWER_S
    for name, former in before.items():
        assert pid(system, name) != former
        system.sh(f"cmp /proc/{pid(system, name)}/exe /usr/sbin/dnsmasq")
    system.sh(NAMES)
    assert as_planned(system)
    assert controller.run("site", VARIABLES).changed("n1") == 0


def test_they_outlive_the_unit_that_the_run_was_started_in(one: tuple[System, Controller]) -> None:
    system, controller = one
    system.write("/usr/local/bin/python-in-a-unit", ENDED_BY)
    system.sh("chmod +x /usr/local/bin/python-in-a-unit; ip netns delete c1; ip netns delete c2")
    changed = {**VARIABLES, "n1": {**VARIABLES["n1"], "ansible_python_interpreter": "/usr/local/bin/python-in-a-unit"}}
    assert controller.run("site", changed).changed("n1")
    system.sh(NAMES)
    assert as_planned(system)


def test_they_outlive_the_session_that_the_run_was_started_in(one: tuple[System, Controller]) -> None:
    system, controller = one
    system.sh(
        "useradd -m admin; echo 'admin ALL=NOPASSWD: ALL' >/etc/sudoers.d/admin; "
        "install -d -o admin ~admin/.ssh; install -o admin /root/.ssh/authorized_keys ~admin/.ssh; "
        "mkdir -p /etc/systemd/logind.conf.d; "
        "printf '[Login]\\nKillUserProcesses=yes\\n' >/etc/systemd/logind.conf.d/kill.conf; "
        "systemctl restart systemd-logind; ip netns delete c1; ip netns delete c2"
    )
    by_user = {**VARIABLES, "n1": {**VARIABLES["n1"], "ansible_user": "admin", "ansible_become": True}}
    assert controller.run("site", by_user).changed("n1")
    assert "of user admin" in system.sh("journalctl -b -o cat --no-pager -u systemd-logind")
    system.until("! systemctl list-units --no-legend 'session-*.scope' | grep -q admin", 30)
    system.sh(NAMES)
    assert as_planned(system)


def test_they_are_back_after_a_reboot_and_supervised(one: tuple[System, Controller]) -> None:
    system, _controller = one
    system.reboot()
    system.until(NAMES)
    assert len(re.findall(r"cnm-resolver-\S+\.scope", system.sh(RUNNING))) == 3
    assert as_planned(system)


def test_without_cnm_boot_they_are_as_without_systemd(one: tuple[System, Controller]) -> None:
    system, controller = one
    assert controller.run("site", {**VARIABLES, "cnm_boot": False}).changed("n1")
    system.sh(NAMES)
    assert "cnm-resolver-" not in system.sh(RUNNING)
    before = pid(system, "c1")
    system.sh(f"kill -9 {before}")
    assert controller.run("site", VARIABLES).changed("n1")
    assert len(re.findall(r"cnm-resolver-\S+\.scope", system.sh(RUNNING))) == 3


def test_a_teardown_leaves_none_and_nothing_of_them(one: tuple[System, Controller]) -> None:
    system, controller = one
    controller.run("teardown", VARIABLES)
    assert system.run("pidof dnsmasq").stdout == ""
    system.until("[ -z \"$(systemctl list-units --all --no-legend 'cnm-*')\" ]")
    assert (
        system.run(
            "find /run/cnm /var/lib/cnm /etc/systemd /run/systemd/system /run/systemd/transient -name '*cnm*'"
        ).stdout
        == ""
    )
