# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What sandboxes carry, against the same made by hand with ip and nft: an overlay, a bridge, a published port.

Ours on two lab hosts, by hand on two others that have nothing of ours.  The hosts have no br_netfilter, as plain hosts
have none: the kernel of a lab may have it built in.  Services by virtual addresses are in test_services.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from carrying import Way, measure, serve
from fleet import Fleet
from lab import Lab, address
from measuring import in_turns, rounds
from rows import Table

_NETWORKS = {
    "mesh": {"driver": "overlay", "subnet": "10.60.0.0/24", "internal": True},
    "flat": {"subnet": "10.61.0.0/24"},
}
_SANDBOXES = {
    "node1": {
        "a": {"networks": {"mesh": {"ipv4_address": "10.60.0.11"}}},
        "c": {"networks": {"flat": {"ipv4_address": "10.61.0.11"}}},
        "d": {"networks": {"flat": {"ipv4_address": "10.61.0.12"}}, "ports": ["5001:5001"]},
    },
    "node2": {"b": {"networks": {"mesh": {"ipv4_address": "10.60.0.12"}}}},
}

_OVERLAY = """
ip netns add hand-ov
ip netns add hand
ip link add vx-hand type vxlan id 777 dstport 4789 local {local} remote {remote}
ip link set vx-hand netns hand-ov
ip -n hand-ov link add br0 type bridge
ip -n hand-ov link set vx-hand master br0 mtu 1450 up
ip -n hand-ov link add port type veth peer name eth0 netns hand
ip -n hand-ov link set port master br0 mtu 1450 up
ip -n hand-ov link set br0 mtu 1450 up
ip -n hand addr add 10.60.0.{own}/24 dev eth0
ip -n hand link set eth0 mtu 1450 up
"""

_BRIDGE = """
ip link add br-hand type bridge
ip address add 10.61.0.1/24 dev br-hand
ip link set br-hand up
sysctl -qw net.ipv4.ip_forward=1
for name in 11 12; do
    ip netns add hand$name
    ip link add port$name master br-hand type veth peer name eth0 netns hand$name
    ip link set port$name up
    ip -n hand$name address add 10.61.0.$name/24 dev eth0
    ip -n hand$name link set eth0 up
    ip -n hand$name route add default via 10.61.0.1
done
nft -f - <<'END'
table ip hand {
    chain prerouting {
        type nat hook prerouting priority -100;
        fib daddr type local tcp dport 5001 dnat to 10.61.0.12:5001
    }
    chain postrouting {
        type nat hook postrouting priority 100;
        ip saddr 10.61.0.0/24 oifname != "br-hand" masquerade
    }
}
END
"""

_PLAIN = "for each in iptables ip6tables arptables; do sysctl -qw net.bridge.bridge-nf-call-$each=0 || true; done"


def _ways(lab: Lab) -> dict[str, dict[str, Way]]:
    """By row, ours and the peer's.  Who calls a published port is a host without rules of ours, for both."""
    published = {host: lab.address(host, 4) for host in ("node1", "node3")}
    return {
        "packet.overlay": {
            "ours": Way("overlay", ("node1", "a"), ("node2", "b"), "10.60.0.12"),
            "peer": Way("VXLAN by hand", ("node3", "hand"), ("node4", "hand"), "10.60.0.2"),
        },
        "packet.bridge": {
            "ours": Way("bridge", ("node1", "c"), ("node1", "d"), "10.61.0.12"),
            "peer": Way("bridge by hand", ("node3", "hand11"), ("node3", "hand12"), "10.61.0.12"),
        },
        "packet.published": {
            "ours": Way("published port", ("node4", ""), ("node1", "d"), published["node1"]),
            "peer": Way("DNAT by hand", ("node4", ""), ("node3", "hand12"), published["node3"]),
        },
    }


def _make_by_hand(lab: Lab) -> None:
    for own, (host, peer) in enumerate((("node3", "node4"), ("node4", "node3")), 1):
        script = _OVERLAY.format(local=address(host), remote=address(peer), own=own)
        lab.run(host, ["sh", "-ec", script], check=True)
    lab.run("node3", ["sh", "-ec", _BRIDGE], check=True)


def traffic(lab: Lab, fleet: Fleet, seconds: float = 60) -> dict[str, dict[str, list[float]]]:
    """By row, samples of ours and the peer's in pairs: ``{"packet.overlay": {"ours": […], "peer": […]}, …}``."""
    for host in lab.hosts:
        lab.run(host, ["sh", "-c", _PLAIN])
    fleet.declare({"cnm_networks": _NETWORKS}, **{host: {"cnm_sandboxes": mine} for host, mine in _SANDBOXES.items()})
    fleet.site()
    _make_by_hand(lab)
    ways = _ways(lab)
    for place in {way.server: way for both in ways.values() for way in both.values()}.values():
        serve(lab, place)
    found: dict[str, dict[str, list[float]]] = {}
    for _number in rounds(5, 25, seconds):
        for key, both in ways.items():
            one = in_turns({side: lambda way=way: measure(lab, way, way.address) for side, way in both.items()})
            _note(found, key, {side: said["Gbit/s"] for side, said in one.items()})
            _note(found, f"{key}.latency", {side: said["us"] for side, said in one.items()})
    return found


def _note(found: dict[str, dict[str, list[float]]], key: str, one: Mapping[str, float]) -> None:
    for side, number in one.items():
        found.setdefault(key, {}).setdefault(side, []).append(number)


def test_sandboxes_carry_what_is_made_by_hand_does(tmp_path: Path, table: Table) -> None:
    with Lab(f"pytest-traffic-{os.getpid()}", hosts=4) as lab:
        for key, samples in traffic(lab, Fleet(lab, tmp_path, ["node1", "node2"])).items():
            table.add(key, samples["ours"], samples["peer"])
