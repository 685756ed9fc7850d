# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the engine costs beside the least that could be done: plain netlink messages, dumps and removals.

Aims: 200 sandboxes from nothing at most 1.5 times as long, 500 unchanged at most 2 times and 0.4 s, 500 removed at most
2 times.  One network, one endpoint: a fifth of the CNI plugin's time, a twentieth of a Docker Engine's.  Reported, not
asserted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from host import a_plan, converge, measured_on_a_host, sh
from lab import Lab

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces, netlink
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.nft import Library
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address, Route
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import LINK_GROUP
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables import script
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

ROUNDS = 3
PEERS = 7
BRIDGE_PLUGIN = Path("/usr/lib/cni/bridge")


def wanted(sandboxes: int) -> tuple[Resource, ...]:
    """A sandbox each with a published port, without resolvers and their files."""
    boxes = {f"s{number:03d}": {"networks": ["n"], "ports": [f"{8000 + number}:80"]} for number in range(sandboxes)}
    variables = {"node1": {"cnm_networks": {"n": {"subnet": "10.0.0.0/16"}}, "cnm_sandboxes": boxes}}
    made = plan(read_topology(variables), {"node1": Facts()}, empty(), "now").plans["node1"]
    return tuple(item for item in made.resources if item.kind not in ("resolver", "file"))


def seconds(work: Callable[..., object], *arguments: Any) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def _inside(nft: Library, address: str, gateway: str, rules: str) -> None:
    with netlink.Netlink() as kernel:
        links = {link["name"]: link["index"] for link in kernel.links()}
        there = links["eth0"]
        kernel.send([netlink.set_link(links["lo"], up=True), netlink.set_link(there, up=True)])
        kernel.send([netlink.new_address(there, address), netlink.new_route("default", protocol=3, via=gateway)])
    nft.run(rules)


def by_hand(resources: Sequence[Resource]) -> None:
    """The same objects, each message once, with no look at what is there and no marks."""
    links = [item for item in resources if isinstance(item, Link)]
    (bridge,) = (item for item in links if item.peer is None)
    addresses = {item.namespace: item.address for item in resources if isinstance(item, Address)}
    routes = {item.namespace: item.via or "" for item in resources if isinstance(item, Route)}
    tables = {
        (item.namespace, item.family): script(item, "default") for item in resources if isinstance(item, Nftables)
    }
    pairs = [item for item in links if item.peer is not None]
    with netlink.Netlink() as kernel:
        kernel.send([netlink.new_link(bridge.name, "bridge", mac=bridge.mac)])
        found = next(link for link in kernel.links() if link["name"] == bridge.name)
        kernel.send([netlink.new_address(found["index"], addresses[""]), netlink.set_link(found["index"], up=True)])
        nft = Library()
        nft.run("\n".join(text for (namespace, _family), text in tables.items() if not namespace))
        for pair in pairs:
            assert pair.peer is not None
            namespaces.create(pair.namespace)
            place = os.open(f"{namespaces.DIRECTORY}/{pair.namespace}", os.O_RDONLY)
            end = {"name": "eth0", "netns_fd": place, "mac": pair.mac}
            master, group = found["index"], LINK_GROUP
            kernel.send([netlink.new_link(pair.peer.name, "veth", master=master, group=group, peer=end)])
            os.close(place)
            inner = (nft, addresses[pair.namespace], routes[pair.namespace], tables[pair.namespace, "inet"])
            namespaces.run(pair.namespace, _inside, *inner)
        by_name = {link["name"]: link["index"] for link in kernel.links()}
        kernel.send([netlink.set_link(by_name[pair.peer.name], up=True) for pair in pairs if pair.peer is not None])


def _dump() -> None:
    with netlink.Netlink() as kernel:
        kernel.links()
        kernel.addresses()
        kernel.routes()


def dumps() -> None:
    for name in ["", *namespaces.names()]:
        namespaces.run(name, _dump)


def dropped(resources: Sequence[Resource]) -> None:
    """Namespaces by their names, the rest by group; tables at once."""
    (bridge,) = (item for item in resources if isinstance(item, Link) and item.peer is None)
    with netlink.Netlink() as kernel:
        kernel.send([netlink.del_group(LINK_GROUP)])
        found = [link["index"] for link in kernel.links() if link["name"] == bridge.name]
        kernel.send([netlink.del_link(index) for index in found])
    for name in namespaces.names():
        namespaces.delete(name)
    Library().run("flush ruleset")


def unchanged(resources: Sequence[Resource]) -> None:
    """With what the run before left to it, as on hosts."""
    assert converge(resources, check=True) == []


def _settled() -> None:
    """The kernel takes namespaces apart when it gets round to it."""
    time.sleep(1.0)


def report(capsys: pytest.CaptureFixture[str], title: str, found: Mapping[str, Sequence[float]], aim: str) -> None:
    """Medians in milliseconds, and how many times the last of them the first takes."""
    ours, *others = found
    with capsys.disabled():
        print(f"\n{title}, medians of {len(found[ours])} (aim {aim})")
        for name, times in found.items():
            print(f"  {name:<34} {median(times) * 1000:10.1f} ms")
        for name in others:
            print(f"  {ours} / {name}: {median(found[ours]) / median(found[name]):.2f}")


