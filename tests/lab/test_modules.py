# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The modules for single objects, each as a user calls it in a playbook of his own."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from fleet import Fleet, snapshot
from lab import Lab, address
from on_host import call_on_host
from overlaying import capturing, ended, pinged
from sampling import each

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.ipvs import is_available
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.namespaces import run_in_new
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink import Netlink, new_link


def lacks(kind: str) -> bool:
    """Whether the kernel does not have links of that kind."""
    with Netlink() as netlink:
        netlink.send([new_link("below0", "ifb")])
        below = next(link["index"] for link in netlink.links() if link["name"] == "below0")
        data = {"id": 7} if kind == "vlan" else {}
        return netlink.try_send([new_link("try0", kind, link=below, data=data)]) != [None]


MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"
NOT_ALONE = {"converge"}
"""Modules with a state that need a plan from other modules before them."""
WITH_STATE = sorted(
    path.stem
    for path in MODULES.glob("*.py")
    if path.stem not in NOT_ALONE and "choices: [present, absent]" in path.read_text(encoding="utf-8")
)
LACKING = {kind for kind in ("ipvlan", "vlan") if run_in_new(lacks, kind)} | (set() if is_available() else {"ipvs"})
"""Modules for what this kernel has not: tests/vm runs these tests for them, on one that has."""
SINGLE_OBJECT = {
    path.stem for path in MODULES.glob("*.py") if "- cnm.fabric.single_object\n" in path.read_text(encoding="utf-8")
}
"""Modules for one object of the kernel."""
MODULES_WITH_EXAMPLES = sorted({*SINGLE_OBJECT, *WITH_STATE} - LACKING)

NETWORKS = {"ps-bridge": {"subnet": "10.0.0.0/24", "driver_opts": {"com.docker.network.bridge.name": "br-ps"}}}
C1 = {"cnm_sandboxes": {"c1": {"networks": ["ps-bridge"]}}}

Task = dict[str, Any]
Result = dict[str, Any]


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """An inventory of node1; afterwards the host is as it was, once all that is ours is removed."""
    fleet = Fleet(lab, tmp_path, ["node1"])
    before = snapshot(fleet, "node1")
    yield fleet
    fleet.clear()
    assert snapshot(fleet, "node1") == before


def a(module: str, check: bool = False, **options: Any) -> Task:
    """A task."""
    return {"name": f"{module} {options}", f"cnm.fabric.{module}": options, "check_mode": check}


def play(fleet: Fleet, *tasks: Task, arguments: tuple[str, ...] = ()) -> list[Result]:
    """The tasks' results in their order, of each host in turn; each is tried, whatever became of those before."""
    book = fleet.directory / "tasks.yml"
    plays = [{"hosts": "all", "gather_facts": False, "ignore_errors": True, "tasks": list(tasks)}]
    book.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    run = fleet.play(str(book), *arguments)
    by_host = sorted(run.results, key=lambda entry: str(entry["host"]))
    results: list[Result] = [{**entry["result"], "status": entry["status"]} for entry in by_host]
    assert len(results) == len(tasks) * len(fleet.hosts), run.output
    assert "Traceback" not in run.output
    return results


def ok(fleet: Fleet, *tasks: Task) -> list[Result]:
    """As `play`, and all of them succeed."""
    results = play(fleet, *tasks)
    assert [result["msg"] for result in results if result["status"] == "failed"] == []
    return results


def call(fleet: Fleet, *tasks: Task) -> list[Result]:
    """As `play`, on node1, but it is not Ansible that calls the modules: a tenth of the time, for what depends on the
    modules alone.
    """
    results: list[Result] = []
    for task in tasks:
        name = next(key for key in task if key.startswith("cnm.fabric.")).rpartition(".")[2]
        module = importlib.import_module(f"ansible_collections.cnm.fabric.plugins.modules.{name}")
        arguments = {**task[f"cnm.fabric.{name}"], "_ansible_check_mode": task.get("check_mode", False)}
        given = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()

        def work(main: Any = module.main, given: bytes = given) -> Any:
            basic._ANSIBLE_ARGS = given
            basic._ANSIBLE_PROFILE = "legacy"  # 2.19 and newer ask for one
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
                main()
            return json.loads(printed.getvalue())

        result = call_on_host(fleet.lab, "node1", work)
        results.append({**result, "status": "failed" if result.get("failed") else "ok"})
    return results


def call_ok(fleet: Fleet, *tasks: Task) -> list[Result]:
    """As `call`, and all of them succeed."""
    results = call(fleet, *tasks)
    assert [result["msg"] for result in results if result["status"] == "failed"] == []
    return results


def done(result: Result) -> list[str]:
    """``create link br0``."""
    assert result["status"] == "ok", result
    assert result["changed"] is bool(result["operations"])
    return sorted(f"{item['action']} {item['kind']} {item['name']}" for item in result["operations"])


HERE, THERE, FAR = (address(f"node{number}") for number in (1, 2, 3))
HERE6, THERE6 = address("node1", 6), address("node2", 6)
MAC2, MAC3 = "02:42:0a:2b:00:02", "02:42:0a:2b:00:03"
TO_THERE = {"vtep": THERE, "mac_address": MAC2, "addresses": ["10.43.0.2", "fd00:43::2"]}

BLUE = a("namespace", name="blue")
BR_A = a("bridge", name="br-a", addresses=["10.20.0.1/24", "fd00:20::1/64"])

OFFICE = a("bridge", name="br-office")

