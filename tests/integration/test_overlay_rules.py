# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who may send VXLAN of ours, proven with real VXLAN; and what is said where a kernel cannot encrypt it."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from forgery import PORT, heard, rules_about_vxlan, sending, vxlan_frame
from host import compare, converge, on_a_host, run_command, sh
from machines import Machine, everyone, two_machines, unanswered
from overlay_resources import BOXES, VNI, VTEPS, addresses_of, an_overlay

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import LINK_GROUP, OPEN_GROUP
from ansible_collections.cnm.fabric.plugins.module_utils.resources.xfrm import lacking

PROJECT = "rules"
UNDERLAYS = pytest.mark.parametrize("underlay", [4, 6])
NOBODY = 65534


@contextmanager
def a_guarded_overlay(underlay: int = 4) -> Iterator[list[Machine]]:
    """Both machines with the rules; the first has another address, which the second has not heard of."""
    with two_machines() as machines:
        for machine in machines:
            machine.converge(an_overlay(machine.number, BOXES, underlay))
            rules = [rules_about_vxlan(machine, PROJECT, underlay=underlay)]
            machine.run(converge, rules, PROJECT)
            assert machine.run(compare, rules, PROJECT) == []
        length = {4: 24, 6: 64}[underlay]
        machines[0].sh(f"ip address add {VTEPS[underlay][2]}/{length} dev w0 {'nodad' if underlay == 6 else ''}")
        yield machines


def without_the_rules(machine: Machine) -> None:
    machine.sh("nft flush ruleset")


@UNDERLAYS
@on_a_host
def test_vxlan_is_accepted_only_from_known_hosts(underlay: int) -> None:
    with a_guarded_overlay(underlay) as (known, hearer):
        stranger = VTEPS[underlay][2]
        assert unanswered(everyone(BOXES)) == []
        assert heard(hearer, sending(known, underlay=underlay))
        assert not heard(hearer, sending(known, source=stranger, underlay=underlay))
        without_the_rules(hearer)
        assert heard(hearer, sending(known, source=stranger, underlay=underlay))


@UNDERLAYS
@on_a_host
def test_fragments_from_other_hosts_are_dropped(underlay: int) -> None:
    large = b"x" * 1400
    with a_guarded_overlay(underlay) as (known, hearer):
        known.sh("ip link set w0 mtu 1280")
        for source in (VTEPS[underlay][0], VTEPS[underlay][2]):
            send = sending(known, source=source, underlay=underlay, payload=large)
            assert heard(hearer, send, payload=large) == (source == VTEPS[underlay][0])


