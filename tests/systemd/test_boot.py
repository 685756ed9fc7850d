# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host by itself: its networks after a reboot, its rules after a restart of nftables, what is kept for that."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from systems import NEWEST, Controller, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "back": {"subnet": "10.0.1.0/24", "internal": True},
        "office": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.168.77.0/24", "ip_range": "192.168.77.128/26"}]},
            # Its unit comes up late, when udev has seen it (`allow-hotplug`).
            "driver_opts": {"parent": "lan0", "host_access": True},
        },
        "wide": {"driver": "overlay", "subnet": "10.10.9.0/24"},
    },
    "n1": {
        "cnm_sandboxes": {
            "c1": {"networks": ["front"], "ports": ["8080:80"]},
            "c2": {"networks": ["front", "wide"]},
            "b1": {"networks": ["back"]},
            "m1": {"networks": ["office"]},
        }
    },
    "n2": {"cnm_sandboxes": {"d1": {"networks": ["wide"]}}},
}

SEEN = "/var/tmp/seen-at-network-online"

LOOKER = f"""cat >/etc/systemd/system/looker.service <<'END'
[Unit]
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'exec >{SEEN}; ip netns list; nft list tables; ip -n c1 -br addr'

[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable -q looker"""

RULES = "nft list table inet cnm; nft list table bridge cnm"

OURS = (
    "ls /usr/local/sbin/cnm /var/lib/cnm /run/cnm 2>/dev/null; "
    "find /etc/systemd -name '*cnm-*'; systemctl list-units --all --no-legend 'cnm-*'; ip -br link | grep cnm"
)


@pytest.fixture(scope="module", params=NEWEST)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Controller]]:
    """Two systems with their networks; the first, and the controller of both."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", "n2", suite=request.param) as found:
        controller = Controller(folder, *found)
        assert controller.run("site", VARIABLES).changed("n1")
        yield found[0], controller


def follows(system: System, change: str, rules: str) -> float:
    """Seconds until the rules are there again after a change."""
    started = time.monotonic()
    system.sh(change)
    while system.run(RULES).stdout != rules:
        assert time.monotonic() - started < 30, f"the rules have not come back after {change}"
    return time.monotonic() - started


class TestByItself:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_what_a_run_keeps_is_for_root_alone_and_the_command_tells_of_it(
        self, pair: tuple[System, Controller]
    ) -> None:
        system, _controller = pair
        modes = system.sh("cd /var/lib/cnm; stat -c '%a %n' .half default/plan.json")
        assert [line.split()[0] for line in modes.splitlines()] == ["700", "600"]
        system.sh("systemctl start cnm-rules")  # which waits until it is
        assert system.sh("cnm status") == "project default: as planned\n"
        assert [item["name"] for item in json.loads(system.sh("cnm ps --json"))] == ["b1", "c1", "c2", "m1"]
        assert "10.0.0.2/24" in system.sh("cnm exec c1 ip -br addr")

    def test_the_rules_follow_whatever_happens_to_nftables(
        self, pair: tuple[System, Controller], record_property: Any
    ) -> None:
        system, _controller = pair
        rules = system.sh(RULES)
        assert "flush ruleset" in system.sh("cat /etc/nftables.conf")
        for change in (
            "systemctl restart nftables",
            "systemctl reload nftables",
            "systemctl stop nftables; systemctl start nftables",
        ):
            record_property(change, follows(system, change, rules))

    def test_after_a_reboot_everything_is_back_before_the_network_is_online(
        self, pair: tuple[System, Controller]
    ) -> None:
        system, controller = pair
        system.sh(LOOKER)
        rules = system.sh(RULES)
        system.reboot()
        seen = system.sh(f"cat {SEEN}")
        assert {"b1", "c1", "c2", "m1"} <= {line.split()[0] for line in seen.splitlines() if line}
        assert "table inet cnm" in seen
        assert "10.0.0.2/24" in seen
        assert system.sh("systemctl --failed --no-legend") == ""
        assert system.sh(RULES) == rules
        assert "restored network front in sandbox c1" in system.sh("journalctl -b -t cnm -o cat --no-pager")
        system.sh("ip netns exec c2 ping -c 1 -W 10 d1")
        assert "192.168.77.12" in system.sh("cnm exec m1 ip -br addr")
        when = [
            int(system.sh(f"systemctl show --value -p ActiveEnterTimestampMonotonic {unit}"))
            for unit in ("cnm-rules.service", "network-pre.target", "cnm-networks.service", "network-online.target")
        ]
        assert when == sorted(when)
        controller.settled("n1", VARIABLES)
        assert system.status("cnm status") == 0

    def test_a_check_names_what_is_missing_of_it_and_a_run_repairs_it(self, pair: tuple[System, Controller]) -> None:
        system, controller = pair
        unit = "/etc/systemd/system/cnm-networks.service"
        rules = "/var/lib/cnm/default/rules.nft"
        system.sh(f"rm {rules}")
        assert f"({rules}: missing)" in system.run("cnm status").stdout
        system.sh(f"rm {unit}; find /var/lib/cnm/.half -name renewal.py -exec truncate -s 0 {{}} +")
        told = controller.run("site", VARIABLES, "--check", "--diff")
        assert told.changed("n1")
        assert unit in told.output
        assert "/var/lib/cnm/.half" in told.output
        assert rules in told.output
        assert system.status(f"test -e {unit} || test -e {rules}") == 1
        assert controller.run("site", VARIABLES).changed("n1")
        assert system.sh("systemctl is-enabled cnm-networks") == "enabled\n"
        assert "table inet cnm" in system.sh(f"cat {rules}")
        assert system.sh("cnm status") == "project default: as planned\n"

    def test_a_teardown_leaves_nothing_of_it(self, pair: tuple[System, Controller]) -> None:
        system, controller = pair
        controller.run("teardown", VARIABLES)
        assert system.run(OURS).stdout == ""
        assert system.sh("systemctl --failed --no-legend") == ""
