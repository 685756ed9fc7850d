# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""An encrypted overlay between the two machines on a wire, for tests on a kernel with ESP."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from forgery import SECRET_PORT, rules_about_vxlan
from host import SECRET, keys_for, run_command
from machines import Machine, two_machines, unanswered
from overlay_resources import BOXES, VNI, VTEPS, an_overlay
from sampling import each

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import ENCRYPTED_PORT, request_id
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Operation
from ansible_collections.cnm.fabric.plugins.plugin_utils.networks.encryption import epoch_key, pair_key


def of_an_underlay(test: Callable[..., Any]) -> Callable[..., Any]:
    """The test over IPv4 and over IPv6; by default over one of them, chosen by the test's name."""
    return pytest.mark.parametrize("underlay", each((4, 6), 1, test.__name__))(test)


PROJECT = "esp"
REQID = request_id(PROJECT)
CLEAR = 4098
"""The VNI of a network in clear text beside it."""


def pings(box: str, address: str) -> bool:
    return unanswered([(box, address, 56)]) == []


def the_key(source: str, destination: str, epoch: int = 1, secret: str = SECRET) -> bytes:
    return pair_key(epoch_key(secret, PROJECT, epoch), source, destination)


def the_rules(machine: Machine, underlay: int = 4) -> Nftables:
    return rules_about_vxlan(machine, PROJECT, (VNI, CLEAR), (VNI,), underlay)


def the_encryption(machine: Machine, epoch: int = 1, underlay: int = 4) -> Xfrm:
    vteps = VTEPS[underlay]
    return Xfrm(vteps[machine.number], epoch=epoch, peers=(vteps[1 - machine.number],))


def encrypt(
    machine: Machine, *wanted: Any, keys: int = 1, secret: str = SECRET, check: bool = False
) -> list[Operation[Any]]:
    """A run for what both machines have alike; with nothing wanted all of it goes."""

    def run() -> list[Operation[Any]]:
        with Host(PROJECT, run_command) as host:
            host.pair_keys = keys_for(wanted, PROJECT, keys, secret)
            return engine.Engine(host).converge(wanted, check)

    return machine.run(run)


@contextlib.contextmanager
def an_encrypted_overlay(underlay: int = 4, epoch: int = 1) -> Iterator[list[Machine]]:
    with two_machines() as machines:
        for machine in machines:
            encrypt(machine, the_rules(machine, underlay), the_encryption(machine, epoch, underlay), keys=epoch)
            machine.converge(an_overlay(machine.number, BOXES, underlay, source_port=ENCRYPTED_PORT, port=SECRET_PORT))
        yield machines


@contextlib.contextmanager
def pinging(box: str, address: str, missing: list[int]) -> Iterator[None]:
    """A ping every 10 ms meanwhile; afterwards ``missing`` has the numbers of those that got no answer."""
    command = ["ip", "netns", "exec", box, "ping", "-n", "-i", "0.01", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0]
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", said)}
    missing += sorted(set(range(1, max(answered) + 1)) - answered)
    assert len(answered) > 30


def everything(machine: Machine) -> list[str]:
    return sorted(machine.sh("ip xfrm state; ip xfrm policy").splitlines())
