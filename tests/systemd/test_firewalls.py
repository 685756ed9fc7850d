# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Beside ufw and firewalld, as people enable them: what is in the way is named with the command that lets it by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from systems import Controller, Run, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}, "wide": {"driver": "overlay", "subnet": "10.10.9.0/24"}},
    "cnm_services": {
        "echo": {
            "networks": ["wide"],
            "deploy": {"replicas": 2},
            "ports": [{"target": 80, "published": 3000, "protocol": "tcp", "mode": "ingress"}],
        }
    },
    "n1": {"cnm_sandboxes": {"c1": {"networks": ["front"], "ports": ["8080:80"]}, "w1": {"networks": ["wide"]}}},
    "n2": {"cnm_sandboxes": {"w2": {"networks": ["wide"]}}},
}

ENABLE = {
    "ufw": "ufw allow 22/tcp; ufw --force enable",
    "firewalld": "systemctl is-active firewalld",
}
RULES_OF = {
    "ufw": "nft -s list table ip filter; nft -s list table ip6 filter; cat /etc/ufw/*.rules",
    "firewalld": "nft -s list table inet firewalld; find /etc/firewalld -type f -exec cat {} +",
}
RELOADS = {
    "ufw": ("ufw reload", "systemctl restart ufw", "ufw disable; ufw --force enable"),
    "firewalld": ("firewall-cmd --reload", "firewall-cmd --complete-reload", "systemctl restart firewalld"),
}
OURS = "nft list table inet cnm; nft list table bridge cnm"

SERVE = """
cd /run
for name in c1 echo.1 echo.2; do
    [ ! -e /run/netns/$name ] || systemd-run -q -p NetworkNamespacePath=/run/netns/$name python3 -m http.server 80
done
"""


def fetch(place: str) -> str:
    return f"python3 -c \"import urllib.request as web; web.urlopen('http://{place}/', timeout=2)\""


# What a front end that knows nothing of us keeps from working, by host.
WANTED = {
    "a sandbox speaks to the outside": (
        "n1",
        "ip netns exec c1 python3 -c \"import socket; socket.create_connection(('192.168.77.2', 22), 2)\"",
    ),
    "an overlay": ("n1", "ip netns exec w1 ping -c 1 -W 2 w2"),
    "an overlay, the other way": ("n2", "ip netns exec w2 ping -c 1 -W 2 w1"),
    "a published port": ("n2", fetch("192.168.77.1:8080")),
    # Twice, so that each of the tasks is asked.
    "a port of the mesh": ("n2", f"{fetch('192.168.77.1:3000')} && {fetch('192.168.77.1:3000')}"),
}
# firewalld accepts what was translated to another destination.
WORKS_ANYWAY = {"ufw": set(), "firewalld": {"a published port"}}

Pair = tuple[str, Sequence[System], Controller]


@pytest.fixture(scope="module", params=["ufw", "firewalld"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The front end's name, and two systems that it is active on."""
    folder = tmp_path_factory.mktemp("systems")
    suite = {"ufw": "bookworm", "firewalld": "trixie"}[request.param]
    with systems(folder, "n1", "n2", suite=suite, packages=[request.param]) as found:
        for system in found:
            system.sh(ENABLE[request.param])
        yield request.param, found, Controller(folder, *found)


def advised(run: Run, host: str, name: str) -> list[str]:
    """The commands that a run's warning has for a host."""
    found = re.findall(rf"{host}: {name} drops traffic of the networks\. As root on this host: (.*)", run.output)
    return list(found)


def fails(found: Sequence[System]) -> set[str]:
    """What of `WANTED` does not work."""
    by_name = {system.name: system for system in found}
    return {what for what, (host, command) in WANTED.items() if by_name[host].status(command)}


class TestFrontEnds:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_the_commands_of_the_warning_let_by_what_they_drop(self, pair: Pair) -> None:
        name, found, controller = pair
        before = [system.sh(RULES_OF[name]) for system in found]
        run = controller.run("site", VARIABLES)
        assert [system.sh(RULES_OF[name]) for system in found] == before
        for system in found:
            system.sh(SERVE)
        assert fails(found) == WANTED.keys() - WORKS_ANYWAY[name]
        for system in found:
            (commands,) = advised(run, system.name, name)
            system.sh(commands)
        assert fails(found) == set()

    def test_who_has_let_it_by_is_not_told_again(self, pair: Pair) -> None:
        name, found, controller = pair
        again = controller.run("site", VARIABLES)
        for system in found:
            assert again.changed(system.name) == 0
            assert advised(again, system.name, name) == []
        assert "firewall drops" not in again.output

    def test_our_rules_outlast_its_reloads_and_restarts(self, pair: Pair) -> None:
        name, found, _controller = pair
        system = found[0]
        rules = system.sh(OURS)
        for change in RELOADS[name]:
            look = "nft list table inet cnm >/dev/null 2>&1 || echo gone"
            seen = system.sh(f"({change}) >/dev/null 2>&1 & while kill -0 $! 2>/dev/null; do {look}; done")
            assert seen == "", change
            assert system.sh(OURS) == rules
            assert fails(found) == set()

    def test_a_reboot_brings_both_back(self, pair: Pair) -> None:
        name, found, controller = pair
        rules = found[0].sh(OURS)
        found[0].reboot()
        assert found[0].sh(OURS) == rules
        found[0].sh(SERVE)
        assert fails(found) == set()
        assert controller.run("site", VARIABLES).changed("n1") == 0
        theirs = found[0].sh(RULES_OF[name])
        controller.run("teardown", VARIABLES, "-e", "cnm_force=true")
        assert found[0].sh(RULES_OF[name]) == theirs