# Each: what has to be there, the object, the same in other words, changed, what the change and the removal consist of.
CYCLES: dict[str, dict[str, Any]] = {
    "namespace": {
        "set": {"name": "blue"},
        "made": ["create namespace blue"],
        "absent": {"name": "blue"},
        "removed": ["delete namespace blue"],
    },
    "macvlan": {
        "before": [BLUE, OFFICE],
        "set": {
            "name": "lan0",
            "namespace": "blue",
            "parent": "br-office",
            "addresses": ["10.22.0.2/24", "fd00:22::2/64"],
            "mac_address": "02:42:0a:16:00:02",
            "mtu": 1400,
        },
        "made": [
            "create address blue/lan0/10.22.0.2/24",
            "create address blue/lan0/fd00:22::2/64",
            "create link blue/lan0",
        ],
        "same": {
            "name": "lan0",
            "namespace": "blue",
            "parent": "br-office",
            "mode": "bridge",
            "addresses": ["FD00:22::0002/64", "10.22.0.2/255.255.255.0"],
            "mac_address": "02-42-0A-16-00-02",
        },
        "other": {
            "name": "lan0",
            "namespace": "blue",
            "parent": "br-office",
            "mode": "private",
            "addresses": ["10.22.0.2/24"],
            "mac_address": "02:42:0a:16:00:03",
        },
        "changed": ["change link blue/lan0", "delete address blue/lan0/fd00:22::2/64"],
        "absent": {"name": "lan0", "namespace": "blue"},
        "removed": ["delete link blue/lan0"],
    },
    "ipvlan": {
        "before": [BLUE, OFFICE],
        "set": {"name": "lan0", "namespace": "blue", "parent": "br-office", "addresses": ["10.22.0.2/24"]},
        "made": ["create address blue/lan0/10.22.0.2/24", "create link blue/lan0"],
        "other": {"name": "lan0", "namespace": "blue", "parent": "br-office", "mode": "l3", "addresses": []},
        "changed": ["change link blue/lan0", "delete address blue/lan0/10.22.0.2/24"],
        "absent": {"name": "lan0", "namespace": "blue"},
        "removed": ["delete link blue/lan0"],
    },
    "vlan": {
        "before": [OFFICE],
        "set": {"name": "office.7", "parent": "br-office", "id": 7, "addresses": ["10.22.7.1/24"]},
        "made": ["create address office.7/10.22.7.1/24", "create link office.7"],
        "same": {"name": "office.7", "parent": "br-office", "id": "7", "addresses": ["10.22.7.1/255.255.255.0"]},
        "other": {"name": "office.7", "parent": "br-office", "id": 8, "addresses": ["10.22.7.1/24"]},
        "changed": ["create address office.7/10.22.7.1/24", "replace link office.7"],
        "absent": {"name": "office.7"},
        "removed": ["delete link office.7"],
    },
    "bridge": {
        "set": {
            "name": "br-b",
            "addresses": ["10.21.0.1/24", "fd00:21::a/64"],
            "mac_address": "02:42:0a:15:00:01",
            "mtu": 1400,
        },
        "made": ["create address br-b/10.21.0.1/24", "create address br-b/fd00:21::a/64", "create link br-b"],
        "same": {
            "name": "br-b",
            "addresses": ["FD00:0021::000A/64", "10.21.0.1/255.255.255.0", "10.21.0.1/24"],
            "mac_address": "02-42-0A-15-00-01",
            "mtu": "1400",
        },
        "other": {"name": "br-b", "addresses": ["10.21.0.2/24"], "mtu": 1300},
        "changed": [
            "change link br-b",
            "create address br-b/10.21.0.2/24",
            "delete address br-b/10.21.0.1/24",
            "delete address br-b/fd00:21::a/64",
        ],
        "absent": {"name": "br-b"},
        "removed": ["delete link br-b"],
    },
    "bridge in a namespace": {
        "before": [BLUE],
        "set": {"name": "br0", "namespace": "blue", "addresses": ["10.21.0.1/24"]},
        "made": ["create address blue/br0/10.21.0.1/24", "create link blue/br0"],
        "same": {"name": "br0", "namespace": "blue"},
        "other": {"name": "br0", "namespace": "blue", "addresses": []},
        "changed": ["delete address blue/br0/10.21.0.1/24"],
        "absent": {"name": "br0", "namespace": "blue"},
        "removed": ["delete link blue/br0"],
    },
    "veth": {
        "before": [BLUE, BR_A],
        "set": {
            "name": "eth0",
            "namespace": "blue",
            "addresses": ["10.20.0.2/24"],
            "mac_address": "02:42:0a:14:00:02",
            "peer": {"name": "veth-blue", "bridge": "br-a"},
        },
        "made": ["create address blue/eth0/10.20.0.2/24", "create link blue/eth0"],
        "same": {
            "name": "eth0",
            "namespace": "blue",
            "peer": {"name": "veth-blue", "bridge": "br-a", "isolated": "no"},
        },
        "other": {
            "name": "eth0",
            "namespace": "blue",
            "addresses": ["10.20.0.2/24", "10.20.0.3/24"],
            "mtu": 1400,
            "peer": {"name": "veth-blue", "bridge": "br-a", "isolated": True},
        },
        "changed": ["change link blue/eth0", "create address blue/eth0/10.20.0.3/24"],
        "absent": {"name": "eth0", "namespace": "blue"},
        "removed": ["delete link blue/eth0"],
    },
    "veth with both ends on the host": {
        "set": {"name": "v0", "peer": {"name": "v1", "addresses": ["fd00:22::1/64"]}, "addresses": ["fd00:22::2/64"]},
        "made": ["create address v0/fd00:22::2/64", "create address v1/fd00:22::1/64", "create link v0"],
        "same": {"name": "v0", "peer": {"name": "v1"}},
        "other": {"name": "v0", "peer": {"name": "v2", "addresses": ["10.22.0.1/24"]}, "addresses": []},
        "changed": ["create address v2/10.22.0.1/24", "replace link v0"],
        "absent": {"name": "v0"},
        "removed": ["delete link v0"],
    },
    "vxlan, a port of a bridge in a namespace": {
        "before": [BLUE, a("bridge", name="br0", namespace="blue")],
        "set": {
            "name": "vx0",
            "namespace": "blue",
            "vni": 43,
            "local": HERE,
            "bridge": "br0",
            "peers": [THERE, HERE, FAR],
            "mac_address": "02:42:0a:2b:00:01",
        },
        "made": ["create fdb blue/vx0", "create link blue/vx0"],
        "same": {
            "name": "vx0",
            "namespace": "blue",
            "vni": "43",
            "local": HERE,
            "port": "4789",
            "peers": [FAR, THERE, THERE],
            "learning": "yes",
        },
        "other": {
            "name": "vx0",
            "namespace": "blue",
            "vni": 43,
            "local": HERE,
            "bridge": "br0",
            "peers": [THERE],
            "learning": False,
            "neigh_suppress": True,
            "mtu": 1400,
            "up": False,
        },
        "changed": ["change fdb blue/vx0", "change link blue/vx0"],
        "absent": {"name": "vx0", "namespace": "blue"},
        "removed": ["delete link blue/vx0"],
    },
    "vxlan whose peers are known": {
        "before": [BR_A],
        "set": {
            "name": "vx0",
            "vni": 43,
            "local": HERE,
            "bridge": "br-a",
            "peers": [TO_THERE, {"vtep": FAR, "mac_address": MAC3}, {"vtep": HERE, "mac_address": "02:42:0a:2b:00:01"}],
        },
        "made": ["create fdb vx0", "create link vx0", "create neighbour vx0"],
        "same": {
            "name": "vx0",
            "vni": 43,
            "local": HERE,
            "peers": [
                {"mac_address": MAC3.upper(), "vtep": FAR, "addresses": []},
                {"vtep": THERE, "mac_address": MAC2, "addresses": ["10.43.0.2"]},
                {"vtep": THERE, "mac_address": MAC2.replace(":", "-"), "addresses": ["FD00:43:0::2"]},
            ],
        },
        "other": {
            "name": "vx0",
            "vni": 43,
            "local": HERE,
            "peers": [{"vtep": THERE, "mac_address": MAC3, "addresses": ["10.43.0.3", "fd00:43::2"]}],
        },
        "changed": ["change fdb vx0", "change neighbour vx0"],
        "absent": {"name": "vx0"},
        "removed": ["delete link vx0"],
    },
    "vxlan that comes to flood": {
        "before": [BR_A],
        "set": {"name": "vx0", "vni": 43, "local": HERE, "bridge": "br-a", "peers": [TO_THERE]},
        "made": ["create fdb vx0", "create link vx0", "create neighbour vx0"],
        "same": {"name": "vx0", "vni": 43, "local": HERE},
        "other": {"name": "vx0", "vni": 43, "local": HERE, "peers": [THERE], "bridge": "br-a"},
        "changed": ["create fdb vx0", "replace link vx0"],
        "absent": {"name": "vx0"},
        "removed": ["delete link vx0"],
    },
    "vxlan with addresses of its own, over IPv6": {
        "set": {
            "name": "vx0",
            "vni": 16777215,
            "local": HERE6,
            "port": 8472,
            "addresses": ["10.43.0.1/24", "fd00:43::1/64"],
            "peers": [{"vtep": THERE6, "mac_address": MAC2, "addresses": ["10.43.0.2", "fd00:43::2"]}],
        },
        "made": [
            "create address vx0/10.43.0.1/24",
            "create address vx0/fd00:43::1/64",
            "create fdb vx0",
            "create link vx0",
            "create neighbour vx0",
        ],
        "same": {"name": "vx0", "vni": 16777215, "local": HERE6, "port": 8472},
        "other": {"name": "vx0", "vni": 7, "local": HERE6, "port": 8472, "peers": []},
        "changed": ["replace link vx0"],
        "absent": {"name": "vx0"},
        "removed": ["delete link vx0"],
    },
    "route": {
        "before": [BR_A],
        "set": {"destination": "10.30.0.0/16", "via": "10.20.0.2"},
        "made": ["create route 10.30.0.0/16"],
        "same": {"destination": "10.30.0.9/255.255.0.0", "via": "10.20.0.2", "link": "br-a"},
        "other": {"destination": "10.30.0.0/16", "via": "10.20.0.3"},
        "changed": ["change route 10.30.0.0/16"],
        "absent": {"destination": "10.30.0.0/16"},
        "removed": ["delete route 10.30.0.0/16"],
    },
    "route that loses its gateway": {
        "before": [BR_A],
        "set": {"destination": "FD00:30:0::/48", "via": "FD00:20::2"},
        "made": ["create route fd00:30::/48"],
        "other": {"destination": "fd00:30::/48", "link": "br-a"},
        "changed": ["change route fd00:30::/48"],
        "absent": {"destination": "fd00:30::/48"},
        "removed": ["delete route fd00:30::/48"],
    },
    "route, the default one, in a namespace": {
        "before": [BLUE, a("bridge", name="br0", namespace="blue", addresses=["10.21.0.1/24", "fd00:21::1/64"])],
        "set": {"destination": "default", "via": "fd00:21::2", "namespace": "blue"},
        "made": ["create route blue/default"],
        "same": {"destination": "::/0", "via": "fd00:21:0::2", "namespace": "blue"},
        "other": {"destination": "default", "via": "fd00:21::3", "namespace": "blue"},
        "changed": ["change route blue/default"],
        "absent": {"destination": "::/0", "namespace": "blue"},
        "removed": ["delete route blue/default"],
    },
    "firewall": {
        "set": {
            "table": "guard",
            "sets": [{"name": "friends", "type": "ipv4_addr", "flags": ["interval"], "elements": ["10.0.0.0/8"]}],
            "chains": [
                {"name": "drops", "rules": ['counter drop comment "not; ours"']},
                {
                    "name": "input",
                    "hook": "type filter hook input priority 10; policy accept",
                    "rules": ["tcp dport { 80, 443 } ip saddr @friends accept", "tcp dport 443 jump drops"],
                },
            ],
        },
        "made": ["create nftables inet guard"],
        "same": {
            "table": "guard",
            "sets": [{"name": "friends", "type": "ipv4_addr", "flags": ["interval"], "elements": ["10.0.0.0/8"]}],
            "chains": [
                {
                    "name": "input",
                    "hook": "type filter hook input priority filter + 10;",
                    "rules": ["tcp dport {443,http} ip saddr @friends accept", "tcp dport https jump drops"],
                },
                {"name": "drops", "rules": ['counter drop comment "not; ours"']},
            ],
        },
        "other": {
            "table": "guard",
            "sets": [{"name": "ways", "type": "ipv4_addr : verdict", "elements": ["10.1.2.3 : jump drops"]}],
            "chains": [
                {"name": "drops", "rules": ["drop"]},
                {"name": "output", "hook": "type filter hook output priority 0", "rules": ["ip daddr vmap @ways"]},
            ],
        },
        "changed": ["change nftables inet guard"],
        "absent": {"table": "guard"},
        "removed": ["delete nftables inet guard"],
    },
    "firewall whose map leads to a chain that goes": {
        "set": {
            "table": "guard",
            "sets": [{"name": "ways", "type": "ipv4_addr : verdict", "elements": ["10.1.2.3 : jump one"]}],
            "chains": [{"name": "one"}, {"name": "two", "rules": ["ip daddr vmap @ways"]}],
        },
        "made": ["create nftables inet guard"],
        "other": {
            "table": "guard",
            "sets": [{"name": "ways", "type": "ipv4_addr : verdict", "elements": ["10.1.2.3 : jump three"]}],
            "chains": [{"name": "three"}, {"name": "two", "rules": ["ip daddr vmap @ways"]}],
        },
        "changed": ["change nftables inet guard"],
        "absent": {"table": "guard"},
        "removed": ["delete nftables inet guard"],
    },
    "firewall in a namespace": {
        "before": [BLUE],
        "set": {"table": "guard", "namespace": "blue", "chains": [{"name": "one"}]},
        "made": ["create nftables blue/inet guard"],
        "other": {"table": "guard", "namespace": "blue", "chains": [{"name": "two"}]},
        "changed": ["change nftables blue/inet guard"],
        "absent": {"table": "guard", "namespace": "blue"},
        "removed": ["delete nftables blue/inet guard"],
    },
    "ipvs": {
        "set": {
            "address": "10.20.0.9",
            "port": 80,
            "scheduler": "sh",
            "scheduler_flags": ["port", "fallback"],
            "persistence": 300,
            "persistence_prefix": 32,
            "servers": [{"address": "10.20.0.2", "port": 8080}, {"address": "10.20.0.3", "weight": 2}],
        },
        "made": ["create ipvs tcp 10.20.0.9:80"],
        "same": {
            "address": "10.20.0.9",
            "port": "80",
            "protocol": "tcp",
            "scheduler": "sh",
            "scheduler_flags": ["fallback", "port"],
            "persistence": 300,
        },
        "other": {
            "address": "10.20.0.9",
            "port": 80,
            "scheduler": "rr",
            "servers": [{"address": "10.20.0.3", "method": "direct", "upper_threshold": 9, "lower_threshold": 3}],
        },
        "changed": ["change ipvs tcp 10.20.0.9:80"],
        "absent": {"address": "10.20.0.9", "port": 80},
        "removed": ["delete ipvs tcp 10.20.0.9:80"],
    },
    "ipvs by a mark in a namespace": {
        "before": [BLUE],
        "set": {
            "namespace": "blue",
            "mark": 7,
            "family": "ipv6",
            "scheduler": "rr",
            "servers": [{"address": "FD00:20:0::2"}, {"address": "fd00:20::3", "weight": 0}],
        },
        "made": ["create ipvs blue/mark 0x00000007 ipv6"],
        "other": {"namespace": "blue", "mark": 7, "family": "ipv6", "scheduler": "rr", "servers": []},
        "changed": ["change ipvs blue/mark 0x00000007 ipv6"],
        "absent": {"namespace": "blue", "mark": 7, "family": "ipv6"},
        "removed": ["delete ipvs blue/mark 0x00000007 ipv6"],
    },
}

