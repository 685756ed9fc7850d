# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Overlays by plans written by hand: two machines on a wire, sandboxes on each."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

import pytest
from host import converge, on_a_host, run_command, sh
from machines import Machine, Ping, everyone, two_machines, unanswered
from overlay_resources import BOXES, MTUS, VNI, VTEPS, addresses_of, an_overlay, mac_of

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine, reporting
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Fdb, Neighbours
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import encode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Chain, Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Operation
from ansible_collections.cnm.fabric.plugins.module_utils.resources.fdb import FdbKind


def flags_of(link: str, place: str) -> str:
    return sh(f"bridge -n {place} -d link show dev {link}")


@pytest.mark.parametrize("underlay", [4, 6])
@on_a_host
def test_every_sandbox_reaches_every_other_and_neither_arp_nor_nd_leaves(underlay: int) -> None:
    with two_machines() as machines:
        for machine in machines:
            machine.converge(an_overlay(machine.number, BOXES, underlay))
        assert unanswered(everyone(BOXES)) == []
        mtu, (v4, v6) = MTUS[underlay], addresses_of("c")
        full: list[Ping] = [("a", v4, mtu - 28), ("a", v6, mtu - 48)]  # ICMP and IP take that much
        assert unanswered(full) == []
        larger = [(box, address, size + 1) for box, address, size in full]
        assert unanswered(larger) == larger
        for machine in machines:
            seen = machine.left()
            assert seen.pop("all") >= 16
            assert seen == {"port50": 0, "group": 0, "arp": 0, "solicitation": 0}


@on_a_host
def test_without_neighbour_entries_nothing_is_resolved_or_sent() -> None:
    with two_machines() as machines:
        for machine in machines:
            wanted = an_overlay(machine.number)
            machine.converge([replace(i, entries={}) if isinstance(i, Neighbours) else i for i in wanted])
        local, remote = addresses_of("b"), addresses_of("c")
        assert unanswered([("a", address, 56) for address in local]) == []
        far = [("a", address, 56) for address in remote]
        assert unanswered(far) == far
        assert machines[0].left()["all"] == 0


@on_a_host
def test_a_flooded_broadcast_reaches_the_listed_hosts_and_learning_stays_off() -> None:
    with two_machines() as machines:
        for machine in machines:
            wanted = an_overlay(machine.number, flood=(VTEPS[4][1 - machine.number],))
            machine.converge([replace(i, entries={}) if isinstance(i, Neighbours) else i for i in wanted])
        assert unanswered(everyone(BOXES)) == []
        assert machines[0].left()["group"] > 0
        assert "learning off" in flags_of("vx0", "ov0")
        for machine in machines:
            machine.converge(an_overlay(machine.number))
        before = machines[0].left()["group"]
        assert unanswered(everyone(BOXES)) == []
        assert machines[0].left()["group"] == before


@on_a_host
def test_a_vxlan_sends_only_from_its_source_port() -> None:
    with two_machines() as machines:
        for machine in machines:
            machine.converge(an_overlay(machine.number, source_port=50))
        assert unanswered(everyone(BOXES)) == []
        seen = machines[0].left()
        assert seen["port50"] == seen["all"] > 0


@on_a_host
def test_a_moved_endpoint_is_reached_there_and_back() -> None:
    with two_machines() as machines:
        for machine in machines:
            machine.converge(an_overlay(machine.number))
        assert unanswered(everyone(BOXES)) == []
        moved = {**BOXES, "c": 0}
        # From where it was first: a sandbox's name is in one place at a time.
        done = [machine.converge(an_overlay(machine.number, moved)) for machine in reversed(machines)]
        assert "create fdb ov1/vx0" not in done[0]
        assert {"change fdb ov1/vx0 (entries)", "change neighbour ov1/br0 (entries)"} <= set(done[0])
        assert {"change fdb ov0/vx0 (entries)", "change neighbour ov0/br0 (entries)"} <= set(done[1])
        assert unanswered(everyone(BOXES)) == []
        for machine in machines:
            machine.converge(an_overlay(machine.number))
        assert unanswered(everyone(BOXES)) == []
        assert "p-c" not in sh("bridge -n ov0 fdb")


