# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The modules of the model, network, sandbox, endpoint and network_info, alone and beside the inventory."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import Fleet, snapshot
from lab import Lab
from test_modules import Result, Task, a, done, ok, play

SUBNET = {"subnet": "10.0.0.0/24"}
BRIDGE = {"com.docker.network.bridge.name": "br-lab"}
LAB = a("network", name="lab", **SUBNET, driver_opts=BRIDGE)
C1 = a("sandbox", name="c1", networks=["lab"])
DECLARED = {"cnm_networks": {"front": {"subnet": "10.1.0.0/24"}}}
ON_FRONT = {"cnm_sandboxes": {"web": {"networks": ["front"]}, "db": {"networks": ["front"]}}}


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """An inventory of node1; afterwards the host is as it was, once all that is ours is removed."""
    fleet = Fleet(lab, tmp_path, ["node1"])
    # modules alone make no user: that is the role's
    fleet.sh("node1", "id cnm-resolver 2>/dev/null || useradd --system --user-group cnm-resolver")
    before = snapshot(fleet, "node1")
    yield fleet
    fleet.clear()
    assert snapshot(fleet, "node1") == before


@pytest.fixture
def site(fleet: Fleet) -> Fleet:
    """web and db on front, by the inventory."""
    fleet.declare(DECLARED, node1=ON_FRONT)
    fleet.site()
    return fleet


def one(fleet: Fleet, task: Task) -> Result:
    return ok(fleet, task)[0]


def refused(fleet: Fleet, *tasks: Task) -> list[str]:
    """What each says; none of them changes anything."""
    before = snapshot(fleet, "node1")
    results = play(fleet, *tasks)
    assert [result["status"] for result in results] == ["failed"] * len(tasks)
    assert snapshot(fleet, "node1") == before
    return [str(result["msg"]) for result in results]


def index(fleet: Fleet, link: str, namespace: str = "") -> str:
    """A link's number: another one once it was made anew."""
    where = f"ip netns exec {namespace} " if namespace else ""
    return fleet.sh("node1", f"{where}cat /sys/class/net/{link}/ifindex").strip()


def links(fleet: Fleet, sandbox: str) -> list[str]:
    said = fleet.sh("node1", f"ip -n {sandbox} -br link").splitlines()
    return [line.split()[0].partition("@")[0] for line in said]


# Each: what has to be there, the object, the same in other words, changed, what the change and the removal consist of.
CYCLES: dict[str, dict[str, Any]] = {
    "network": {
        "set": {"name": "lab", **SUBNET, "driver_opts": BRIDGE, "enable_ipv6": True},
        "made": {"create link br-lab", "create address br-lab/10.0.0.1/24"},
        "same": {
            "name": "lab",
            "driver": "bridge",
            "ipam": {"config": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}]},
            "enable_ipv6": "yes",
            "internal": False,
            "driver_opts": BRIDGE,
        },
        "other": {"name": "lab", **SUBNET, "driver_opts": {**BRIDGE, "com.docker.network.driver.mtu": 1400}},
        "changed": {"change link br-lab"},
        "removed": {"delete link br-lab"},
    },
    "sandbox": {
        "before": [LAB],
        "set": {"name": "c1", "networks": ["lab"], "ports": ["8080:80"], "dns_search": "corp.example"},
        "made": {"create namespace c1", "create link c1/eth0", "create address c1/eth0/10.0.0.2/24"},
        "same": {
            "name": "c1",
            "networks": {"lab": {}},
            "ports": [{"target": 80, "published": 8080}],
            "dns_search": ["corp.example"],
        },
        "other": {"name": "c1", "networks": {"lab": {"ipv4_address": "10.0.0.9"}}},
        "changed": {"create address c1/eth0/10.0.0.9/24", "delete address c1/eth0/10.0.0.2/24"},
        "removed": {"delete namespace c1"},
    },
    "endpoint": {
        "before": [LAB, a("network", name="other", subnet="10.0.1.0/24"), C1],
        "set": {"network": "other", "sandbox": "c1", "aliases": "web,www"},
        "made": {"create link c1/eth1", "create address c1/eth1/10.0.1.2/24"},
        "same": {"network": "other", "sandbox": "c1", "aliases": ["web", "www"], "gw_priority": "0"},
        "other": {"network": "other", "sandbox": "c1", "gw_priority": 1},
        "changed": {"change route c1/default"},
        "removed": {"delete link c1/eth1"},
    },
    "service": {
        "before": [LAB],
        "set": {"name": "web", "networks": ["lab"], "deploy": {"replicas": 2}, "ports": ["8080:80"]},
        "made": {"create namespace web.1", "create namespace web.2", "create link web.2/eth0"},
        "same": {
            "name": "web",
            "networks": {"lab": {}},
            "deploy": {"replicas": 2, "mode": "replicated", "scheduler": "rr"},
            "ports": [{"target": 80, "published": 8080}],
        },
        "other": {"name": "web", "networks": "lab", "deploy": {"replicas": 2, "draining": ["web.1"]}},
        "changed": {"change nftables inet cnm", "change nftables web.2/inet cnm"},
        "removed": {"delete namespace web.1", "delete namespace web.2"},
    },
}