POSSIBLE = [name for name in CYCLES if name.split()[0].rstrip(",") not in LACKING]


@pytest.mark.parametrize("name", POSSIBLE)
def test_set_again_the_same_in_other_words_changed_and_gone(fleet: Fleet, name: str) -> None:
    cycle, module = CYCLES[name], name.split()[0].rstrip(",")
    before = cycle.get("before", [])
    same = cycle.get("same", cycle["set"])
    other = cycle.get("other", cycle["set"])
    absent = {**cycle["absent"], "state": "absent"}
    tasks = [a(module, check, **options) for options in (cycle["set"], other, absent) for check in (True, False, False)]
    tasks.insert(3, a(module, **same))
    foretold, made, again, equal, to_change, changed, settled, to_go, gone, still = call_ok(fleet, *before, *tasks)[
        len(before) :
    ]
    assert done(foretold) == done(made) == cycle["made"]
    assert done(again) == done(equal) == []
    assert done(to_change) == done(changed) == cycle.get("changed", [])
    assert done(settled) == []
    assert done(to_go) == done(gone) == cycle["removed"]
    assert done(still) == []
    if changed["changed"]:
        lines = "".join(changed["diff"].values()).splitlines()
        objects = {line.partition("  ")[0] for line in lines if not line.startswith(" ")}
        assert objects == {operation.partition(" ")[2] for operation in cycle["changed"]}