def from_nothing() -> dict[str, list[float]]:
    resources = wanted(200)
    found: dict[str, list[float]] = {"engine": [], "netlink program": []}
    for _round in range(ROUNDS):
        found["netlink program"].append(seconds(by_hand, resources))
        dropped(resources)
        _settled()
        found["engine"].append(seconds(converge, resources))
        converge(())
        _settled()
    return found


def with_500() -> dict[str, list[float]]:
    resources = wanted(500)
    found: dict[str, list[float]] = {name: [] for name in ("unchanged", "dumps", "removed", "dropped")}
    for _round in range(ROUNDS):
        converge(resources)
        found["dumps"].append(seconds(dumps))
        found["unchanged"].append(seconds(unchanged, resources))
        found["removed"].append(seconds(converge, ()))
        _settled()
        by_hand(resources)
        found["dropped"].append(seconds(dropped, resources))
        _settled()
    return found


def test_200_sandboxes_from_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(capsys, "200 sandboxes from nothing", measured_on_a_host(from_nothing, tmp_path / "found"), "1.5")


def test_500_sandboxes_unchanged_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured_on_a_host(with_500, tmp_path / "found")
    report(capsys, "500 sandboxes unchanged", {name: found[name] for name in ("unchanged", "dumps")}, "2, 400 ms")
    report(capsys, "500 sandboxes removed", {name: found[name] for name in ("removed", "dropped")}, "2")


def one_of_each() -> dict[str, list[float]]:
    """A network made, a sandbox put on it and both removed, beside one that stays."""
    sandboxes: dict[str, Any] = {"stays": {"networks": ["back"]}}
    before = a_plan(sandboxes).resources
    after = a_plan({"stays": {"networks": ["back", "front"]}}).resources
    found: dict[str, list[float]] = {"made and connected": [], "removed": []}
    converge(before)
    for _round in range(PEERS):
        found["made and connected"].append(seconds(converge, after))
        found["removed"].append(seconds(converge, before))
    return found


def by_plugin() -> dict[str, list[float]]:
    """The same by the CNI plugin, which makes the bridge with its first endpoint."""
    sh("ip netns add stays; ip netns exec stays ip link set lo up")
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    network = {"cniVersion": "0.4.0", "name": "n", "type": "bridge", "bridge": "cni7", "isGateway": True}
    given = json.dumps({**network, "ipMasq": True, "ipam": {**ipam, "dataDir": "/run/cni-benchmark"}})
    words = {"CNI_CONTAINERID": "stays", "CNI_NETNS": "/run/netns/stays", "CNI_IFNAME": "eth7"}

    def call(command: str) -> None:
        environment = {**os.environ, **words, "CNI_COMMAND": command, "CNI_PATH": str(BRIDGE_PLUGIN.parent)}
        subprocess.run([BRIDGE_PLUGIN], env=environment, input=given, text=True, check=True, capture_output=True)

    found: dict[str, list[float]] = {"made and connected": [], "removed": []}
    for _round in range(PEERS):
        found["made and connected"].append(seconds(call, "ADD"))
        found["removed"].append(seconds(lambda: (call("DEL"), sh("ip link delete cni7"))))
    return found


_ASK = """
import http.client, json, socket, statistics, time
class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX); self.sock.connect("/run/engine/socket")
engine = Engine("engine")
def ask(method, path, body=None):
    engine.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = engine.getresponse(); said = answer.read()
    assert answer.status < 300, said
def seconds(*calls):
    started = time.perf_counter()
    for call in calls:
        ask(*call)
    return time.perf_counter() - started
found = {"made and connected": [], "removed": []}
for _round in range(ROUNDS):
    network, box = {"Name": "n", "CheckDuplicate": True}, {"Container": "stays", "Force": True}
    made = ("POST", "/networks/create", network), ("POST", "/networks/n/connect", box)
    found["made and connected"].append(seconds(*made))
    found["removed"].append(seconds(("POST", "/networks/n/disconnect", box), ("DELETE", "/networks/n")))
print(json.dumps(found))
"""


def by_docker() -> dict[str, list[float]]:
    """The same by a Docker Engine's API, on a lab host, with a container that stays."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))
    from docker_engine import IMAGE, DockerEngine, remove_groups

    with Lab(f"pytest-peers-{os.getpid()}", hosts=1) as lab:
        peer = DockerEngine(lab, "node1")
        peer.start()
        try:
            peer("run", "-d", "--name", "stays", IMAGE, "/bin/sleep", "600")
            asked = re.sub("ROUNDS", str(PEERS), _ASK)
            found: dict[str, list[float]] = json.loads(lab.run("node1", ["/usr/bin/python3", "-c", asked]).stdout)
        finally:
            peer.stop()
    remove_groups()
    return found


def test_one_network_and_one_endpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {"engine": measured_on_a_host(one_of_each, tmp_path / "ours")}
    found["CNI bridge plugin"] = measured_on_a_host(by_plugin, tmp_path / "cni") if BRIDGE_PLUGIN.exists() else {}
    found["Docker Engine's API"] = by_docker() if Path("/usr/sbin/dockerd").exists() else {}
    for what in ("made and connected", "removed"):
        times = {name: by_what[what] for name, by_what in found.items() if by_what}
        report(capsys, f"One network and endpoint {what}", times, "0.05 of Docker's, 0.2 of the plugin's")
