# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host for one test: a child process with its own network, mounts and processes, furnished as the lab's hosts are.

When it ends, nothing of it is left on the machine.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar

import pytest
from lab import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    SWITCH,
    _die_with_parent,
    _furnish,
    _own_root,
    _unshare,
)
from on_host import run_command

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine, narrowing
from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.esp import Way
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import RESOLVER_USER
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan, PlanText
from ansible_collections.cnm.fabric.plugins.module_utils.verify.echo import answering
from ansible_collections.cnm.fabric.plugins.module_utils.verify.names import resolving
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.networks.encryption import pair_keys
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

T = TypeVar("T")


def on_a_host(test: Callable[..., None]) -> Callable[..., None]:
    """Run the test as the first process of a new host."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _leave_the_machine(writing, functools.partial(test, *arguments, **named))
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as stream:
            said = stream.read()
        os.waitpid(child, 0)
        if said != "passed":
            pytest.fail(said or "the host died without a word", pytrace=False)

    return run


def measured_on_a_host(work: Callable[[], T], at: Path) -> T:
    """What is measured on a host of its own, as JSON has it; a file of the test's carries it out."""

    @on_a_host
    def write() -> None:
        at.write_text(json.dumps(work()), encoding="utf-8")

    write()
    result: T = json.loads(at.read_text(encoding="utf-8"))
    return result


def _leave_the_machine(report: int, test: Callable[[], None]) -> None:
    """Never returns.  A process is the first of new process ids only if it is born into them: so fork once more."""
    said = "passed"
    try:
        _die_with_parent(True)
        _unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS)
        child = os.fork()
        if child:
            os.close(report)
            os.waitpid(child, 0)
            os._exit(0)
        _die_with_parent(True)
        _own_root()
        _furnish(SWITCH, {"hosts": "0", "lab": "engine"})
        resolver_user()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        test()
    except BaseException:
        said = traceback.format_exc()
    os.write(report, said.encode())
    os._exit(0)


def resolver_user() -> None:
    """What the role ``host`` does: the user that resolvers run as."""
    for path, line in (("/etc/passwd", "x:968:968::/nonexistent:/usr/sbin/nologin"), ("/etc/group", "x:968:")):
        text = Path(path).read_text(encoding="utf-8")
        if f"{RESOLVER_USER}:" not in text:
            Path(path).write_text(f"{text}{RESOLVER_USER}:{line}\n", encoding="utf-8")


def sh(script: str) -> str:
    """What a shell script prints on the host; it must succeed."""
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (script, done.stderr)
    return done.stdout


NETWORKS: dict[str, Any] = {
    "front": {"subnet": "10.0.0.0/24"},
    "back": {"subnet": "10.0.1.0/24", "internal": True},
    "apart": {
        "subnet": "10.0.2.0/24",
        "driver_opts": {
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.bridge.name": "br-apart",
            "com.docker.network.driver.mtu": "1400",
        },
    },
}
SMALL: dict[str, Any] = {"c1": {"networks": ["front"]}, "c2": {"networks": ["front"]}}
LARGE: dict[str, Any] = {
    "c1": {"networks": ["front", "back"]},
    "c2": {"networks": {"back": {"aliases": ["store"]}}},
    "c3": {"networks": {"apart": {"interface_name": "lan0", "ipv4_address": "10.0.2.9"}}},
    "c4": {"network_mode": "none"},
}
TOPOLOGIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "small": SMALL,
    "large": LARGE,
    "changed": {
        "c1": {"networks": {"back": None, "front": {"mac_address": "02:00:00:00:00:01"}}},
        "c3": {"networks": {"apart": {"ipv4_address": "10.0.2.8"}}, "hostname": "third"},
        "c4": {"networks": ["apart"]},
    },
}


def an_uplink(outside: str, here: Mapping[int, str], there: Mapping[int, str]) -> None:
    """The host's link up0, with somebody in a namespace at its other end, by whom the host's default routes lead.

    ``here`` and ``there`` are the addresses of both by family.
    """
    sh(
        f"ip netns add {outside}; ip link add up0 type veth peer name eth0 netns {outside}; ip link set up0 up;"
        f"ip -n {outside} link set eth0 up; ip -n {outside} link set lo up"
    )
    for family, length in ((4, 24), (6, 64)):
        nodad = "nodad" if family == 6 else ""
        sh(
            f"ip address add {here[family]}/{length} dev up0 {nodad};"
            f"ip -n {outside} address add {there[family]}/{length} dev eth0 {nodad};"
            f"ip route add default via {there[family]}"
        )


def a_plan(sandboxes: dict[str, Any], project: str = "default", leases: Optional[Leases] = None) -> Plan:
    variables = {"node1": {"cnm_project": project, "cnm_networks": NETWORKS, "cnm_sandboxes": sandboxes}}
    made = plan(read_topology(variables), {"node1": Facts(resolvers=("192.0.2.1",))}, leases or empty(), "now")
    assert not made.refusals
    return made.plans["node1"]