def examples(module: str) -> list[Task]:
    documented = importlib.import_module(f"ansible_collections.cnm.fabric.plugins.modules.{module}").EXAMPLES
    tasks: list[Task] = yaml.safe_load(documented)
    return tasks


HAVE_ACTIONS = {path.stem for path in (MODULES.parent / "action").glob("*.py")}


class TestTheDocumentedExamples:
    @pytest.mark.parametrize("module", [name for name in MODULES_WITH_EXAMPLES if name not in HAVE_ACTIONS])
    def test_each_does_something_once_and_a_check_foretells_it(self, fleet: Fleet, module: str) -> None:
        before = snapshot(fleet, "node1")
        bare = call_ok(fleet, *({**task, "check_mode": True} for task in examples(module)))
        assert bare[0]["changed"]
        assert snapshot(fleet, "node1") == before
        self.carried_out(module, call_ok(fleet, *self.four_times(module)))

    @pytest.mark.whole
    @pytest.mark.parametrize("module", each(sorted(HAVE_ACTIONS & {*MODULES_WITH_EXAMPLES}), 1, "examples"))
    def test_each_does_so_by_an_action(self, fleet: Fleet, module: str) -> None:
        fleet.sh("node1", "id cnm-resolver 2>/dev/null || useradd --system --user-group cnm-resolver")
        before = snapshot(fleet, "node1")
        bare = play(fleet, *examples(module), arguments=("--check", "--diff"))
        assert [result["status"] for result in bare] == ["ok"] * len(bare)
        assert bare[0]["changed"]
        assert snapshot(fleet, "node1") == before
        self.carried_out(module, ok(fleet, *self.four_times(module)))

    def test_ansible_sends_each_module_with_all_it_needs(self, fleet: Fleet) -> None:
        modules = [name for name in MODULES_WITH_EXAMPLES if name not in HAVE_ACTIONS]
        foretold = play(fleet, *(examples(module)[0] for module in modules), arguments=("--check", "--diff"))
        assert [(result["status"], result["changed"]) for result in foretold] == [("ok", True)] * len(modules)

    @staticmethod
    def four_times(module: str) -> list[Task]:
        return [{**task, "check_mode": check} for task in examples(module) for check in (True, False, False, True)]

    @staticmethod
    def carried_out(module: str, results: list[Result]) -> None:
        for place, task in enumerate(examples(module)):
            foretold, first, second, nothing = results[4 * place : 4 * place + 4]
            assert (task["name"], done(foretold)) == (task["name"], done(first))
            assert first["changed"]
            assert (done(second), done(nothing)) == ([], [])


class TestWhatIsMade:
    def test_a_pair_carries_packets_between_a_namespace_and_a_bridge(self, fleet: Fleet) -> None:
        pair: dict[str, Any] = {"name": "eth0", "namespace": "blue", "addresses": ["10.20.0.2/24", "fd00:20::2/64"]}
        ok(
            fleet,
            BLUE,
            BR_A,
            a("veth", **pair, peer={"name": "veth-blue", "bridge": "br-a"}),
            a("route", destination="default", via="10.20.0.1", namespace="blue"),
        )
        fleet.sh("node1", "ip netns exec blue ping -c 1 -W 2 10.20.0.1")
        fleet.sh("node1", "ip netns exec blue ping -c 1 -W 2 fd00:20::1")
        assert "default via 10.20.0.1 dev eth0 proto 138" in fleet.sh("node1", "ip -n blue route")
        assert "LOOPBACK,UP" in fleet.sh("node1", "ip -n blue link show lo")

    def test_nobody_becomes_its_router_uninvited(self, fleet: Fleet) -> None:
        ok(
            fleet,
            BLUE,
            a("veth", name="eth0", namespace="blue", addresses=["10.23.0.2/24"], peer={"name": "to-blue"}),
        )
        conf = "/proc/sys/net/ipv6/conf"
        assert fleet.sh("node1", f"cat {conf}/to-blue/accept_ra").split() == ["0"]
        inside = f"ip netns exec blue cat {conf}/eth0/accept_ra {conf}/eth0/disable_ipv6"
        assert fleet.sh("node1", inside).split() == ["0", "1"]

    def test_what_was_changed_by_hand_is_put_right(self, fleet: Fleet) -> None:
        pair = a("veth", name="v0", peer={"name": "v1", "bridge": "br-a"}, mtu=1400)
        ok(fleet, BR_A, pair)
        fleet.sh("node1", "ip link set v0 down; ip link set v1 nomaster; ip addr flush dev br-a scope global")
        repaired, link = ok(fleet, BR_A, pair)
        assert done(repaired) == ["create address br-a/10.20.0.1/24", "create address br-a/fd00:20::1/64"]
        assert done(link) == ["change link v0"]
        assert {item["attribute"] for item in link["operations"][0]["differences"]} == {"up", "peer.master"}
        assert [done(result) for result in ok(fleet, BR_A, pair)] == [[], []]

    def test_the_rules_that_do_not_change_keep_counting(self, fleet: Fleet) -> None:
        def table(*more: str) -> Task:
            counting = {"name": "count", "hook": "type filter hook output priority 0", "rules": ["counter"]}
            return a("firewall", table="guard", chains=[counting, {"name": "other", "rules": list(more)}])

        ok(fleet, table())
        fleet.sh("node1", "ping -c 1 -W 2 127.0.0.1")
        ok(fleet, table("drop"))
        assert "counter packets 0 " not in fleet.sh("node1", "nft list chain inet guard count")