@pytest.mark.whole
def test_policies_of_the_inventory_hold_for_what_modules_make(fleet: Fleet) -> None:
    """A sandbox, a network and a service; site keeps all of it."""
    only_web = {"ingress": [{"action": "allow", "from": [{"sandbox": "web"}], "icmp_types": ["echo-request"]}]}
    fleet.declare({**DECLARED, "cnm_policies": {"shut": only_web}}, node1=ON_FRONT)
    fleet.site()

    def answers(caller: str, address: str) -> bool:
        return fleet.sh("node1", f"ip netns exec {caller} ping -nc1 -W1 {address} >/dev/null && echo yes", False) != ""

    def mine(result: Result, kind: str) -> str:
        return str(result[kind]["endpoints"][0]["addresses"][0]).partition("/")[0]

    made = ok(
        fleet,
        a("sandbox", name="c2", networks=["front"], policies="shut"),
        a("network", name="quiet", subnet="10.5.0.0/24", policies=["shut"]),
        a("sandbox", name="c3", networks=["quiet"]),
        a("sandbox", name="c4", networks=["quiet"]),
        a("service", name="api", networks=["front"], policies=["shut"]),
    )
    c2, c3 = mine(made[0], "sandbox"), mine(made[2], "sandbox")
    assert made[0]["sandbox"]["policy"]["policies"] == ["shut"]
    assert (answers("web", c2), answers("db", c2)) == (True, False)
    assert not answers("c4", c3)
    assert fleet.site().operations("node1") == []
    again = one(fleet, a("sandbox", name="c2", networks=["front"], policies=["shut"]))
    assert not again["changed"]
    opened = one(fleet, a("sandbox", name="c2", networks=["front"]))
    assert opened["changed"]
    assert answers("db", c2)
    (said,) = refused(fleet, a("sandbox", name="c2", networks=["front"], policies=["shutt"]))
    assert said.startswith("policies[0]: There is no policy `shutt` on this host. Did you mean `shut`?")


@pytest.mark.parametrize("module", CYCLES)
def test_set_again_the_same_in_other_words_changed_and_gone(fleet: Fleet, module: str) -> None:
    cycle = CYCLES[module]
    before: list[Task] = cycle.get("before", [])
    absent = {key: value for key, value in cycle["set"].items() if key in ("name", "network", "sandbox")}
    steps = (cycle["set"], cycle["other"], {**absent, "state": "absent"})
    tasks = [a(module, check, **options) for options in steps for check in (True, False, False)]
    tasks.insert(3, a(module, **cycle["same"]))
    foretold, made, again, equal, to_change, changed, settled, to_go, gone, still = ok(fleet, *before, *tasks)[
        len(before) :
    ]
    for check, run, expected in ((foretold, made, "made"), (to_change, changed, "changed"), (to_go, gone, "removed")):
        assert done(check) == done(run)
        assert cycle[expected] <= set(done(run))
        assert run["diff"]["before"] or run["diff"]["after"]
    assert not any(operation.startswith(("create link", "replace")) for operation in done(changed))
    assert done(again) == done(equal) == done(settled) == done(still) == []


