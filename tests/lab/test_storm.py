# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Everybody sends to everybody, without a pause, while runs come and go and somebody flushes the ruleset.

What may not be heard is not heard at any moment; a control in the same storm is.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fleet import Fleet
from forging import FORGE, python
from lab import Lab
from sampling import WHOLE

SECONDS = 120 if WHOLE else 12
PORT = 7777
_BRIDGE = "com.docker.network.bridge.name"
NETWORKS: dict[str, Any] = {
    name: {"subnet": [f"10.9.{number}.0/24", f"fd09:{number}::/64"], "driver_opts": {_BRIDGE: f"br-{name}"}, **more}
    for number, (name, more) in enumerate({"front": {}, "back": {}, "inner": {"internal": True}}.items(), 1)
}
BOXES: dict[str, Any] = {f"{name}{number}": {"networks": [name]} for name in NETWORKS for number in (1, 2)}
OVERLAY = {"driver": "overlay", "subnet": "10.9.9.0/24"}
ADDRESSES = {
    f"{name}{number}": (f"10.9.{place}.{number + 1}", f"fd09:{place}::{number + 1}")
    for place, name in enumerate(NETWORKS, 1)
    for number in (1, 2)
}

# A namespace can be replaced meanwhile: whoever listens or sends begins anew in the one that has the name now.
_AGAIN = r"""
import subprocess, sys, time
ends, sandbox, script, *arguments = sys.argv[1:]
while time.time() < float(ends):
    inside = ["ip", "netns", "exec", sandbox] if sandbox else []
    done = subprocess.run([*inside, "/usr/bin/python3", "-c", script, ends, *arguments],
                          capture_output=True, text=True, timeout=60)
    sys.stdout.write(done.stdout)
    time.sleep(0.02)
"""
_LISTEN = r"""
import select, socket, sys, time
ends, port, *addresses = sys.argv[1:]
until, opened, heard = min(float(ends), time.time() + 3), [], set()
for address in addresses:
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if ":" in address:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.bind((address, int(port)))
    opened.append(one)
while (left := until - time.time()) > 0:
    for one in select.select(opened, [], [], left)[0]:
        heard.add(one.recv(200).decode())
print("\n".join(sorted(heard)))
"""
# Each target in its own name; and to the gateway's MAC address in the names of others.
_SEND = (
    FORGE
    + r"""
import json, time
ends, who, port, mac, *lists = sys.argv[1:]
targets, names, own = map(json.loads, lists)
until = min(float(ends), time.time() + 3)
plain = {f: socket.socket(f, socket.SOCK_DGRAM) for f in (socket.AF_INET, socket.AF_INET6)}
for one in plain.values():
    one.setblocking(False)
while time.time() < until:
    for target in targets:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        said = f"{who} to {target}".encode()
        try:
            plain[family].sendto(said, (target, int(port)))
        except OSError:
            pass
        for name in names:
            if (":" in name) == (":" in target):
                said = f"{who} to {target}".encode() if name in own else f"{who} as {name} to {target}".encode()
                try:
                    frame(mac, name, target, struct.pack("!HHHH", 9, int(port), 8 + len(said), 0) + said)
                except OSError:
                    pass
    time.sleep(0.01)
"""
)

# A local user's socket, which the kernel sends from in the host's own name.
_TUNNEL = (
    FORGE
    + r"""
import os, time
ends, vtep, vni, mac, target, port = sys.argv[1:]
os.setuid(65534)
said = b"user"
inner = made(mac, "02:42:0a:09:09:02", "10.9.9.2", target, struct.pack("!HHHH", 9, int(port), 8 + len(said), 0) + said)
opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
until = min(float(ends), time.time() + 3)
while time.time() < until:
    try:
        opened.sendto(struct.pack("!II", 8 << 24, int(vni) << 8) + inner, (vtep, 4789))
    except OSError:
        pass
    time.sleep(0.01)
"""
)


class Storm:
    """Listeners everywhere and senders that aim at all of them, for some seconds."""

    def __init__(self, world: Fleet, seconds: float) -> None:
        self._world = world
        self._ends = time.time() + seconds
        self._listening = {box: self._start("node1", box, _LISTEN, PORT, "0.0.0.0", "::") for box in ADDRESSES}
        self._listening["the host's loopback"] = self._start("node1", "", _LISTEN, PORT, "127.0.0.1")
        self._listening["overlay2"] = self._start("node2", "overlay2", _LISTEN, PORT, "0.0.0.0")
        self._listening["the neighbour"] = self._start("node2", "", _LISTEN, PORT, "0.0.0.0", "::")
        every = [address for pair in ADDRESSES.values() for address in pair]
        lab = world.lab
        neighbour = [lab.address("node2", family) for family in (4, 6)]
        targets = json.dumps([*every, *neighbour, "127.0.0.1"])
        names = json.dumps([*every, *neighbour, "127.0.0.1", "192.0.2.7"])
        for box in ("front2", "back2", "inner2"):
            mac = world.sh("node1", f"cat /sys/class/net/br-{box[:-1]}/address").strip()
            self._start("node1", box, _SEND, box, PORT, mac, targets, names, json.dumps(ADDRESSES[box]))
        mac = world.sh("node1", "cat /sys/class/net/eth0/address").strip()
        self._start("node2", "", _SEND, "neighbour", PORT, mac, targets, names, json.dumps(neighbour))

        inside = "ip netns exec overlay2 ip -j address show eth0"
        (link,) = json.loads(world.sh("node2", inside))
        target = link["addr_info"][0]["local"]
        self._start("node1", "", _TUNNEL, neighbour[0], 4096, link["address"], target, PORT)
        self._start("node1", "overlay1", _SEND, "overlay1", PORT, "", json.dumps([target]), "[]", "[]")

    def _start(self, node: str, box: str, script: str, *arguments: object) -> subprocess.Popen[str]:
        argv = python("", _AGAIN, self._ends, box, script, *arguments)
        return self._world.lab.popen(node, argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)

    @property
    def goes_on(self) -> bool:
        """Whether there is time for one more thing to happen."""
        return time.time() < self._ends - 3

    def heard(self) -> dict[str, set[str]]:
        """By listener what reached it: ``front2 to 10.9.1.2`` or ``front2 as 10.9.2.2 to 10.9.1.2``."""
        return {
            name: set(filter(None, process.communicate(timeout=120)[0].splitlines()))
            for name, process in self._listening.items()
        }


