# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A real Debian with systemd by itself: its networks after a reboot, its rules after a restart of nftables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from guest import SSH_OPTIONS, Guest

VARIABLES: dict[str, Any] = {
    "cnm_overlay_secret": "not-so-secret-as-it-should-be",
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "back": {"subnet": "10.0.1.0/24", "internal": True},
        "office": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.168.77.0/24", "ip_range": "192.168.77.128/26"}]},
            # Its unit comes up late, when udev has seen it (`allow-hotplug`).
            "driver_opts": {"parent": "enp0s17", "host_access": True},
        },
        "hidden": {"driver": "overlay", "subnet": "10.10.9.0/24", "encrypted": True},
    },
    "cnm_sandboxes": {
        "c1": {"networks": ["front"], "ports": ["8080:80"]},
        "c2": {"networks": ["front", "hidden"]},
        "b1": {"networks": ["back"]},
        "m1": {"networks": ["office"]},
    },
}

SEEN = "/var/tmp/seen-at-network-online"

LOOKER = f"""cat >/etc/systemd/system/looker.service <<'END'
[Unit]
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'exec >{SEEN}; ip netns list; nft list tables; ip -n c1 -br addr; ip xfrm policy'

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


@dataclass(frozen=True)
class Run:
    """A playbook's run."""

    output: str

    @property
    def changed(self) -> int:
        match = re.search(r"^n1 .*changed=(\d+) .*failed=0 ", self.output, re.MULTILINE)
        assert match, self.output
        return int(match[1])


class Controller:
    """Ansible on this machine, with the guest as its one host."""

    def __init__(self, guest: Guest, folder: Path) -> None:
        host = {
            "ansible_host": "127.0.0.1",
            "ansible_port": guest.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(guest.key),
            "ansible_ssh_common_args": " ".join(SSH_OPTIONS),
            "ansible_python_interpreter": "/usr/bin/python3",
            "cnm_underlay_address": "192.168.77.1",
            **VARIABLES,
        }
        self._inventory = folder / "hosts.json"
        self._inventory.write_text(json.dumps({"all": {"hosts": {"n1": host}}}), encoding="utf-8")

    def run(self, playbook: str, *options: str) -> Run:
        """Run a playbook of the collection; it must succeed."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        # No connection is kept open: after a reboot it would be a dead one.
        more = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no", "ANSIBLE_TIMEOUT": "60", "ANSIBLE_NOCOLOR": "1"}
        command = [program, f"cnm.fabric.{playbook}", "-i", str(self._inventory), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **more})
        assert done.returncode == 0, done.stdout + done.stderr
        return Run(done.stdout)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A guest that is up."""
    with Guest("bookworm", tmp_path_factory.mktemp("guest")) as guest:
        yield guest


@pytest.fixture(scope="module")
def controller(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """The controller, which has brought the guest's networks about once."""
    controller = Controller(guest, tmp_path_factory.mktemp("inventory"))
    assert controller.run("site").changed
    return controller


def follows(guest: Guest, change: str, rules: str) -> float:
    """Seconds until the rules are there again after a change."""
    started = time.monotonic()
    guest.ssh(change)
    while guest.ssh(RULES, check=False) != rules:
        assert time.monotonic() - started < 30, f"the rules have not come back after {change}"
    return time.monotonic() - started


class TestByItself:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_what_a_run_keeps_is_for_root_alone_and_the_command_tells_of_it(
        self, guest: Guest, controller: Controller
    ) -> None:
        del controller
        modes = guest.ssh("cd /var/lib/cnm; stat -c '%a %n' .half default/keys default/keys/* default/plan.json")
        assert [line.split()[0] for line in modes.splitlines()] == ["700", "700", "600", "600"]
        guest.ssh("systemctl start cnm-rules")  # which waits until it is
        assert guest.ssh("cnm status") == "project default: as planned\n"
        assert [item["name"] for item in json.loads(guest.ssh("cnm ps --json"))] == ["b1", "c1", "c2", "m1"]
        assert "10.0.0.2/24" in guest.ssh("cnm exec c1 ip -br addr")

    def test_the_rules_follow_whatever_happens_to_nftables(
        self, guest: Guest, controller: Controller, record_property: Any
    ) -> None:
        del controller
        rules = guest.ssh(RULES)
        assert "flush ruleset" in guest.ssh("cat /etc/nftables.conf")
        for change in (
            "systemctl restart nftables",
            "systemctl reload nftables",
            "systemctl stop nftables; systemctl start nftables",
        ):
            record_property(change, follows(guest, change, rules))

    def test_after_a_reboot_everything_is_back_before_the_network_is_online(
        self, guest: Guest, controller: Controller
    ) -> None:
        guest.ssh(LOOKER)
        rules = guest.ssh(RULES)
        guest.reboot()
        seen = guest.ssh(f"cat {SEEN}")
        assert {"b1", "c1", "c2", "m1"} <= {line.split()[0] for line in seen.splitlines() if line}
        assert "table inet cnm" in seen
        assert "10.0.0.2/24" in seen
        assert "sport 50 dport 14789" in seen
        assert guest.ssh("systemctl --failed --no-legend") == ""
        assert guest.ssh(RULES) == rules
        assert "restored network front in sandbox c1" in guest.ssh("journalctl -b -t cnm -o cat --no-pager")
        guest.ssh("ip netns exec c2 ping -c 1 -W 10 c1")
        assert "192.168.77.12" in guest.ssh("cnm exec m1 ip -br addr")
        when = [
            int(guest.ssh(f"systemctl show --value -p ActiveEnterTimestampMonotonic {unit}"))
            for unit in ("cnm-rules.service", "network-pre.target", "cnm-networks.service", "network-online.target")
        ]
        assert when == sorted(when)
        assert controller.run("site").changed == 0
        assert guest.status("cnm status") == 0

    def test_a_check_names_what_is_missing_of_it_and_a_run_repairs_it(
        self, guest: Guest, controller: Controller
    ) -> None:
        unit = "/etc/systemd/system/cnm-networks.service"
        guest.ssh(f"rm {unit}; find /var/lib/cnm/.half -name renewal.py -exec truncate -s 0 {{}} +")
        told = controller.run("site", "--check", "--diff")
        assert told.changed
        assert unit in told.output
        assert "/var/lib/cnm/.half" in told.output
        assert guest.status(f"test -e {unit}") == 1
        assert controller.run("site").changed
        assert guest.ssh("systemctl is-enabled cnm-networks") == "enabled\n"
        assert guest.ssh("cnm status") == "project default: as planned\n"

    def test_a_teardown_leaves_nothing_of_it(self, guest: Guest, controller: Controller) -> None:
        controller.run("teardown")
        assert guest.ssh(OURS, check=False) == ""
        assert guest.ssh("systemctl --failed --no-legend") == ""
