# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The control plane EVPN: FRR of ours on each host tells the others of its endpoints."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fleet import Fleet
from forging import FORGED, TUNNELLED, heard, python
from lab import SWITCH, Lab
from overlaying import answered, ended, matrix, overlay, pinging, sandboxes, unanswered
from waiting import until

from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import plan_data
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.identifiers import evpn_namespace

PASSWORD = "6f1e4f2b9a7c4d20"
NETWORKS: dict[str, Any] = {
    "cnm_control_plane": "evpn",
    "cnm_evpn": {"route_reflectors": ["node1", "node3"], "password": PASSWORD},
    "cnm_networks": {
        "multinet": overlay("10.10.2.0/24", "fd00:2::/64"),
        "second": overlay("10.10.3.0/24", internal=True),
    },
}
HOSTS: dict[str, Any] = {
    "node1": sandboxes(c1=["multinet", "second"], c1b=["multinet"]),
    "node2": sandboxes(c2=["multinet", "second"]),
    "node3": sandboxes(c3=["multinet"]),
}
PLACE = evpn_namespace("default")
MEMBERS = {
    "multinet": {"c1": "node1", "c1b": "node1", "c2": "node2", "c3": "node3"},
    "second": {"c1": "node1", "c2": "node2"},
}


@pytest.fixture(scope="module")
def fabric(trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two overlays over three hosts, of which two are route reflectors."""
    with ended(Fleet(trio, tmp_path_factory.mktemp("evpn"))) as fleet:
        fleet.declare(NETWORKS, **HOSTS)
        foretold = fleet.site("--check", "--diff")
        assert PASSWORD not in foretold.output
        done = fleet.site("--diff")
        assert PASSWORD not in done.output
        for host in fleet.hosts:
            assert foretold.operations(host) == done.operations(host)
        yield fleet
        fleet.teardown()


def until_answered(fleet: Fleet, host: str, sandbox: str, *words: str, seconds: float = 10) -> float:
    """Seconds until a ping is answered."""
    begun = time.monotonic()
    while not answered(fleet, host, sandbox, *words):
        assert time.monotonic() - begun < seconds, f"nobody answers {sandbox} {words}"
    return time.monotonic() - begun


class TestThreeHosts:
    def test_everybody_pings_everybody_by_each_name(self, fabric: Fleet) -> None:
        until_answered(fabric, "node2", "c2", "c3")
        assert unanswered(fabric, matrix(MEMBERS)) == []

    def test_a_second_run_changes_nothing(self, fabric: Fleet) -> None:
        assert fabric.site().changed == []

    def test_no_host_has_entries_for_others_in_its_plan_and_bgp_s_are_nobody_s_drift(self, fabric: Fleet) -> None:
        plan = json.loads(fabric.sh("node2", "cat /var/lib/cnm/default/plan.json"))["plan"]
        assert "10.10.2.5" not in json.dumps([item for item in plan_data(plan)["resources"] if item["kind"] != "file"])
        rows = fabric.sh(
            "node2", f"bridge -n {PLACE} fdb show | grep extern_learn; ip -n {PLACE} neighbour | grep zebra"
        )
        assert rows.count(fabric.lab.address("node1")) == 3
        assert len(re.findall("proto zebra", rows)) == 7
        assert fabric.site("--check").changed == []

    def test_a_full_packet_passes_and_a_larger_one_does_not(self, fabric: Fleet) -> None:
        assert answered(fabric, "node1", "c1", "-4", "-M", "do", "-s", "1422", "c3")
        assert not answered(fabric, "node1", "c1", "-4", "-M", "do", "-s", "1423", "c3")

    def test_verify_finds_nothing_and_inspect_shows_every_endpoint(self, fabric: Fleet) -> None:
        verified = fabric.play("verify")
        assert verified.code == 0, verified.output
        inspected = fabric.play("inspect")
        assert all(name in inspected.output for group in MEMBERS.values() for name in group)

    def test_the_host_and_its_overlays_do_not_reach_each_other(self, fabric: Fleet) -> None:
        """Neither by ARP nor by the bridge's own MAC address, whether or not there are rules of nftables."""
        host = fabric.lab.address("node1")
        bridge = fabric.sh("node1", f"ip -n {PLACE} -o link show type bridge | grep -o 02:42:0a:0a:02:01").strip()
        link = fabric.sh("node1", "ip -n c1 -o -4 address show | grep 10.10.2 | cut -d' ' -f2").strip()
        neighbour = f"ip -n c1 route add {host} dev {link}; ip -n c1 neighbour add {host} lladdr {bridge} dev {link}"
        asked = f"timeout 2 ip netns exec c1 ping -c 1 -W 1 {host}"
        links = fabric.sh("node1", "ip -o link show type vxlan; ls /sys/class/net")
        assert "cnm-v" not in links
        assert fabric.sh("node1", f"{asked.replace(host, '10.10.2.1')}; echo $?", check=False).split()[-1] == "1"
        fabric.sh("node1", neighbour)
        try:
            assert fabric.sh("node1", f"{asked}; echo $?", check=False).split()[-1] == "1"
            fabric.sh("node1", f"nft flush ruleset; ip netns exec {PLACE} nft flush ruleset")
            # What answers to the host's address there is the overlays' namespace, which has nothing else.
            assert fabric.sh("node1", f"ip netns exec {PLACE} ss -tulnH") == ""
        finally:
            fabric.sh("node1", f"ip -n c1 neighbour delete {host} dev {link}; ip -n c1 route delete {host} dev {link}")
            assert fabric.site().changed != []


class TestOneHostAlone:
    def test_a_sandbox_more_by_limit_is_reached_at_once_and_no_other_host_is_run(self, fabric: Fleet) -> None:
        """Also the first of its network on that host."""
        hosts = {**HOSTS, "node3": sandboxes(c3=["multinet"], c9=["multinet", "second"])}
        fabric.declare(NETWORKS, **hosts)
        run = fabric.site("--limit", "node3")
        assert {entry["host"] for entry in run.results if entry["result"].get("changed")} == {"node3"}
        address = fabric.sh("node3", "ip -n c9 -br -4 address show").split("10.10.2.")[1].split("/")[0]
        assert until_answered(fabric, "node2", "c2", f"10.10.2.{address}") < 2
        address = fabric.sh("node3", "ip -n c9 -br -4 address show").split("10.10.3.")[1].split("/")[0]
        assert until_answered(fabric, "node2", "c2", f"10.10.3.{address}") < 2
        # Names follow when the others are run.
        assert not answered(fabric, "node2", "c2", "c9.second")
        changed = {entry["host"] for entry in fabric.site().results if entry["result"].get("changed")}
        assert changed == {"node1", "node2"}
        assert answered(fabric, "node2", "c2", "c9.second")
        fabric.declare(NETWORKS, **HOSTS)
        fabric.site()
        assert fabric.site().changed == []

    def test_a_move_with_its_address_loses_less_than_a_second(self, fabric: Fleet) -> None:
        fixed = {"networks": {"multinet": {"ipv4_address": "10.10.2.77"}}}
        try:
            fabric.declare(NETWORKS, **{**HOSTS, "node3": sandboxes(c3=["multinet"], moves=fixed)})
            fabric.site()
            until_answered(fabric, "node2", "c2", "10.10.2.77")
            fabric.declare(
                NETWORKS, **{**HOSTS, "node1": sandboxes(c1=["multinet", "second"], c1b=["multinet"], moves=fixed)}
            )
            begun = time.monotonic()
            with pinging(fabric, "node2", "c2", "10.10.2.77", interval=0.05) as counted:
                fabric.site()
            until_answered(fabric, "node2", "c2", "10.10.2.77", seconds=1)
            print(f"a move: {counted[0] - counted[1]} of {counted[0]} lost in {time.monotonic() - begun:.1f} s")
        finally:
            fabric.declare(NETWORKS, **HOSTS)
            fabric.site()


class TestPolicies:
    @pytest.mark.whole
    def test_they_hold_between_hosts_and_know_a_new_sandbox_after_their_host_s_next_run(self, fabric: Fleet) -> None:
        def policies(*allowed: str) -> dict[str, Any]:
            peers = [{"sandbox": name} for name in allowed]
            return {**NETWORKS, "cnm_policies": {"shut": {"ingress": [{"action": "allow", "from": peers}]}}}

        guarded = {"node3": sandboxes(c3={"networks": ["multinet"], "policies": ["shut"]})}
        more = {**guarded, "node2": sandboxes(c2=["multinet", "second"], c9=["multinet"])}
        try:
            fabric.declare(policies("c1"), **{**HOSTS, **guarded})
            fabric.site()
            until_answered(fabric, "node1", "c1", "c3")
            assert not answered(fabric, "node2", "c2", "c3")
            assert not answered(fabric, "node1", "c1b", "-6", "c3")
            fabric.declare(policies("c1", "c9"), **{**HOSTS, **more})
            fabric.site("--limit", "node2")
            until_answered(fabric, "node2", "c9", "c2")
            assert not answered(fabric, "node2", "c9", "c3")
            fabric.site("--limit", "node3")
            until_answered(fabric, "node2", "c9", "c3")
            fabric.site()
            verified = fabric.play("verify")
            assert verified.code == 0, verified.output
        finally:
            fabric.declare(NETWORKS, **HOSTS)
            fabric.site()


class TestFailures:
    def test_one_reflector_dies_and_nothing_is_lost(self, fabric: Fleet) -> None:
        with pinging(fabric, "node2", "c2", "10.10.2.2", interval=0.02) as counted:
            ended_by(fabric, "node3", "bgpd")
            time.sleep(12)
        assert counted[0] == counted[1] > 100
        assert fabric.site().changed == ["node3: cnm.fabric.multi_host : Bring each host to its plan"]

    def test_zebra_dies_and_the_next_one_has_what_bgp_says_and_nothing_else(self, fabric: Fleet) -> None:
        """Nothing is lost while there is none, and what has changed meanwhile is seen afterwards."""
        node1, node3 = fabric.lab.address("node1"), fabric.lab.address("node3")
        link = fabric.sh("node2", f"ip -n {PLACE} -o link show type vxlan | grep -o 'cnm-v96[^:@]*'").strip()
        until(lambda: len(remote_entries(fabric, "node2")) == 18)
        before = remote_entries(fabric, "node2")
        with pinging(fabric, "node2", "c2", "10.10.2.2", interval=0.02) as counted:
            ended_by(fabric, "node2", "zebra")
            time.sleep(2)
        assert counted[0] == counted[1] > 50
        fabric.sh(
            "node2",
            f"bridge -n {PLACE} fdb delete 00:00:00:00:00:00 dev {link} dst {node3};"
            f"bridge -n {PLACE} fdb delete 02:42:0a:0a:02:05 dev {link} dst {node3} self;"
            f"bridge -n {PLACE} fdb add 02:42:0a:0a:02:09 dev {link} dst {node1} self extern_learn;"
            f"bridge -n {PLACE} fdb add 02:42:0a:0a:02:09 dev {link} master extern_learn;",
        )
        with pinging(fabric, "node2", "c2", "10.10.2.2", interval=0.02) as counted:
            assert fabric.site().changed != []
            until(lambda: remote_entries(fabric, "node2") == before)
            until_answered(fabric, "node2", "c2", "10.10.2.2")
        print(f"a new zebra: {counted[0] - counted[1]} of {counted[0]} lost")
        assert fabric.site().changed == []

    @pytest.mark.whole
    def test_a_bgpd_or_all_reflectors_die_and_what_is_lost_is_back_with_them(self, fabric: Fleet) -> None:
        until(lambda: len(remote_entries(fabric, "node2")) == 18)
        before = remote_entries(fabric, "node2")
        for name, hosts in {"its own": ["node2"], "both reflectors": ["node1", "node3"]}.items():
            for host in hosts:
                ended_by(fabric, host, "bgpd")
            until(lambda: remote_entries(fabric, "node2") == [])
            assert fabric.site().changed != []
            begun = time.monotonic()
            while unanswered(fabric, matrix(MEMBERS, whole=False)):
                assert time.monotonic() - begun < 15
            print(f"{name} again: all answered {time.monotonic() - begun:.1f} s after the run")
            until(lambda: remote_entries(fabric, "node2") == before)

    def test_a_host_is_lost_and_its_endpoints_go_within_the_hold_time(self, fabric: Fleet) -> None:
        rows = f"bridge -n {PLACE} fdb show | grep -c 'dst {fabric.lab.address('node3')} .*self extern_learn'"

        def there_are(number: int) -> bool:
            return fabric.sh("node2", rows, check=False).strip() == str(number)

        until(lambda: there_are(1))  # zebra may have been started just before
        cut = "table inet cut { chain out { type filter hook output priority -400; oifname eth0 drop; }; }"
        fabric.sh("node3", f"nft '{cut}'")
        try:
            print(f"a lost host: its endpoint gone after {until(lambda: there_are(0)):.1f} s")
        finally:
            fabric.sh("node3", "nft delete table inet cut")
        until_answered(fabric, "node2", "c2", "c3", seconds=15)
        assert fabric.site().changed == []


class TestStrangers:
    def test_who_does_not_know_the_password_has_no_session(self, fabric: Fleet) -> None:
        """A BGP speaker on the underlay, in the range of hosts that a reflector accepts."""
        reflector = fabric.lab.address("node1")
        ended_by(fabric, "node2", "bgpd")  # the stranger has its address, which the reflector listens to
        secrets = {"none": "", "wrong": f" neighbor {reflector} password sesame\n"}
        for name, more in secrets.items():
            place = f"/run/stranger-{name}"
            conf = f"router bgp 65000\n neighbor {reflector} remote-as 65000\n{more}"
            conf += f" address-family l2vpn evpn\n  neighbor {reflector} activate\n"
            start = f"mkdir {place}; echo '{conf}' > {place}/conf; chown -R frr {place};"
            start += f"/usr/lib/frr/bgpd -d -Z -p 0 -f {place}/conf --vty_socket {place} -i {place}/pid"
            fabric.sh("node2", start)
            try:
                time.sleep(6)
                said = fabric.sh("node2", f"vtysh --vty_socket {place} -d bgpd -c 'show bgp summary'")
                assert "Established" not in said
                assert re.search(r"Active|Connect|Idle|OpenSent", said), said
            finally:
                fabric.sh("node2", f"kill $(cat {place}/pid); rm -r {place}")
        fabric.site()
        until_answered(fabric, "node2", "c2", "c3")

    def test_vxlan_reaches_a_sandbox_from_hosts_of_the_fabric_alone(self, fabric: Fleet) -> None:
        def forge(node: str) -> Callable[[int], object]:
            macs = [
                fabric.sh(host, f"ip netns exec {box} cat /sys/class/net/eth0/address").strip() for host, box in ends
            ]
            frame = (fabric.lab.address("node1"), 4096, *macs, "10.10.2.4", "10.10.2.2")
            return lambda port: fabric.lab.run(node, python("", TUNNELLED, *frame, port))

        ends = (("node1", "c1"), ("node2", "c2"))
        assert heard(fabric, ends[0], "10.10.2.2", forge("node2")) == "10.10.2.4"
        assert heard(fabric, ends[0], "10.10.2.2", forge(SWITCH)) == "nobody"

    def test_a_sandbox_cannot_speak_in_another_s_name(self, fabric: Fleet) -> None:
        victim = fabric.sh("node2", "ip netns exec c2 cat /sys/class/net/eth0/address").strip()
        for source, who in (("10.10.2.3", "10.10.2.3"), ("10.10.2.2", "nobody"), ("10.10.2.5", "nobody")):
            found = heard(
                fabric,
                ("node2", "c2"),
                "10.10.2.4",
                lambda port, source=source: fabric.lab.run(
                    "node1", python("c1b", FORGED, victim, source, "10.10.2.4", port, 0, "")
                ),
            )
            assert found == who, source


class TestBackAndForth:
    @pytest.mark.whole
    def test_from_static_to_evpn_and_back(self, fabric: Fleet) -> None:
        static = {key: value for key, value in NETWORKS.items() if key == "cnm_networks"}
        for variables in (static, NETWORKS):
            fabric.declare(variables, **HOSTS)
            fabric.site()
            until_answered(fabric, "node2", "c2", "c3")
            assert unanswered(fabric, matrix(MEMBERS)) == []
            assert fabric.site().changed == []


def remote_entries(fleet: Fleet, host: str) -> list[str]:
    """What zebra has entered there for endpoints of other hosts."""
    rows = fleet.sh(host, f"bridge -n {PLACE} fdb show; ip -n {PLACE} neighbour").splitlines()
    return sorted(" ".join(row.split()) for row in rows if re.search(r" dst |extern_learn|zebra", row))


def ended_by(fleet: Fleet, host: str, daemon: str) -> None:
    """Kill a daemon of ours."""
    fleet.sh(host, f"kill -9 $(head -n 1 /run/cnm/default/frr/{daemon}.pid)")