class TestWhatIsMade:
    def test_a_network_stands_without_users_and_is_shown(self, fleet: Fleet) -> None:
        made, info, every = ok(fleet, LAB, a("network_info", name="lab"), a("network_info"))
        assert "10.0.0.1/24" in fleet.sh("node1", "ip -4 -br address show br-lab")
        assert info["exists"]
        assert info["networks"] == [made["network"]]
        assert made["network"]["IPAM"]["Config"] == [{"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1"}]
        assert made["network"]["Containers"] == {}
        assert [item["Name"] for item in every["networks"]] == ["bridge", "host", "lab", "none"]

    def test_on_a_bare_host_there_are_the_predefined_networks(self, fleet: Fleet) -> None:
        every, none = ok(fleet, a("network_info"), a("network_info", name="lab"))
        assert [item["Name"] for item in every["networks"]] == ["bridge", "host", "none"]
        assert (none["exists"], none["networks"]) == (False, [])

    def test_a_difference_that_only_users_see_is_told(self, fleet: Fleet) -> None:
        ok(fleet, LAB)
        labelled = a("network", name="lab", **SUBNET, driver_opts=BRIDGE, labels={"tier": "front"})
        changed, again = ok(fleet, labelled, labelled)
        assert done(changed) == ["change network lab"]
        assert changed["operations"][0]["differences"] == [
            {"attribute": "Labels", "found": {}, "wanted": {"tier": "front"}}
        ]
        assert changed["network"]["Labels"] == {"tier": "front"}
        assert done(again) == []

    def test_sandboxes_reach_each_other_by_name_and_ports_lead_there(self, fleet: Fleet) -> None:
        web = a("sandbox", name="web", networks={"lab": {"aliases": ["www"]}}, ports="8080:80")
        _lab, _c1, made = ok(fleet, LAB, C1, web)
        assert (
            made["sandbox"]["ports"] == ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"][: len(made["sandbox"]["ports"])]
        )
        for name in ("web", "www"):
            fleet.sh("node1", f"ip netns exec c1 ping -c 1 -W 2 {name}")

    @pytest.mark.whole
    def test_a_namespace_of_somebody_else_s_is_a_sandbox_and_stays(self, fleet: Fleet) -> None:
        fleet.sh("node1", "ip netns add theirs; ip -n theirs link set lo up")
        try:
            theirs = a("sandbox", name="web", networks=["lab"], namespace={"path": "/run/netns/theirs"})
            other = a("network", name="other", subnet="10.0.1.0/24")
            end = a("endpoint", network="other", sandbox="web")
            *_before, made, again, _connected = ok(fleet, LAB, C1, other, theirs, theirs, end)
            assert {"create namespace web", "create link web/eth0"} <= set(done(made))
            assert done(again) == []
            assert links(fleet, "theirs") == ["lo", "eth0", "eth1"]
            fleet.sh("node1", "ip netns exec c1 ping -c 1 -W 2 web")
            (gone,) = ok(fleet, a("sandbox", name="web", state="absent"))
            assert {"delete link web/eth0", "delete namespace web"} <= set(done(gone))
            assert links(fleet, "theirs") == ["lo"]
        finally:
            fleet.sh("node1", "ip netns delete theirs")

    def test_without_a_network_a_sandbox_is_on_the_predefined_one(self, fleet: Fleet) -> None:
        made, gone = ok(fleet, a("sandbox", name="c1"), a("endpoint", network="bridge", sandbox="c1", state="absent"))
        assert [end["network"] for end in made["sandbox"]["endpoints"]] == ["bridge"]
        assert links(fleet, "c1") == ["lo"]
        assert "delete link cnm0" in done(gone)
        again, same, back = ok(
            fleet,
            a("sandbox", name="c1"),
            a("endpoint", network="bridge", sandbox="c1", state="absent"),
            a("endpoint", network="bridge", sandbox="c1"),
        )
        assert done(again) == done(same) == []
        assert "create link c1/eth0" in done(back)

    def test_on_the_command_line(self, fleet: Fleet) -> None:
        book = fleet.directory / "line.yml"
        tasks = [
            {"cnm.fabric.network": "name=lab subnet=10.0.0.0/24,fd00:7::/64 internal=true labels=a=b"},
            {"cnm.fabric.sandbox": "name=c1 networks=lab sysctls=net.ipv4.ip_forward=1 dns=192.0.2.5,192.0.2.6"},
        ]
        book.write_text(yaml.safe_dump([{"hosts": "node1", "gather_facts": False, "tasks": tasks}]))
        run = fleet.play(str(book))
        assert run.code == 0, run.output
        network = run.of("cnm.fabric.network", "node1")["network"]
        assert [item["Subnet"] for item in network["IPAM"]["Config"]] == ["10.0.0.0/24", "fd00:7::/64"]
        assert (network["Internal"], network["Labels"]) == (True, {"a": "b"})

    @pytest.mark.whole
    def test_links_keep_their_names_when_others_come_and_go(self, fleet: Fleet) -> None:
        names = ("lab", "b", "c")
        networks = [a("network", name=name, subnet=f"10.0.{number}.0/24") for number, name in enumerate(names)]
        connect = [a("endpoint", network=name, sandbox="c1") for name in ("c", "b")]
        ok(fleet, *networks, C1, *connect)
        assert links(fleet, "c1") == ["lo", "eth0", "eth1", "eth2"]
        numbers = [index(fleet, f"eth{number}", "c1") for number in range(3)]
        ok(fleet, a("endpoint", network="c", sandbox="c1", state="absent"))
        assert (links(fleet, "c1"), index(fleet, "eth2", "c1")) == (["lo", "eth0", "eth2"], numbers[2])
        ok(fleet, a("endpoint", network="lab", sandbox="c1", state="absent"))
        assert (links(fleet, "c1"), index(fleet, "eth2", "c1")) == (["lo", "eth2"], numbers[2])
        ok(fleet, a("endpoint", network="lab", sandbox="c1"))
        assert sorted(links(fleet, "c1")) == ["eth0", "eth2", "lo"]

    def test_a_free_subnet_avoids_what_another_module_s_bridge_has(self, fleet: Fleet) -> None:
        made = ok(fleet, a("bridge", name="br-x", addresses=["172.17.0.1/16"]), a("network", name="lab"))[1]
        assert made["network"]["IPAM"]["Config"][0]["Subnet"] == "172.18.0.0/16"


