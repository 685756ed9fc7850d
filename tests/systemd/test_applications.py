# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Units of applications in sandboxes: the documents' unit after a run, a boot, a removal, and a sandbox made again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from systems import SUITES, Controller, System, systems

PAGE = Path(__file__).resolve().parents[2] / "docs" / "boot.md"
ODD = "x-1.y_z"
"""A sandbox whose name units write otherwise."""
VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "cnm_sandboxes": {name: {"networks": ["front"]} for name in ("c1", "c2", ODD)},
}
WITHOUT_C1 = {**VARIABLES, "cnm_sandboxes": {"c2": {"networks": ["front"]}}}
FORCE = ("-e", "cnm_force=true")
GET = "import urllib.request; urllib.request.urlopen('http://c1/', timeout=3)"
ANSWERS = f'ip netns exec c2 python3 -c "{GET}"'


def units_shown() -> dict[str, str]:
    """The units that the page shows, by path."""
    blocks = re.findall(r"```ini\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return dict(blocks)


@pytest.fixture(scope="module", params=SUITES)
def here(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Controller]]:
    """A system with the page's unit, enabled before there is a network, and one in a sandbox of an odd name."""
    folder = tmp_path_factory.mktemp("applications")
    with systems(folder, "n1", suite=request.param) as (system,):
        units = units_shown()
        (path,) = units
        for name, where in (("c1", path), (ODD, "/etc/systemd/system/odd.service")):
            target = system.sh(f"systemd-escape --template=cnm-sandbox@.target {name}").strip()
            system.write(where, units[path].replace("cnm-sandbox@c1.target", target).replace("/c1", f"/{name}"))
        system.sh("systemctl daemon-reload; systemctl enable web odd")
        controller = Controller(folder, system)
        controller.run("site", VARIABLES)
        yield system, controller


def pid(system: System) -> str:
    return system.sh("systemctl show --value -p MainPID web").strip()


def namespace(system: System) -> str:
    return system.sh(f"stat -Lc %i /proc/{pid(system)}/ns/net /run/netns/c1")


def runs_in_its_sandbox(system: System) -> None:
    system.until(ANSWERS)
    assert len(set(namespace(system).split())) == 1
    system.until("systemctl is-active web odd", 5)


class TestApplications:
    """In this order, on one system."""

    def test_a_run_starts_what_was_enabled_and_another_changes_nothing(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        runs_in_its_sandbox(system)
        assert "nameserver 127.0.0.11" in system.sh(f"nsenter -m -t {pid(system)} cat /etc/resolv.conf")
        before = pid(system)
        assert controller.run("site", VARIABLES).changed("n1") == 0
        assert pid(system) == before

    def test_it_runs_after_a_boot_without_a_controller(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        system.reboot()
        runs_in_its_sandbox(system)
        assert system.sh("systemctl --failed --no-legend") == ""
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_a_sandbox_deleted_by_hand_stops_it_and_a_run_that_repairs_starts_it(
        self, here: tuple[System, Controller]
    ) -> None:
        system, controller = here
        system.sh("ip netns delete c1")
        system.until("! systemctl is-active web cnm-sandbox@c1.target")
        assert "sandbox c1" in system.run("cnm status").stdout
        assert controller.run("site", VARIABLES).changed("n1")
        runs_in_its_sandbox(system)
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_it_follows_to_another_namespace_even_if_systemd_did_not_see_the_exchange(
        self, here: tuple[System, Controller]
    ) -> None:
        system, _controller = here
        before = pid(system)
        system.sh("ip netns delete c1; cnm restore")
        runs_in_its_sandbox(system)
        assert pid(system) != before
        assert system.status("cnm status") == 0

    def test_a_target_stopped_by_hand_is_drift(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        system.sh("systemctl stop cnm-sandbox@c1.target")
        assert system.status("systemctl is-active web") == 3
        assert "applications in sandbox c1" in system.run("cnm status").stdout
        assert controller.run("site", VARIABLES).changed("n1")
        runs_in_its_sandbox(system)

    def test_a_removed_sandbox_stops_it_and_one_made_again_starts_it(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        told = controller.run("site", WITHOUT_C1, fails=True).output
        assert "c1 is no longer declared, and processes run in it: " in told
        runs_in_its_sandbox(system)
        controller.run("site", WITHOUT_C1, *FORCE)
        system.until("! systemctl is-active web odd")
        assert controller.run("site", WITHOUT_C1).changed("n1") == 0
        controller.run("site", VARIABLES)
        runs_in_its_sandbox(system)

    def test_a_teardown_stops_it_and_leaves_no_target_and_a_run_afterwards_starts_it(
        self, here: tuple[System, Controller]
    ) -> None:
        system, controller = here
        controller.run("teardown", VARIABLES, *FORCE)
        assert system.status("systemctl is-active web") == 3
        left = "find /etc/systemd /run/cnm -name 'cnm-*.target'; systemctl list-units --all --no-legend 'cnm-*'"
        assert system.run(left).stdout == ""
        assert system.status("test -e /run/cnm") == 1
        controller.run("site", VARIABLES)
        runs_in_its_sandbox(system)


TASK = """
[Unit]
BindsTo=cnm-sandbox@%i.target
After=cnm-sandbox@%i.target

[Service]
ExecStart=/usr/bin/python3 -m http.server 80
NetworkNamespacePath=/run/netns/%i

[Install]
WantedBy=cnm-sandbox@%i.target
"""
CALLS = """
import time, urllib.request
while True:
    try:
        urllib.request.urlopen("http://web/", timeout=3).read()
        print("answered", flush=True)
    except OSError as error:
        print("failed", error, flush=True)
    time.sleep(0.02)
"""


def service(link: str) -> dict[str, Any]:
    """Two tasks, rolled out start-first, so that there is a third one meanwhile."""
    deploy = {"replicas": 2, "update_config": {"order": "start-first"}}
    web = {"networks": {"front": {"interface_name": link}}, "deploy": deploy}
    return {**WITHOUT_C1, "cnm_services": {"web": web}, "cnm_load_balancer": "nftables"}


def test_a_rollout_starts_and_stops_the_unit_of_a_further_task(here: tuple[System, Controller]) -> None:
    system, controller = here
    system.write("/etc/systemd/system/task@.service", TASK)
    system.write("/root/calls.py", CALLS)
    system.sh("systemctl daemon-reload; systemctl enable task@web.1 task@web.2 task@web.3")
    controller.run("site", service("eth0"), *FORCE)
    system.until(
        "ip netns exec c2 python3 -c 'import urllib.request as r; [r.urlopen(\"http://web/\") for n in range(2)]'"
    )
    system.sh(
        "systemd-run --unit=calls -p NetworkNamespacePath=/run/netns/c2 "
        "-p BindReadOnlyPaths=/etc/netns/c2/resolv.conf:/etc/resolv.conf "
        "-p StandardOutput=file:/root/calls.log python3 /root/calls.py"
    )
    before = system.sh("systemctl show --value -p MainPID task@web.1")
    done = controller.run("site", service("votes"))
    system.sh("systemctl stop calls")
    said = system.sh("sort /root/calls.log | uniq -c")
    assert re.fullmatch(r" *\d{3,} answered\n", said), said
    assert "service web: web.3 is removed (the last step)" in done.output
    assert system.status("systemctl is-active task@web.3") == 3
    assert "Started task@web.3" in system.sh("journalctl -u task@web.3")
    assert system.sh("systemctl show --value -p MainPID task@web.1") == before
    assert "votes" in system.sh("ip -br -n web.1 link; ip -br -n web.2 link")
    controller.settled("n1", service("votes"))
