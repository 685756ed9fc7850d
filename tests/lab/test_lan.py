# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Macvlan networks end to end: sandboxes on the LAN of the hosts themselves, and on links that stay on a host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml
from fleet import Fleet, snapshot
from lab import Lab

OFFICE = {
    "driver": "macvlan",
    "enable_ipv6": True,
    "ipam": {
        "config": [
            {"subnet": "198.51.100.0/24", "gateway": "198.51.100.1", "ip_range": "198.51.100.128/26"},
            {"subnet": "fdc6:3364::/64", "gateway": "fdc6:3364::1", "ip_range": "fdc6:3364::8000/120"},
        ]
    },
    "driver_opts": {"parent": "eth0"},
}


def on_eth0(subnet: Any, **options: Any) -> dict[str, Any]:
    return {"driver": "macvlan", "subnet": subnet, "driver_opts": {"parent": "eth0", **options}}


NETWORKS: dict[str, Any] = {
    "office": OFFICE,
    "known": {
        "driver": "macvlan",
        "ipam": {"config": [{"subnet": "10.66.0.0/24", "aux_addresses": {"node2": "10.66.0.200"}}]},
        "driver_opts": {"parent": "eth0", "host_access": True},
    },
    "private": on_eth0("10.67.0.0/24", macvlan_mode="private"),
    "vepa": on_eth0("10.68.0.0/24", macvlan_mode="vepa"),
    "inner": {"driver": "macvlan", "subnet": ["10.69.0.0/24", "fd69::/64"], "internal": True},
    "several": on_eth0(["10.70.0.0/24", "10.71.0.0/24"]),
}
SANDBOXES: dict[str, dict[str, Any]] = {
    "node1": {
        "desk1": {"networks": {"office": {"aliases": ["printer"]}}},
        "desk2": {"networks": ["office"]},
        "known1": {"networks": ["known"]},
        "private1": {"networks": ["private"]},
        "private2": {"networks": ["private"]},
        "vepa1": {"networks": ["vepa"]},
        "vepa2": {"networks": ["vepa"]},
        "inner1": {"networks": ["inner"]},
        "inner2": {"networks": ["inner"]},
        "several1": {"networks": {"several": {"ipv4_address": "10.71.0.9"}}},
    },
    "node2": {
        "desk3": {"networks": {"office": {"mac_address": "02:00:00:00:00:03"}}},
        "known2": {"networks": ["known"]},
        "private3": {"networks": ["private"]},
        "vepa3": {"networks": ["vepa"]},
        "several2": {"networks": {"several": {"ipv4_address": "10.71.0.1"}}},
    },
}
AT = {
    **{f"desk{number}": f"198.51.100.{128 + number - 1}" for number in (1, 2, 3)},
    **{f"private{number}": f"10.67.0.{number + 1}" for number in (1, 2, 3)},
    **{f"vepa{number}": f"10.68.0.{number + 1}" for number in (1, 2, 3)},
    **{f"inner{number}": f"10.69.0.{number + 1}" for number in (1, 2)},
}
"""The subnet's first address is left to the router, unless ip_range says where addresses come from."""


def declare(fleet: Fleet, networks: Optional[dict[str, Any]] = None) -> None:
    networks = NETWORKS if networks is None else networks
    hosts = {
        node: {
            "cnm_sandboxes": {
                name: box for name, box in boxes.items() if all(network in networks for network in box["networks"])
            }
        }
        for node, boxes in SANDBOXES.items()
    }
    fleet.declare({"cnm_networks": networks}, **hosts)


PARENT = "ip -d -o link show eth0 | sed 's/promiscuity [0-9]* //'; ip -o address show dev eth0 scope global"


def counters(fleet: Fleet, node: str) -> dict[str, int]:
    """What eth0 has counted: carrier changes, packets, bytes and errors."""
    (link,) = json.loads(fleet.sh(node, "ip -s -s -j link show eth0"))
    return {f"{way} {name}": value for way in ("rx", "tx") for name, value in link["stats64"][way].items()}


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All networks on two hosts; the switch is the plain neighbour on their segment."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("lan"))
    before = {node: (snapshot(fleet, node), fleet.sh(node, PARENT)) for node in fleet.hosts}
    counted = {node: counters(fleet, node) for node in fleet.hosts}
    declare(fleet)
    fleet.site()
    assert {node: fleet.sh(node, PARENT) for node in fleet.hosts} == {node: was[1] for node, was in before.items()}
    yield fleet
    fleet.teardown()
    assert {node: (snapshot(fleet, node), fleet.sh(node, PARENT)) for node in fleet.hosts} == before
    for node, was in counted.items():
        now = counters(fleet, node)
        assert now["tx carrier_changes"] == was["tx carrier_changes"]
        assert now["rx errors"] == was["rx errors"]
        assert now["tx packets"] > was["tx packets"]
        assert {name for name in was if now[name] < was[name]} == set()


