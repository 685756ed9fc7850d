# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host that resolves its sandboxes by name, through a real systemd-resolved."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from systems import LAN, SUITES, Controller, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_host_names": True,
    "cnm_lan_names": f"{LAN}.1",
    "cnm_networks": {
        "front": {
            "enable_ipv6": True,
            "ipam": {"config": [{"subnet": "10.0.0.0/24"}, {"subnet": "fd00:f::/64"}]},
        },
        "back": {"subnet": "10.0.1.0/24"},
    },
    "cnm_sandboxes": {
        "c1": {"networks": {"front": {"aliases": ["web"]}}, "ports": ["8080:80"]},
        "c2": {"networks": ["back"]},
    },
}
MORE = {**VARIABLES, "cnm_sandboxes": {**VARIABLES["cnm_sandboxes"], "c3": {"networks": ["back"]}}}
WITHOUT = {**VARIABLES, "cnm_host_names": False, "cnm_lan_names": None}
TOLD = "resolvectl dns; resolvectl domain; resolvectl default-route"


@pytest.fixture(scope="module", params=SUITES)
def here(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Controller]]:
    """A system whose names systemd-resolved resolves, and its controller."""
    folder = tmp_path_factory.mktemp("names")
    packages = ["systemd-resolved", "libnss-resolve"]
    with systems(folder, "n1", suite=request.param, packages=packages) as (system,):
        system.sh("systemctl is-active systemd-resolved; grep -q resolve /etc/nsswitch.conf")
        yield system, Controller(folder, system)


def addresses(system: System, name: str) -> set[str]:
    """What the host's programs get for a name."""
    return {line.split()[0] for line in system.run(f"getent ahosts {name}").stdout.splitlines()}


def told_at(system: System, name: str) -> str:
    """The address that a neighbour of the LAN is told of a name; "" if none."""
    asked = (
        "import dns.message as m, dns.query as q; "
        f"answer = q.udp(m.make_query('{name}.cnm.internal', 'A'), '{LAN}.1', timeout=3).answer; "
        "print(answer[0][0] if answer else '')"
    )
    return system.lan.switch(f'{sys.executable} -c "{asked}"').strip()


class TestHostNames:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_a_host_knows_no_names_unless_it_is_to(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        before = system.sh(TOLD)
        controller.run("site", WITHOUT)
        assert addresses(system, "c1.cnm.internal") == set()
        assert "127.0.0.12" not in before + system.sh(TOLD)

    def test_a_check_says_what_a_run_tells_and_the_next_changes_nothing(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        told = controller.run("site", VARIABLES, "--check", "--diff").output
        assert "names of cnm.internal in systemd-resolved" in told
        assert "127.0.0.12" not in system.sh(TOLD)
        assert controller.run("site", VARIABLES).changed("n1")
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_programs_of_the_host_get_the_addresses_by_every_name(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        both = {"10.0.0.2", "fd00:f::2"}
        for name in ("c1", "c1.front", "web", "web.front"):
            assert addresses(system, f"{name}.cnm.internal") == both, name
        assert addresses(system, "c2.back.cnm.internal") == {"10.0.1.2"}
        assert addresses(system, "c2.front.cnm.internal") == set()
        system.sh("ping -c 1 -W 2 c1.cnm.internal")

    def test_other_names_go_where_they_went(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        done = system.run("resolvectl query other.example")
        assert done.returncode and "refused" not in (done.stdout + done.stderr).lower()
        assert "192.0.2.1" in system.sh("resolvectl dns | grep Global")

    def test_a_new_sandbox_resolves_at_once_after_it_did_not(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        assert addresses(system, "c3.cnm.internal") == set()
        assert controller.run("site", MORE).changed("n1")
        assert addresses(system, "c3.cnm.internal") == {"10.0.1.3"}
        assert controller.run("site", VARIABLES).changed("n1")
        assert addresses(system, "c3.cnm.internal") == set()

    def test_sandboxes_do_not_get_the_host_s_names(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        ask = "ip netns exec c1 getent -s dns ahosts"
        assert system.sh(f"{ask} c1")
        assert system.run(f"{ask} c2.back.cnm.internal").stdout == ""
        assert system.run(f"{ask} c2.cnm.internal").stdout == ""

    def test_a_lan_gets_what_the_host_publishes(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        assert controller.run("site", VARIABLES).changed("n1") == 0
        assert told_at(system, "c1") == f"{LAN}.1"
        assert told_at(system, "c2") == ""
        assert addresses(system, "c1.cnm.internal") == {"10.0.0.2", "fd00:f::2"}

    def test_restarts_and_a_reboot_change_nothing(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        system.sh("systemctl restart systemd-resolved")
        system.until("getent ahosts c1.cnm.internal")
        system.sh("kill -9 $(head -n 1 /run/cnm/default/resolvers/@host.pid)")
        system.until("getent ahosts c1.cnm.internal")
        system.sh("kill -9 $(head -n 1 /run/cnm/default/resolvers/@lan.pid)")
        system.until("test -d /proc/$(head -n 1 /run/cnm/default/resolvers/@lan.pid)")
        assert told_at(system, "c1") == f"{LAN}.1"
        system.reboot()
        system.until("getent ahosts c1.cnm.internal")
        assert told_at(system, "c1") == f"{LAN}.1"
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_what_somebody_has_told_otherwise_is_told_again(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        bridge = system.sh("ip -br link show type bridge | sed -n 's/^\\(cnm-b[^ ]*\\).*/\\1/p' | head -n 1").strip()
        for harm in (
            f"resolvectl dns {bridge} 192.0.2.9",
            f"resolvectl domain {bridge} example.com",
            f"resolvectl default-route {bridge} yes",
            f"resolvectl revert {bridge}",
        ):
            before = system.sh(TOLD)
            system.sh(harm)
            assert system.sh(TOLD) != before
            assert controller.run("site", VARIABLES).changed("n1")
            assert system.sh(TOLD) == before, harm

    def test_without_it_the_host_is_told_nothing_any_more(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        assert controller.run("site", WITHOUT).changed("n1")
        assert "127.0.0.12" not in system.sh(TOLD) and "cnm.internal" not in system.sh(TOLD)
        system.sh("! test -e /run/cnm/default/resolvers/@host.pid; ! ss -lunH | grep -q 127.0.0.12")
        again = controller.run("site", WITHOUT)
        assert again.changed("n1") == 0, again.output

    def test_a_host_without_systemd_resolved_is_told_what_to_do(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        system.sh("systemctl stop systemd-resolved")
        told = controller.run("site", VARIABLES)
        assert "systemd-resolved does not run" in told.output and "127.0.0.12" in told.output
        assert controller.run("site", VARIABLES).changed("n1") == 0
        system.sh("systemctl start systemd-resolved")
        assert controller.run("site", VARIABLES).changed("n1")
        assert addresses(system, "c2.cnm.internal") == {"10.0.1.2"}

    def test_a_teardown_leaves_nothing(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        controller.run("teardown", VARIABLES)
        assert "127.0.0.12" not in system.sh(TOLD)
        system.sh("! test -e /run/cnm; ! pgrep dnsmasq")