class TestAMesh:
    """A bridge in a namespace of each of three hosts, a VXLAN as its port, and a sandbox on it."""

    @pytest.fixture
    def mesh(self, trio: Lab, tmp_path: Path) -> Iterator[Fleet]:
        with ended(Fleet(trio, tmp_path)) as fleet:
            fleet.declare({}, **{host: {"n": int(host[4:]), "vtep": trio.address(host)} for host in fleet.hosts})
            ok(
                fleet,
                a("namespace", name="fabric"),
                BLUE,
                a("bridge", name="br0", namespace="fabric", addresses=["10.43.0.10{{ n }}/24"]),
                a(
                    "veth",
                    name="eth0",
                    namespace="blue",
                    mac_address="02:42:0a:2b:00:0{{ n }}",
                    mtu=1450,
                    addresses=["10.43.0.{{ n }}/24", "fd00:43::{{ n }}/64"],
                    peer={"name": "veth-blue", "namespace": "fabric", "bridge": "br0"},
                ),
            )
            yield fleet

    @staticmethod
    def link(**more: Any) -> Task:
        place = {"name": "vx0", "namespace": "fabric", "vni": 43, "local": "{{ vtep }}", "bridge": "br0"}
        return a("vxlan", **place, **more)

    @staticmethod
    def known(mesh: Fleet) -> list[dict[str, Any]]:
        """What all hosts are told: each one's sandbox and where it is."""
        return [
            {
                "vtep": mesh.lab.address(f"node{n}"),
                "mac_address": f"02:42:0a:2b:00:0{n}",
                "addresses": [f"10.43.0.{n}", f"fd00:43::{n}"],
            }
            for n in (1, 2, 3)
        ]

    @staticmethod
    def reached(mesh: Fleet, *words: str) -> set[str]:
        """Who answers the first sandbox, asked for anew."""
        mesh.sh("node1", "ip -n blue neigh flush dev eth0")
        targets = ("10.43.0.2", "10.43.0.3", "fd00:43::2", "fd00:43::3", "10.43.0.102")
        found = pinged(mesh, "node1", [("blue", *words, target) for target in targets], wait=1)
        return {trial[-1] for trial, answered in found.items() if answered}

    def test_one_list_of_addresses_connects_them_all(self, mesh: Fleet) -> None:
        everybody = [mesh.lab.address(host) for host in mesh.hosts]
        assert all(result["changed"] for result in ok(mesh, self.link(peers=everybody)))
        assert not any(result["changed"] for result in ok(mesh, self.link(peers=everybody)))
        all_of_them = {"10.43.0.2", "10.43.0.3", "fd00:43::2", "fd00:43::3", "10.43.0.102"}
        assert self.reached(mesh) == all_of_them
        # The MTU is that of the underlay, less what VXLAN needs.
        assert self.reached(mesh, "-M", "do", "-s", "1422") >= {"10.43.0.2", "10.43.0.3"}
        assert "mtu 1450" in mesh.sh("node1", "ip -n fabric link show vx0")
        assert "vx0" not in mesh.sh("node1", "ip link")
        ok(mesh, self.link(peers=everybody[:2]))
        # What node3 goes on sending is learnt from: so it is asked where packets to everybody go, not who answers.
        flooded = mesh.sh("node1", "bridge -n fabric fdb show dev vx0 | grep ^00:00:00:00:00:00")
        assert f"dst {everybody[1]}" in flooded
        assert everybody[2] not in flooded
        assert self.reached(mesh) >= {"10.43.0.2", "fd00:43::2", "10.43.0.102"}

    def test_what_is_known_is_reached_without_flooding(self, mesh: Fleet) -> None:
        assert all(result["changed"] for result in ok(mesh, self.link(peers=self.known(mesh))))
        assert not any(result["changed"] for result in ok(mesh, self.link(peers=self.known(mesh))))
        assert self.reached(mesh) == {"10.43.0.2", "10.43.0.3", "fd00:43::2", "fd00:43::3"}
        with capturing(mesh, "node1") as nobody:
            assert not any(pinged(mesh, "node1", [("blue", "10.43.0.77"), ("blue", "10.43.0.102")], wait=1).values())
        assert nobody == [0]

    @pytest.mark.whole
    def test_a_host_that_moves_is_found_where_it_is_told_to_be(self, mesh: Fleet) -> None:
        two, three = (mesh.lab.address(host) for host in ("node2", "node3"))
        ok(mesh, self.link(peers=self.known(mesh)))
        swapped = [{**self.known(mesh)[1], "vtep": three}, {**self.known(mesh)[2], "vtep": two}]
        assert done(ok(mesh, self.link(peers=swapped))[0]) == ["change fdb fabric/vx0"]
        assert self.reached(mesh) == set()
        assert f"dst {three}" in mesh.sh("node1", "bridge -n fabric fdb show dev vx0 | grep 02:42:0a:2b:00:02")

    @pytest.mark.whole
    def test_what_was_changed_by_hand_is_put_right(self, mesh: Fleet) -> None:
        ok(mesh, self.link(peers=self.known(mesh)))
        mesh.sh(
            "node1",
            "bridge -n fabric fdb del 02:42:0a:2b:00:02 dev vx0 master; ip -n fabric neigh flush dev vx0 nud permanent;"
            "bridge -n fabric fdb append 00:00:00:00:00:00 dev vx0 dst 203.0.113.1; ip -n fabric link set vx0 nomaster",
        )
        repaired = ok(mesh, self.link(peers=self.known(mesh)))
        assert done(repaired[0]) == ["change fdb fabric/vx0", "change link fabric/vx0", "create neighbour fabric/vx0"]
        assert [done(result) for result in repaired[1:]] == [[], []]
        assert self.reached(mesh) == {"10.43.0.2", "10.43.0.3", "fd00:43::2", "fd00:43::3"}

    @pytest.mark.whole
    def test_a_routing_daemon_keeps_what_it_has_put_there(self, mesh: Fleet) -> None:
        link = self.link(neigh_suppress=True)
        ok(mesh, link)
        mesh.sh("node1", f"bridge -n fabric fdb append 00:00:00:00:00:00 dev vx0 dst {THERE} self permanent")
        mesh.sh("node1", f"bridge -n fabric fdb add {MAC2} dev vx0 dst {THERE} self extern_learn")
        assert not any(result["changed"] for result in ok(mesh, link))
        shown = mesh.sh("node1", "ip -n fabric -d link show vx0; bridge -n fabric fdb show dev vx0")
        assert "nolearning" in shown
        assert "neigh_suppress on" in shown
        assert "self extern_learn permanent" in shown
        assert f"00:00:00:00:00:00 dst {THERE}" in shown