API = {"name": "api", "networks": ["lab"], "ports": ["8080:80"]}


def shares(fleet: Fleet, sandbox: str, address: str, port: int, times: int) -> Counter[str]:
    """How many of the calls each task answered."""
    script = f"""
for n in $(seq {times}); do
  timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}; head -1 <&3'
done"""
    inside = f"ip netns exec {sandbox} " if sandbox else ""
    return Counter(fleet.sh("node1", f"{inside}sh -c {shlex.quote(script)}").split())


@contextmanager
def tasks_at_work(fleet: Fleet, *tasks: str) -> Iterator[None]:
    """Each task says its name on port 80."""
    program = (
        "import socket,sys; s=socket.create_server(('',80))\n"
        "while True:\n c=s.accept()[0]; c.sendall(sys.argv[1].encode()+b'\\n'); c.close()"
    )
    started = [
        fleet.lab.popen("node1", ["ip", "netns", "exec", task, "/usr/bin/python3", "-c", program, task])
        for task in tasks
    ]
    try:
        fleet.sh(
            "node1", " && ".join(f"until ip netns exec {t} ss -Hltn | grep -q :80; do sleep 0.1; done" for t in tasks)
        )
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
        # The tasks' servers outlive the programs that we started them by.
        stop = "for p in $(ip netns pids {0}); do case $(cat /proc/$p/comm) in python*) kill $p;; esac; done"
        fleet.sh("node1", ";".join(stop.format(task) for task in tasks))