SECRET = "correct horse battery staple"
BGP_PASSWORD = "6f1e4f2b9a7c4d20"


def keys_for(
    wanted: Iterable[Resource], project: str = "default", epoch: int = 1, secret: str = SECRET
) -> dict[Way, bytes]:
    """The keys that the controller sends a host in an epoch, for what is to be encrypted there."""
    made = [pair_keys(secret, project, item.local, item.peers, epoch) for item in wanted if isinstance(item, Xfrm)]
    return {Way.from_text(way): bytes.fromhex(key) for keys in made for way, key in keys.items()}


_SETTLED: dict[str, dict[str, list[object]]] = {}
"""By project what a run leaves to the next one of the same test, as `State` keeps it."""


def scope_of(before: Sequence[Resource], after: Sequence[Resource]) -> Optional[narrowing.Scope]:
    """What a run looks at, on a host that is as the first plan, to bring it to the second."""
    first, second = (PlanText.read(Plan("node1", resources=tuple(each)).to_json()) for each in (before, after))
    return narrowing.scope(first, second)


def converge(
    resources: Sequence[Resource],
    project: str = "default",
    check: bool = False,
    since: Optional[Sequence[Resource]] = None,
) -> list[str]:
    """One run of the engine; what it did, as text.  If it is known what the host is like, ``since``, a narrow one."""
    scope = None if since is None else scope_of(since, resources)
    if scope is not None:
        resources = [item for item in resources if item.key in scope.keys]
    with Host(project, run_command) as host:
        host.command = cli.__name__
        host.pair_keys, host.bgp_password = keys_for(resources, project), BGP_PASSWORD
        host.verified_tables = _SETTLED.get(project, {})
        host.within = scope.namespaces if scope else None
        operations = engine.Engine(host).converge(resources, check, scope.keys if scope else None)
        done = [operation.text for operation in operations]
        _SETTLED[project] = host.verified_tables
        return done


def compare(resources: Sequence[Resource], project: str = "default") -> list[str]:
    """What a run would do, the same whether or not it relies on what earlier ones left."""
    found = []
    for settled in (_SETTLED.get(project, {}), {}):
        with Host(project, run_command) as host:
            host.command = cli.__name__
            host.pair_keys, host.bgp_password = keys_for(resources, project), BGP_PASSWORD
            host.verified_tables = settled
            found.append([operation.text for operation in engine.Engine(host).compare(resources)])
    assert found[0] == found[1], found
    return found[0]


def resources_of(sandboxes: dict[str, Any]) -> tuple[Resource, ...]:
    return a_plan(sandboxes).resources


def _rules(text: str) -> Iterator[str]:
    """The parts of a ruleset: tables, chains and sets in one, and elements of a set stand in no order of meaning."""
    for part in re.split(r"\n+(?=\t(?:chain|set|map) |\}|table )", text):
        head, elements, rest = part.partition("elements = {")
        inside, brace, end = rest.partition("}")
        yield head + elements + ", ".join(sorted(item.strip() for item in inside.split(","))) + brace + end


_SHOWN = ("ifname", "mtu", "ifalias", "master", "group", "inet6_addr_gen_mode")
_SHOWN_OF_PORTS = ("isolated", "learning", "flood", "mcast_flood", "bcast_flood", "neigh_suppress")
_SHOWN_OF_PARENTS = {"macvlan": ("mode",), "ipvlan": ("mode", "private", "vepa"), "vlan": ("id",)}
_SHOWN_OF_VXLANS = ("id", "local", "local6", "port", "learning", "port_range")


def _links(text: str) -> list[Any]:
    """Links as ``ip`` shows them, without numbers; a far end's MAC address and unmarked bridges' ids are by chance."""
    result = []
    for link in json.loads(text):
        info = link.get("linkinfo", {})
        entry = {name: link.get(name) for name in _SHOWN}
        entry["up"] = "UP" in link["flags"]
        entry["port"] = {name: info.get("info_slave_data", {}).get(name) for name in _SHOWN_OF_PORTS}
        entry["kind"] = info.get("info_kind")
        if entry["kind"] == "vxlan":
            entry["vxlan"] = {name: info["info_data"].get(name) for name in _SHOWN_OF_VXLANS}
        if entry["kind"] in _SHOWN_OF_PARENTS:
            entry["on"] = {name: info["info_data"].get(name) for name in _SHOWN_OF_PARENTS[entry["kind"]]}
        entry["address"] = None if ":port:" in (link.get("ifalias") or "") else link.get("address")
        result.append(entry)
    return sorted(result, key=lambda item: str(item["ifname"]))


