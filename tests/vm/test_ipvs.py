# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""IPVS on a kernel that has it: virtual IPs at packet level, and the kinds ``ipvs`` and ``ipvs_timeouts``.

A host has a bridge with a caller and tasks on it, each a namespace; sockets are made in there and used from here.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from host import becomes, compare, converge, on_a_host, run_command, sh, snapshot
from test_kinds import BY_MARK, DRIFTS, EXTRAS, Never, operations_for
from test_kinds import _broken as broken

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine, reporting
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import ipvs
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address
from ansible_collections.cnm.fabric.plugins.module_utils.plan.balancing import Ipvs, IpvsTimeouts, RealServer
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace, VethPeer
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Sysctl
from ansible_collections.cnm.fabric.plugins.modules import ipvs as module
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.sandbox_tables import sandbox_table
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.balancing import VirtualService
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.ipvs import by_ipvs
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.nftables import by_nftables

pytestmark = pytest.mark.vm

BOXES = ("caller", "task1", "task2", "task3")
TASKS = BOXES[1:]
VIPS = {4: "10.0.0.99", 6: "fd00::99"}
PORT = 8000
ENGINES = {"ipvs": by_ipvs, "nftables": by_nftables}


def address_of(box: str, family: int = 4) -> str:
    return (f"10.0.0.{BOXES.index(box) + 2}", f"fd00::{BOXES.index(box) + 2}")[family == 6]


def services(weights: Optional[dict[str, int]] = None, scheduler: str = "rr") -> list[VirtualService]:
    """One on both families, of all tasks unless said otherwise."""
    weights = dict.fromkeys(TASKS, 1) if weights is None else weights
    return [
        VirtualService(vip, scheduler, tuple((address_of(task, family), weight) for task, weight in weights.items()))
        for family, vip in VIPS.items()
    ]


def a_network() -> list[Resource]:
    result: list[Resource] = [Link("", "br0", "bridge", "network/net")]
    for box in BOXES:
        port = VethPeer("", f"p-{box}", "br0")
        result += [
            Namespace(box, f"sandbox/{box}"),
            Link(box, "eth0", "veth", f"endpoint/net/{box}", disable_ipv6=False, accept_ra=0, peer=port),
            Address(box, "eth0", f"{address_of(box)}/24"),
            Address(box, "eth0", f"{address_of(box, 6)}/64"),
        ]
    return result


def balanced(named: str, wanted: Sequence[VirtualService], boxes: Sequence[str] = BOXES) -> list[Resource]:
    """The network, and what a sandbox has for virtual services in each of its own."""
    result = a_network()
    for box in boxes:
        balancing = ENGINES[named](box, wanted)
        result += [sandbox_table("default", box, balancing), *balancing.resources]
    return result


# --- sockets in namespaces ---


