# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the engine costs beside the least that could be done: plain netlink messages, dumps and removals.

And one network with one endpoint beside the CNI plugin and a Docker Engine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host import a_plan, converge, measured_on_a_host, sh
from lab import Lab
from measuring import in_turns, rounds, timed
from rows import Table

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

FIRST = (12, 50, 200)
SIZES = (31, 125, 500)
PEERS = 7
BRIDGE_PLUGIN = Path("/usr/lib/cni/bridge")


def wanted(sandboxes: int) -> tuple[Resource, ...]:
    """A sandbox each with a published port, without resolvers and their files."""
    boxes = {f"s{number:03d}": {"networks": ["n"], "ports": [f"{8000 + number}:80"]} for number in range(sandboxes)}
    variables = {"node1": {"cnm_networks": {"n": {"subnet": "10.0.0.0/16"}}, "cnm_sandboxes": boxes}}
    made = plan(read_topology(variables), {"node1": Facts()}, empty(), "now").plans["node1"]
    return tuple(item for item in made.resources if item.kind not in ("resolver", "file", "names"))


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


def from_nothing() -> list[tuple[int, list[dict[str, float]]]]:
    """By size, each round: seconds of the engine and of the netlink program."""

    def engine() -> float:
        taken = timed(converge, resources)
        converge(())
        _settled()
        return taken

    def program() -> float:
        taken = timed(by_hand, resources)
        dropped(resources)
        _settled()
        return taken

    found = []
    for size in FIRST:
        resources = wanted(size)
        found.append((size, [in_turns({"ours": engine, "peer": program}) for _round in rounds(3, 7, 20)]))
    return found


def with_many() -> list[tuple[int, dict[str, list[dict[str, float]]]]]:
    """By size, each round: seconds unchanged and of the dumps, removed and dropped."""

    def still() -> float:
        return timed(unchanged, resources)

    def removed() -> float:
        converge(resources)
        taken = timed(converge, ())
        _settled()
        return taken

    def by_group() -> float:
        by_hand(resources)
        taken = timed(dropped, resources)
        _settled()
        return taken

    result = []
    for size in SIZES:
        resources = wanted(size)
        found: dict[str, list[dict[str, float]]] = {"unchanged": [], "removed": []}
        converge(resources)
        for _round in rounds(5, 11, 10):
            found["unchanged"].append(in_turns({"ours": still, "peer": lambda: timed(dumps)}))
        converge(())
        _settled()
        for _round in rounds(3, 5, 20):
            found["removed"].append(in_turns({"ours": removed, "peer": by_group}))
        result.append((size, found))
    return result


def test_200_sandboxes_from_nothing(tmp_path: Path, table: Table) -> None:
    for size, pairs in measured_on_a_host(from_nothing, tmp_path / "found"):
        table.grew("engine.first", size, [pair["ours"] for pair in pairs], [pair["peer"] for pair in pairs])


def test_500_sandboxes_unchanged_and_removed(tmp_path: Path, table: Table) -> None:
    for size, found in measured_on_a_host(with_many, tmp_path / "found"):
        for what, pairs in found.items():
            table.grew(f"engine.{what}", size, [pair["ours"] for pair in pairs], [pair["peer"] for pair in pairs])


def one_of_each() -> dict[str, list[float]]:
    """A network made, a sandbox put on it and both removed, beside one that stays."""
    sandboxes: dict[str, Any] = {"stays": {"networks": ["back"]}}
    before = a_plan(sandboxes).resources
    after = a_plan({"stays": {"networks": ["back", "front"]}}).resources
    found: dict[str, list[float]] = {"made and connected": [], "removed": []}
    converge(before)
    for _round in rounds(PEERS, PEERS, 20):
        found["made and connected"].append(timed(converge, after))
        found["removed"].append(timed(converge, before))
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
    for _round in rounds(PEERS, PEERS, 20):
        found["made and connected"].append(timed(call, "ADD"))
        found["removed"].append(timed(lambda: (call("DEL"), sh("ip link delete cni7"))))
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
    from docker_engine import DockerEngine, remove_groups

    with Lab(f"pytest-peers-{os.getpid()}", hosts=1) as lab:
        peer = DockerEngine(lab, "node1")
        peer.start()
        try:
            peer.run("stays")
            asked = re.sub("ROUNDS", str(PEERS), _ASK)
            found: dict[str, list[float]] = json.loads(lab.run("node1", ["/usr/bin/python3", "-c", asked]).stdout)
        finally:
            peer.stop()
    remove_groups()
    return found


def test_one_network_and_one_endpoint(tmp_path: Path, table: Table) -> None:
    """The peers each on a host of its own, so one after the other: a Docker Engine has none of ours beside it."""
    ours = measured_on_a_host(one_of_each, tmp_path / "ours")
    peers = {}
    if BRIDGE_PLUGIN.exists():
        peers["cni"] = measured_on_a_host(by_plugin, tmp_path / "cni")
    if Path("/usr/sbin/dockerd").exists():
        peers["docker"] = by_docker()
    for name, found in peers.items():
        for key, what in ((f"engine.one.{name}", "made and connected"), (f"engine.less.{name}", "removed")):
            table.add(key, *([second * 1000 for second in times[what]] for times in (ours, found)))