class TestWhatIsNotOurs:
    @pytest.fixture
    def foreign(self, fleet: Fleet) -> Iterator[Fleet]:
        fleet.sh(
            "node1",
            "ip netns add other; ip link add br-x type bridge; ip -n other link add br-y type bridge;"
            "ip link add vx-x type vxlan id 66 dstport 4789; ip link set vx-x netns other;"
            "ip route add 10.66.0.0/16 dev lo; nft add table inet theirs",
        )
        yield fleet
        assert "br-x" in fleet.sh("node1", "ip link show br-x")
        fleet.sh(
            "node1",
            "ip netns del other; ip link del br-x; ip route del 10.66.0.0/16; nft delete table inet theirs",
        )

    def test_it_is_named_and_left_alone(self, foreign: Fleet) -> None:
        calls: dict[str, tuple[str, dict[str, Any]]] = {
            "namespace other": ("namespace", {"name": "other"}),
            "link br-x": ("bridge", {"name": "br-x"}),
            "link other/br-y": ("bridge", {"name": "br-y", "namespace": "other"}),
            "link eth0": ("veth", {"name": "v0", "peer": {"name": "eth0"}}),
            "link other/vx-x": ("vxlan", {"name": "vx-x", "namespace": "other", "vni": 66, "local": HERE, "peers": []}),
            "route 10.66.0.0/16": ("route", {"destination": "10.66.0.0/16", "link": "eth0"}),
            "nftables inet theirs": ("firewall", {"table": "theirs"}),
        }
        before = snapshot(foreign, "node1")
        states = [(named, call, state) for named, call in calls.items() for state in ("present", "absent")]
        states.remove(("link eth0", calls["link eth0"], "absent"))
        results = call(foreign, *(a(module, **options, state=state) for _named, (module, options), state in states))
        for (named, _call, state), result in zip(states, results):
            assert (state, result["status"]) == (state, "failed"), named
            assert f"already on this host and not created by this project: {named}." in result["msg"]
        assert snapshot(foreign, "node1").replace("/run/cnm/lock.json\n", "").replace("/run/cnm\n", "") == before

    def test_in_a_namespace_of_somebody_else_ours_lives_beside_theirs(self, foreign: Fleet) -> None:
        made = (
            a("bridge", name="br0", namespace="other", addresses=["10.24.0.1/24"]),
            a("veth", name="eth0", namespace="other", peer={"name": "to-other"}),
            a("vxlan", name="vx0", namespace="other", vni=43, local=HERE, bridge="br0", peers=[TO_THERE]),
            a("route", destination="10.25.0.0/16", via="10.24.0.2", namespace="other"),
            a("firewall", table="guard", namespace="other", chains=[{"name": "one"}]),
        )
        assert all(result["changed"] for result in call_ok(foreign, *made))
        assert not any(result["changed"] for result in call_ok(foreign, *made))
        foreign.declare({"cnm_networks": NETWORKS}, node1=C1)
        foreign.site()
        assert not any(result["changed"] for result in call_ok(foreign, *made))
        foreign.teardown()
        left = foreign.sh("node1", "ip -n other -br link; ip -n other route; ip netns exec other nft list ruleset")
        assert [line.split()[0].partition("@")[0] for line in left.splitlines()] == ["lo", "br-y", "vx-x"]

    def test_a_vni_that_somebody_else_has_is_not_taken(self, foreign: Fleet) -> None:
        link = {"name": "vx0", "vni": 66, "local": HERE}
        refused, foretold, other = play(
            foreign, a("vxlan", **link), a("vxlan", True, **link), a("vxlan", **link, port=8472)
        )
        assert refused["status"] == "failed"
        said = "vni: this host already has a VXLAN with VNI 66 on port 4789, other/vx-x: choose another VNI"
        assert said in refused["msg"]
        assert said in foretold["warnings"][0]
        assert done(other) == ["create link vx0"]


class TestBesideSite:
    @pytest.fixture
    def site(self, fleet: Fleet) -> Fleet:
        fleet.declare({"cnm_networks": NETWORKS}, node1=C1)
        fleet.site()
        return fleet

    def test_site_neither_prunes_nor_changes_what_modules_made(self, site: Fleet) -> None:
        made = (
            BLUE,
            BR_A,
            a("veth", name="eth0", namespace="blue", addresses=["10.20.0.2/24"], peer={"name": "b", "bridge": "br-a"}),
            a("veth", name="v0", peer={"name": "v1", "addresses": ["10.26.0.1/24"]}, addresses=["10.26.0.2/24"]),
            a("vxlan", name="vx0", vni=43, local=HERE, bridge="br-a", peers=[TO_THERE]),
            a("vxlan", name="vx1", namespace="blue", vni=44, local=HERE, peers=[THERE], addresses=["10.44.0.1/24"]),
            a("route", destination="10.30.0.0/16", via="10.20.0.9"),
            a("route", destination="default", via="10.20.0.1", namespace="blue"),
            a("firewall", table="guard", chains=[{"name": "one"}]),
            a("firewall", table="guard", namespace="blue", chains=[{"name": "one"}]),
        )
        call_ok(site, *made)
        assert site.site().changed == []
        assert not any(result["changed"] for result in call_ok(site, *made))
        site.declare({"cnm_networks": {}})
        site.site()
        assert not any(result["changed"] for result in call_ok(site, *made))

    @pytest.mark.whole
    def test_overlays_and_links_of_modules_take_no_number_from_each_other(self, fleet: Fleet) -> None:
        link = a("vxlan", name="vx0", vni=4096, local=HERE, peers=[TO_THERE])
        ok(fleet, link)
        overlay = {"driver": "overlay", "subnet": "10.45.0.0/24"}
        fleet.declare({"cnm_networks": {"span": overlay}}, node1={"cnm_sandboxes": {"c1": {"networks": ["span"]}}})
        fleet.site()
        (place,) = fleet.sh("node1", "ls /run/netns | grep ov-").split()
        assert place.startswith("ov-001001-")
        of_site = f"vx-{place[3:]}"
        same, taken, theirs = play(
            fleet,
            link,
            a("vxlan", name="vx1", vni=4097, local=HERE),
            a("vxlan", name=of_site, namespace=place, vni=4097, local=HERE, peers=[THERE]),
        )
        assert done(same) == []
        assert f"this host already has a VXLAN with VNI 4097 on port 4789, {place}/{of_site}" in taken["msg"]
        assert f"link {place}/{of_site} was made by cnm.fabric.site" in theirs["msg"]
        assert fleet.site().changed == []
        chosen = {**overlay, "driver_opts": {"com.docker.network.driver.overlay.vxlanid_list": "4096"}}
        fleet.declare({"cnm_networks": {"span": chosen}}, node1={"cnm_sandboxes": {"c1": {"networks": ["span"]}}})
        run = fleet.play("site")
        assert "the VNI 4096 is used by a foreign VXLAN on node1" in run.output

    def test_modules_leave_alone_what_site_made(self, site: Fleet) -> None:
        before = snapshot(site, "node1")
        calls: list[tuple[str, dict[str, Any], str]] = [
            ("namespace", {"name": "c1"}, "namespace c1 was made by cnm.fabric.site from cnm_sandboxes"),
            ("bridge", {"name": "br-ps"}, "link br-ps was made by cnm.fabric.site from cnm_networks"),
            ("bridge", {"name": "eth0", "namespace": "c1"}, "link c1/eth0 was made by cnm.fabric.site from cnm_sandb"),
            ("route", {"destination": "default", "via": "10.0.0.9", "namespace": "c1"}, "route c1/default was made by"),
        ]
        tasks = [
            a(module, **options, state=state) for module, options, _said in calls for state in ("present", "absent")
        ]
        results = call(site, *tasks)
        for place, (_module, _options, said) in enumerate(calls):
            for result in results[2 * place : 2 * place + 2]:
                assert result["status"] == "failed"
                assert said in result["msg"]
                assert "change it there" in result["msg"]
        assert snapshot(site, "node1") == before

    @pytest.mark.whole
    def test_what_is_declared_later_takes_it_over(self, fleet: Fleet) -> None:
        fleet.declare({"cnm_networks": NETWORKS}, node1=C1)
        bridge = a("bridge", name="br-ps", mtu=1400, addresses=["10.0.0.1/24", "10.28.0.1/24"])
        inside = a("bridge", name="br0", namespace="c1", addresses=["10.29.0.1/24"])
        route = a("route", destination="default", via="10.29.0.2", namespace="c1")
        ok(fleet, a("namespace", name="c1"), bridge, inside, route)
        taken_over = {"change namespace c1", "change link br-ps", "delete address br-ps/10.28.0.1/24"}
        assert taken_over | {"create route c1/default"} <= set(fleet.site("--check").operations("node1"))
        assert taken_over | {"create route c1/default"} <= set(fleet.site().operations("node1"))
        assert fleet.site().changed == []
        assert done(ok(fleet, inside)[0]) == []
        (refused,) = play(fleet, a("bridge", name="br-ps", mtu=1400))
        assert "link br-ps was made by cnm.fabric.site from cnm_networks" in refused["msg"]
        fleet.declare({"cnm_networks": {}})
        assert {"delete namespace c1", "delete link br-ps"} <= set(fleet.site().operations("node1"))

    def test_teardown_leaves_nothing_of_theirs(self, site: Fleet) -> None:
        call_ok(
            site,
            BLUE,
            a("bridge", name="br0", namespace="blue", addresses=["10.21.0.1/24"]),
            a("veth", name="v0", peer={"name": "v1"}, addresses=["10.26.0.2/24"]),
            a("vxlan", name="vx0", namespace="blue", vni=43, local=HERE, bridge="br0", peers=[TO_THERE]),
            a("vxlan", name="vx1", vni=44, local=HERE, peers=[THERE]),
            a("route", destination="10.30.0.0/16", via="10.26.0.1"),
            a("route", destination="10.31.0.0/16", link="eth0"),
            a("firewall", table="guard", chains=[{"name": "one"}]),
        )
        run = site.teardown()
        assert {
            "delete namespace blue",
            "delete link v0",
            "delete link blue/vx0",
            "delete link vx1",
            "delete nftables inet guard",
            "delete route 10.31.0.0/16",
        } <= set(run.operations("node1"))  # the fixture compares the host with what it was before