class TestServices:
    @pytest.mark.whole
    def test_a_service_is_called_scaled_and_kept_by_site(self, site: Fleet) -> None:
        ok(site, LAB, C1, a("service", **API, deploy={"replicas": 2}))
        made = one(site, a("service", **API, deploy={"replicas": 2}))
        (vip,) = made["service"]["networks"]["lab"]["vips"]
        assert sorted(made["service"]["tasks"]) == ["api.1", "api.2"]
        assert site.sh("node1", "ip netns exec c1 getent ahostsv4 api").split()[0] == vip
        with tasks_at_work(site, "api.1", "api.2"):
            for caller, address, port in (("c1", vip, 80), ("", vip, 80), ("", site.lab.address("node1"), 8080)):
                assert shares(site, caller, address, port, 4) == {"api.1": 2, "api.2": 2}
            scaled = one(site, a("service", **API, deploy={"replicas": 3, "draining": ["api.1"]}))
            assert "create namespace api.3" in done(scaled)
            assert scaled["service"]["networks"]["lab"]["vips"] == [vip]
            with tasks_at_work(site, "api.3"):
                assert shares(site, "c1", vip, 80, 4) == {"api.2": 2, "api.3": 2}
        second = a("network", name="second", subnet="10.9.0.0/24")
        ok(site, second, a("service", name="idle", networks=["second"], deploy={"replicas": 0}))
        assert site.site().changed == []
        assert site.play("verify").code == 0
        said = refused(
            site,
            a("network", name="second", state="absent"),
            a("service", **API, deploy={"placement": {"hosts": ["node1"]}}),
            a("service", name="other", networks=["lab"], ports=["8080:81"]),
            a("service", name="other", networks=["labb"]),
            a("service", name="other", networks=["lab"], deploy={"replicas": 300}),
            a("service", name="other", networks=["lab"], deploy={"replicaz": 3, "scheduler": "best"}),
            a("service", name="c1", networks=["lab"]),
            a("service", name="other", networks=["lab"], deploy={"scheduler": "lc"}),
            a("sandbox", name="api.2", networks=["lab"]),
        )
        for text, part in zip(
            said,
            (
                "the network second is used by the service idle",
                "deploy.placement: this module runs all tasks on one host",
                "port 8080/tcp is also published by",
                "networks: there is no network labb on this host. Did you mean `lab`?",
                "10.0.0.0/24 has no address left for",
                "deploy.replicaz: ",
                "This is the name of the service `c1`",
                "deploy.scheduler: lc takes IPVS",
                "name: This is the name of a task of the service `api`",
            ),
        ):
            assert part in text
        assert "delete namespace api.3" in done(one(site, a("service", name="api", state="absent")))
        assert site.site().changed == []

    @pytest.mark.whole
    def test_the_inventory_adopts_it_and_a_module_then_leaves_it(self, site: Fleet) -> None:
        ok(site, LAB, a("service", name="web2", networks=["lab"], deploy={"replicas": 2}))
        before = snapshot(site, "node1")
        placed = {"replicas": 2, "placement": {"hosts": ["node1"]}}
        networks = {**DECLARED["cnm_networks"], "lab": {**SUBNET, "driver_opts": BRIDGE}}
        services = {"web2": {"networks": ["lab"], "deploy": placed}}
        site.declare({"cnm_networks": networks, "cnm_services": services}, node1=ON_FRONT)
        site.site()
        assert snapshot(site, "node1") == before
        assert not one(site, a("service", name="web2", networks=["lab"], deploy={"replicas": 2}))["changed"]
        said = refused(site, a("service", name="web2", state="absent"), a("service", name="web2", networks=["lab"]))
        assert all("in the inventory (cnm_services.web2)" in text for text in said)


