# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The control plane EVPN on whole systems, where an FRR of the system's own runs too."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from systems import NEWEST, Controller, System, systems

PASSWORD = "0f7c1d9e5b3a4826"
VARIABLES: dict[str, Any] = {
    "cnm_control_plane": "evpn",
    "cnm_evpn": {"route_reflectors": ["n1", "n2"], "password": PASSWORD},
    "cnm_networks": {"wide": {"driver": "overlay", "subnet": "10.10.9.0/24"}},
    "n1": {"cnm_sandboxes": {"w1": {"networks": ["wide"]}}},
    "n2": {"cnm_sandboxes": {"w2": {"networks": ["wide"]}}},
}
REACHED = "ip netns exec w1 ping -c 1 -W 1 w2"
THEIRS = (
    "systemctl show -p MainPID -p ActiveState frr; cat /etc/frr/daemons; "
    "ip route show 203.0.113.0/24; "
    "vtysh -c 'show running-config' | grep -v forwarding"  # which is the kernel's
)
OURS = "find /run/cnm /run/frr /var/lib/cnm /etc/systemd/system -name '*cnm*'"
DAEMONS = "systemctl list-units --plain --no-legend 'cnm-zebra-*' 'cnm-bgpd-*' 'cnm-mgmtd-*' | awk '{print $1, $3}'"


STRANGE = "198.18.0.0/15"


def daemons(system: System) -> list[str]:
    """Those that ours consists of, by the version that the system has."""
    return ["bgpd", *(["mgmtd"] if system.status("test -e /usr/lib/frr/mgmtd") == 0 else []), "zebra"]


def theirs(system: System) -> list[str]:
    """What the system's own FRR is and has, line by line."""
    return sorted(system.sh(THEIRS).splitlines(), key=lambda line: not line.startswith("203."))


Pair = tuple[Sequence[System], Controller]


@pytest.fixture(scope="module", params=NEWEST)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two systems with FRR's package, whose service runs; both are route reflectors."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", "n2", suite=request.param, packages=["frr"]) as found:
        for system in found:
            system.until("systemctl is-active frr")
            system.sh("vtysh -c 'configure terminal' -c 'ip route 203.0.113.0/24 192.168.77.254' -c end -c write")
            system.until("ip route show 203.0.113.0/24 | grep -q 254")
            # What a daemon would read that looks for its own file.
            system.sh(f"echo 'ip route {STRANGE} 192.168.77.254' >/etc/frr/staticd.conf")
        controller = Controller(folder, *found)
        before = [theirs(system) for system in found]
        run = controller.run("site", VARIABLES)
        assert PASSWORD not in run.output
        time.sleep(2)
        for system, lines in zip(found, before):
            assert set(theirs(system)) ^ set(lines) == set()
        assert all(lines[0].startswith("203.0.113.0/24") for lines in before)
        yield found, controller


class TestFrrOfOurs:
    """In this order: the last one removes it."""

    def test_it_is_systemd_s_and_a_second_run_changes_nothing(self, pair: Pair) -> None:
        (first, second), controller = pair
        print(f"reached after {first.until(REACHED):.1f} s")
        for system in (first, second):
            units = system.sh(DAEMONS).splitlines()
            wanted = daemons(system)
            assert [(unit.split("-")[1], unit.split()[1]) for unit in units] == [(name, "active") for name in wanted]
            if "mgmtd" in wanted:
                ours = "vtysh --vty_socket /run/cnm/default/frr/sockets -d mgmtd -c 'show running-config'"
                assert STRANGE not in system.sh(ours)
            # One that finds nobody to speak to says so a hundred times a second.
            assert len(system.sh("journalctl -b -t zebra -o cat").splitlines()) < 100
            readable = system.sh("find /run/cnm /var/lib/cnm -type f -perm /007 -exec grep -l " + PASSWORD + " {} +; :")
            assert readable == ""
            assert PASSWORD not in system.sh("ps -e -o args=; journalctl -b")
        again = controller.run("site", VARIABLES)
        assert [again.changed(system.name) for system in (first, second)] == [0, 0]

    def test_a_daemon_that_is_killed_is_back_by_itself(self, pair: Pair, record_property: Any) -> None:
        (first, _second), controller = pair
        for daemon in daemons(first):
            pid = first.sh(f"head -n 1 /run/cnm/default/frr/{daemon}.pid").strip()
            first.sh(f"kill -9 {pid}")
            took = first.until(f'test "$(head -n 1 /run/cnm/default/frr/{daemon}.pid)" != {pid} && {REACHED}', 20)
            record_property(f"{daemon} back after", took)
            first.until("! systemctl is-active -q cnm-restore.service")
            assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_a_reboot_brings_it_back(self, pair: Pair) -> None:
        (first, second), controller = pair
        second.reboot()
        took = first.until(REACHED, 30)
        print(f"reached {took:.1f} s after the boot")
        assert controller.run("site", VARIABLES).changed("n2") == 0

    def test_teardown_leaves_nothing_of_it_and_theirs_as_it_was(self, pair: Pair) -> None:
        found, controller = pair
        before = [theirs(system) for system in found]
        controller.run("teardown", VARIABLES)
        for system in found:
            assert system.sh(DAEMONS) == ""
            assert system.sh(f"{OURS} 2>/dev/null; :") == ""
            assert system.sh("pgrep -a bgpd; :") == ""
        assert [theirs(system) for system in found] == before

    def test_an_frr_of_others_gets_the_devices_and_a_text(self, pair: Pair) -> None:
        found, controller = pair
        others = {**VARIABLES, "cnm_evpn": {"route_reflectors": ["n1", "n2"], "manage": False}}
        controller.run("site", others)
        for system in found:
            # It wrote down whether the kernel forwarded then, and would turn that off again.
            system.sh("sed -i /forwarding/d /etc/frr/frr.conf; sed -i s/^bgpd=no/bgpd=yes/ /etc/frr/daemons")
            system.sh("systemctl restart frr")
            system.sh("sed s/PASSWORD/sesame/ /run/cnm/default/evpn/frr.conf >/run/told; vtysh -f /run/told")
        print(f"reached after {found[0].until(REACHED, 30):.1f} s")
        again = controller.run("site", others, "--diff")
        assert [again.changed(system.name) for system in found] == [0, 0], again.output
        controller.run("teardown", others)
        for system in found:
            assert "10.10.9" not in system.sh("ip route; ip neighbour")