@on_a_host
def test_an_endpoint_behind_another_vtep_is_replaced_in_place() -> None:
    """Its entry is there all the time: the kernel replaces it, and never says that there is one already."""
    with two_machines() as machines:
        machine = machines[0]
        machine.converge(an_overlay(0, {**BOXES, "c": 2}))
        assert f"{mac_of('c')} dev vx0 dst {VTEPS[4][2]}" in sh("bridge -n ov0 fdb")
        (operation,) = machine.operations(an_overlay(0))
        difference = operation.differences[0]
        assert (difference.attribute, difference.wanted, difference.found) == (
            "entries",
            [f"{mac_of('c')} at {VTEPS[4][1]}"],
            [f"{mac_of('c')} at {VTEPS[4][2]}"],
        )
        machine.converge(an_overlay(0))
        machines[1].converge(an_overlay(1))
        assert unanswered(everyone(BOXES)) == []


LEARNED = f"""
bridge -n ov0 link set dev vx0 learning on; ip -n ov0 link set vx0 type vxlan id {VNI} learning
bridge -n ov0 fdb delete {mac_of("c")} dev vx0 master
bridge -n ov0 fdb delete {mac_of("c")} dev vx0 self
bridge -n ov0 fdb replace {mac_of("c")} dev p-b master dynamic
bridge -n ov0 fdb replace {mac_of("c")} dev vx0 self dst 192.0.2.77 dynamic
ip -n ov0 neighbour replace 10.0.0.4 lladdr 02:00:00:00:00:99 dev br0 nud reachable
"""
BY_HAND = """
bridge -n ov0 fdb replace 02:00:00:00:00:77 dev vx0 self permanent dst 192.0.2.77
bridge -n ov0 fdb replace 02:00:00:00:00:77 dev vx0 master static
bridge -n ov0 fdb replace 02:00:00:00:00:78 dev vx0 self permanent dst 192.0.2.77
bridge -n ov0 fdb replace 02:00:00:00:00:79 dev vx0 master static
bridge -n ov0 fdb append 01:00:5e:00:00:99 dev vx0 self permanent dst 192.0.2.77
bridge -n ov0 fdb append 01:00:5e:00:00:99 dev vx0 self permanent dst 192.0.2.78
ip -n ov0 neighbour replace 10.0.0.99 lladdr 02:00:00:00:00:77 dev br0 nud permanent
ip -n ov0 neighbour replace 10.0.0.99 lladdr 02:00:00:00:00:77 dev vx0 nud permanent
"""
WRONG = "ip link add vx0 netns ov0 type vxlan id {} dstport 4789"
ELSEWHERE = f"ip -n ov0 link delete vx0; ip netns exec a {WRONG.format(VNI)} local 192.0.2.1 nolearning"
HARMS = {
    "half an entry is deleted": f"bridge -n ov0 fdb delete {mac_of('c')} dev vx0 master",
    "the other half is deleted": f"bridge -n ov0 fdb delete {mac_of('c')} dev vx0 self",
    "an entry may move": f"bridge -n ov0 fdb replace {mac_of('c')} dev vx0 master static",
    "an entry leads elsewhere": f"bridge -n ov0 fdb replace {mac_of('c')} dev vx0 self permanent dst 192.0.2.77",
    "a neighbour is another": "ip -n ov0 neighbour replace 10.0.0.4 lladdr 02:00:00:00:00:99 dev br0 nud permanent",
    "there are learned entries in their places": LEARNED,
    "entries were added": BY_HAND,
    "the VXLAN is no port": "ip -n ov0 link set vx0 nomaster",
    "the VXLAN is down": "ip -n ov0 link set vx0 down",
    "the bridge was down, which drops neighbours": "ip -n ov0 link set br0 down; ip -n ov0 link set br0 up",
    "the bridge is gone": "ip -n ov0 link delete br0",
    "the bridge is another": "ip -n ov0 link delete br0; ip -n ov0 link add br0 type bridge",
    "the VXLAN is gone": "ip -n ov0 link delete vx0",
    "the VXLAN is another": f"ip -n ov0 link delete vx0; {WRONG.format(VNI)}; ip -n ov0 link set vx0 up",
    "the VXLAN's packets travel elsewhere": ELSEWHERE,
    "the VXLAN has another VNI": f"ip -n ov0 link delete vx0; {WRONG.format(9)} local 192.0.2.1 nolearning",
    "a sandbox's end has another bridge": "ip -n ov0 link set p-a nomaster",
    "a sandbox is not connected": "ip -n ov0 link delete p-a",
    "the overlay's namespace is gone": "ip netns delete ov0",
}