def pings(world: Fleet, node: str, box: str, address: str) -> bool:
    inside = f"ip netns exec {box} " if box else ""
    return "1 received" in world.sh(node, f"{inside}ping -n -c1 -W1 {address}", check=False)


def neighbour(world: Fleet, node: str, address: str) -> str:
    """The MAC address a host, or the switch, has found an address at."""
    words = world.sh(node, f"ip neighbour show {address}").split()
    return words[words.index("lladdr") + 1]


class TestTheLan:
    def test_a_second_run_changes_nothing_and_verify_holds(self, world: Fleet) -> None:
        assert world.site().changed == []
        checked = world.play("verify")
        assert checked.code == 0, checked.output

    def test_hosts_sandboxes_and_a_plain_neighbour_reach_each_other_by_their_own_macs(self, world: Fleet) -> None:
        assert pings(world, "node1", "desk1", AT["desk2"])
        assert pings(world, "node1", "desk1", AT["desk3"])
        assert pings(world, "node2", "desk3", "fdc6:3364::8000")
        assert pings(world, "switch", "", AT["desk1"])
        assert pings(world, "switch", "", AT["desk3"])
        assert neighbour(world, "switch", AT["desk1"]) == "02:42:c6:33:64:80"
        assert neighbour(world, "switch", AT["desk3"]) == "02:00:00:00:00:03"
        # Nothing is translated: the neighbour sees who asks, and the router knows the way back.
        assert pings(world, "node1", "desk1", "203.0.113.1")
        assert pings(world, "node2", "", AT["desk1"])

    def test_names_of_all_hosts_resolve_and_the_lans_own_are_asked_for_outside(self, world: Fleet) -> None:
        for node, box, name, address in (
            ("node2", "desk3", "printer", AT["desk1"]),
            ("node1", "desk2", "desk3.office", AT["desk3"]),
            ("node1", "desk1", "outside.example", "203.0.113.1"),
        ):
            assert address in world.sh(node, f"ip netns exec {box} getent ahostsv4 {name}")

    def test_modes_are_what_the_kernel_documents(self, world: Fleet) -> None:
        assert not pings(world, "node1", "private1", AT["private2"])
        assert pings(world, "node1", "private1", AT["private3"])
        # A vepa leaves it to the switch to send frames back, which a bridge of Linux does not do by itself.
        assert not pings(world, "node1", "vepa1", AT["vepa2"])
        assert pings(world, "node1", "vepa1", AT["vepa3"])

    def test_a_host_reaches_its_own_sandboxes_where_it_has_access(self, world: Fleet) -> None:
        known1, known2 = "10.66.0.3", "10.66.0.4"  # the host of node1 has the first
        assert pings(world, "node1", "", known1)
        assert pings(world, "node1", "known1", known2)
        assert pings(world, "node2", "", known2)
        assert pings(world, "node2", "known2", "10.66.0.200")
        assert not pings(world, "node1", "", AT["desk1"])

    def test_a_network_without_a_parent_stays_on_its_host(self, world: Fleet) -> None:
        assert pings(world, "node1", "inner1", AT["inner2"])
        assert pings(world, "node1", "inner1", "fd69::3")
        assert not pings(world, "node1", "", AT["inner1"])
        assert "default" not in world.sh("node1", "ip -n inner1 route; ip -n known1 route")

    def test_inspect_has_docker_s_keys_and_everyone(self, world: Fleet) -> None:
        run = world.play("inspect")
        assert run.code == 0, run.output
        documents = {item["Name"]: item for item in run.of("cnm.fabric.inspect", "node1")["networks"]["node2"]}
        office, known = documents["office"], documents["known"]
        assert (office["Driver"], office["Scope"], office["Options"]) == ("macvlan", "local", {"parent": "eth0"})
        assert office["IPAM"]["Config"][0]["Gateway"] == "198.51.100.1"
        assert "Gateway" not in known["IPAM"]["Config"][0]
        found = {item["Name"]: item["IPv4Address"] for item in office["Containers"].values()}
        assert found == {name: f"{AT[name]}/24" for name in ("desk1", "desk2", "desk3")}
        assert "Peers" not in office

    def test_drift_is_named_and_repaired(self, world: Fleet) -> None:
        world.sh("node1", "ip -n desk1 link delete eth0; ip -n private1 link set eth0 type macvlan mode bridge")
        run = world.site()
        assert "create link desk1/eth0" in run.operations("node1")
        assert "change link private1/eth0" in run.operations("node1")
        assert world.site().changed == []
        assert pings(world, "switch", "", AT["desk1"])

    def test_addresses_stay_when_sandboxes_and_access_go(self, world: Fleet) -> None:
        without = {**NETWORKS, "known": {**NETWORKS["known"], "driver_opts": {"parent": "eth0"}}}
        declare(world, {name: network for name, network in without.items() if name != "inner"})
        world.site()
        left = world.sh("node1", "ip -o link show type macvlan; ip -o link show type ifb; ip route")
        assert "10.66" not in left
        assert "cnm:default" not in left
        assert pings(world, "node2", "known2", "10.66.0.3")
        declare(world)
        world.site()
        assert pings(world, "node1", "", "10.66.0.3")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"parent": "eth7"}, "there is no link eth7 on this host. Write one that it has: "),
    "no base": ({"parent": "eth7.10"}, "there is no link eth7.10 on this host, and no eth7 to make it on."),
    "port": ({"parent": "port0"}, "port0 is a port of br-theirs, which gets all its traffic."),
    "macvlan": ({"parent": "mv0"}, "mv0 is a macvlan link itself. Write what it is on, eth0."),
    "large": ({"parent": "eth0", "com.docker.network.driver.mtu": 9000}, "eth0 has an MTU of 1500"),
}