@on_a_host
def test_a_first_fragment_without_the_vni_is_dropped() -> None:
    with a_guarded_overlay() as (known, hearer):
        stranger = VTEPS[4][2]

        def send() -> None:
            udp = vxlan_frame(VNI, "c")
            udp = struct.pack(">HHHH", 9, 4789, 8 + len(udp), 0) + udp
            ends = socket.inet_aton(stranger) + socket.inet_aton(VTEPS[4][1])
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                for start, end, more in ((0, 8, 0x2000), (8, len(udp), 0)):
                    part = udp[start:end]
                    fields = (0x45, 0, 20 + len(part), 7, more | start // 8, 64, 17, 0)
                    raw.sendto(struct.pack(">BBHHHBBH", *fields) + ends + part, (VTEPS[4][1], 0))

        assert not heard(hearer, lambda: known.run(send))
        without_the_rules(hearer)
        assert heard(hearer, lambda: known.run(send))


@on_a_host
def test_a_host_is_accepted_only_for_its_own_networks() -> None:
    with a_guarded_overlay() as (known, hearer):
        both = rules_about_vxlan(hearer, PROJECT, (VNI, VNI + 1))
        place = f"inet cnm_{PROJECT}"
        hearer.run(converge, [both], PROJECT)
        hearer.sh(f"nft delete element {place} vteps4 \\{{ {VNI} . {VTEPS[4][0]} \\}}")
        assert not heard(hearer, sending(known))


@on_a_host
def test_foreign_vnis_are_not_filtered() -> None:
    with a_guarded_overlay() as (known, hearer):
        hearer.sh("ip link add theirs0 type vxlan id 5000 dstport 4789 nolearning; ip link set theirs0 up")
        send = sending(known, source=VTEPS[4][2], vni=5000)

        def listening() -> socket.socket:
            listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            listener.bind(("theirs0", 3))
            listener.settimeout(1)
            return listener

        with hearer.run(listening) as listener:
            send()
            # the link may have said something of its own before
            assert any(listener.recv(2000).endswith(b"forged") for _frame in range(20))


def a_guest(machine: Machine) -> None:
    """Somebody behind the machine, 198.51.100.2, whom it masquerades."""
    sh("ip netns add guest")
    machine.sh(
        "ip link add g0 type veth peer name g1 netns guest; ip link set g0 up; ip address add 198.51.100.1/24 dev g0;"
        "sysctl -qw net.ipv4.ip_forward=1;"
        "nft add table ip nat; nft add chain ip nat post \\{ type nat hook postrouting priority 100 \\; \\};"
        "nft add rule ip nat post ip saddr 198.51.100.0/24 masquerade"
    )
    sh(
        "ip -n guest link set g1 up; ip -n guest address add 198.51.100.2/24 dev g1;"
        "ip -n guest route add default via 198.51.100.1"
    )


def from_the_guest(target: str) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
            inside.sendto(vxlan_frame(VNI, "c"), (target, 4789))

    with Host(PROJECT, run_command) as host:
        host.run_in("guest", send)


@on_a_host
def test_forged_vxlan_of_a_guest_is_not_masqueraded() -> None:
    with a_guarded_overlay() as (known, hearer):
        a_guest(known)
        assert not heard(hearer, lambda: from_the_guest(VTEPS[4][1]))
        known.sh(f"nft flush chain inet cnm_{PROJECT} overlay_postrouting")
        assert heard(hearer, lambda: from_the_guest(VTEPS[4][1]))
        for group in (LINK_GROUP, OPEN_GROUP):
            known.sh(f"ip link set g0 group {group}")
            assert not heard(hearer, lambda: from_the_guest(VTEPS[4][1])), group


@UNDERLAYS
@on_a_host
def test_a_vtep_is_accepted_only_on_the_link_of_its_route(underlay: int) -> None:
    known_as, heard_at = VTEPS[underlay][:2]
    near, far, length, most = {
        4: ("198.51.100.1", "198.51.100.2", 24, 32),
        6: ("2001:db8:2::1", "2001:db8:2::2", 64, 128),
    }[underlay]
    nodad = "nodad" if underlay == 6 else ""
    with a_guarded_overlay(underlay) as (_known, hearer):
        sh("ip netns add guest")
        hearer.sh(
            "ip link add g0 type veth peer name g1 netns guest; ip link set g0 up;"
            f"ip address add {near}/{length} dev g0 {nodad}"
        )
        sh(
            f"ip -n guest link set g1 up; ip -n guest address add {far}/{length} dev g1 {nodad};"
            f"ip -n guest address add {known_as}/{most} dev g1 {nodad}; ip -n guest route add {heard_at} via {near}"
        )

        def send() -> None:
            with Host(PROJECT, run_command) as host:
                host.run_in("guest", sending_of, known_as, heard_at)

        assert not heard(hearer, send)
        if underlay == 4:
            # One of several ways there is as good as the other.
            hearer.sh("ip route replace 192.0.2.0/24 nexthop dev w1 nexthop dev g0")
            assert heard(hearer, send)
        hearer.sh("ip route flush 192.0.2.0/24; ip route add 192.0.2.0/24 dev w1")
        without_the_rules(hearer)
        assert heard(hearer, send)


def sending_of(source: str, target: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as outside:
        outside.bind((source, 0))
        outside.sendto(vxlan_frame(VNI, "c"), (target, 4789))


@on_a_host
def test_forwarded_vxlan_is_not_filtered() -> None:
    """A machine in front of another fabric, which has the same VNIs."""
    with a_guarded_overlay() as (other, between):
        sh("ip netns add guest")
        between.sh(
            "ip link add g0 type veth peer name g1 netns guest; ip link set g0 up;"
            "ip address add 198.51.100.1/24 dev g0; sysctl -qw net.ipv4.ip_forward=1"
        )
        sh(
            "ip -n guest link set g1 up; ip -n guest address add 198.51.100.2/24 dev g1;"
            "ip -n guest route add default via 198.51.100.1"
        )
        other.sh("ip route add 198.51.100.0/24 via 192.0.2.2")

        def listening() -> socket.socket:
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listener.bind(("0.0.0.0", 4789))
            listener.settimeout(1)
            return listener

        with Host(PROJECT, run_command) as host, host.run_in("guest", listening) as listener:
            sending(other, source=VTEPS[4][2], target="198.51.100.2")()
            assert listener.recv(2000).endswith(b"forged")


def as_nobody(send: str, place: str) -> None:
    sh(f"nsenter --net={place} setpriv --reuid {NOBODY} --clear-groups python3 -c '{send}'")


@on_a_host
def test_local_users_cannot_send_vxlan_but_sandboxes_work() -> None:
    with a_guarded_overlay() as (known, hearer):
        forged = vxlan_frame(VNI, "c").hex()
        udp = 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex("{}"), ("{}", {}))'
        forging = udp.format(forged, VTEPS[4][1], 4789)
        with pytest.raises(AssertionError, match="Operation not permitted"):
            as_nobody(forging, known.place)
        known.sh(f"nft flush chain inet cnm_{PROJECT} overlay_output")
        assert heard(hearer, lambda: as_nobody(forging, known.place))
        known.run(converge, [rules_about_vxlan(known, PROJECT)], PROJECT)
        speaking = udp.format(b"forged".hex(), addresses_of("c")[0], PORT)
        assert heard(hearer, lambda: as_nobody(speaking, "/run/netns/a"))


class TestWithoutEsp:
    """On a kernel that has none, as the one this was written on."""

    @on_a_host
    def test_without_esp_nothing_is_changed_and_the_reason_is_given(self) -> None:
        said = lacking(4)
        if said is None:
            return
        wanted = [rules_about_vxlan(Machine(0), PROJECT, encrypted=(VNI,)), Xfrm("192.0.2.1")]
        with Host(PROJECT, run_command) as host, pytest.raises(engine.EngineError) as error:
            engine.Engine(host).converge(wanted, check=False)
        assert re.match(r"this kernel has no ESP with AES-GCM for IPv4 \(.+\): load its module esp4 \(modprobe ", said)
        assert str(error.value) == f"{said}. Nothing was changed on this host."
        assert sh("nft list ruleset; ip xfrm policy") == ""

    @on_a_host
    def test_the_probe_tests_esp_only_with_a_secret(self) -> None:
        assert entrypoints.probe(PROJECT, False, False, run_command)["no_esp"] == {}
        found = entrypoints.probe(PROJECT, False, False, run_command, encryption=True)["no_esp"]
        assert found == {str(family): said for family in (4, 6) if (said := lacking(family))}