@pytest.mark.parametrize("harm", HARMS)
@on_a_host
def test_manual_changes_are_seen_and_repaired(harm: str) -> None:
    with two_machines() as machines:
        for machine in machines:
            machine.converge(an_overlay(machine.number))
        before = everything_of("ov0")
        machines[0].sh(HARMS[harm])
        assert machines[0].converge(an_overlay())
        assert everything_of("ov0") == before
        assert unanswered(everyone(BOXES)) == []


def everything_of(place: str) -> list[str]:
    """What entries there are that somebody has set, and how the VXLAN is set."""
    lines = sh(f"bridge -n {place} fdb; ip -n {place} neighbour show nud permanent; ip -n {place} -d link show vx0")
    kept = re.compile(r" dst | static| PERMANENT|vxlan id| learning ")
    found = [re.sub(r" link-netnsid \d+|designated.*| expires.*", "", line) for line in lines.splitlines()]
    # A bridge that another hand makes has a VLAN, and then the kernel makes another entry there of each of ours.
    return sorted(line for line in found if kept.search(line) and " vlan 1 " not in line)


@on_a_host
def test_entries_of_the_kernel_are_not_changed() -> None:
    with two_machines() as machines:
        machine = machines[0]
        machine.converge(an_overlay())
        sh(
            "bridge -n ov0 fdb replace 02:00:00:00:00:77 dev p-a master dynamic;"
            "bridge -n ov0 fdb replace 02:00:00:00:00:78 dev vx0 master extern_learn;"
            "bridge -n ov0 fdb replace 02:00:00:00:00:78 dev vx0 self extern_learn dst 192.0.2.77;"
            "ip -n ov0 neighbour replace 10.0.0.98 lladdr 02:00:00:00:00:77 dev br0 nud reachable;"
            "ip -n ov0 neighbour replace 10.0.0.99 lladdr 02:00:00:00:00:77 dev br0 nud noarp"
        )
        before = sh("bridge -n ov0 fdb; ip -n ov0 neighbour show nud all | grep -c 02:00:00:00:00:77")
        assert machine.run(converge, an_overlay(), machine.project) == []
        assert sh("bridge -n ov0 fdb; ip -n ov0 neighbour show nud all | grep -c 02:00:00:00:00:77") == before


@on_a_host
def test_a_sandbox_that_claims_a_remote_one_s_address_does_not_get_its_frames() -> None:
    with two_machines() as machines:
        for machine in machines:
            machine.converge(an_overlay(machine.number))
        sh(f"ip -n b link set eth0 down; ip -n b link set eth0 address {mac_of('c')}; ip -n b link set eth0 up")
        unanswered([("b", "10.0.0.2", 56)])
        assert re.search(rf"{mac_of('c')} dev vx0 .*sticky", sh("bridge -n ov0 fdb"))
        assert unanswered([("a", address, 56) for address in addresses_of("c")]) == []


