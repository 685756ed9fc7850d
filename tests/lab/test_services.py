# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Services over three hosts: the documents' voting example, and what may happen to it.

``CNM_LOAD_BALANCER`` says which engine is proven: ``nftables`` (the default) or ``ipvs``, which tests/vm does.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

import pytest
from asking import NO_SUCH_NAME, ask, ask_reverse, in_namespace
from fleet import Fleet, snapshot
from lab import SWITCH, Lab
from overlaying import ended, overlay, reached_by, sandboxes
from serving import PORT, Caller, Load, Servers, addresses, echoed, inside, mentioned, servers, talking, where

ENGINE = os.environ.get("CNM_LOAD_BALANCER", "nftables")
NETWORKS = {
    "vote": overlay("10.10.2.0/24", "fd00:10:2::/64", enable_ipv6=True),
    "back-tier": overlay("10.10.3.0/24"),
}
ON = {"vote": ("10.10.2.", "fd00:10:2:"), "back-tier": ("10.10.3.",)}
"""How addresses of each begin."""
VOTE = {"networks": {"vote": {"aliases": ["cache"]}}}


def declared(services: dict[str, Any], networks: Optional[dict[str, Any]] = None, **more: Any) -> dict[str, Any]:
    """Everybody's variables."""
    return {"cnm_networks": networks or NETWORKS, "cnm_services": services, "cnm_load_balancer": ENGINE, **more}


def redis(replicas: int = 3, **deploy: Any) -> dict[str, Any]:
    """The service redis alone."""
    return declared({"redis": {**VOTE, "deploy": {"replicas": replicas, **deploy}}})


WORKER = {"node1": sandboxes(worker=["vote"])}