class World:
    """Sockets of the boxes, with a server in each that says its name and who has called."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sockets: list[socket.socket] = []

    def close(self) -> None:
        for item in self._sockets:
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()

    def _new(self, box: str, family: int, kind: int) -> socket.socket:
        version = socket.AF_INET6 if family == 6 else socket.AF_INET
        made: socket.socket = self._host.run_in(box, socket.socket, version, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._sockets.append(made)
        return made

    def serve(self, box: str, port: int = PORT) -> None:
        for family in (4, 6):
            stream = self._new(box, family, socket.SOCK_STREAM)
            stream.bind(("", port))
            stream.listen(64)
            threading.Thread(target=_accept, args=(box, stream), daemon=True).start()
            datagrams = self._new(box, family, socket.SOCK_DGRAM)
            datagrams.bind(("", port))
            threading.Thread(target=_echo_datagrams, args=(box, datagrams), daemon=True).start()

    def open(self, box: str, to: str, protocol: str = "tcp", source_port: int = 0) -> socket.socket:
        """A connection."""
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        made = self._new(box, 6 if ":" in to else 4, kind)
        made.settimeout(3)
        if source_port:
            made.bind(("", source_port))
        made.connect((to, PORT))
        return made

    def call(self, box: str, to: str, protocol: str = "tcp", source_port: int = 0) -> tuple[str, str]:
        """Who has answered, and whom it saw."""
        made = self.open(box, to, protocol, source_port)
        try:
            return ask(made)
        finally:
            if source_port and protocol == "tcp":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.close()


def ask(connection: socket.socket) -> tuple[str, str]:
    connection.send(b"who?")
    name, caller = connection.recv(100).decode().split()
    return name, caller


def _accept(box: str, listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, caller = listening.accept()
            threading.Thread(target=_echo, args=(box, connection, caller[0]), daemon=True).start()


def _echo(box: str, connection: socket.socket, caller: str) -> None:
    with connection, contextlib.suppress(OSError):
        while connection.recv(100):
            connection.send(f"{box} {caller}".encode())


def _echo_datagrams(box: str, listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            _data, caller = listening.recvfrom(100)
            listening.sendto(f"{box} {caller[0]}".encode(), caller)


@contextlib.contextmanager
def a_world(named: str = "ipvs", wanted: Optional[Sequence[VirtualService]] = None) -> Iterator[World]:
    converge(balanced(named, services() if wanted is None else wanted))
    with Host("default", run_command) as host:
        world = World(host)
        try:
            for task in TASKS:
                world.serve(task)
            yield world
        finally:
            world.close()


def listed(box: str = "caller") -> list[str]:
    return [line.strip() for line in sh(f"ip netns exec {box} ipvsadm -S -n").splitlines()]


# --- virtual IPs ---


def opened(world: World, box: str, task: str, family: int) -> socket.socket:
    """A connection to the VIP that has come to that task."""
    for _turn in range(len(TASKS)):
        connection = world.open(box, VIPS[family])
        if ask(connection)[0] == task:
            return connection
    raise AssertionError(f"no connection came to {task}")


class TestVirtualAddresses:
    @pytest.mark.parametrize("named", ENGINES)
    @on_a_host
    def test_every_task_is_called_in_turn_and_sees_who_calls_be_it_itself(self, named: str) -> None:
        with a_world(named) as world:
            for caller, family, protocol in product(("caller", "task1"), (4, 6), ("tcp", "udp")):
                answers = [world.call(caller, VIPS[family], protocol) for _turn in range(6)]
                assert Counter(name for name, _caller in answers) == dict.fromkeys(TASKS, 2), (caller, family, protocol)
                assert {seen for _name, seen in answers} == {address_of(caller, family)}
            for caller, family in product(("caller", "task1"), (4, 6)):
                sh(f"ip netns exec {caller} ping -c 2 -i 0.2 -W 2 {VIPS[family]}")
            assert compare(balanced(named, services())) == []

    @pytest.mark.parametrize("named", ENGINES)
    @on_a_host
    def test_shares_go_by_weight_and_a_caller_stays_by_its_address(self, named: str) -> None:
        weights = {"task1": 1, "task2": 3}
        with a_world(named, services(weights)) as world:
            for family in (4, 6):
                answers = Counter(world.call("caller", VIPS[family])[0] for _turn in range(8))
                assert answers == {"task1": 2, "task2": 6}
            converge(balanced(named, services(scheduler="sh")))
            for family in (4, 6):
                assert len({world.call("caller", VIPS[family])[0] for _turn in range(6)}) == 1

    @pytest.mark.parametrize(
        "scheduler", ["wlc", "mh", *(pytest.param(name, marks=pytest.mark.whole) for name in ("rr", "sh"))]
    )
    @on_a_host
    def test_a_drained_task_keeps_what_it_has_and_gets_nothing_new(self, scheduler: str) -> None:
        with a_world(wanted=services(scheduler=scheduler)) as world:
            task = world.call("caller", VIPS[4])[0]
            connections = {family: opened(world, "caller", task, family) for family in (4,)}
            flow = world.open("caller", VIPS[4], "udp", 5353)
            held, _caller = ask(flow)
            drained = services({**dict.fromkeys(TASKS, 1), task: 0, held: 0}, scheduler)
            done = converge(balanced("ipvs", drained))
            assert {text.split(" (")[0].split("/")[0] for text in done} <= {
                f"change {kind} {box}" for kind in ("ipvs", "nftables") for box in BOXES
            }
            for connection in connections.values():
                assert ask(connection)[0] == task
            assert ask(flow)[0] == held
            for _turn in range(9):
                assert world.call("caller", VIPS[4])[0] not in (task, held)

    @on_a_host
    def test_a_port_that_is_used_again_does_not_lead_to_a_drained_task(self) -> None:
        """With conn_reuse_mode 0 it would, and with 1 old kernels let the caller wait for a second."""
        with a_world() as world:
            first, _caller = world.call("caller", VIPS[4], source_port=4000)
            drained = {task: int(task != first) for task in TASKS}
            converge(balanced("ipvs", services(drained)))
            for _turn in range(6):
                started = time.monotonic()
                assert world.call("caller", VIPS[4], source_port=4000)[0] != first
                assert time.monotonic() - started < 0.9

    @on_a_host
    def test_of_a_task_that_is_gone_nothing_stays(self) -> None:
        with a_world() as world:
            connection = opened(world, "caller", "task2", 4)
            flow = world.open("caller", VIPS[4], "udp", 5353)
            held, _caller = ask(flow)
            left = [task for task in TASKS if task not in ("task2", held)]
            converge(balanced("ipvs", services(dict.fromkeys(left, 1))))
            assert address_of("task2") not in " ".join(listed())
            with pytest.raises(OSError):
                ask(connection)
            assert retried(flow) in left
            for _turn in range(4):
                assert world.call("caller", VIPS[4])[0] in left
            converge(balanced("ipvs", services({})))
            with pytest.raises(OSError):
                world.call("caller", VIPS[4])
            converge(balanced("ipvs", []))
            assert listed() == []
            assert "net.ipv4.vs.conntrack = 0" in sh("ip netns exec caller sysctl net.ipv4.vs.conntrack")

    @on_a_host
    def test_no_connection_is_lost_while_tasks_come_and_weights_change(self) -> None:
        with a_world(wanted=services({"task1": 1})) as world:
            connection = world.open("caller", VIPS[4])
            assert ask(connection)[0] == "task1"
            for weights in ({"task1": 1, "task2": 1}, {"task1": 5, "task2": 1, "task3": 2}, {"task1": 1}):
                for scheduler in ("rr", "wlc"):
                    converge(balanced("ipvs", services(weights, scheduler)))
                    assert ask(connection)[0] == "task1"

    @on_a_host
    def test_one_engine_after_the_other(self) -> None:
        with a_world("nftables") as world:
            for named in ("ipvs", "nftables"):
                converge(balanced(named, services()))
                assert compare(balanced(named, services())) == []
                answers = [world.call("caller", VIPS[family])[0] for family in (4, 6) for _turn in range(6)]
                assert Counter(answers) == dict.fromkeys(TASKS, 4)
            assert listed() == []


def retried(flow: socket.socket) -> str:
    """Who answers at last: what belongs to a task that is gone is forgotten with the first packet."""
    for _turn in range(3):
        with contextlib.suppress(OSError):
            return ask(flow)[0]
    return "nobody"


# --- what is there is what is wanted ---


SERVERS = (RealServer("10.0.0.3"), RealServer("10.0.0.4", 2))


@on_a_host
def test_settings_are_read_back_as_ipvsadm_shows_them() -> None:
    wanted = [
        Ipvs("caller", mark=0x7FFFFFFF, scheduler="mh", flags=("fallback", "port"), servers=SERVERS),
        Ipvs("caller", 6, 1, servers=(RealServer("fd00::3", 0, upper=7, lower=5),)),
        Ipvs("caller", 4, 0, "tcp", "10.0.0.99", 80, "wlc", (), 600, 24, (RealServer("10.0.0.3", 1, 8080),)),
        Ipvs("caller", 6, 0, "udp", "fd00::99", 53, "rr", ("one_packet",), servers=(RealServer("fd00::3", 1, 53),)),
        Ipvs("caller", 4, 0, "sctp", "10.0.0.99", 0, persistence=60, servers=(RealServer("10.0.0.4"),)),
        Ipvs("caller", 4, 0, "tcp", "10.0.0.99", 81, servers=(RealServer("10.0.0.4", 1, 81, "direct"),)),
        Ipvs("caller", 4, 0, "tcp", "10.0.0.99", 82, servers=(RealServer("fd00::4", 1, 82, "tunnel"),)),
    ]
    converge([Namespace("caller", "sandbox/caller"), *wanted])
    assert compare([Namespace("caller", "sandbox/caller"), *wanted]) == []
    shown = sorted(listed())
    assert shown == sorted(
        [
            "-A -f 2147483647 -s mh -b mh-fallback,mh-port",
            "-a -f 2147483647 -r 10.0.0.3:0 -m -w 1",
            "-a -f 2147483647 -r 10.0.0.4:0 -m -w 2",
            "-A -f 1 -6 -s rr",
            "-a -f 1 -6 -r [fd00::3]:0 -m -w 0",
            "-A -t 10.0.0.99:80 -s wlc -p 600 -M 255.255.255.0",
            "-a -t 10.0.0.99:80 -r 10.0.0.3:8080 -m -w 1",
            "-A -u [fd00::99]:53 -s rr -o",
            "-a -u [fd00::99]:53 -r [fd00::3]:53 -m -w 1",
            "-A --sctp-service 10.0.0.99:0 -s rr -p 60",
            "-a --sctp-service 10.0.0.99:0 -r 10.0.0.4:0 -m -w 1",
            "-A -t 10.0.0.99:81 -s rr",
            "-a -t 10.0.0.99:81 -r 10.0.0.4:81 -g -w 1",
            "-A -t 10.0.0.99:82 -s rr",
            "-a -t 10.0.0.99:82 -r [fd00::4]:82 -i -w 1 --tun-type ipip",
        ]
    )

    assert re.search(r"\[fd00::3\]:0 +7 +5 ", sh("ip netns exec caller ipvsadm -l -n --thresholds"))


@on_a_host
def test_drift_is_named_by_real_server() -> None:
    wanted = [Namespace("caller", "sandbox/caller"), Ipvs("caller", mark=7, servers=SERVERS)]
    converge(wanted)
    sh(
        "ip netns exec caller sh -ec 'ipvsadm -d -f 7 -r 10.0.0.3; ipvsadm -e -f 7 -r 10.0.0.4 -m -w 9;"
        "ipvsadm -a -f 7 -r 10.0.0.9:80 -m; ipvsadm -A -t 192.0.2.1:80 -s rr'"
    )
    with Host("default", run_command) as host:
        operations = engine.Engine(host).converge(wanted, check=True)
    assert reporting.report(operations) == [
        {"action": "delete", "kind": "ipvs", "name": "caller/tcp 192.0.2.1:80"},
        {
            "action": "change",
            "kind": "ipvs",
            "name": "caller/mark 0x00000007 ipv4",
            "differences": [
                {
                    "attribute": "servers",
                    "wanted": ["10.0.0.3 weight 1", "10.0.0.4 weight 2"],
                    "found": ["10.0.0.4 weight 9", "10.0.0.9:80 weight 1"],
                }
            ],
        },
    ]
    converge(wanted)
    assert compare(wanted) == []


@on_a_host
def test_what_is_not_in_a_namespace_of_ours_is_left_alone() -> None:
    sh("ipvsadm -A -t 192.0.2.1:80 -s rr; ip netns add theirs; ip netns exec theirs ipvsadm -A -f 7 -s rr")
    converge([Namespace("caller", "sandbox/caller"), Ipvs("caller", mark=7)])
    converge([])
    assert sh("ipvsadm -S -n").strip() == "-A -t 192.0.2.1:80 -s rr"
    assert listed("theirs") == ["-A -f 7 -s rr"]


@on_a_host
def test_a_scheduler_the_kernel_lacks_is_named_before_any_change() -> None:
    with pytest.raises(engine.EngineError) as error:
        converge([Namespace("caller", "sandbox/caller"), Ipvs("caller", mark=7, scheduler="twos")])
    assert str(error.value) == (
        "this kernel's IPVS has no scheduler twos (module ip_vs_twos): set cnm_load_balancer: "
        "nftables, which does not need it, or use another kernel. Nothing was changed on this host."
    )
    assert "caller" not in sh("ip netns list")


@on_a_host
def test_the_probe_says_so_and_asks_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Other tests have loaded IPVS, and load more beside this one; to ask for its family is what loads it.
    asked: list[str] = []
    monkeypatch.setattr(ipvs, "_EXISTS", tmp_path / "ip_vs")
    monkeypatch.setattr(ipvs.IpvsSocket, "__init__", lambda self, *_given: asked.append("IPVS"))
    assert not ipvs.is_loaded()
    assert ipvs.is_available()
    assert asked == []


@pytest.mark.whole
@on_a_host
def test_hundreds_of_virtual_servers_in_few_messages() -> None:
    wanted = [
        Namespace("caller", "sandbox/caller"),
        *(
            Ipvs("caller", mark=mark, servers=tuple(RealServer(f"10.0.{mark}.{number}") for number in range(1, 11)))
            for mark in range(1, 101)
        ),
    ]
    converge(wanted)
    assert len(listed()) == 1100
    assert compare(wanted) == []


C1 = Namespace("c1", "sandbox/c1")
SERVED = [
    C1,
    BY_MARK,
    Ipvs("c1", 6, 7, servers=(RealServer("fd00::3"),)),
    Ipvs("c1", protocol="tcp", address="10.0.9.9", port=80, servers=(RealServer("10.0.2.3", 1, 80, "tunnel"),)),
    IpvsTimeouts("c1", udp=120),
    Sysctl("c1", "net.ipv4.vs.conntrack", "1"),
    Sysctl("c1", "net.ipv4.vs.none_of_this_name", "1", optional=True),
]
SERVED_OTHERWISE = [
    C1,
    replace(BY_MARK, scheduler="wrr", flags=(), persistence=0, prefix=0, servers=(RealServer("10.0.2.3", 0),)),
    Ipvs("c1", protocol="udp", address="fd00::99", family=6, port=53, flags=("one_packet",)),
    IpvsTimeouts("c1", 432000),
    Sysctl("c1", "net.ipv4.vs.expire_nodest_conn", "1"),
]


@pytest.mark.whole
@pytest.mark.parametrize("kind", [Ipvs, IpvsTimeouts])
@on_a_host
def test_what_may_happen_to_any_kind_is_seen_and_repaired(kind: type[Resource]) -> None:
    """The kind's part in ``test_kinds``, which outside leaves it out."""
    setup, sample = EXTRAS[kind.kind]
    sh(setup)
    wanted = [C1, sample()]
    converge(wanted)
    whole = snapshot()
    for attribute in (spec.name for spec in fields(kind)):
        drift = DRIFTS[kind.kind][attribute]
        if isinstance(drift, Never):
            continue
        sh(drift.harm)
        found = [item.attribute for operation in operations_for(wanted) for item in operation.differences]
        assert attribute in found, attribute
        assert converge(wanted)
        assert compare(wanted) == []
        becomes(whole)