class TestRefused:
    @staticmethod
    def _refused(machine: Machine, wanted: Optional[Sequence[Resource]] = None) -> str:
        with pytest.raises(engine.EngineError) as error:
            machine.run(converge, an_overlay() if wanted is None else wanted, machine.project)
        assert "cnm:m0:" not in sh('ip netns list | cut -d" " -f1 | xargs -rn1 -I: ip -n : link')
        return str(error.value)

    @on_a_host
    def test_a_vni_that_another_vxlan_of_the_host_has_is_named(self) -> None:
        with two_machines() as machines:
            taken = f"ip link add other0 type vxlan id {VNI} dstport 4789 local 192.0.2.1"
            machines[0].sh(taken)
            said = self._refused(machines[0])
            assert f"this host's VXLAN other0 already has VNI {VNI} on port 4789" in said
            assert said.startswith("creating link ov0/vx0 (wanted: ")
            machines[0].sh("ip link delete other0; unshare --net=/tmp/machine0 true; touch /tmp/hidden")
            sh("umount /tmp/machine0")
            sh("unshare --net=/tmp/hidden true")
            machines[0].sh(f"ip link add vx9 netns /proc/self/fd/9 type vxlan id {VNI} dstport 4789 9</tmp/hidden")
            assert f"another VXLAN of this host already has VNI {VNI} on port 4789" in self._refused(machines[0])

    @on_a_host
    def test_the_vxlan_of_a_namespace_without_a_name_is_waited_for(self) -> None:
        """Who is inside keeps it alive."""
        with two_machines() as machines:
            machine = machines[0]
            machine.converge(an_overlay())
            inside = subprocess.Popen(["ip", "netns", "exec", "ov0", "sleep", "0.5"])
            sh("ip netns delete ov0")
            machine.converge(an_overlay())
            inside.wait()

    @on_a_host
    def test_a_vxlan_is_removed_while_a_process_is_in_its_namespace(self) -> None:
        with two_machines() as machines:
            machine = machines[0]
            machine.converge(an_overlay())
            inside = subprocess.Popen(["ip", "netns", "exec", "ov0", "sleep", "60"])
            machine.converge([])
            machine.sh(f"ip link add other0 type vxlan id {VNI} dstport 4789 local 192.0.2.1")
            inside.kill()
            inside.wait()

    @on_a_host
    def test_entries_on_a_foreign_link_are_refused(self) -> None:
        with two_machines() as machines:
            machines[0].sh(
                "ip link add vx9 type vxlan id 9 dstport 4789 local 192.0.2.1;"
                "bridge fdb replace 02:00:00:00:00:77 dev vx9 self permanent dst 192.0.2.77;"
                "ip neighbour replace 192.0.2.9 lladdr 02:00:00:00:00:77 dev w0 nud permanent"
            )
            wanted = [Fdb("", "vx9", {mac_of("c"): "192.0.2.2"}), Neighbours("", "w0", {"192.0.2.2": mac_of("c")})]
            said = self._refused(machines[0], wanted)
            assert "already on this host and not created by this project: fdb vx9, neighbour w0." in said


@on_a_host
def test_unwanted_tables_are_emptied_though_the_link_stays() -> None:
    with two_machines() as machines:
        machine = machines[0]
        wanted = an_overlay(flood=(VTEPS[4][1],))
        machine.converge(wanted)
        links_alone = [item for item in wanted if not isinstance(item, (Fdb, Neighbours))]
        assert machine.converge(links_alone) == ["delete fdb ov0/vx0", "delete neighbour ov0/br0"]
        assert "permanent dst" not in sh("bridge -n ov0 fdb")
        empty = [replace(i, entries={}, flood=()) if isinstance(i, Fdb) else i for i in wanted]
        machine.converge(empty)
        machine.converge(wanted)
        assert machine.converge(empty) == ["change fdb ov0/vx0 (entries, flood)"]


@on_a_host
def test_only_a_few_of_thousands_of_entries_are_shown() -> None:
    with two_machines() as machines:
        machine = machines[0]
        macs = [f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(3000)]
        many = dict.fromkeys(macs, "192.0.2.2")
        wanted = [replace(item, entries=many) if isinstance(item, Fdb) else item for item in an_overlay()]
        whole = reporting.diff(machine.operations(wanted))["after"].splitlines()
        assert [line for line in whole if "fdb ov0/vx0" in line] == ["fdb ov0/vx0  entries=(3,000 entries)"]
        machine.converge(an_overlay())
        (operation,) = machine.operations(wanted)
        assert reporting.report([operation])[0]["differences"] == [
            {
                "attribute": "entries",
                "wanted": [*(f"{mac} at 192.0.2.2" for mac in macs[:5]), "and 2,995 more"],
                "found": [f"{mac_of(box)} at 192.0.2.2" for box in "cd"],
            }
        ]
        machine.converge(wanted)
        assert sh("bridge -n ov0 fdb | grep -c dev.vx0").strip() == "6001"  # and the link's own
        machine.converge(an_overlay())
        assert sh("bridge -n ov0 fdb | grep -c dev.vx0").strip() == "5"