class TestBesideSite:
    def test_a_declared_sandbox_is_connected_and_disconnected_live(self, site: Fleet) -> None:
        number = index(site, "eth0", "web")
        connected = ok(site, LAB, C1, a("endpoint", network="lab", sandbox="web", aliases=["www"]))[2]
        assert {"create link web/eth1", "create address web/eth1/10.0.0.3/24"} <= set(done(connected))
        assert [end["network"] for end in connected["sandbox"]["endpoints"]] == ["front", "lab"]
        assert index(site, "eth0", "web") == number
        site.sh("node1", "ip netns exec c1 ping -c 1 -W 2 www")
        site.sh("node1", "ip netns exec web ping -c 1 -W 2 c1")
        site.sh("node1", "ip netns exec web ping -c 1 -W 2 db")
        gone = one(site, a("endpoint", network="lab", sandbox="web", state="absent"))
        assert "delete link web/eth1" in done(gone)
        assert site.sh("node1", "ip netns exec c1 getent hosts www || echo no").strip() == "no"
        last = one(site, a("endpoint", network="front", sandbox="web", state="absent"))
        assert "delete link web/eth0" in done(last)
        assert links(site, "web") == ["lo"]
        assert site.site().changed == []
        assert links(site, "web") == ["lo"]

    def test_site_keeps_what_modules_made_and_has_nothing_to_do(self, site: Fleet) -> None:
        made = (LAB, C1, a("endpoint", network="lab", sandbox="web"), a("endpoint", network="front", sandbox="c1"))
        ok(site, *made)
        before = snapshot(site, "node1")
        assert site.site("--check").changed == []
        run = site.site()
        assert run.changed == []
        assert run.of("cnm.fabric.plan", "node1")["hosts"]["node1"]["kept"] is True
        assert site.play("verify").code == 0
        assert not any(result["changed"] for result in ok(site, *made))
        assert snapshot(site, "node1") == before
        site.declare(DECLARED, node1={"cnm_sandboxes": {**ON_FRONT["cnm_sandboxes"], "new": {"networks": ["front"]}}})
        assert "create namespace new" in site.site().operations("node1")
        assert not any(result["changed"] for result in ok(site, *made))

    @pytest.mark.whole
    def test_what_the_inventory_no_longer_declares_goes_and_what_modules_made_stays(self, site: Fleet) -> None:
        ok(site, LAB, C1)
        site.declare({"cnm_networks": {}})
        assert "delete namespace web" in site.site().operations("node1")
        assert not any(result["changed"] for result in ok(site, LAB, C1))

    def test_a_call_applies_no_pending_change_of_the_inventory(self, site: Fleet) -> None:
        site.declare({"cnm_networks": {"front": {"subnet": "10.2.0.0/24"}}})
        made = one(site, LAB)
        assert all(name in ("br-lab", "inet cnm", "bridge cnm") or "br-lab" in name for name in names_of(made))
        assert links(site, "web") == ["lo", "eth0"]

    @pytest.mark.whole
    def test_the_inventory_adopts_without_making_anything_anew(self, site: Fleet) -> None:
        ok(site, LAB, C1, a("sandbox", name="c2", networks=["lab"]), a("endpoint", network="lab", sandbox="web"))
        before = snapshot(site, "node1")
        networks = {**DECLARED["cnm_networks"], "lab": {**SUBNET, "driver_opts": BRIDGE}}
        sandboxes = {"web": {"networks": ["front", "lab"]}, "db": {"networks": ["front"]}, "c1": {"networks": ["lab"]}}
        site.declare({"cnm_networks": networks}, node1={"cnm_sandboxes": sandboxes})
        assert site.site().operations("node1") == []
        assert snapshot(site, "node1") == before
        assert not any(result["changed"] for result in ok(site, LAB, C1))  # says what the inventory says
        assert refused(
            site,
            a("network", name="lab", state="absent"),
            a("network", name="lab", subnet="10.7.0.0/24"),
            a("sandbox", name="c1", state="absent"),
            a("sandbox", name="c1", networks=["front"]),
            a("endpoint", network="lab", sandbox="web", ipv4_address="10.0.0.99"),
        ) == [
            "the network lab is declared in the inventory (cnm_networks.lab): remove it there",
            "the network lab is declared differently in the inventory (cnm_networks.lab): change it there",
            "the sandbox c1 is declared in the inventory (cnm_sandboxes.c1): remove it there",
            "the sandbox c1 is declared differently in the inventory (cnm_sandboxes.c1): change it there",
            ("web is declared on lab in the inventory (cnm_sandboxes.web): change the endpoint's options there"),
        ]
        del sandboxes["c1"], sandboxes["web"]
        site.declare({"cnm_networks": networks}, node1={"cnm_sandboxes": sandboxes})
        gone = site.site().operations("node1")
        assert {"delete namespace c1", "delete namespace web"} <= set(gone)
        assert "delete namespace c2" not in gone

    def test_mistakes_beside_what_a_module_made_say_so_and_what_to_do(self, site: Fleet) -> None:
        ok(site, LAB, a("endpoint", network="lab", sandbox="web"))
        networks = {**DECLARED["cnm_networks"], "new": {"subnet": "10.0.0.0/16"}}
        site.declare({"cnm_networks": networks}, node1=ON_FRONT)
        run = site.play("site")
        assert run.code != 0
        assert "The network `lab` was made by the module cnm.fabric.network" in run.output
        assert "`ansible node1 -m cnm.fabric.network -a 'name=lab state=absent'` removes it." in run.output

    def test_a_run_without_declarations_refuses_all_the_same(self, fleet: Fleet) -> None:
        ok(fleet, LAB)
        fleet.declare({})
        run = fleet.play("site")
        assert run.code != 0
        assert "There is no cnm_ declaration on any host" in run.output


