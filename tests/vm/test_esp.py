# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Encrypted overlays on a kernel with ESP: two machines on a wire that is listened to.

Each machine has its overlay from a project of its own, as in ``machines``; what encrypts it is of one project.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from encrypting import (
    CLEAR,
    PROJECT,
    REQID,
    an_encrypted_overlay,
    encrypt,
    everything,
    of_an_underlay,
    pinging,
    pings,
    the_encryption,
    the_key,
    the_rules,
)
from forgery import SECRET_PORT, heard, sending
from host import SECRET, becomes, compare, converge, keys_for, on_a_host, run_command, sh, snapshot
from machines import Machine, everyone, two_machines, unanswered
from overlay_resources import BOXES, VNI, VTEPS, addresses_of
from test_kinds import DRIFTS, EXTRAS, Never, operations_for

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine, reporting
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.xfrm import (
    ALLOW,
    Policy,
    State,
    XfrmSocket,
    delete_policy,
    delete_state,
    new_policy,
    new_state,
    selector,
    template,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.constants import (
    DEFAULT_MTU,
    ESP_OVERHEAD,
    VXLAN_OVERHEAD,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.esp import security_index
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import ENCRYPTED_PORT
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Operation
from ansible_collections.cnm.fabric.plugins.module_utils.resources.xfrm import XfrmKind
from ansible_collections.cnm.fabric.plugins.plugin_utils.networks.encryption import epoch_key

pytestmark = pytest.mark.vm

HEADER = {4: 20, 6: 40}
PROTOCOL = {4: 23, 6: 20}
"""Where a frame says what is in its IP packet."""


def a_clear_network(machine: Machine, underlay: int) -> None:
    """Another VXLAN between the two, not encrypted; its addresses are 10.9.9.1 and 10.9.9.2, in its own namespace."""
    number, vteps = machine.number, VTEPS[underlay]
    sh(f"ip netns add clear{number}; touch /tmp/clear{number}")
    machine.sh(
        f"ip link add clear0 netns clear{number} type vxlan id {CLEAR} local {vteps[number]} "
        f"remote {vteps[1 - number]} dstport 4789 nolearning"
    )
    sh(f"ip -n clear{number} link set clear0 up; ip -n clear{number} address add 10.9.9.{number + 1}/24 dev clear0")


class Wire:
    """What passes between the two machines."""

    def __init__(self, machine: Machine) -> None:
        self._socket = machine.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        self._socket.bind((f"w{machine.number}", 3))
        self._socket.setblocking(False)

    def frames(self) -> list[bytes]:
        """Those since the last call."""
        result = []
        with contextlib.suppress(BlockingIOError):
            while True:
                result.append(self._socket.recv(65535))
        return result


def kinds_of(frames: Sequence[bytes], underlay: int) -> dict[Any, int]:
    """How many are ESP, and how many are VXLAN of each VNI."""
    found: dict[Any, int] = {}
    for frame in frames:
        (ethertype,) = struct.unpack_from(">H", frame, 12)
        if ethertype != {4: 0x800, 6: 0x86DD}[underlay]:
            continue
        protocol, udp = frame[PROTOCOL[underlay]], 14 + HEADER[underlay]
        if protocol == 50:
            found["ESP"] = found.get("ESP", 0) + 1
        elif protocol == 17 and struct.unpack_from(">H", frame, udp + 2)[0] in (4789, SECRET_PORT):
            vni = int.from_bytes(frame[udp + 12 : udp + 15], "big")
            found[vni] = found.get(vni, 0) + 1
    return found


def indices_of(frames: Sequence[bytes], underlay: int, source: str) -> set[int]:
    """The SPIs of what is ESP and from that address."""
    address, begin = ip_address(source).packed, {4: 26, 6: 22}[underlay]
    esp = 14 + HEADER[underlay]
    return {
        struct.unpack_from(">I", frame, esp)[0]
        for frame in frames
        if frame[PROTOCOL[underlay]] == 50 and frame[begin : begin + len(address)] == address
    }


@of_an_underlay
@on_a_host
def test_the_wire_shows_esp_alone_and_another_network_as_before(underlay: int) -> None:
    with an_encrypted_overlay(underlay) as machines:
        for machine in machines:
            a_clear_network(machine, underlay)
        wire = Wire(machines[1])
        sh(f"ip netns exec a ping -q -n -c 3 -i 0.2 -W 1 -p 5ec4e7 {addresses_of('c')[0]}")
        sh("ip netns exec clear0 ping -q -n -c 3 -i 0.2 -W 1 10.9.9.2")
        frames = wire.frames()
        seen = kinds_of(frames, underlay)
        assert seen["ESP"] >= 6
        assert seen[CLEAR] >= 6
        assert VNI not in seen
        assert not any(b"\x5e\xc4\xe7\x5e\xc4\xe7" in frame for frame in frames)
        assert unanswered(everyone(BOXES)) == []
        for machine in machines:
            wanted = (the_rules(machine, underlay), the_encryption(machine, 1, underlay))
            assert encrypt(machine, *wanted, check=True) == []


@of_an_underlay
@on_a_host
def test_a_packet_as_large_as_the_network_takes_fills_one_of_the_underlay_s(underlay: int) -> None:
    mtu = (DEFAULT_MTU - VXLAN_OVERHEAD[underlay] - ESP_OVERHEAD) // 4 * 4
    with an_encrypted_overlay(underlay) as machines:
        wire = Wire(machines[1])
        for box in ("a", "c"):
            sh(f"ip -n {box} link set eth0 mtu {mtu}")
        address = addresses_of("c")[0]
        assert unanswered([("a", address, mtu - 28)]) == []
        assert unanswered([("a", address, mtu - 27)]) != []
        frames = wire.frames()
        assert set(kinds_of(frames, underlay)) == {"ESP"}
        assert max(map(len, frames)) == 14 + 1500


@of_an_underlay
@on_a_host
def test_without_nftables_it_is_encrypted_all_the_same(underlay: int) -> None:
    with an_encrypted_overlay(underlay) as machines:
        wire = Wire(machines[1])
        for machine in machines:
            machine.sh("nft flush ruleset")
        assert pings("a", addresses_of("c")[0])
        assert set(kinds_of(wire.frames(), underlay)) == {"ESP"}


@of_an_underlay
@on_a_host
def test_to_whom_there_is_no_key_nothing_goes(underlay: int) -> None:
    with an_encrypted_overlay(underlay) as machines:
        wire = Wire(machines[1])
        for machine in machines:
            alone = replace(the_encryption(machine, 1, underlay), peers=())
            (done,) = encrypt(machine, the_rules(machine, underlay), alone)
            assert done.text == "change xfrm overlays (peers)"
        assert not pings("a", addresses_of("c")[0])
        for machine in machines:
            machine.sh("nft flush ruleset")
        assert not pings("a", addresses_of("c")[0])
        assert kinds_of(wire.frames(), underlay) == {}


@of_an_underlay
@on_a_host
def test_what_anybody_sends_in_clear_text_is_not_heard_with_nftables_or_without(underlay: int) -> None:
    with an_encrypted_overlay(underlay) as machines:
        sender, hearer = machines
        stranger = {4: "192.0.2.99", 6: "2001:db8::99"}[underlay]
        sender.sh(f"ip address add {stranger} dev w0 {'nodad' if underlay == 6 else ''}; nft flush ruleset")
        for flushed in (False, True):
            if flushed:
                hearer.sh("nft flush ruleset")
            for source in ("", stranger):
                assert not heard(hearer, sending(sender, source=source, underlay=underlay, to_port=SECRET_PORT))
                # Where it would be heard if the kernel did not tell the ports of VXLAN apart.
                assert not heard(hearer, sending(sender, source=source, underlay=underlay))
            # From the port that is encrypted it is what a peer says.
            assert heard(hearer, sending(sender, underlay=underlay, port=ENCRYPTED_PORT, to_port=SECRET_PORT))
        sender.sh("ip xfrm policy flush")
        for source in ("", stranger):
            forged = sending(sender, source=source, underlay=underlay, port=ENCRYPTED_PORT, to_port=SECRET_PORT)
            assert not heard(hearer, forged)
        hearer.sh("ip xfrm policy flush")
        assert heard(hearer, sending(sender, underlay=underlay, to_port=SECRET_PORT))


@on_a_host
def test_other_networks_and_what_passes_through_are_not_asked_for_encryption() -> None:
    """A network in clear text, a stranger's VXLAN to the same port on its way through, and an answer to a socket."""
    with an_encrypted_overlay() as machines:
        for machine in machines:
            a_clear_network(machine, 4)
        sh("ip netns exec clear0 ping -q -n -c 3 -i 0.2 -W 1 10.9.9.2")
        one, router = machines
        sh(
            "touch /tmp/far; unshare --net=/tmp/far true; nsenter --net=/tmp/machine1 ip link add to-far type veth "
            "peer name w netns /proc/self/fd/9 9</tmp/far"
        )
        router.sh("ip link set to-far up; ip address add 203.0.113.1/24 dev to-far; sysctl -qw net.ipv4.ip_forward=1")
        sh(
            "nsenter --net=/tmp/far sh -ec 'ip link set w up; ip address add 203.0.113.2/24 dev w;"
            "ip route add default via 203.0.113.1'"
        )
        one.sh(f"ip route add 203.0.113.0/24 via {VTEPS[4][1]}")
        with machines_socket("/tmp/far") as far, machines_socket(one.place) as near:
            far.bind(("203.0.113.2", SECRET_PORT))
            near.bind((VTEPS[4][0], 40000))
            near.sendto(b"there", ("203.0.113.2", SECRET_PORT))
            said, back = far.recvfrom(100)
            assert (said, back) == (b"there", (VTEPS[4][0], 40000))
            far.sendto(b"back", back)
            assert near.recv(100) == b"back"


@contextlib.contextmanager
def machines_socket(place: str) -> Iterator[socket.socket]:
    with namespaces.run(place, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(2)
        yield opened


@on_a_host
def test_two_projects_on_a_host_have_ports_of_their_own() -> None:
    """What is the one's is neither wanted nor spoilt by the other; on the same port they are told apart by name."""
    with two_machines() as (machine, _other):
        mine = the_encryption(machine)
        theirs = replace(mine, port=SECRET_PORT + 1)

        def run(project: str, *wanted: Xfrm) -> list[str]:
            with Host(project, run_command) as host:
                host.pair_keys = keys_for(wanted, project)
                return [item.text for item in engine.Engine(host).converge(wanted, check=False)]

        for project, item in ((PROJECT, mine), ("other", theirs)):
            assert machine.run(run, project, item) == ["create xfrm overlays"]
        for project, item in ((PROJECT, mine), ("other", theirs)):
            assert machine.run(run, project, item) == []
        with pytest.raises(engine.EngineError, match=r"is not this project's .* another cnm_data_path_port"):
            machine.run(run, "third", mine)
        assert machine.run(run, "other") == ["delete xfrm overlays"]
        assert machine.run(run, PROJECT, mine) == []
        assert machine.run(run, PROJECT) == ["delete xfrm overlays"]
        assert machine.sh("ip xfrm state; ip xfrm policy") == ""


@of_an_underlay
@on_a_host
def test_what_somebody_else_s_keys_have_encrypted_is_not_heard(underlay: int) -> None:
    """As clients of a VPN on the same host have some."""
    with an_encrypted_overlay(underlay) as machines:
        sender, hearer = machines
        sender.sh("nft flush ruleset")
        here, there = VTEPS[underlay][0], VTEPS[underlay][1]
        chosen = selector(here, there, 51, SECRET_PORT)
        state = State(here, there, 0x1234, 99, chosen, bytes(20))
        policy = Policy(chosen, ALLOW, 0, (template(here, there, 0x1234, 99),))

        def add(messages: Sequence[Any]) -> None:
            with XfrmSocket() as xfrm:
                xfrm.send(messages)

        sender.run(add, [new_state(state), new_policy(policy)])
        hearer.run(add, [new_state(state)])
        assert not heard(hearer, sending(sender, underlay=underlay, port=51, to_port=SECRET_PORT))
        hearer.sh("nft flush ruleset")
        assert not heard(hearer, sending(sender, underlay=underlay, port=51, to_port=SECRET_PORT))
        hearer.sh("ip xfrm policy flush")
        assert heard(hearer, sending(sender, underlay=underlay, port=51, to_port=SECRET_PORT))
        for machine in machines:
            encrypt(machine)
            assert "0x00001234" in machine.sh("ip xfrm state")
            assert str(REQID) not in machine.sh("ip xfrm state; ip xfrm policy")


@of_an_underlay
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@on_a_host
def test_a_rotation_loses_no_packet_whoever_goes_first(underlay: int, order: tuple[int, int]) -> None:
    missing: list[int] = []
    with an_encrypted_overlay(underlay) as machines:
        assert pings("a", addresses_of("c")[0])
        with pinging("a", addresses_of("c")[0], missing):
            for epoch in (2, 3, 4):
                for number in order:
                    time.sleep(0.3)
                    wanted = (the_rules(machines[number], underlay), the_encryption(machines[number], epoch, underlay))
                    (done,) = encrypt(machines[number], *wanted, keys=epoch)
                    assert done.text == "change xfrm overlays (epoch)"
            time.sleep(0.3)
    assert missing == []


@of_an_underlay
@on_a_host
def test_after_a_rotation_nothing_goes_on_with_the_old_key(underlay: int) -> None:
    """Packets that are under way while policies are replaced (several, each makes the next packets look again)."""
    local, peer = VTEPS[underlay][:2]
    others = tuple({4: f"198.51.100.{number}", 6: f"2001:db8:9::{number}"}[underlay] for number in range(1, 6))
    with an_encrypted_overlay(underlay) as machines, contextlib.ExitStack() as flood:
        for _flood in range(3):
            command = ["ip", "netns", "exec", "a", "ping", "-q", "-f", addresses_of("c")[0]]
            process = flood.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            flood.callback(process.send_signal, signal.SIGINT)
        wire, kind = Wire(machines[1]), XfrmKind()

        def rotate(epoch: int) -> None:
            with Host(PROJECT, run_command) as host:
                item = Xfrm(local, epoch=epoch, peers=(*others, peer))
                host.pair_keys = keys_for([item], PROJECT, 1) | keys_for([item], PROJECT, 2)
                kind.create(host, [item])

        heard_of, until = 0, time.monotonic() + 20
        while time.monotonic() < until:
            for epoch in (2, 1):
                machines[0].run(rotate, epoch)
                time.sleep(0.02)
                wire.frames()
                time.sleep(0.02)
                seen = indices_of(wire.frames(), underlay, local)
                heard_of += len(seen)
                assert seen <= {security_index(PROJECT, local, epoch)}
        assert heard_of > 10


@on_a_host
def test_what_ip_shows_is_what_was_meant() -> None:
    with two_machines() as (machine, _other):
        encrypt(machine, the_encryption(machine))
        here, there = VTEPS[4][:2]
        states = machine.sh("ip xfrm state")
        for source, destination, epochs in ((there, here, (0, 1, 2)), (here, there, (0, 1))):
            for epoch in epochs:
                key = the_key(source, destination, epoch).hex()
                spi = security_index(PROJECT, source, epoch)
                text = (
                    f"src {source} dst {destination}\n\tproto esp spi {spi:#010x} reqid {REQID} mode transport\n"
                    f"\treplay-window 0 \n\taead rfc4106(gcm(aes)) 0x{key} 128\n"
                    "\tanti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000\n"
                    f"\tsel src {source}/32 dst {destination}/32 proto 17 sport {ENCRYPTED_PORT} dport {SECRET_PORT} \n"
                )
                assert text in states
        assert states.count("spi") == 5
        spi = security_index(PROJECT, here, 1)
        ports = f"proto 17 sport {ENCRYPTED_PORT} dport {SECRET_PORT}"
        policies = machine.sh("ip xfrm policy")
        assert (
            f"src {here}/32 dst {there}/32 {ports} \n\tdir out priority 0 ptype main \n"
            f"\ttmpl src {here} dst {there}\n\t\tproto esp spi {spi:#010x} reqid {REQID} mode transport\n"
        ) in policies
        assert (
            f"src {there}/32 dst {here}/32 {ports} \n\tdir in priority 0 ptype main \n"
            f"\ttmpl src {there} dst {here}\n\t\tproto esp reqid {REQID} mode transport\n"
        ) in policies
        assert f"src 0.0.0.0/0 dst 0.0.0.0/0 {ports} \n\tdir out action block priority 1 ptype main \n" in policies
        ports = f"proto 17 dport {SECRET_PORT}"
        assert f"src 0.0.0.0/0 dst 0.0.0.0/0 {ports} \n\tdir in action block priority 1 ptype main \n" in policies
        with machine.run(XfrmSocket) as xfrm:
            assert len(xfrm.states()) == 5
            assert len(xfrm.policies()) == 4
            xfrm.send([delete_policy(item) for item in xfrm.policies()])
            xfrm.send([delete_state(item) for item in xfrm.states()])
            assert (xfrm.states(), xfrm.policies()) == ([], [])


def shown(operations: Sequence[Operation[Any]]) -> str:
    """Whatever of a run is reported, logged or put in a file."""
    said = [str(reporting.report(operations)), str(reporting.diff(operations)), repr(operations)]
    return " ".join([*said, *(operation.text for operation in operations)])


SPOILING = {
    "no policy to encrypt": "ip xfrm policy delete src {here} dst {there} {ours} dir out",
    "no policy that blocks sending": "ip xfrm policy delete src 0.0.0.0/0 dst 0.0.0.0/0 {ours} dir out",
    "no policy that requires encryption": "ip xfrm policy delete src {there} dst {here} {ours} dir in",
    "no policy that blocks clear text": "ip xfrm policy delete src 0.0.0.0/0 dst 0.0.0.0/0 {all} dir in",
    "another policy that blocks clear text": (
        "ip xfrm policy update src 0.0.0.0/0 dst 0.0.0.0/0 {all} dir in priority 1 action allow "
        "tmpl src {here} dst 0.0.0.0 proto esp reqid {reqid} mode transport level use"
    ),
    "another policy to encrypt": (
        "ip xfrm policy update src {here} dst {there} {ours} dir out priority 0 action block "
        "tmpl src {here} dst {there} proto esp spi {out} reqid {reqid} mode transport"
    ),
    "no key to send in epoch 1": "ip xfrm state delete src {here} dst {there} proto esp spi {out}",
    "no key to receive in epoch 2": "ip xfrm state delete src {there} dst {here} proto esp spi {heard2}",
    "another key to receive in epoch 2": (
        "ip xfrm state delete src {there} dst {here} proto esp spi {heard2}; ip xfrm state add src {there} dst {here} "
        "proto esp spi {heard2} reqid {reqid} mode transport aead 'rfc4106(gcm(aes))' 0x{zeros}01 128"
    ),
    "a worn key to send in epoch 1": (
        "ip xfrm state delete src {here} dst {there} proto esp spi {out}; ip xfrm state add src {here} dst {there} "
        "proto esp spi {out} reqid {reqid} mode transport replay-oseq 0x80000000 aead 'rfc4106(gcm(aes))' 0x{key} 128 "
        "sel src {here} dst {there} {ours}"
    ),
    "a key that is not planned (SPI 0x777)": (
        "ip xfrm state add src {here} dst {there} proto esp spi 0x777 reqid {reqid} mode transport "
        "aead 'rfc4106(gcm(aes))' 0x{zeros}02 128"
    ),
    "a policy that is not planned": (
        "ip xfrm policy add src {here} dst {there} {all} sport 51 dir out "
        "tmpl src {here} dst {there} proto esp reqid {reqid} mode transport"
    ),
}


@on_a_host
def test_what_is_spoilt_is_named_and_mended() -> None:
    here, there = VTEPS[4][:2]
    key = the_key(here, there).hex()
    words = {
        "here": here,
        "there": there,
        "reqid": REQID,
        "out": f"{security_index(PROJECT, here, 1):#x}",
        "heard2": f"{security_index(PROJECT, there, 2):#x}",
        "zeros": "0" * 38,
        "ours": f"proto 17 sport {ENCRYPTED_PORT} dport {SECRET_PORT}",
        "all": f"proto 17 dport {SECRET_PORT}",
        "key": key,
    }
    with two_machines() as (machine, _other):
        wanted = the_encryption(machine)
        encrypt(machine, wanted)
        before = everything(machine)
        for flaw, harm in SPOILING.items():
            command = ["nsenter", f"--net={machine.place}", "sh", "-ec", harm.format(**words)]
            subprocess.run(command, check=True)
            done = encrypt(machine, wanted)
            (difference,) = done[0].differences
            assert difference.attribute == "flaws", flaw
            assert [text.split(": ", 1)[1] for text in difference.found] == [flaw]
            assert encrypt(machine, wanted, check=True) == [], flaw
            assert everything(machine) == before, flaw
            assert key[:12] not in shown(done)


@on_a_host
def test_no_key_is_shown_or_left_anywhere() -> None:
    with two_machines() as (machine, _other):
        operations = encrypt(machine, the_encryption(machine))
        operations += encrypt(machine, the_encryption(machine, 2), keys=2)
        operations += encrypt(machine, the_encryption(machine, 2), keys=2, secret="another " + SECRET)
        assert [item.text for item in operations] == [
            "create xfrm overlays",
            "change xfrm overlays (epoch)",
            "change xfrm overlays (flaws)",
        ]
        ends, both = VTEPS[4][:2], (SECRET, "another " + SECRET)
        keys = {epoch_key(secret, PROJECT, epoch) for epoch in range(4) for secret in both}
        ways = [(*way, epoch, secret) for way in (ends, ends[::-1]) for epoch in range(4) for secret in both]
        pairs = {the_key(*way) for way in ways}
        secrets = [form for key in keys | pairs for form in (key.hex(), str(key)[2:-1], repr(list(key))[1:-1])]
        said = shown(operations)
        for path in [*Path("/run/cnm").rglob("*"), *Path("/var/lib/cnm").rglob("*")]:
            if path.is_file():
                said += path.read_text(encoding="utf-8", errors="replace")
        said += sh("cat /proc/*/cmdline /proc/*/environ 2>/dev/null | tr '\\0' ' '")
        assert not any(secret in said for secret in secrets)
        assert any(pair.hex() in machine.sh("ip xfrm state") for pair in pairs)


class _Broken(engine.EngineError):
    """What a test breaks a run with."""


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """The first step of the kind fails when its work is done."""
    original, failed = engine.Engine._run_step, False

    def take(self: engine.Engine, step: engine.Step) -> None:
        nonlocal failed
        original(self, step)
        if step.kind == "xfrm" and not failed:
            failed = True
            raise _Broken("broken by the test")

    engine.Engine._run_step = take  # type: ignore[method-assign]
    try:
        yield
    finally:
        engine.Engine._run_step = original  # type: ignore[method-assign]


@on_a_host
def test_a_run_that_fails_leaves_the_keys_that_were_there() -> None:
    with two_machines() as (machine, _other):
        first, second = the_encryption(machine), the_encryption(machine, 2)
        for before, after in (([], [first]), ([first], [second]), ([first], [])):
            encrypt(machine, *before)
            said = everything(machine)
            with broken(), pytest.raises(engine.EngineError, match="The changes of this run were undone"):
                encrypt(machine, *after, keys=2 if second in after else 1)
            assert everything(machine) == said


@on_a_host
def test_what_is_not_the_project_s_is_refused_by_name() -> None:
    with two_machines() as (machine, _other):
        here, there = VTEPS[4][:2]
        ours = f"src {here} dst {there} proto 17 sport 50 dport {SECRET_PORT} dir out"
        machine.sh(f"ip xfrm policy add {ours} tmpl src {here} dst {there} proto esp reqid 7 mode transport")
        with pytest.raises(engine.EngineError, match=r"the IPsec policy .* is not this project's.*Nothing was changed"):
            encrypt(machine, the_encryption(machine))
        assert machine.sh("ip xfrm state") == ""
        spi = security_index(PROJECT, there, 1)
        machine.sh(
            f"ip xfrm policy flush; ip xfrm state add src {there} dst {here} proto esp spi {spi:#x} reqid 7 "
            f'mode transport aead "rfc4106(gcm(aes))" 0x{bytes(20).hex()} 128'
        )
        with pytest.raises(engine.EngineError, match=r"the ESP state .* is not this project's.*Nothing was changed"):
            encrypt(machine, the_encryption(machine))
        assert machine.sh("ip xfrm policy") == ""


@on_a_host
def test_the_keys_have_to_come_along() -> None:
    with (
        two_machines() as (machine, _other),
        pytest.raises(engine.EngineError, match=r"the keys .* were not sent"),
    ):
        encrypt(machine, the_encryption(machine, 5), keys=1)


@on_a_host
def test_a_peer_whose_keys_did_not_come_is_named_and_nothing_is_changed() -> None:
    with two_machines() as (machine, _other):
        encrypt(machine, the_encryption(machine))
        before = everything(machine)
        more = replace(the_encryption(machine), peers=(VTEPS[4][1], VTEPS[4][2]))

        def run() -> None:
            with Host(PROJECT, run_command) as host:
                host.pair_keys = keys_for([the_encryption(machine)], PROJECT)
                engine.Engine(host).converge([more], check=False)

        with pytest.raises(engine.EngineError, match=rf"networks for {re.escape(VTEPS[4][2])} were not sent: run"):
            machine.run(run)
        assert everything(machine) == before


@on_a_host
def test_a_run_about_something_else_needs_no_keys() -> None:
    with two_machines() as (machine, _other):
        encrypt(machine, the_encryption(machine))

        def run() -> list[str]:
            with Host(PROJECT, run_command) as host:
                wanted = [the_encryption(machine), the_rules(machine)]
                return [item.text for item in engine.Engine(host).converge(wanted, check=False)]

        assert machine.run(run) == [f"create nftables inet cnm_{PROJECT}"]


@pytest.mark.whole
@on_a_host
def test_what_may_happen_to_any_kind_is_seen_and_repaired() -> None:
    """The kind's part in ``test_kinds``, which outside leaves it out."""
    setup, sample = EXTRAS["xfrm"]
    sh(setup)
    wanted = [sample()]
    converge(wanted)
    whole = snapshot()
    for attribute in (spec.name for spec in fields(Xfrm)):
        drift = DRIFTS["xfrm"][attribute]
        if isinstance(drift, Never):
            continue
        sh(drift.harm)
        found = [item.attribute for operation in operations_for(wanted) for item in operation.differences]
        assert attribute in found, attribute
        assert converge(wanted)
        assert compare(wanted) == []
        becomes(whole)


@on_a_host
def test_the_probe_finds_nothing_missing() -> None:
    assert entrypoints.probe(PROJECT, False, False, run_command, encryption=True)["no_esp"] == {}


@pytest.mark.whole
@on_a_host
def test_hundreds_of_peers_come_and_go() -> None:
    peers = tuple(f"10.{number // 250}.{number % 250}.1" for number in range(300))
    with two_machines() as (machine, _other):
        for epoch in (1, 2):
            encrypt(machine, Xfrm("192.0.2.1", epoch=epoch, peers=peers), keys=epoch)
            assert machine.sh("ip xfrm state").count("proto esp") == 5 * len(peers)
        encrypt(machine)
        assert machine.sh("ip xfrm state; ip xfrm policy") == ""
