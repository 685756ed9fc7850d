# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Policies over hosts, as a user has them: overlays, virtual IPs, published ports, the mesh; see docs/policies.md."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from fleet import Fleet
from lab import Lab
from overlaying import overlay, torn_down
from serving import PORT, Caller, Load, addresses, servers, where

NETWORKS: dict[str, Any] = {
    "app": overlay("10.30.0.0/24", "fd00:30::/64", enable_ipv6=True),
    "local": {"subnet": "10.31.0.0/24"},
}
SERVICES: dict[str, Any] = {
    "store": {
        "networks": ["app"],
        "deploy": {"replicas": 2, "placement": {"hosts": ["node2"]}},
        "ports": [{"target": PORT, "published": 3000}],
        "policies": ["store"],
    }
}
HOSTS: dict[str, Any] = {
    "node1": {
        "cnm_sandboxes": {
            "client": {"networks": ["app"], "policies": ["client"]},
            "stranger": {"networks": ["app", "local"]},
            "web": {"networks": ["local"], "ports": [f"8080:{PORT}"], "policies": ["web"]},
        }
    },
    "node2": {"cnm_sandboxes": {"distant": {"networks": ["app"]}}},
}
SHUT: dict[str, Any] = {
    "store": {"ingress": [{"action": "allow", "from": [{"sandbox": "client"}], "ports": [PORT]}]},
    "client": {"egress": [{"action": "allow", "to": [{"service": "store"}]}]},
    "web": {"ingress": [{"action": "allow", "from": [{"host": "node2"}], "ports": [PORT]}]},
}
OPEN: dict[str, Any] = {
    **SHUT,
    "store": {"ingress": [*SHUT["store"]["ingress"], {"action": "allow", "from": [{"network": "ingress"}]}]},
}


def declare(fleet: Fleet, policies: Mapping[str, Any]) -> None:
    fleet.declare({"cnm_networks": NETWORKS, "cnm_services": SERVICES, "cnm_policies": dict(policies)}, **HOSTS)


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with torn_down(Fleet(lab, tmp_path_factory.mktemp("policies"))) as fleet, servers(fleet) as made:
        declare(fleet, SHUT)
        foretold = fleet.site("--check", "--diff")
        done = fleet.site()
        for host in fleet.hosts:
            assert foretold.operations(host) == done.operations(host)
            assert fleet.site().operations(host) == []
        made.serve({**where(fleet), "web": "node1", "distant": "node2"})
        yield fleet


def answered(caller: Caller, address: str, port: int = PORT, protocol: str = "tcp") -> bool:
    """Whether a server answers."""
    said = caller.call(address, 1, port, protocol, timeout=1)[0]
    return said.split(" ")[0] in ("store.1", "store.2", "web", "distant")


class TestOverHosts:
    def test_who_may_reaches_tasks_and_virtual_ips_and_nobody_else(self, fleet: Fleet) -> None:
        client, stranger = Caller(fleet, "node1", "client"), Caller(fleet, "node1", "stranger")
        distant = Caller(fleet, "node2", "distant")
        tasks = [
            address
            for task in ("store.1", "store.2")
            for address in addresses(fleet, "node2", task, "10.30", "fd00:30")
        ]
        assert len(tasks) == 4
        for address in [*tasks, *client.lookup("store")]:
            for protocol in ("tcp", "udp"):
                allowed = protocol == "tcp"
                assert answered(client, address, protocol=protocol) == allowed, (address, protocol)
                assert not answered(stranger, address, protocol=protocol), (address, protocol)
                assert not answered(distant, address, protocol=protocol), (address, protocol)
        for address in addresses(fleet, "node2", "distant", "10.30", "fd00:30"):
            assert not answered(client, address)
            assert answered(stranger, address)
            assert not client.pings(address)
            assert stranger.pings(address)

    def test_a_published_port_keeps_the_caller_s_address_for_the_rules(self, fleet: Fleet) -> None:
        address = fleet.lab.address("node1")
        assert answered(Caller(fleet, "node2"), address, 8080)
        assert not answered(Caller(fleet, "node1"), address, 8080)
        assert not answered(Caller(fleet, "node2", "distant"), address, 8081)

    def test_the_mesh_is_the_network_ingress_and_changes_lose_nothing_that_stays_allowed(self, fleet: Fleet) -> None:
        client = Caller(fleet, "node1", "client")
        held = client.connect(client.lookup("store")[0])[0]
        assert not answered(Caller(fleet, "node2"), fleet.lab.address("node1"), 3000)
        with Load(client, client.lookup("store")[0]).running() as load:
            declare(fleet, OPEN)
            changed = fleet.site()
            assert [text for text in changed.operations("node2") if "nftables bridge" in text]
            assert answered(Caller(fleet, "node2"), fleet.lab.address("node1"), 3000)
            declare(fleet, SHUT)
            fleet.site()
            assert not answered(Caller(fleet, "node2"), fleet.lab.address("node1"), 3000)
        assert load.failed == []
        assert load.said
        held.send(b"still there?")
        assert held.recv(100)
        held.close()

    def test_inspect_and_the_command_show_what_was_dropped(self, fleet: Fleet) -> None:
        stranger = Caller(fleet, "node1", "stranger")
        assert not answered(stranger, addresses(fleet, "node2", "store.1", "10.30")[0])
        run = fleet.play("inspect")
        rows = {cells[0]: cells for line in run.output.splitlines() if (cells := re.split(" {3,}", line))}
        at = rows["SANDBOX"].index("DROPPED")
        assert rows["store.1"][:3] == ["store.1", "node2", "store"]
        assert int(rows["store.1"][at]) > 0
        found = run.of("cnm.fabric.inspect", "node1")["policies"]
        assert found["node2"]["store.1"]["ingress"]["dropped"] == int(rows["store.1"][at])
        assert set(found["node1"]) == {"client", "web"}
        assert "packets to sandbox store.1, the last " in fleet.sh("node2", "cnm status").replace("packet ", "packets ")
        (shown,) = json.loads(fleet.sh("node2", "cnm inspect store.1"))
        assert shown["policies"] == ["store"]
        assert shown["policy_counts"]["ingress"]["dropped"] > 0

    def test_the_graph_has_them(self, fleet: Fleet) -> None:
        page = fleet.directory / "graph.html"
        run = fleet.play("graph", "-e", f"cnm_graph_file={page}")
        assert "as declared" in run.output
        text = html.unescape(re.sub("<[^>]*>", " ", page.read_text(encoding="utf-8")))
        assert f"allow sandbox client: {PORT}/tcp" in text
        chart = page.with_suffix(".mmd").read_text(encoding="utf-8")
        (client,), (store,) = (re.findall(rf'(\w+)\[+"{name}', chart) for name in ("client", "policy store"))
        assert f'{client} -->|"{PORT}/tcp"| {store}' in chart

    def test_drift_is_repaired(self, fleet: Fleet) -> None:
        place = fleet.sh("node2", "ls /run/netns | grep ^ov-").split()[0]
        fleet.sh("node2", f"ip netns exec {place} nft flush chain bridge cnm policies_to")
        assert answered(Caller(fleet, "node2", "distant"), addresses(fleet, "node2", "store.1", "10.30")[0])
        assert fleet.site().operations("node2") != []
        assert not answered(Caller(fleet, "node2", "distant"), addresses(fleet, "node2", "store.1", "10.30")[0])

    def test_verify_finds_nothing_wrong(self, fleet: Fleet) -> None:
        run = fleet.play("verify")
        assert run.code == 0, run.output