def names_of(result: Result) -> list[str]:
    return [item["name"] for item in result["operations"] if item["kind"] not in ("sysctl", "file", "boot")]


class TestRefusals:
    def test_what_docker_refuses(self, site: Fleet) -> None:
        ok(site, LAB, C1, a("sandbox", name="alone", network_mode="none"))
        said = refused(
            site,
            a("network", name="lab", state="absent"),
            a("network", name="bridge", state="absent"),
            a("network", name="x", driver="host"),
            a("endpoint", network="front", sandbox="alone"),
            a("endpoint", network="host", sandbox="c1"),
            a("endpoint", network="nowhere", sandbox="c1"),
            a("endpoint", network="lab", sandbox="c9"),
            a("sandbox", name="c9", networks=["labb"]),
            a("endpoint", network="front", sandbox="c1", ipv4_address="10.1.0.2x"),
        )
        for text, part in zip(
            said,
            (
                "the network lab has active endpoints: c1.",
                "is predefined and cannot be removed",
                "driver: the network of the driver host is predefined",
                "alone has network_mode none",
                "only network_mode connects a sandbox to the network",
                "network: there is no network nowhere on this host. Create it first, with cnm.fabric.network.",
                "sandbox: there is no sandbox c9 on this host.",
                "networks: there is no network labb on this host. Did you mean `lab`?",
                "ipv4_address (10.1.0.2x): ",
            ),
        ):
            assert part in text

    def test_mistakes_are_told_by_the_options_names_all_at_once(self, fleet: Fleet) -> None:
        wrong: dict[str, tuple[Task, list[str]]] = {
            "a subnet": (a("network", name="x", subnet="10.0.0.1/33"), ["subnet (10.0.0.1/33): "]),
            "two": (
                a("network", name="x", subnet="10.0.0.0/24", driver="bridgge", enable_ipv4=False),
                ["driver (bridgge): There is no such driver. Did you mean `bridge`?", "enable_ipv4: "],
            ),
            "a name": (a("network", name="../x"), ["name (../x): "]),
            "a predefined name": (
                a("network", name="bridge"),
                ["name: the network bridge is predefined: set it in the inventory (cnm_networks.bridge)"],
            ),
            "an option": (a("network", name="x", subnets="10.0.0.0/24"), ["no option subnets. Did you mean `subnet`?"]),
            "not yet": (
                a("network", name="x", driver="acme.net.fast"),
                ["driver (acme.net.fast): The collection acme.net is not installed."],
            ),
            "of a LAN": (a("network", name="x", driver="macvlan"), ["driver_opts: ", "Write `parent: eth0`"]),
            "of many hosts": (a("network", name="x", driver="overlay"), ["span hosts (x)", "run cnm.fabric.site"]),
            "a key": (a("sandbox", name="x", networks={"bridge": {"alias": ["a"]}}), ["networks.bridge.alias: "]),
            "a port": (a("sandbox", name="x", ports=["80:x"]), ["ports[0] (80:x): "]),
            "the host's own": (a("network", name="x", subnet="127.0.0.0/8"), ["subnet"]),
        }
        for (name, (_task, parts)), text in zip(
            wrong.items(), refused(fleet, *(task for task, _parts in wrong.values()))
        ):
            for part in parts:
                assert part in text, name

    def test_removing_what_is_not_there_is_no_change(self, fleet: Fleet) -> None:
        tasks = (
            a("network", name="x", state="absent"),
            a("sandbox", name="x", state="absent"),
            a("endpoint", network="x", sandbox="x", state="absent"),
        )
        assert [done(result) for result in ok(fleet, *tasks)] == [[], [], []]