TRANSITIONS = {"made": ([C1], SERVED), "changed": (SERVED, SERVED_OTHERWISE), "removed": (SERVED, [C1])}


@pytest.mark.whole
@pytest.mark.parametrize("name", TRANSITIONS)
@on_a_host
def test_whatever_step_fails_the_host_is_as_before(name: str) -> None:
    first, second = TRANSITIONS[name]
    sh(EXTRAS["ipvs"][0])
    converge(first)
    before = snapshot()
    with Host("default", run_command) as host:
        steps = engine.order(operations_for(second), engine.Engine(host)._registry)
    assert steps
    for number, step in enumerate(steps):
        for after in (False, True) if name == "changed" else (True,):
            with broken(number, after), pytest.raises(engine.EngineError, match="broken by the test") as error:
                converge(second)
            assert str(error.value).endswith("The changes of this run were undone."), (step, error.value)
            becomes(before)
    converge(second)
    assert compare(second) == []


# --- the module, each call in this process ---


def called(check: bool = False, **parameters: Any) -> dict[str, Any]:
    """What the module answers."""
    said = io.StringIO()
    arguments = {**parameters, "_ansible_check_mode": check}
    with patch_module_args(arguments), contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        module.main()
    answer: dict[str, Any] = json.loads(said.getvalue())
    return answer


