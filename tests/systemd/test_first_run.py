# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The first run on a minimal Debian: Python, systemd and sshd, no recommended packages, and a mirror within reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from systems import SUITES, Controller, System, Systems, repository

VARIABLES: dict[str, Any] = {
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "wide": {"driver": "overlay", "subnet": "10.10.9.0/24"},
    },
    "n1": {"cnm_sandboxes": {"c1": {"networks": ["front"]}, "d1": {"networks": ["front", "wide"]}}},
}

NEEDED = "nftables dnsmasq-base conntrack"
LACKING = f"{NEEDED} libnftables1 libnftnl11 libnetfilter-conntrack3 iproute2 iputils-ping ifupdown"
"""What the system is stripped of; networkd configures its link, and no `ip` is there to look with."""

UNITS = "systemctl list-unit-files --no-legend 'dnsmasq*'; systemctl list-units --all --no-legend 'dnsmasq*'"
RESOLVES = (
    "systemd-run --quiet --wait --pipe -p NetworkNamespacePath=/run/netns/d1 "
    "-p BindReadOnlyPaths=/etc/netns/d1/resolv.conf:/etc/resolv.conf "
    "python3 -c 'import socket; print(socket.gethostbyname(\"c1\"))'"
)
"""As `cnm exec`, which needs iproute2."""


@pytest.fixture(scope="module", params=SUITES)
def minimal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Controller]]:
    """A minimal system, and its controller; its packages are on its disk, and apt knows of nothing yet."""
    folder = tmp_path_factory.mktemp("minimal")
    # Ansible's module apt needs python3-apt, and installs it.
    packages = repository(request.param, f"{NEEDED} python3-apt", LACKING)
    with Systems(folder) as lan:
        system = lan.new("n1", request.param, interfaces="")
        system.give(packages, "packages")
        system.write(
            "/etc/systemd/network/10-lan.network",
            f"[Match]\nName=lan0\n\n[Network]\nAddress={system.address}/24\nGateway=192.168.77.254\n",
        )
        system.sh(f"dpkg --purge --force-depends {LACKING}; rm /etc/apt/sources.list; apt-get clean")
        system.sh("systemctl enable -q --now systemd-networkd")
        system.until("grep -q ^lan0.00000000 /proc/net/route")
        yield system, Controller(folder, system, afresh=True)


class TestTheFirstRun:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_without_packages_says_which_and_changes_nothing(self, minimal: tuple[System, Controller]) -> None:
        system, controller = minimal
        told = controller.run("site", VARIABLES, "--check").output
        assert "Would install conntrack, dnsmasq-base, nftables" in told
        refused = controller.run("site", VARIABLES, fails=True).output
        assert "conntrack, dnsmasq-base, nftables could not be installed" in " ".join(refused.split())
        assert system.status("test -e /run/netns/c1") == 1

    def test_with_packages_makes_everything_and_starts_no_dnsmasq_but_resolvers(
        self, minimal: tuple[System, Controller]
    ) -> None:
        system, controller = minimal
        system.write("/etc/apt/sources.list", "deb [trusted=yes] file:/root/packages ./")
        assert controller.run("site", VARIABLES).changed("n1")
        assert system.sh(UNITS) == ""
        assert system.sh(RESOLVES) == "10.0.0.2\n"
        assert system.sh("cnm status") == "project default: as planned\n"
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_is_there_again_after_a_reboot(self, minimal: tuple[System, Controller]) -> None:
        system, controller = minimal
        system.reboot()
        assert system.sh(RESOLVES) == "10.0.0.2\n"
        assert system.sh("systemctl --failed --no-legend") == ""
        assert controller.run("site", VARIABLES).changed("n1") == 0