class TestWithOthers:
    def test_module_defaults_of_the_group_name_the_project(self, fleet: Fleet) -> None:
        book = fleet.directory / "defaults.yml"
        network = {"cnm.fabric.network": {"name": "lab", **SUBNET}}
        plays = [
            {
                "hosts": "node1",
                "gather_facts": False,
                "module_defaults": {"group/cnm.fabric.fabric": {"project": "other"}},
                "tasks": [
                    network,
                    {"cnm.fabric.network_info": {"name": "lab"}},
                    {"cnm.fabric.converge": {"state": "absent"}},
                ],
            }
        ]
        book.write_text(yaml.safe_dump(plays, sort_keys=False))
        run = fleet.play(str(book))
        assert run.code == 0, run.output
        assert run.of("cnm.fabric.network_info", "node1")["exists"]
        assert "create nftables inet cnm_other" in done(run.of("cnm.fabric.network", "node1"))
        assert not one(fleet, a("network_info", name="lab"))["exists"]

    @pytest.mark.whole
    def test_two_controllers_with_stores_of_their_own_move_nobody(self, site: Fleet, tmp_path: Path) -> None:
        other = Fleet(site.lab, tmp_path / "other", ["node1"])
        ok(site, LAB, C1, a("sandbox", name="c2", networks=["lab"]))
        assert one(site, a("sandbox", name="c1", state="absent"))["changed"]
        third = a("sandbox", name="c3", networks=["lab"])
        ok(other, third)
        assert other.store.exists()
        assert not any(result["changed"] for result in ok(site, third, a("sandbox", name="c2", networks=["lab"])))
        fourth = one(site, a("sandbox", name="c4", networks=["lab"]))
        addresses = fourth["sandbox"]["endpoints"][0]["addresses"]
        assert addresses == ["10.0.0.4/24"]
        assert "10.0.0.2/24" in site.sh("node1", "ip -n c3 -br address")
        assert site.site().changed == []

    def test_two_calls_at_once_lose_nothing(self, fleet: Fleet, tmp_path: Path) -> None:
        fleets = [fleet, *(Fleet(fleet.lab, tmp_path / f"other{number}", ["node1"]) for number in range(2))]
        tasks = [a("network", name=f"n{number}", subnet=f"10.0.{number}.0/24") for number in range(3)]
        with ThreadPoolExecutor() as pool:
            for results in pool.map(ok, fleets, tasks):
                assert results[0]["changed"]
        every = one(fleet, a("network_info"))["networks"]
        assert {"n0", "n1", "n2"} <= {item["Name"] for item in every}
        assert not any(result["changed"] for result in ok(fleet, *tasks))

    @pytest.mark.whole
    def test_teardown_forgets_them(self, site: Fleet) -> None:
        ok(site, LAB, C1)
        site.teardown()
        assert not one(site, a("network_info", name="lab"))["exists"]
        site.site()
        assert not one(site, a("network_info", name="lab"))["exists"]


class TestInCheckMode:
    def test_nothing_is_kept(self, fleet: Fleet) -> None:
        before = snapshot(fleet, "node1")
        foretold = one(fleet, a("network", check=True, name="lab", **SUBNET))
        assert foretold["network"]["Name"] == "lab"
        assert snapshot(fleet, "node1") == before
        assert not fleet.store.exists()
        assert not one(fleet, a("network_info", name="lab"))["exists"]

    def test_what_a_task_before_would_have_made_is_a_warning(self, fleet: Fleet) -> None:
        foretold = one(fleet, a("sandbox", check=True, name="c1", networks=["lab"]))
        assert done(foretold) == ["create sandbox c1"]
        assert "there is no network lab on this host" in foretold["warnings"][0]