@pytest.fixture
def fleet(trio: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """An empty inventory over three hosts, which are afterwards as they were before."""
    with ended(Fleet(trio, tmp_path)) as fleet:
        yield fleet


@pytest.fixture
def at_work(fleet: Fleet) -> Iterator[Servers]:
    """Servers in the fleet's sandboxes."""
    with servers(fleet) as made:
        yield made


# --- the documents' voting example -----------------------------------------------------------------------------------

VOTING: dict[str, Any] = {
    # the documents' five: what votes, what counts, and the worker, a sandbox, between two stores
    "redis": {
        **VOTE,
        "deploy": {"replicas": 3, "placement": {"hosts": ["node1", "node2"]}},
        "ports": [
            {"target": PORT, "published": 3000},
            {"target": PORT, "published": 3000, "protocol": "udp"},
            {"target": PORT, "published": 3001, "mode": "ingress"},
        ],
    },
    "db": {"networks": ["back-tier"], "deploy": {"replicas": 3, "endpoint_mode": "dnsrr"}},
    # and what else there may be
    "twin": {
        "networks": ["vote", "back-tier"],
        "deploy": {"replicas": 2},
        "ports": [{"target": PORT, "published": 3005, "host_ip": "127.0.0.1"}],
    },
    "heavy": {"networks": ["vote"], "deploy": {"replicas": 2, "weights": {"heavy.1": 3}}},
    "weighted": {
        "networks": ["vote"],
        "deploy": {"replicas": 2, "scheduler": "wrr", "weights": {"weighted.1": 300, "weighted.2": 100}},
    },
    "loyal": {"networks": ["vote"], "deploy": {"replicas": 3, "scheduler": "sh"}},
    "each": {"networks": ["back-tier"], "deploy": {"mode": "global"}},
    "fixed": {
        "networks": {
            "vote": {
                "ipv4_addresses": ["10.10.2.77", "10.10.2.78"],
                "ipv6_addresses": ["fd00:10:2::77"],
                "interface_name": "votes",
            }
        },
        "hostname": "fixed-{task}",
        "dns_search": ["example.com"],
        "extra_hosts": {"db": "192.0.2.7"},
        "sysctls": {"net.core.somaxconn": 200},
        "deploy": {"replicas": 2},
        "ports": [{"target": PORT, "published": 3006, "mode": "host"}],
    },
    "resting": {"networks": ["vote"], "deploy": {"replicas": 1, "draining": ["resting.1"]}},
}
HOSTS: dict[str, Any] = {
    "node1": sandboxes(worker=["vote", "back-tier"], second=["vote"]),
    "node3": sandboxes(distant=["vote"], aside=["back-tier"]),
}


@contextlib.contextmanager
def example(lab: Lab, directory: Path, services: Mapping[str, Any] = MappingProxyType(VOTING)) -> Iterator[Fleet]:
    """The example at work on three hosts, or some of it."""
    with ended(Fleet(lab, directory)) as fleet, servers(fleet) as made:
        fleet.declare(declared(dict(services)), **HOSTS)
        foretold = fleet.site("--check", "--diff")
        done = fleet.site()
        for host in fleet.hosts:
            assert foretold.operations(host) == done.operations(host)
        made.serve(where(fleet))
        yield fleet


@pytest.fixture(scope="class")
def voting(trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All of the example."""
    with example(trio, tmp_path_factory.mktemp("voting")) as fleet:
        yield fleet


@pytest.fixture
def worker(voting: Fleet) -> Caller:
    return Caller(voting, "node1", "worker")


@pytest.fixture
def vips(worker: Caller) -> list[str]:
    """Those of redis."""
    return worker.lookup("redis")


_ONE_RULE = "$(nft -a list chain inet cnm {} | grep '{}' | head -1 | sed 's/.*handle //')"
_ONE_TASK = "$(nft list set inet cnm tasks4 | grep -o '10.10.2[0-9.]* . 10.10.2[0-9.]*' | head -1)"
if ENGINE == "ipvs":
    DRIFTS = {
        ("node1", "second"): ("nft flush chain inet cnm services", "change nftables second/inet cnm"),
        ("node3", "distant"): (
            "set -- $(ipvsadm -Sn | grep -e '-a -f' | head -1); ipvsadm -d -f $3 -r $5",
            "ipvs distant",
        ),
    }
else:
    DRIFTS = {
        ("node1", "second"): (
            f"nft delete rule inet cnm output handle {_ONE_RULE.format('output', 'numgen')}",
            "change nftables second/inet cnm",
        ),
        ("node3", "distant"): (
            f"nft delete element inet cnm tasks4 {{ {_ONE_TASK} }}",
            "change nftables distant/inet cnm",
        ),
    }
DRIFTS |= {
    ("node1", "worker"): ("nft delete table inet cnm", "create nftables worker/inet cnm"),
    ("node1", "ingress_sbox"): ("nft delete table inet cnm", "create nftables ingress_sbox/inet cnm"),
    ("node2", "ingress_sbox"): (
        f"nft delete rule inet cnm prerouting handle {_ONE_RULE.format('prerouting', 'numgen')}",
        "change nftables ingress_sbox/inet cnm",
    ),
    ("node3", ""): ("ip netns delete ingress_sbox", "create namespace ingress_sbox"),
}


def rules(fleet: Fleet, node: str) -> str:
    """The rules of all sandboxes of a host."""
    script = "for n in $(ls /run/netns | grep -v ov-); do echo $n; ip netns exec $n nft -s list ruleset; done"
    return fleet.sh(node, script)


class TestTheVotingExample:
    def test_a_name_is_one_virtual_address_of_each_family_that_is_no_tasks(
        self, voting: Fleet, worker: Caller, vips: list[str]
    ) -> None:
        (line,) = worker.getent("ahostsv4", "redis | awk '{print $1}' | sort -u")
        assert line == vips[0]
        assert [":" in vip for vip in vips] == [False, True]
        taken = {address for task, host in where(voting).items() for address in addresses(voting, host, task)}
        assert not taken & set(vips)

    @pytest.mark.parametrize("family", [4, 6])
    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_twelve_requests_reach_every_task_evenly(
        self, worker: Caller, vips: list[str], family: int, protocol: str
    ) -> None:
        vip = vips[family == 6]
        assert worker.tasks(vip, 12, protocol=protocol) == {"redis.1": 4, "redis.2": 4, "redis.3": 4}

    def test_tasks_see_who_calls(self, voting: Fleet, vips: list[str]) -> None:
        for node, sandbox in (("node1", "worker"), ("node1", "second"), ("node3", "distant")):
            own = addresses(voting, node, sandbox)
            for vip in vips:
                callers = {said.split(" ")[1] for said in Caller(voting, node, sandbox).call(vip, 6)}
                assert len(callers) == 1
                assert callers < set(own)

    def test_names_are_those_of_docker(self, voting: Fleet, worker: Caller, vips: list[str]) -> None:
        place, tasks = inside(voting, "node1", "worker"), where(voting, "redis")
        owned = {task: addresses(voting, host, task, *ON["vote"]) for task, host in tasks.items()}
        every = sorted(address for group in owned.values() for address in group)
        assert worker.lookup("cache") == vips
        assert worker.lookup("redis.vote") == vips
        assert worker.lookup("tasks.redis") == every
        assert worker.lookup("tasks.cache") == every
        assert worker.lookup("redis.2") == sorted(owned["redis.2"])
        assert in_namespace(place, ask, "redis", "AAAA").data == (vips[1],)
        for vip in vips:
            assert in_namespace(place, ask_reverse, vip).data == ("redis.vote",)
        assert in_namespace(place, ask_reverse, owned["redis.2"][0]).data == ("redis.2.vote",)
        assert in_namespace(place, ask, "redis.4") == NO_SUCH_NAME
        assert in_namespace(inside(voting, "node3", "aside"), ask, "redis") == NO_SUCH_NAME

    def test_virtual_addresses_answer_pings(self, voting: Fleet, vips: list[str]) -> None:
        for caller in (Caller(voting, "node1", "worker"), Caller(voting, "node3", "distant")):
            assert [vip for vip in vips if not caller.pings(vip)] == []

    def test_a_service_calls_itself_and_lands_on_itself_too(self, voting: Fleet, vips: list[str]) -> None:
        for task, host in where(voting, "redis").items():
            caller, own = Caller(voting, host, task), addresses(voting, host, task)
            for vip in vips:
                for protocol in ("tcp", "udp"):
                    said = caller.call(vip, 6, protocol=protocol)
                    assert Counter(each.split(" ")[0] for each in said) == {"redis.1": 2, "redis.2": 2, "redis.3": 2}
                    assert {each.split(" ")[1] for each in said} < set(own)
                assert caller.pings(vip)

    def test_a_service_on_two_networks_has_an_address_on_each(self, voting: Fleet, worker: Caller) -> None:
        found = worker.lookup("twin")
        assert [address.partition("::")[0].rpartition(".")[0] for address in found] == ["10.10.2", "10.10.3", ""]
        for vip in found:
            assert worker.tasks(vip, 4) == {"twin.1": 2, "twin.2": 2}
            network = vip.rpartition(":" if ":" in vip else ".")[0]
            assert {said.split(" ")[1].startswith(network) for said in worker.call(vip, 2)} == {True}
        assert Caller(voting, "node3", "aside").lookup("twin") == [found[1]]
        assert Caller(voting, "node3", "aside").tasks(found[1], 4) == {"twin.1": 2, "twin.2": 2}

    def test_weights_are_kept_to(self, worker: Caller) -> None:
        assert worker.tasks(worker.lookup("heavy")[0], 12) == {"heavy.1": 9, "heavy.2": 3}
        for vip in worker.lookup("weighted"):
            assert worker.tasks(vip, 8) == {"weighted.1": 6, "weighted.2": 2}

    def test_scheduler_sh_is_loyal(self, voting: Fleet, worker: Caller) -> None:
        assert len(worker.tasks(worker.lookup("loyal")[0], 6)) == 1
        assert len(Caller(voting, "node3", "distant").tasks(worker.lookup("loyal")[1], 6)) == 1

    def test_dnsrr_is_all_tasks_and_no_virtual_address(self, voting: Fleet, worker: Caller) -> None:
        tasks = where(voting, "db")
        every = sorted(addresses(voting, host, task, *ON["back-tier"])[0] for task, host in tasks.items())
        assert worker.lookup("db") == worker.lookup("tasks.db") == every
        shown = voting.sh("node1", "cat /run/cnm/default/names/back-tier")
        assert [line.split()[1] for line in shown.splitlines() if " db " in line] == [f"{t}.back-tier" for t in tasks]

    def test_global_has_a_task_on_each_host(self, voting: Fleet, worker: Caller) -> None:
        assert sorted(where(voting, "each").values()) == voting.hosts
        assert worker.tasks(worker.lookup("each")[0], 6) == {"each.1": 2, "each.2": 2, "each.3": 2}

    def test_tasks_have_the_addresses_they_are_given(self, worker: Caller) -> None:
        found = [address for address in worker.lookup("tasks.fixed") if ":" not in address]
        assert found == ["10.10.2.77", "10.10.2.78"]
        assert worker.lookup("fixed.1") == ["10.10.2.77", "fd00:10:2::77"]
        assert worker.lookup("fixed-1") == ["10.10.2.77", "fd00:10:2::77"]
        assert worker.tasks(worker.lookup("fixed")[0], 2) == {"fixed.1": 1, "fixed.2": 1}

    def test_tasks_have_what_the_service_says_of_them(self, voting: Fleet) -> None:
        for task, host in where(voting, "fixed").items():
            seen = voting.sh(
                host,
                f"ip netns exec {task} sh -c 'cat /etc/hostname /etc/resolv.conf /etc/hosts; sysctl -n "
                "net.core.somaxconn; ip -br -4 addr show votes'",
            )
            assert f"fixed-{task[-1]}" in seen.splitlines()
            assert "search example.com" in seen
            assert re.search(r"192\.0\.2\.7\s+db", seen)
            assert "200" in seen.splitlines()
            assert f"10.10.2.7{6 + int(task[-1])}/24" in seen

    def test_a_service_of_which_everything_is_drained_refuses_at_once(self, worker: Caller) -> None:
        begun = time.monotonic()
        for vip in worker.lookup("resting"):
            (said,) = worker.call(vip)
            assert "refused" in said
        assert time.monotonic() - begun < 2
        assert worker.lookup("tasks.resting") == []
        assert len(worker.lookup("resting.1")) == 2

    def test_every_host_answers_on_a_published_port_from_outside(self, voting: Fleet) -> None:
        outside = Caller(voting, SWITCH)
        assert "node3" not in where(voting, "redis").values()
        for host in voting.hosts:
            for family in (4, 6):
                target = voting.lab.address(host, family)
                for protocol in ("tcp", "udp"):
                    found = outside.tasks(target, 12, port=3000, protocol=protocol)
                    assert found == {"redis.1": 4, "redis.2": 4, "redis.3": 4}, (host, family, protocol)
                assert outside.tasks(target, 3, port=3001) == {"redis.1": 1, "redis.2": 1, "redis.3": 1}

    def test_every_host_answers_its_own_and_others_calls(self, voting: Fleet) -> None:
        for host in voting.hosts:
            caller = Caller(voting, host)
            targets = ["127.0.0.1", *(voting.lab.address(each, f) for each in voting.hosts for f in (4, 6))]
            for target in targets:
                for protocol in ("tcp", "udp"):
                    found = caller.tasks(target, 3, port=3000, protocol=protocol)
                    assert found == {"redis.1": 1, "redis.2": 1, "redis.3": 1}, (host, target, protocol)

    def test_sandboxes_reach_published_ports_too(self, voting: Fleet) -> None:
        for node, sandbox in (("node1", "worker"), ("node3", "distant"), ("node2", "redis.2")):
            caller = Caller(voting, where(voting).get(sandbox, node), sandbox)
            for host in voting.hosts:
                found = caller.tasks(voting.lab.address(host), 3, port=3000)
                assert found == {"redis.1": 1, "redis.2": 1, "redis.3": 1}, (sandbox, host)

    def test_a_port_of_mode_host_is_answered_by_that_hosts_task_who_sees_the_caller(self, voting: Fleet) -> None:
        tasks = {host: task for task, host in where(voting, "fixed").items()}
        assert len(tasks) == 2
        for host in voting.hosts:
            (said,) = Caller(voting, SWITCH).call(voting.lab.address(host), port=3006)
            if host in tasks:
                assert said == f"{tasks[host]} {voting.lab.address(SWITCH)}"
            else:
                assert "refused" in said

    def test_a_port_of_one_address_is_answered_there_alone(self, voting: Fleet) -> None:
        for host in voting.hosts:
            assert Caller(voting, host).tasks("127.0.0.1", 2, port=3005) == {"twin.1": 1, "twin.2": 1}
            (said,) = Caller(voting, SWITCH).call(voting.lab.address(host), port=3005)
            assert "refused" in said

    def test_what_is_not_published_is_refused(self, voting: Fleet) -> None:
        (said,) = Caller(voting, SWITCH).call(voting.lab.address("node3"), port=3002)
        assert "refused" in said

    def test_a_second_run_changes_nothing(self, voting: Fleet) -> None:
        before = {host: snapshot(voting, host) for host in voting.hosts}
        assert voting.site().changed == []
        assert {host: snapshot(voting, host) for host in voting.hosts} == before

    def test_verify_proves_it(self, voting: Fleet, vips: list[str]) -> None:
        verified = voting.play("verify", "-e", "cnm_show=full")
        assert verified.code == 0, verified.output
        assert verified.of("cnm.fabric.verify", "node3")["counts"]["connect"] == 2 * 3
        assert "node3: ok (6 ports of hosts)" in verified.output

    def test_inspect_shows_services_and_their_tasks(self, voting: Fleet, vips: list[str]) -> None:
        output = voting.play("inspect", "-e", "cnm_only=redis,db,each,resting").output
        rows = [re.split(r" {3,}", line.strip()) for line in output.splitlines()]
        assert ["NAME", "MODE", "REPLICAS", "VIPS", "ALIASES", "PORTS"] in rows
        ports = "*:3000->6379/tcp, *:3000->6379/udp, *:3001->6379/tcp"
        assert ["redis", "replicated", "3/3", f"vote {' '.join(vips)}", "cache", ports] in rows
        assert ["each", "global", "3/3", f"back-tier {Caller(voting, 'node3', 'aside').lookup('each')[0]}"] in rows
        assert ["db", "replicated", "3/3", "back-tier dnsrr"] in rows
        for task, host in where(voting, "redis").items():
            own = " ".join(addresses(voting, host, task, *ON["vote"]))
            assert [task, host, "ready", f"vote {own}"] in rows
        assert next(row for row in rows if row[0] == "node3")[:2] == ["node3", "as planned"]
        assert next(row for row in rows if row[0] == "node3")[-1] == ENGINE
        assert next(row for row in rows if row[0] == "resting.1")[2] == "drained"

    def test_drift_is_named_and_repaired(self, voting: Fleet) -> None:
        before = {host: rules(voting, host) for host in voting.hosts}
        for (host, sandbox), (script, _named) in DRIFTS.items():
            voting.lab.run(host, [*(["ip", "netns", "exec", sandbox] if sandbox else []), "sh", "-ec", script])
        foretold = voting.site("--check")
        done = voting.site()
        for host in voting.hosts:
            named = {named for (where, _sandbox), (_script, named) in DRIFTS.items() if where == host}
            operations = foretold.operations(host)
            assert {each for each in named if not any(each in operation for operation in operations)} == set()
            assert done.operations(host) == operations
        assert {host: rules(voting, host) for host in voting.hosts} == before
        for host, sandbox in (("node1", "worker"), ("node1", "second"), ("node3", "distant")):
            caller = Caller(voting, host, sandbox)
            for vip in caller.lookup("redis"):
                assert caller.tasks(vip, 3) == {"redis.1": 1, "redis.2": 1, "redis.3": 1}
        for host in voting.hosts:
            found = Caller(voting, SWITCH).tasks(voting.lab.address(host), 3, port=3000)
            assert found == {"redis.1": 1, "redis.2": 1, "redis.3": 1}

    @pytest.mark.whole
    def test_verify_names_a_virtual_address_and_a_port_that_lead_nowhere(self, voting: Fleet) -> None:
        vip = Caller(voting, "node3", "distant").lookup("redis")[0]
        voting.sh("node1", f"ip -n worker route replace blackhole {vip}")
        voting.sh("node3", "ip -n ingress_sbox link set eth0 down")
        try:
            verified = voting.play("verify")
        finally:
            voting.sh("node1", f"ip -n worker route delete blackhole {vip}")
            voting.site()
        assert verified.code != 0
        assert "the virtual address of service redis does not answer worker" in verified.output
        assert "node3: link eth0 of ingress_sbox on ingress (down)" in verified.output
        assert "node1, node2 and node3 → node3 tcp 3000" in verified.output


# --- what may happen to them -----------------------------------------------------------------------------------------


def vip_of(fleet: Fleet, name: str = "redis", node: str = "node1", sandbox: str = "worker") -> str:
    """Its IPv4 address, as a sandbox finds it."""
    return Caller(fleet, node, sandbox).lookup(name)[0]


class TestScaling:
    def test_up_and_down_under_load_fails_no_request_and_moves_no_task(self, fleet: Fleet, at_work: Servers) -> None:
        fleet.declare(redis(3), **WORKER)
        fleet.site()
        three = where(fleet)
        at_work.serve(three)
        vip = vip_of(fleet)
        with Load(Caller(fleet, "node1", "worker"), vip).running() as load:
            fleet.declare(redis(5, draining=["redis.4", "redis.5"]), **WORKER)
            fleet.site()
            five = where(fleet)
            at_work.serve({task: host for task, host in five.items() if task not in three})
            assert set(load.tasks) == {"redis.1", "redis.2", "redis.3"}
            fleet.declare(redis(5), **WORKER)
            fleet.site()
            time.sleep(1)
            assert set(load.tasks) == {f"redis.{number}" for number in range(1, 6)}
            fleet.declare(redis(5, draining=["redis.3", "redis.4", "redis.5"]), **WORKER)
            fleet.site()
            time.sleep(0.3)
            before = load.tasks
            time.sleep(1)
            assert set(load.tasks - before) == {"redis.1", "redis.2"}
            assert Caller(fleet, "node1", "worker").lookup("tasks.redis") == sorted(
                address
                for task in ("redis.1", "redis.2")
                for address in addresses(fleet, five[task], task, *ON["vote"])
            )
            fleet.declare(redis(2), **WORKER)
            fleet.site()
            time.sleep(0.5)
        assert load.failed == []
        assert load.tasks.total() > 200
        assert {task: five[task] for task in three} == three
        assert where(fleet) == {task: three[task] for task in ("redis.1", "redis.2")}
        assert vip_of(fleet) == vip

    @pytest.mark.whole
    def test_open_connections_finish_while_a_task_is_drained(self, fleet: Fleet, at_work: Servers) -> None:
        ports = {"ports": [{"target": PORT, "published": 3000}, {"target": PORT, "published": 3000, "protocol": "udp"}]}
        whole = redis(3)
        whole["cnm_services"]["redis"].update(ports)
        fleet.declare(whole, **WORKER)
        fleet.site()
        at_work.serve(where(fleet))
        inner, outer = Caller(fleet, "node1", "worker"), Caller(fleet, SWITCH)
        targets = [(inner, vip, PORT) for vip in inner.lookup("redis")]
        targets += [(outer, fleet.lab.address("node2", family), 3000) for family in (4, 6)]
        streams = [caller.connect(address, port) for caller, address, port in targets for _number in range(3)]
        flows_ = [caller.datagrams(address, port) for caller, address, port in targets for _number in range(6)]
        asked = {flow: echoed(flow, "who") for flow in flows_}
        assert {task for _stream, task in streams} == set(asked.values()) == {"redis.1", "redis.2", "redis.3"}

        drained = redis(3, draining=["redis.2"])
        drained["cnm_services"]["redis"].update(ports)
        fleet.declare(drained, **WORKER)
        with talking(asked) as strangers:
            fleet.site()
        assert strangers == []
        assert [task for stream, task in streams if echoed(stream, "still there?") != task] == []
        assert [task for flow, task in asked.items() if echoed(flow, "still there?") != task] == []
        for caller, address, port in targets:
            assert set(caller.tasks(address, 6, port=port)) == {"redis.1", "redis.3"}
            assert set(caller.tasks(address, 6, port=port, protocol="udp")) == {"redis.1", "redis.3"}

        gone = {task: addresses(fleet, host, task, *ON["vote"], "10.0.0.") for task, host in where(fleet).items()}
        left = redis(1)
        left["cnm_services"]["redis"].update(ports)
        at_work.stop("redis.2")
        at_work.stop("redis.3")
        fleet.declare(left, **WORKER)
        fleet.site()
        # What spoke with a task that is gone speaks with another, or is told at once.
        assert {echoed(flow, "and now?") for flow in flows_} == {"redis.1"}
        begun = time.monotonic()
        found = [(task, echoed(stream, "and now?")) for stream, task in streams]
        assert set(found) == {("redis.1", "redis.1"), ("redis.2", ""), ("redis.3", "")}
        assert time.monotonic() - begun < 3
        stale = mentioned(fleet, [*gone["redis.2"], *gone["redis.3"]])
        assert stale == []
        for stream, _task in streams:
            stream.close()
        for flow in flows_:
            flow.close()


def only(fleet: Fleet, *hosts: str) -> None:
    """The inventory has no other hosts than these."""
    fleet.hosts = list(hosts)
    reached_by(fleet, without=sorted(set(fleet.lab.hosts) - set(hosts)))


@pytest.fixture
def joining(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet whose hosts come and go."""
    yield fleet
    fleet.hosts = fleet.lab.hosts


DEAD = (
    "table inet dead { "
    + " ".join(
        f"chain {hook} {{ type filter hook {hook} priority -500; {rule}; }};"
        for hook, rule in (("input", 'iifname "eth0" drop'), ("output", 'oifname "eth0" drop'), ("forward", "drop"))
    )
    + " }"
)


def labelled(**disks: str) -> dict[str, Any]:
    """Hosts and what disks their labels say they have, with the worker."""
    return {host: {**WORKER.get(host, {}), "cnm_node_labels": {"disk": disk}} for host, disk in disks.items()}


class TestHosts:
    @pytest.mark.whole
    def test_only_tasks_of_a_host_that_no_longer_fits_move(self, fleet: Fleet, at_work: Servers) -> None:
        said = redis(3, placement={"constraints": ["node.labels.disk == ssd"], "max_replicas_per_node": 2})
        fleet.declare(said, **labelled(node1="ssd", node2="ssd", node3="hdd"))
        fleet.site()
        first = where(fleet)
        assert first == {"redis.1": "node1", "redis.2": "node2", "redis.3": "node1"}
        fleet.declare(said, **labelled(node1="ssd", node2="hdd", node3="ssd"))
        fleet.site()
        assert where(fleet) == {**first, "redis.2": "node3"}
        at_work.serve(where(fleet))
        assert Caller(fleet, "node1", "worker").tasks(vip_of(fleet), 6) == dict.fromkeys(first, 2)
        assert fleet.site().changed == []
        fleet.declare(said, **labelled(node1="ssd", node2="hdd", node3="hdd"))
        run = fleet.play("site")
        assert run.code != 0
        assert "3 tasks, and node1 may have 2 of them" in run.output

    def test_a_host_that_joins_moves_nothing_and_one_that_leaves_only_its_own(
        self, joining: Fleet, at_work: Servers
    ) -> None:
        fleet, everyone = joining, redis(4)
        only(fleet, "node1", "node2")
        fleet.declare(everyone, **WORKER)
        fleet.site()
        first = where(fleet)
        assert sorted(first.values()) == ["node1", "node1", "node2", "node2"]
        vip = vip_of(fleet)
        only(fleet, "node1", "node2", "node3")
        fleet.declare(everyone, **WORKER)
        assert fleet.site().changed == []
        fleet.declare(redis(5), **WORKER)
        fleet.site()
        assert where(fleet) == {**first, "redis.5": "node3"}

        lost = {task: host for task, host in first.items() if host == "node2"}
        gone = [address for task in lost for address in addresses(fleet, "node2", task)]
        node2 = fleet.lab.address("node2")
        at_work.serve(where(fleet))
        worker = Caller(fleet, "node1", "worker")
        flow = worker.datagrams(vip)
        while echoed(flow, "who") not in lost:
            flow = worker.datagrams(vip)
        # it dies: nobody reaches it any more, neither Ansible nor VXLAN
        fleet.sh("node2", f"nft '{DEAD}'")
        try:
            only(fleet, "node1", "node3")
            fleet.declare(redis(5), **WORKER)
            fleet.site()
            moved = where(fleet)
            assert {task: host for task, host in moved.items() if task not in lost} == {
                task: host for task, host in {**first, "redis.5": "node3"}.items() if task not in lost
            }
            assert set(moved) == {f"redis.{number}" for number in range(1, 6)}
            at_work.serve({task: moved[task] for task in lost})
            assert vip_of(fleet) == vip
            assert worker.tasks(vip, 10) == dict.fromkeys(moved, 2)
            assert echoed(flow, "who") in moved
            kept = {address for task, host in moved.items() for address in addresses(fleet, host, task)}
            assert mentioned(fleet, [node2, *(set(gone) - kept)]) == []
        finally:
            fleet.sh("node2", "nft delete table inet dead")


class TestRemoving:
    def test_a_service_removes_everything_of_it(self, fleet: Fleet) -> None:
        bare = declared({}, {"vote": NETWORKS["vote"]})
        fleet.declare(bare, **WORKER)
        fleet.site()
        before = {host: (snapshot(fleet, host), rules(fleet, host)) for host in fleet.hosts}
        whole = declared({"redis": {**VOTE, "deploy": {"replicas": 3}, "ports": ["3000:80", "53:53/udp"]}}, **bare)
        whole = declared(whole["cnm_services"], bare["cnm_networks"])
        fleet.declare(whole, **WORKER)
        fleet.site()
        fleet.declare(bare, **WORKER)
        fleet.site()
        assert {host: (snapshot(fleet, host), rules(fleet, host)) for host in fleet.hosts} == before


# --- networks of one host --------------------------------------------------------------------------------------------

LOCAL = {"ps-bridge": {"subnet": ["10.20.0.0/24", "fd00:20::/64"], "enable_ipv6": True}}


def local(**deploy: Any) -> dict[str, Any]:
    """A service on each host's own network."""
    web = {"networks": {"ps-bridge": {"aliases": ["www"]}}, "deploy": {"replicas": 5, **deploy}}
    return declared({"web": web}, LOCAL, cnm_hosts="all")


class TestOnNetworksOfOneHost:
    @pytest.mark.whole
    def test_each_host_balances_among_its_own_tasks_for_sandboxes_and_for_itself(
        self, fleet: Fleet, at_work: Servers
    ) -> None:
        boxes = {host: sandboxes(**{f"c{host[-1]}": ["ps-bridge"]}) for host in ("node1", "node2")}
        fleet.declare(local(placement={"hosts": ["node1", "node2"]}), **boxes)
        foretold = fleet.site("--check")
        assert fleet.site().operations("node1") == foretold.operations("node1")
        tasks = where(fleet)
        at_work.serve(tasks)
        assert Counter(tasks.values()) == {"node1": 3, "node2": 2}
        for host, box in (("node1", "c1"), ("node2", "c2")):
            mine = [task for task, place in tasks.items() if place == host]
            inner = Caller(fleet, host, box)
            vips = inner.lookup("web")
            assert vips == inner.lookup("www") == inner.lookup("web.ps-bridge")
            assert inner.lookup("tasks.web") == sorted(a for task in mine for a in addresses(fleet, host, task))
            assert in_namespace(inside(fleet, host, box), ask_reverse, vips[0]).data == ("web.ps-bridge",)
            for caller in (inner, Caller(fleet, host), Caller(fleet, host, mine[0])):
                for vip in vips:
                    for protocol in ("tcp", "udp"):
                        said = caller.call(vip, 2 * len(mine), protocol=protocol)
                        assert Counter(each.split(" ")[0] for each in said) == dict.fromkeys(mine, 2)
                        assert len({each.split(" ")[1] for each in said}) == 1
                    assert caller.pings(vip)
        assert fleet.site().changed == []

        vip = Caller(fleet, "node1", "c1").lookup("web")[0]
        gone = {a for task in ("web.3", "web.5") for a in addresses(fleet, "node1", task)}
        flow = Caller(fleet, "node1").datagrams(vip)
        while echoed(flow, "who") != "web.5":
            flow = Caller(fleet, "node1").datagrams(vip)
        fleet.declare(local(replicas=2, placement={"hosts": ["node1"]}), **boxes)
        fleet.site()
        assert where(fleet) == {"web.1": "node1", "web.2": "node1"}
        gone -= set(addresses(fleet, "node1", "web.2"))
        at_work.serve({"web.2": "node1"})
        assert echoed(flow, "who") in ("web.1", "web.2")
        assert Caller(fleet, "node1", "c1").tasks(vip, 4) == {"web.1": 2, "web.2": 2}
        assert mentioned(fleet, sorted(gone)) == []
        (said,) = Caller(fleet, "node2", "c2").call(Caller(fleet, "node2", "c2").lookup("web")[0])
        assert "refused" in said
        verified = fleet.play("verify")
        assert verified.code == 0, verified.output


# --- cnm_ingress_mode: local -----------------------------------------------------------------------------------------


def kept(replicas: int, **deploy: Any) -> dict[str, Any]:
    """A service on node1 and node2 whose ports lead to a host's own tasks."""
    ports = ["3000:6379", "3000:6379/udp", {"target": PORT, "published": 3001, "host_ip": "127.0.0.1"}]
    deploy = {"replicas": replicas, "placement": {"hosts": ["node1", "node2"]}, **deploy}
    return declared({"redis": {**VOTE, "deploy": deploy, "ports": ports}}, cnm_ingress_mode="local")


class TestIngressModeLocal:
    def test_hosts_with_a_task_answer_and_the_task_sees_the_client(self, fleet: Fleet, at_work: Servers) -> None:
        fleet.declare(kept(4), **WORKER)
        foretold = fleet.site("--check")
        assert fleet.site().operations("node1") == foretold.operations("node1")
        assert not any("ingress_sbox" in fleet.sh(host, "ls /run/netns") for host in ("node1", "node2"))
        tasks = where(fleet)
        at_work.serve(tasks)
        outside = Caller(fleet, SWITCH)
        for host in ("node1", "node2"):
            mine = [task for task, place in tasks.items() if place == host]
            for family in (4, 6):
                target = fleet.lab.address(host, family)
                for protocol in ("tcp", "udp"):
                    said = Counter(outside.call(target, 4, port=3000, protocol=protocol))
                    assert said == {f"{task} {fleet.lab.address(SWITCH, family)}": 2 for task in mine}
                assert Caller(fleet, host).tasks(target, 4, port=3000) == dict.fromkeys(mine, 2)
            assert Caller(fleet, host).tasks("127.0.0.1", 4, port=3000) == dict.fromkeys(mine, 2)
            assert Caller(fleet, host).tasks("127.0.0.1", 4, port=3001) == dict.fromkeys(mine, 2)
            (said_elsewhere,) = outside.call(fleet.lab.address(host), port=3001)
            assert "refused" in said_elsewhere
        worker = Caller(fleet, "node1", "worker")
        assert worker.tasks(fleet.lab.address("node2"), 2, port=3000).total() == 2
        (said_elsewhere,) = outside.call(fleet.lab.address("node3"), port=3000)
        assert "refused" in said_elsewhere
        assert fleet.site().changed == []
        verified = fleet.play("verify")
        assert verified.code == 0, verified.output
        assert verified.of("cnm.fabric.verify", "node1")["counts"]["connect"] == 1

        other, drained = (task for task, host in tasks.items() if host == "node1")
        address = fleet.lab.address("node1")
        flow = outside.datagrams(address, 3000)
        while echoed(flow, "who") != drained:
            flow = outside.datagrams(address, 3000)
        fleet.declare(kept(4, draining=[drained]), **WORKER)
        fleet.site()
        assert echoed(flow, "still there?") == drained
        assert outside.tasks(address, 4, port=3000) == {other: 4}
        fleet.declare(kept(4, placement={"hosts": ["node1"]}, draining=[]), **WORKER)
        fleet.site()
        moved = where(fleet)
        at_work.serve({task: host for task, host in moved.items() if tasks[task] != host})
        assert outside.tasks(address, 8, port=3000) == dict.fromkeys(moved, 2)
        assert "refused" in outside.call(fleet.lab.address("node2"), port=3000)[0]
        at_work.stop(drained)
        fleet.declare(kept(2, placement={"hosts": ["node1"]}), **WORKER)
        fleet.site()
        assert echoed(flow, "and now?") in ("redis.1", "redis.2")
        assert outside.tasks(address, 4, port=3000) == {"redis.1": 2, "redis.2": 2}


class TestWrongInput:
    def test_is_said_before_any_change(self, fleet: Fleet) -> None:
        before = {host: snapshot(fleet, host) for host in fleet.hosts}
        services = {
            "redis": {**VOTE, "deploy": {"placement": {"hosts": ["node9"]}}, "ports": ["3000:80"]},
            "web": {"networks": ["vote"], "ports": ["3000:8080"], "deploy": {"replicas": 300}},
        }
        fleet.declare(declared(services))
        run = fleet.play("site")
        assert run.code != 0
        assert "cnm_services.redis.deploy.placement.hosts" in run.output
        assert "cnm_services.web.ports[0]" in run.output
        assert {host: snapshot(fleet, host) for host in fleet.hosts} == before

    def test_more_tasks_than_addresses_are_said_before_any_change(self, fleet: Fleet) -> None:
        before = {host: snapshot(fleet, host) for host in fleet.hosts}
        fleet.declare(declared({"web": {"networks": ["vote"], "deploy": {"replicas": 300}}}))
        run = fleet.play("site")
        assert run.code != 0
        assert "10.10.2.0/24" in run.output
        assert {host: snapshot(fleet, host) for host in fleet.hosts} == before
