# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Limits and emulated links of endpoints, by packets; what takes netem or a policer is in tests/vm."""

from __future__ import annotations

import re
from typing import Any

import pytest
from host import becomes, compare, converge, on_a_host, resources_of, sh, snapshot

from ansible_collections.cnm.fabric.plugins.module_utils.engine.engine import EngineError
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource

# Octets of UDP payload that get through in a second, however many are sent.
RECEIVE = (
    "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 7)); s.settimeout(5);"
    "n = len(s.recv(9000)); t = time.monotonic(); s.settimeout(0.2)\n"
    "while time.monotonic() < t + 1:\n"
    "    try: n += len(s.recv(9000))\n"
    "    except socket.timeout: pass\n"
    "print(n)"
)
SEND = (
    "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); t = time.monotonic()\n"
    "while time.monotonic() < t + 2:\n"
    "    try: s.sendto(bytes(1200), ('{address}', 7))\n"
    "    except OSError: pass"
)


def octets_through(sender: str, receiver: str, address: str) -> int:
    """How much UDP gets from one sandbox to another in a second."""
    receive = f'ip netns exec {receiver} python3 -c "{RECEIVE}"'
    send = f'ip netns exec {sender} python3 -c "{SEND.format(address=address)}"'
    return int(sh(f"{send} & {receive}; wait").split()[-1])


def shaped(**options: Any) -> tuple[Resource, ...]:
    """c1 with these options of its endpoint, and c2, on one bridge."""
    return resources_of(
        {"c1": {"networks": {"front": {"ipv4_address": "10.0.0.11", **options}}}, "c2": {"networks": ["front"]}}
    )


@on_a_host
def test_a_sandbox_gets_no_more_than_its_limit_from_others_and_from_the_host() -> None:
    before = snapshot()
    converge(shaped())
    free = octets_through("c2", "c1", "10.0.0.11")
    converge(shaped(limits={"ingress": "8mbit"}))
    assert compare(shaped(limits={"ingress": "8mbit"})) == []
    limited = octets_through("c2", "c1", "10.0.0.11")
    # What passes at once comes on top.
    assert 0.7e6 < limited < 1.3e6 < free
    assert octets_through("c1", "c2", "10.0.0.2") > 1.3e6
    converge(shaped())
    assert octets_through("c2", "c1", "10.0.0.11") > 1.3e6
    converge(())
    becomes(before)


@on_a_host
def test_another_s_discipline_on_the_port_is_left_alone_and_named() -> None:
    converge(shaped())
    port = re.findall(r"\d+: ([^:@]+)@", sh("ip -o link show type veth"))[0]
    sh(f"tc qdisc add dev {port} root tbf rate 1mbit burst 10kb latency 9ms")
    assert compare(shaped()) == []
    limits = {"limits": {"ingress": "8mbit"}}
    wanted = resources_of({"c1": {"networks": {"front": limits}}, "c2": {"networks": {"front": limits}}})
    with pytest.raises(EngineError, match=r"not created by this project: shaping c[12]/eth0"):
        converge(wanted)
    assert "rate 1Mbit" in sh(f"tc qdisc show dev {port}")


@on_a_host
def test_what_the_kernel_lacks_undoes_the_run() -> None:
    if not sh("tc qdisc add dev lo root netem delay 1ms 2>&1 && tc qdisc delete dev lo root || :"):
        pytest.skip("this kernel has netem")
    converge(shaped())
    whole = snapshot()
    with pytest.raises(EngineError, match="qdisc kind is unknown"):
        converge(shaped(netem={"delay": "20ms"}, limits={"ingress": "8mbit"}))
    becomes(whole)