def done(answer: dict[str, Any]) -> list[str]:
    assert not answer.get("failed"), answer
    return [f"{item['action']} {item['kind']} {item['name']}" for item in answer["operations"]]


class TestTheModule:
    @on_a_host
    def test_the_documented_examples(self) -> None:
        """Each does something once, and a check foretells it."""
        sh("ip netns add blue")
        examples = [task["cnm.fabric.ipvs"] for task in yaml.safe_load(module.EXAMPLES) if "cnm.fabric.ipvs" in task]
        seen = []
        for example in examples:
            foretold, first, second = (called(check, **example) for check in (True, False, False))
            assert done(foretold) == done(first)
            assert len(done(first)) == 1
            assert done(second) == done(called(True, **example)) == []
            seen += done(first)
        assert seen == [
            "create ipvs tcp 192.0.2.80:80",
            "change ipvs tcp 192.0.2.80:80",
            "create ipvs blue/mark 0x00000007 ipv6",
            "delete ipvs tcp 192.0.2.80:80",
        ]
        assert sh("ipvsadm -S -n") == ""

    @on_a_host
    def test_what_it_is_not_told_the_name_of_it_does_not_touch(self) -> None:
        sh("ipvsadm -A -t 192.0.2.1:80 -s rr; ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.9 -m; ipvsadm -A -f 7 -s rr")
        before = sh("ipvsadm -S -n")
        assert done(called(mark=7, family="ipv6", servers=[{"address": "fd00::3"}]))
        assert done(called(mark=7, family="ipv6", state="absent")) == ["delete ipvs mark 0x00000007 ipv6"]
        assert sh("ipvsadm -S -n") == before
        assert done(called(mark=7, family="ipv6", state="absent")) == []

    @on_a_host
    def test_left_out_servers_stay_as_they_are(self) -> None:
        called(address="192.0.2.1", port=80, servers=[{"address": "10.0.0.9"}, {"address": "10.0.0.8", "weight": 0}])
        answer = called(address="192.0.2.1", port=80, scheduler="rr")
        assert [item["attribute"] for item in answer["operations"][0]["differences"]] == ["scheduler"]
        assert sh("ipvsadm -S -n | sort").splitlines() == [
            "-A -t 192.0.2.1:80 -s rr",
            "-a -t 192.0.2.1:80 -r 10.0.0.8:80 -m -w 0",
            "-a -t 192.0.2.1:80 -r 10.0.0.9:80 -m -w 1",
        ]

    @on_a_host
    def test_a_sandbox_of_the_playbook_s_is_refused(self) -> None:
        converge([C1])
        assert called(namespace="c1", mark=7)["msg"] == (
            "namespace: namespace c1 belongs to cnm.fabric.site, which would remove the virtual server: declare a "
            "service in cnm_services instead"
        )

    @on_a_host
    def test_a_namespace_that_is_not_there_is_named(self) -> None:
        assert "there is no network namespace blue" in called(namespace="blue", mark=7)["msg"]
        assert done(called(True, namespace="blue", mark=7)) == ["create ipvs blue/mark 0x00000007 ipv4"]

    @on_a_host
    def test_every_mistake_is_told_at_once(self) -> None:
        answer = called(
            address="192.0.2.1",
            port=0,
            scheduler_flags=["port"],
            one_packet=True,
            persistence_prefix=40,
            servers=[
                {"address": "fd00::1"},
                {"address": "10.0.0.1", "port": 0, "weight": 70000},
                {"address": "10.0.0.1", "method": "direct", "port": 90, "lower_threshold": 1},
            ],
        )
        for option in (
            "port: 0, which",
            "scheduler_flags: wlc",
            "one_packet: it is for udp",
            "persistence_prefix: it has no effect",
            "persistence_prefix: 40 is not",
            "servers[0].address: fd00::1 is not an IPv4",
            "servers[1].port: 0 is not a port",
            "servers[1].weight: 70000",
            "servers[2].port: the method direct",
            "servers[2].lower_threshold: 1 exceeds",
        ):
            assert option in answer["msg"], answer["msg"]