class TestBesideEachOther:
    def test_a_module_leaves_alone_what_another_made(self, fleet: Fleet) -> None:
        call_ok(fleet, BR_A, a("veth", name="v0", peer={"name": "v1"}))
        results = call(
            fleet,
            a("vxlan", name="v0", vni=43, local=HERE),
            a("vxlan", name="v1", vni=43, local=HERE),
            a("bridge", name="v0"),
            a("bridge", name="v0", state="absent"),
            a("bridge", name="v1"),
            a("veth", name="br-a", peer={"name": "v2"}),
            a("veth", name="v3", peer={"name": "br-a"}),
            a("veth", name="v3", peer={"name": "v1"}),
        )
        by_veth, by_bridge = (f"made by the module cnm.fabric.{name}: change it there" for name in ("veth", "bridge"))
        assert [result["msg"] for result in results] == [
            f"link v0 was {by_veth}",
            f"link v1 already exists in the host's own namespace, {by_veth}",
            f"link v0 was {by_veth}",
            f"link v0 was {by_veth}",
            f"link v1 already exists in the host's own namespace, {by_veth}",
            f"link br-a was {by_bridge}",
            f"link br-a already exists in the host's own namespace, {by_bridge}",
            f"link v1 already exists in the host's own namespace, {by_veth}",
        ]

    def test_two_projects_do_not_see_each_other(self, fleet: Fleet) -> None:
        lab: dict[str, Any] = {"project": "lab"}
        results = call(
            fleet,
            a("namespace", name="blue", **lab),
            a("bridge", name="br-lab", **lab),
            a("bridge", name="br-lab"),
            a("bridge", name="br0", namespace="blue"),
            a("route", destination="10.30.0.0/16", link="eth0", **lab),
            a("route", destination="10.30.0.0/16", link="br-lab"),
            a("route", destination="10.30.0.0/16", link="br-lab", **lab),
            a("firewall", table="guard", **lab),
        )
        assert [result["status"] for result in results] == ["ok", "ok", *["failed"] * 4, "ok", "ok"]
        assert "link br-lab" in results[2]["msg"]
        assert "namespace blue belongs to project lab" in results[3]["msg"]
        assert "write project: default" in results[4]["msg"]
        assert "write project: lab" in results[5]["msg"]
        fleet.teardown()
        gone = call_ok(
            fleet,
            a("route", destination="10.30.0.0/16", state="absent", **lab),
            a("firewall", table="guard", state="absent", **lab),
            a("bridge", name="br-lab", state="absent", **lab),
            a("namespace", name="blue", state="absent", **lab),
        )
        assert all(result["changed"] for result in gone)