TEXTS = ["192.0.2.2", "192.0.2.3", "192.0.2.2 self", "192.0.2.3 loose", "master"]
LISTS = ["192.0.2.2", "192.0.2.2,192.0.2.3", "192.0.2.3,192.0.2.4 self"]
"""What the text of an entry can be; an address of a group may have several remote ends."""


def a_table(chance: random.Random) -> Fdb:
    """Any that can be found: an undo is to put back whatever was."""
    own = {f"02:00:00:00:00:0{number}": chance.choice(TEXTS) for number in range(6) if chance.random() < 0.7}
    groups = {f"01:00:5e:00:00:0{number}": chance.choice(LISTS) for number in range(3) if chance.random() < 0.7}
    return Fdb("ov0", "vx0", {**own, **groups}, tuple(vtep for vtep in VTEPS[4] if chance.random() < 0.5))


@on_a_host
def test_any_table_can_be_changed_to_any_other() -> None:
    chance, kind = random.Random("20261121 tables"), FdbKind()
    with two_machines() as machines:
        links = [item for item in an_overlay() if not isinstance(item, (Fdb, Neighbours))]

        def turn(found: Fdb, wanted: Fdb) -> Fdb:
            with Host("m0", run_command) as host:
                engine.Engine(host).compare(links)  # so that it knows which namespaces are ours
                kind.change(host, [Operation("change", wanted, found, tuple(kind.differences(wanted, found)))])
                return kind.observe(host, [wanted])[wanted.key].resource

        machines[0].converge(links)
        found = Fdb("ov0", "vx0")
        for _turn in range(50):
            wanted = a_table(chance)
            before, found = found, machines[0].run(turn, found, wanted)
            assert found == wanted, before


HOOK = "type filter hook {} priority filter; policy accept"
RULES = {
    "bridge": Chain("prerouting", HOOK.format("prerouting"), ('iifname "p-a" drop',)),
    "inet": Chain("output", HOOK.format("output"), ("udp dport 9 drop",)),
}


@on_a_host
def test_tables_of_both_families_are_in_a_namespace_before_its_links() -> None:
    with two_machines() as machines:
        machine = machines[0]
        tables = [Nftables("ov0", family, "cnm_m0", "host", chains=(chain,)) for family, chain in RULES.items()]
        wanted = [*an_overlay(), *tables]
        with Host(machine.project, run_command) as host:
            steps = engine.order(machine.operations(wanted), engine.Engine(host)._registry)
        kinds = [step.kind for step in steps]
        assert kinds.index("namespace") < kinds.index("nftables") < kinds.index("link")
        machine.converge(wanted)
        assert 'iifname "p-a" drop' in sh("ip netns exec ov0 nft list table bridge cnm_m0")
        sh("ip netns exec ov0 nft flush ruleset")
        assert machine.converge(wanted) == ["create nftables ov0/bridge cnm_m0", "create nftables ov0/inet cnm_m0"]
        assert unanswered([("a", "10.0.0.3", 56)]) != []
        gone = machine.converge(an_overlay())
        assert gone == ["delete nftables ov0/bridge cnm_m0", "delete nftables ov0/inet cnm_m0"]
        assert sh("ip netns exec ov0 nft list ruleset") == ""
        sh("ip -n a neighbour flush dev eth0")  # it has been asked for in vain
        assert unanswered([("a", "10.0.0.3", 56)]) == []


def test_samples_survive_json() -> None:
    assert encode(an_overlay()[0]) == {"kind": "namespace", "name": "ov0", "role": "network/overlay"}