def test_a_wrong_parent_is_named_before_anything_changes(world: Fleet) -> None:
    """All of them at once: each network of its own names what is wrong with its parent."""
    world.sh(
        "node1",
        "ip link add br-theirs type bridge; ip link add port0 type ifb; ip link set port0 master br-theirs;"
        "ip link add mv0 link eth0 type macvlan mode bridge",
    )
    try:
        before = snapshot(world, "node1")
        networks = {
            f"wrong{number}": {"driver": "macvlan", "subnet": f"10.9{number}.0.0/24", "driver_opts": options}
            for number, (options, _problem) in enumerate(WRONG.values())
        }
        boxes = {f"w-{name}": {"networks": [name]} for name in networks}
        world.declare({"cnm_networks": networks}, node1={"cnm_sandboxes": boxes})
        run = world.play("site")
        assert run.code != 0
        said = " ".join(run.output.split())
        assert [problem for _options, problem in WRONG.values() if problem not in said] == [], said
        assert snapshot(world, "node1") == before
    finally:
        world.sh("node1", "ip link delete mv0; ip link delete port0; ip link delete br-theirs")
        declare(world)


def test_verify_finds_a_link_by_which_a_sandbox_hears_the_host(world: Fleet) -> None:
    """Of mode source, in a namespace without a name: what the switch sends to node1 is received by it too."""
    world.site()
    assert pings(world, "node1", "", "198.51.100.1")
    mac = neighbour(world, "node1", "198.51.100.1")
    started = world.sh(
        "node1",
        "ip netns exec desk1 setsid unshare --net sleep 300 >/dev/null 2>&1 & echo $!; sleep 0.5;"
        "ip netns exec desk1 ip link add spy link eth0 netns $! type macvlan mode source;"
        f"nsenter --net=/proc/$!/ns/net ip link set spy up type macvlan macaddr add {mac}",
    )
    pid = int(started.split()[0])
    try:
        assert pings(world, "switch", "", "198.51.100.11")
        (spy,) = json.loads(world.sh("node1", f"nsenter --net=/proc/{pid}/ns/net ip -s -j link show spy"))
        assert spy["stats64"]["rx"]["packets"] > 0
        checked = world.play("verify")
        assert checked.code != 0
        misses = checked.of("cnm.fabric.verify", "node1")["misses"]
        found = [(each["target"], each["found"]) for each in misses if each["check"] == "parent"]
        assert found == [("eth0", f"spy in the namespace of process {pid}")], misses
    finally:
        world.sh("node1", f"kill {pid}")


def test_the_link_of_the_connection_is_not_taken_over(world: Fleet) -> None:
    network = {
        "driver": "macvlan",
        "subnet": "10.90.0.0/24",
        "driver_opts": {"parent": "eth0", "macvlan_mode": "passthru"},
    }
    before = snapshot(world, "node1")
    world.declare({"cnm_networks": {"whole": network}}, node1={"cnm_sandboxes": {"w": {"networks": ["whole"]}}})
    run = world.play("site")
    declare(world)
    assert run.code != 0
    assert "Ansible reaches this host by eth0, and the mode passthru would take it" in " ".join(run.output.split())
    assert snapshot(world, "node1") == before


def test_the_example_of_the_office_lan(world: Fleet) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "office-lan"
    variables = {path.stem: yaml.safe_load(path.read_text()) for path in example.glob("*_vars/*.yml")}
    everyone = variables.pop("all")
    world.declare(everyone, **variables)
    world.site()
    assert pings(world, "node2", "db", "198.51.100.200")
    assert pings(world, "node1", "", "198.51.100.200")
    assert "198.51.100.200" in world.sh("node2", "ip netns exec db getent ahostsv4 lp")
    assert neighbour(world, "node1", "198.51.100.200") == "02:42:c6:33:64:c8"