WRONG: dict[str, tuple[Task, str]] = {
    "a link's name": (a("bridge", name="a-very-long-name"), "1 to 15 letters"),
    "a link's reserved name": (a("bridge", name="all"), "not lo, all or default"),
    "a namespace's name": (a("namespace", name="../x"), "is not a namespace's name"),
    "no name": (a("namespace", name=""), "needs a name"),
    "a project": (a("bridge", name="br0", project="A/B"), "is not a project's name"),
    "no prefix length": (a("bridge", name="br0", addresses=["10.0.0.1"]), "write it like 10.0.0.1/24"),
    "no address": (a("bridge", name="br0", addresses=["10.0.0.x/24"]), "addresses[0]: '10.0.0.x/24' is not an IP"),
    "a link-local address": (a("bridge", name="br0", addresses=["fe80::1/64"]), "not of global scope"),
    "an address of everything": (a("bridge", name="br0", addresses=["10.28.0.1/0"]), "has no network"),
    "a multicast address": (a("bridge", name="br0", addresses=["224.0.0.1/24"]), "choose a unicast one"),
    "a MAC address": (a("bridge", name="br0", mac_address="01:00:00:00:00:01"), "not a link's MAC address"),
    "an MTU": (a("bridge", name="br0", mtu=10), "choose 68 to 65535"),
    "an MTU without IPv6": (a("bridge", name="br0", mtu=1000, addresses=["fd00::1/64"]), "as IPv6 needs"),
    "a namespace that is not there": (
        a("bridge", name="br0", namespace="nowhere"),
        "create it first, with cnm.fabric.n",
    ),
    "both ends one": (a("veth", name="v0", peer={"name": "v0"}), "both ends are named v0"),
    "isolated without a bridge": (a("veth", name="v0", peer={"name": "v1", "isolated": True}), "set peer.bridge"),
    "no bridge": (a("veth", name="v0", peer={"name": "v1", "bridge": "br9"}), "there is no bridge br9"),
    "not a bridge": (
        a("veth", name="v0", peer={"name": "v1", "bridge": "eth0"}),
        "eth0 in the host's own namespace is",
    ),
    "no VNI": (a("vxlan", name="vx0", local=HERE), "state is present but all of the following are missing: vni"),
    "no VTEP": (a("vxlan", name="vx0", vni=1, peers=[THERE]), "all of the following are missing: local"),
    "a VNI": (a("vxlan", name="vx0", vni=2**24, local=HERE), "vni: 16777216 is not a VNI: choose 1 to 16777215"),
    "a UDP port": (a("vxlan", name="vx0", vni=1, local=HERE, port=0), "port: 0 is not a UDP port: choose 1 to 65535"),
    "a VTEP": (a("vxlan", name="vx0", vni=1, local="node1"), "local: 'node1' is not the address of a VTEP: write one"),
    "somebody else's VTEP": (a("vxlan", name="vx0", vni=1, local="192.0.2.9"), "192.0.2.9 is not an address"),
    "a VTEP of one link": (a("vxlan", name="vx0", vni=1, local="fe80::1"), "local: fe80::1 is a link-local address"),
    "a multicast VTEP": (a("vxlan", name="vx0", vni=1, local=HERE, peers=["239.1.1.1"]), "peers[0]: '239.1.1.1' can"),
    "two families": (
        a("vxlan", name="vx0", vni=1, local=HERE, peers=[THERE, THERE6]),
        f"peers[1]: {THERE6} and local, {HERE}, are not of the same IP version",
    ),
    "a peer without a place": (
        a("vxlan", name="vx0", vni=1, local=HERE, peers=[{"mac_address": MAC2}]),
        "peers[0]: vtep must be given",
    ),
    "a peer without a MAC address": (
        a("vxlan", name="vx0", vni=1, local=HERE, peers=[{"vtep": THERE, "addresses": ["10.43.0.2"]}]),
        "peers[0]: mac_address must be given: write the peer as a plain address if its MAC address is unknown",
    ),
    "a peer's key": (
        a("vxlan", name="vx0", vni=1, local=HERE, peers=[{**TO_THERE, "mac": MAC2}]),
        "peers[0]: a peer has no key mac: its keys are vtep, mac_address, addresses",
    ),
    "a peer's address": (
        a("vxlan", name="vx0", vni=1, local=HERE, peers=[{**TO_THERE, "addresses": ["10.43.0.2/24"]}]),
        "peers[0].addresses[0]: '10.43.0.2/24' is not the address of a peer",
    ),
    "a MAC address in two places": (
        a("vxlan", name="vx0", vni=1, local=HERE, peers=[TO_THERE, {**TO_THERE, "vtep": FAR}]),
        f"peers[1].mac_address: {MAC2} is already at VTEP {THERE}",
    ),
    "an address in two places": (
        a("vxlan", name="vx0", vni=1, local=HERE, peers=[TO_THERE, {**TO_THERE, "mac_address": MAC3}]),
        f"peers[1].addresses[0]: 10.43.0.2 already belongs to {MAC2}",
    ),
    "a peer nothing is flooded to": (
        a("vxlan", name="vx0", vni=1, local=HERE, peers=[FAR, TO_THERE]),
        f"peers[1].vtep: {THERE} would get no flooded frames",
    ),
    "no flooding to what answers": (
        a("vxlan", name="vx0", vni=1, local=HERE, bridge="br-a", flood=False, peers=[TO_THERE]),
        "flood: the link must get the broadcasts that it answers",
    ),
    "flags of no port": (a("vxlan", name="vx0", vni=1, local=HERE, neigh_suppress=True), "set bridge too"),
    "addresses of a port": (
        a("vxlan", name="vx0", vni=1, local=HERE, bridge="br-a", addresses=["10.0.0.1/24"]),
        "addresses: a port of a bridge has no addresses: give them to the bridge br-a",
    ),
    "a macvlan on the loopback": (a("macvlan", name="m0", parent="lo"), "parent: lo is not connected to a network"),
    "a macvlan on nothing": (a("macvlan", name="m0", parent="eth9"), "parent: there is no link eth9 in the host's own"),
    "a macvlan larger than its parent": (a("macvlan", name="m0", parent="eth0", mtu=9000), "exceeds the MTU of eth0"),
    "the connection's link": (
        a("macvlan", name="m0", parent="eth0", mode="passthru"),
        "Ansible reaches this host through it",
    ),
    "a MAC address in passthru": (
        a("macvlan", name="m0", parent="eth0", mode="passthru", mac_address=MAC2),
        "mac_address: in mode passthru the link has the parent's MAC address",
    ),
    "a VLAN of no number": (a("vlan", name="v0", parent="eth0", id=4095), "4095 is not a VLAN's ID: choose 1 to 4094"),
    "no bridge for a VXLAN": (a("vxlan", name="vx0", vni=1, local=HERE, bridge="br9"), "there is no bridge br9"),
    "a destination": (a("route", destination="nowhere", via="10.0.0.1"), "neither a prefix nor `default`"),
    "a destination of one": (a("route", destination="10.1.2.3", via="10.0.0.1"), "write 10.1.2.3/32"),
    "no way": (a("route", destination="10.1.0.0/16"), "set via, link or both"),
    "two versions": (a("route", destination="10.1.0.0/16", via="fd00::1"), "have different IP versions"),
    "a router nowhere": (a("route", destination="10.1.0.0/16", via="10.99.0.1"), "has a network with 10.99.0.1"),
    "no link": (a("route", destination="10.1.0.0/16", link="eth9"), "there is no link eth9"),
    "a router elsewhere": (a("route", destination="10.1.0.0/16", via="10.99.0.1", link="eth0"), "invalid gateway"),
    "site's table": (a("firewall", table="cnm_x"), "choose another"),
    "the user's chain": (a("firewall", table="t", chains=[{"name": "user_x"}]), "begins with user_"),
    "a rule": (a("firewall", table="t", chains=[{"name": "c", "rules": ["tcp dport nine drop"]}]), "nftables refused"),
    "two rules": (a("firewall", table="t", chains=[{"name": "c", "rules": ["drop; flush ruleset"]}]), "not a single"),
    "two lines": (
        a("firewall", table="t", chains=[{"name": "c", "rules": ["drop\nflush ruleset"]}]),
        "not a single nft statement",
    ),
    "a hook": (a("firewall", table="t", chains=[{"name": "c", "hook": "input"}]), "is not a hook"),
    "an element": (
        a("firewall", table="t", sets=[{"name": "s", "type": "ipv4_addr", "elements": ["x }"]}]),
        "elements[0]",
    ),
    "a type": (a("firewall", table="t", sets=[{"name": "s", "type": "colour"}]), "nftables refused"),
    "twice": (a("firewall", table="t", chains=[{"name": "c"}, {"name": "c"}]), "is given twice"),
}


def test_every_mistake_is_a_sentence_and_changes_nothing(fleet: Fleet) -> None:
    before = snapshot(fleet, "node1")
    # Whose link it is that the host is reached by is known from the connection.
    by_connection = "the connection's link"
    results = [
        play(fleet, task)[0] if name == by_connection else call(fleet, task)[0] for name, (task, _said) in WRONG.items()
    ]
    for (name, (_task, said)), result in zip(WRONG.items(), results):
        assert (name, result["status"]) == (name, "failed")
        assert said in result["msg"], name
        assert "Traceback" not in str(result), name
    assert snapshot(fleet, "node1").replace("/run/cnm/lock.json\n", "").replace("/run/cnm\n", "") == before


def test_all_mistakes_are_told_at_once(fleet: Fleet) -> None:
    (result,) = play(fleet, a("bridge", name="br/0", addresses=["10.0.0.1", "x"], mtu=1))
    assert [text.split(":")[0] for text in result["msg"].split("; ")] == ["name", "addresses[0]", "addresses[1]", "mtu"]


def test_what_a_failed_run_made_is_undone(fleet: Fleet) -> None:
    ok(fleet, a("bridge", name="br0", mtu=1000))
    before = snapshot(fleet, "node1")
    # The kernel has no IPv6 on a link of such an MTU, which the module was not told.
    (result,) = play(fleet, a("bridge", name="br0", addresses=["10.27.0.1/24", "fd00:27::1/64"]))
    assert result["status"] == "failed"
    assert "The changes of this run were undone." in result["msg"]
    assert snapshot(fleet, "node1") == before
