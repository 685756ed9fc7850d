# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names where AppArmor confines dnsmasq: whole Debians with the profile of apparmor-profiles, in enforce mode."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from systems import APPARMOR, RELEASES, Controller, System, systems

pytestmark = [pytest.mark.vm, pytest.mark.whole]

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "n1": {"cnm_sandboxes": {name: {"networks": ["front"]} for name in ("c1", "c2")}},
}
MORE: dict[str, Any] = {
    **VARIABLES,
    "n1": {"cnm_sandboxes": {name: {"networks": ["front"]} for name in ("c1", "c2", "c3")}},
}

PROFILE = "/etc/apparmor.d/usr.sbin.dnsmasq"
POLICY = "/sys/kernel/security/apparmor"


def denied() -> list[str]:
    """What AppArmor has kept from whom so far; this kernel's log is that of all systems."""
    log = subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout
    return [line for line in log.splitlines() if 'apparmor="DENIED"' in line]


@pytest.fixture(scope="module", params=RELEASES)
def one(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Controller]]:
    """A system, which has no network of ours yet; the profile is loaded as Debian has it."""
    folder = tmp_path_factory.mktemp("apparmor")
    with systems(folder, "n1", suite=request.param, packages=APPARMOR) as (system,):
        # In a machine systemd has mounted it, and apparmor.service loads the profiles; in what it takes for a container
        # neither.
        system.sh(f"mount -t securityfs securityfs /sys/kernel/security; apparmor_parser --replace {PROFILE}")
        yield system, Controller(folder, system)
        system.sh(f"apparmor_parser --remove {PROFILE}")


def mode(system: System) -> str:
    """In which mode the profile is."""
    return system.sh(f"sed -n 's/^dnsmasq (\\(.*\\))/\\1/p' {POLICY}/profiles").strip()


def labels(system: System) -> set[str]:
    """How the resolvers are confined."""
    return {line.strip() for line in system.sh("ps -C dnsmasq -o label=").splitlines()}


class TestConfined:
    """In this order, on one system."""

    def test_a_profile_that_complains_is_no_obstacle(self, one: tuple[System, Controller]) -> None:
        system, controller = one
        assert mode(system) == "complain"
        assert "AppArmor" not in controller.run("site", VARIABLES, "--check").output

    def test_an_enforced_one_is_told_before_anything_is_changed_with_what_to_do(
        self, one: tuple[System, Controller]
    ) -> None:
        system, controller = one
        # As aa-enforce does.
        system.sh(f"sed -i '/^profile dnsmasq /s/complain, *//' {PROFILE}; apparmor_parser --replace {PROFILE}")
        assert mode(system) == "enforce"
        before = len(denied())
        run = controller.run("site", VARIABLES, fails=True)
        output = " ".join(run.output.split())
        assert "AppArmor's profile of dnsmasq keeps the resolvers of sandboxes from their files." in output
        found = re.search(r"As root on this host: (echo .*? && apparmor_parser --replace \S*dnsmasq)", output)
        assert found, run.output
        assert system.run("ls -d /run/netns/c1 /run/cnm/default").stdout == ""
        assert len(denied()) == before
        system.sh(found[1])

    def test_what_it_says_lets_names_work_confined(self, one: tuple[System, Controller]) -> None:
        system, controller = one
        before = denied()
        controller.run("site", VARIABLES)
        assert system.sh("ip netns exec c1 getent hosts c2").split() == ["10.0.0.3", "c2"]
        assert labels(system) == {"dnsmasq (enforce)"}
        assert controller.run("site", MORE).changed("n1")
        system.until("ip netns exec c1 getent hosts c3")  # read again by the same process
        assert denied() == before

    def test_one_that_ends_is_back_confined(self, one: tuple[System, Controller]) -> None:
        system, controller = one
        before = denied()
        first = system.sh("head -n 1 /run/cnm/default/resolvers/c1.pid").strip()
        system.sh(f"kill -9 {first}")
        system.until(
            f"read -r pid </run/cnm/default/resolvers/c1.pid && [ $pid != {first} ] && "
            "ip netns exec c1 getent hosts c3",
            120,
        )
        assert labels(system) == {"dnsmasq (enforce)"}
        controller.run("teardown", MORE)
        assert system.run("pidof dnsmasq").stdout == ""
        assert denied() == before