_LOOK = """
ip -d -j link
echo @@
ip -o address show scope global
echo @@
ip -4 route
ip -6 route 2>/dev/null || true
ip -4 rule
ip -6 rule 2>/dev/null || true
echo @@
bridge fdb | grep -E ' dst .* permanent| static' | sed 's/ link-netnsid [0-9]*//' || true
ip neighbour show nud permanent
echo @@
nft -s list ruleset
echo @@
cd /proc/sys/net
grep -s . ipv4/ip_forward ipv6/conf/all/forwarding
grep -sH . ipv6/conf/*/disable_ipv6 ipv6/conf/*/accept_ra || true
echo @@
if [ -e /proc/self/net/ip_vs ] && command -v ipvsadm >/dev/null; then
    ipvsadm -S -n | sort
    ipvsadm -l --timeout
    grep -s . ipv4/vs/* || true
fi
"""


def snapshot() -> dict[str, Any]:
    """The host as its own tools show it: not with our eyes."""
    result: dict[str, Any] = {}
    for name in ["", *sorted(namespaces.names())]:
        inside = ["ip", "netns", "exec", name] if name else []
        done = subprocess.run([*inside, "sh", "-ec", _LOOK], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        links, addresses, routes, tables, rules, settings, virtual = done.stdout.split("@@\n")
        result[f"{name}: links"] = _links(links)
        result[f"{name}: addresses"] = sorted(line.split(maxsplit=1)[1] for line in addresses.splitlines())
        result[f"{name}: routes"] = sorted(line for line in routes.splitlines() if not line.startswith("fe80"))
        result[f"{name}: tables"] = sorted(tables.splitlines())
        result[f"{name}: rules"] = sorted(_rules(rules))
        result[f"{name}: settings"] = settings
        result[f"{name}: virtual servers"] = virtual
    told = (Path("/etc/systemd/network"), Path("/etc/systemd/networkd.conf.d"), Path("/etc/NetworkManager"))
    for root in (Path("/etc/netns"), Path("/run/cnm"), Path("/var/lib/cnm"), Path(namespaces.DIRECTORY), *told):
        for path in sorted(root.rglob("*")):
            named = path.parent == Path(namespaces.DIRECTORY) and path.name in namespaces.names()
            # What the kernel loads at a boot is kept when a whole run is done, not by the engine.
            if path.is_file() and path.suffix not in (".pid", ".pyc") and path.name != "rules.nft" and not named:
                text = re.sub(r'"number": \d+', "", path.read_text())  # the kernel chose it
                if path == Path("/run/cnm", path.parent.name, "loaded.json"):
                    text = re.sub(r", \d+, \d+\]", "]", text)  # inodes and times
                if path == Path("/run/cnm", path.parent.name, "tables.json"):
                    text = "when the tables were seen"
                result[str(path)] = (text, oct(path.stat().st_mode))
    result["encryption"] = sorted(sh("ip xfrm state; ip xfrm policy").splitlines())
    result["resolvers"] = sorted(_resolvers())
    return result


def _resolvers() -> Iterator[tuple[str, str]]:
    """Every dnsmasq's arguments and the name of the namespace it is in."""
    by_inode = {namespaces.inode(name): name for name in namespaces.names()}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (words := (entry / "cmdline").read_bytes()).split(b"\0")[0].endswith(b"dnsmasq"):
            yield words.decode(), by_inode.get((entry / "ns/net").stat().st_ino, "none of the named")


def differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What of two snapshots is not the same: of each part the lines (or links) that only one of them has."""
    keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    return {key: _only(_parts(one.get(key)), _parts(other.get(key))) for key in keys}


def the_same(one: dict[str, Any], other: dict[str, Any], said: object = "") -> None:
    """Fail, and say what differs, unless the two snapshots are equal."""
    left = differing(one, other)
    if left:
        lines = [f"{key}\n  {item}" for key, items in left.items() for item in items]
        more = [f"and {len(lines) - 20} more"] if len(lines) > 20 else []
        raise AssertionError("\n".join([f"the host is not the same {said}".rstrip(), *lines[:20], *more]))


def becomes(before: dict[str, Any]) -> None:
    """As `the_same` with the host now; the kernel removes a namespace's links when it gets round to it."""
    deadline = time.monotonic() + 3
    while differing(before, now := snapshot()) and time.monotonic() < deadline:
        time.sleep(0.02)
    the_same(before, now)


def _parts(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.splitlines()
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]


def _only(one: list[str], other: list[str]) -> list[str]:
    differing = [f"- {item}" for item in one if item not in other] + [f"+ {item}" for item in other if item not in one]
    return differing or ["another order"]


def works(sandboxes: Iterable[tuple[str, str, str]]) -> None:
    """Each (asker, name, address): the name resolves to the address in there, and the address answers.

    A resolver reads changed names when the machine lets it, which is at once unless that is busy.
    """
    with Host("default", run_command) as host:
        for asker, name, address in sandboxes:
            until = time.monotonic() + 5
            while (found := host.run_in(asker, resolving, [name])) != {name: [address]} and time.monotonic() < until:
                time.sleep(0.05)
            assert found == {name: [address]}
            echoes = host.run_in(asker, answering, [address], [])
            assert (echoes.small, echoes.large) == ({address}, {address})
