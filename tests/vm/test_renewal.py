# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Keys that wear out: a tenant sends until the numbers of one are used up, and nobody notices."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from encrypting import (
    PROJECT,
    REQID,
    an_encrypted_overlay,
    encrypt,
    of_an_underlay,
    pinging,
    pings,
    the_encryption,
    the_key,
    the_rules,
)
from forgery import SECRET_PORT
from host import on_a_host, sh
from machines import Machine, two_machines
from overlay_resources import VTEPS, addresses_of

from ansible_collections.cnm.fabric.plugins.module_utils import renewal
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import processes
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.xfrm import State, XfrmSocket
from ansible_collections.cnm.fabric.plugins.module_utils.plan.esp import security_index
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import ENCRYPTED_PORT

pytestmark = pytest.mark.vm

LEFT = 600
"""Sequence numbers that a worn state has left."""


def wear(machine: Machine, underlay: int = 4, left: int = LEFT) -> None:
    """Put the state that the machine sends with where it is after nearly all packets; the kernel speaks soon."""
    here, there = VTEPS[underlay][machine.number], VTEPS[underlay][1 - machine.number]
    ends, spi = f"src {here} dst {there}", f"{security_index(PROJECT, here, 1):#x}"
    machine.sh(
        f"ip xfrm state delete {ends} proto esp spi {spi}; ip xfrm state add {ends} proto esp spi {spi} reqid {REQID} "
        f'mode transport replay-oseq {2**32 - left:#x} aead "rfc4106(gcm(aes))" 0x{the_key(here, there).hex()} 128 '
        f"sel {ends} proto 17 sport {ENCRYPTED_PORT} dport {SECRET_PORT} limit packet-soft 50"
    )


def sending_state(machine: Machine, underlay: int = 4) -> State:
    here, there = VTEPS[underlay][machine.number], VTEPS[underlay][1 - machine.number]
    spi = security_index(PROJECT, here, 1)
    with machine.run(XfrmSocket) as xfrm:
        (found,) = (item for item in xfrm.states() if (item.destination, item.spi) == (there, spi))
        return found


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def flood(packets: int) -> None:
    """Some 500 packets a second on any machine, as what a worn key has left lasts about one."""
    command = ["ip", "netns", "exec", "b", "ping", "-q", "-i", "0.002", "-c", str(packets), addresses_of("d")[0]]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def renewer(machine: Machine) -> int:
    found = machine.run(renewal._process, PROJECT)
    assert found is not None
    return found.pid


@of_an_underlay
@on_a_host
def test_a_tenant_who_uses_up_a_key_stops_nobody_and_no_packet_is_lost(underlay: int) -> None:
    missing: list[int] = []
    with an_encrypted_overlay(underlay) as machines:
        wear(machines[0], underlay)
        with pinging("a", addresses_of("c")[0], missing):
            flood(3 * LEFT)
        worn = sending_state(machines[0], underlay)
        assert worn.sent < renewal.WORN
        assert worn.limit == renewal.LOOK
        wanted = (the_rules(machines[0], underlay), the_encryption(machines[0], 1, underlay))
        assert encrypt(machines[0], *wanted, check=True) == []
    assert missing == []


@on_a_host
def test_without_the_process_it_is_an_outage_until_the_next_run() -> None:
    """What a tenant could force before there was one; that it is gone is drift like any other."""
    with an_encrypted_overlay() as machines:
        os.kill(renewer(machines[0]), signal.SIGSTOP)
        assert until(lambda: not machines[0].run(renewal.is_running, PROJECT))
        wear(machines[0])
        flood(2 * LEFT)
        assert not pings("a", addresses_of("c")[0])
        (done,) = encrypt(machines[0], the_rules(machines[0]), the_encryption(machines[0]))
        (difference,) = done.differences
        assert difference.found == [
            f"{VTEPS[4][1]}: a worn key to send in epoch 1",
            "this host: no process that renews its keys",
        ]
        assert pings("a", addresses_of("c")[0])
        wear(machines[0])
        flood(2 * LEFT)
        assert pings("a", addresses_of("c")[0])


@on_a_host
def test_what_is_not_worn_yet_is_looked_at_again_later() -> None:
    with an_encrypted_overlay() as machines:
        wear(machines[0], left=2**32 - 1000)
        assert sending_state(machines[0]).limit == 50
        flood(100)
        assert until(lambda: sending_state(machines[0]).limit > renewal.LOOK)
        state = sending_state(machines[0])
        assert 50 <= state.limit - renewal.LOOK <= state.packets
        assert state.sent > 1000


@on_a_host
def test_a_run_and_the_process_never_work_at_the_same_time() -> None:
    """While another run holds the host's lock nothing is made anew, afterwards it is."""
    with an_encrypted_overlay() as machines:
        with renewal.locked("the test", 5):
            wear(machines[0])
            flood(100)
            time.sleep(1)
            assert sending_state(machines[0]).sent > renewal.WORN
        assert until(lambda: sending_state(machines[0]).sent < renewal.WORN)


@on_a_host
def test_the_process_has_nothing_that_is_not_its_own_and_goes_with_the_last_network() -> None:
    with two_machines() as machines:
        for machine in machines:
            encrypt(machine, the_encryption(machine))
        pids = [renewer(machine) for machine in machines]
        assert len(set(pids)) == 2
        for machine, pid in zip(machines, pids):
            opened = sorted(os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd"))
            assert opened[:3] == ["/dev/null"] * 3
            assert {text.split(":")[0] for text in opened[3:]} == {"socket"}
            assert sh(f"cat /proc/{pid}/environ") == ""
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            said = sh(f"cat /proc/{pid}/cmdline | tr '\\0' ' '")
            assert said.endswith(f" {PROJECT} ")
            assert the_key(*VTEPS[4][:2]).hex() not in said
            assert sh(f"stat -c %a:%U /run/cnm/{PROJECT}/renewal-*.json").split() == ["600:root"] * 2
            assert encrypt(machine, the_encryption(machine)) == []
        assert [renewer(machine) for machine in machines] == pids
        encrypt(machines[0])
        assert not machines[0].run(renewal.is_running, PROJECT)
        assert renewer(machines[1]) == pids[1]
        machines[1].sh("ip xfrm policy flush; ip xfrm state flush")
        assert [item.text for item in encrypt(machines[1])] == ["delete xfrm overlays"]
        assert not any(map(processes.read, pids))
        assert sh("find /run/cnm -name 'renewal*'") == ""


@on_a_host
def test_a_process_that_took_the_number_of_ours_is_not_ours() -> None:
    with two_machines() as (machine, _other):
        encrypt(machine, the_encryption(machine))
        with subprocess.Popen(["nsenter", f"--net={machine.place}", "sleep", "60"]) as stranger:
            sh(f'sed -i \'s/"pid": {renewer(machine)}/"pid": {stranger.pid}/\' /run/cnm/{PROJECT}/renewal-*.json')
            assert not machine.run(renewal.is_running, PROJECT)
            encrypt(machine)
            assert stranger.poll() is None
            stranger.kill()