def senders(said: set[str]) -> set[str]:
    """Who was heard in their own name, and ``…, forged`` for who was heard in another's."""
    return {line.split()[0] + (", forged" if " as " in line else "") for line in said}


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three networks on node1, and node2 as a neighbour with a route to each."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("storm"))
    declare(fleet)
    fleet.site()
    routes = [("-4", "10.9.0.0/16", lab.address("node1", 4)), ("-6", "fd09::/16", lab.address("node1", 6))]
    for family, prefix, via in routes:
        fleet.sh("node2", f"ip {family} route add {prefix} via {via}")
    yield fleet
    for family, prefix, via in routes:
        fleet.sh("node2", f"ip {family} route delete {prefix} via {via}")
    fleet.teardown()


def declare(fleet: Fleet, *more: str, published: str = "127.0.0.1:") -> None:
    """The networks, with a port published at an address, and others that come and go beside them."""
    boxes = {**BOXES, **{f"box-{name}": {"networks": [name]} for name in more}}
    boxes["front1"] = {**BOXES["front1"], "ports": [f"{published}8080:80"]}
    networks = {**NETWORKS, **{name: {} for name in more}}
    boxes["overlay1"] = {"networks": ["overlay"]}
    other = {"overlay2": {"networks": ["overlay"]}}
    networks["overlay"] = OVERLAY
    fleet.declare({"cnm_networks": networks}, node1={"cnm_sandboxes": boxes}, node2={"cnm_sandboxes": other})


@contextmanager
def storm(world: Fleet) -> Iterator[Storm]:
    yield Storm(world, SECONDS)


def forbidden(heard: dict[str, set[str]], closed: tuple[str, ...]) -> dict[str, set[str]]:
    """Of those listeners, who was heard that may not be; a mate of the same network may, in its own name."""
    mates = {f"{name}1": {f"{name}2"} for name in NETWORKS} | {f"{name}2": {f"{name}2"} for name in NETWORKS}
    found = {name: senders(heard[name]) - mates.get(name, set()) for name in closed}
    return {name: who for name, who in found.items() if who}


@pytest.mark.parametrize(
    "torn_down", [pytest.param(False, id="site", marks=pytest.mark.whole), pytest.param(True, id="site and teardown")]
)
def test_runs_that_come_and_go_open_nothing(world: Fleet, torn_down: bool) -> None:
    with storm(world) as wind:
        turn = 0
        while wind.goes_on:
            turn += 1
            declare(world, *(["more"] if turn % 2 else []))
            world.site()
            if torn_down:
                world.teardown()
                declare(world)
                world.site()
        heard = wind.heard()
    assert "front2" in senders(heard["front1"])
    # A host that has been torn down before its peers is any host of the underlay to them: SECURITY.md says so.
    assert senders(heard["overlay2"]) - ({"user"} if torn_down else set()) == {"overlay1"}
    assert forbidden(heard, (*ADDRESSES, "the host's loopback")) == {}
    # Sandboxes of networks that are not internal may call the neighbour, but not in the name of another.
    assert {who for who in senders(heard["the neighbour"]) if "forged" in who or who == "inner2"} <= {
        "neighbour, forged"
    }


@pytest.mark.whole
def test_a_flushed_ruleset_does_not_open_internal_networks_nor_the_loopback(world: Fleet) -> None:
    # A port published at 127.0.0.1 needs route_localnet on its bridge, which without rules opens that address to it.
    declare(world, published=f"{world.lab.address('node1', 4)}:")
    world.site()
    with storm(world) as wind:
        while wind.goes_on:
            world.sh("node1", "nft flush ruleset")
            time.sleep(1)
            world.site()
        heard = wind.heard()
    assert "inner2" in senders(heard["inner1"])
    assert "user" in senders(heard["overlay2"])  # an overlay that is not encrypted has nftables alone
    assert forbidden(heard, ("inner1", "inner2", "the host's loopback")) == {}
    assert "inner2" not in senders(heard["the neighbour"])
