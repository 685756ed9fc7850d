# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Overlays as plans written by hand, for hosts of tests: nothing here asks a planner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Optional

from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address, Fdb, Neighbours
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import BridgePort, Link, Namespace, VethPeer, Vxlan

VNI = 4097
VTEPS = {4: ("192.0.2.1", "192.0.2.2", "192.0.2.3"), 6: ("2001:db8::1", "2001:db8::2", "2001:db8::3")}
"""Of each host, by the underlay's family."""

MTUS = {4: 1450, 6: 1430}
"""What VXLAN leaves of 1500 bytes: 50 go over IPv4 for its headers, 70 over IPv6."""

QUIET = BridgePort("br0", neigh_suppress=True, learning=False, flood=False, mcast_flood=False, bcast_flood=False)
LOUD = BridgePort("br0", neigh_suppress=True, learning=False)
BOXES = {"a": 0, "b": 0, "c": 1, "d": 1}
"""Sandboxes and the host each is on."""


FLAT = "ov-evpn-0"
"""The namespace of overlays that a routing daemon has to do with."""


def number_of(box: str) -> int:
    return 2 + ord(box) - ord("a")


def mac_of(box: str) -> str:
    return f"02:42:0a:00:00:{number_of(box):02x}"


def addresses_of(box: str) -> tuple[str, str]:
    return f"10.0.0.{number_of(box)}", f"fd00::{number_of(box)}"


def an_overlay(
    host: int = 0,
    boxes: Optional[Mapping[str, int]] = None,
    underlay: int = 4,
    flood: tuple[str, ...] = (),
    vni: int = VNI,
    source_port: int = 0,
    port: int = 4789,
) -> tuple[Resource, ...]:
    """One host's resources; ``boxes`` says which host each sandbox is on, ``flood`` where to broadcasts go."""
    boxes = BOXES if boxes is None else boxes
    place, mtu, vteps = f"ov{host}", MTUS[underlay], VTEPS[underlay]
    vxlan = Vxlan(vni, vteps[host], port, source_port=source_port)
    result: list[Resource] = [
        Namespace(place, "network/overlay"),
        # Its IPv6 stays enabled, or the kernel takes no neighbour of IPv6 to answer solicitations from.
        Link(
            place,
            "br0",
            "bridge",
            "network/overlay",
            "02:42:00:00:00:01",
            mtu,
            disable_ipv6=False,
            accept_ra=0,
            addr_gen_mode="none",
        ),
        Link(
            place,
            "vx0",
            "vxlan",
            "vxlan/overlay",
            f"02:42:00:00:01:0{host}",
            mtu,
            disable_ipv6=True,
            port=LOUD if flood else QUIET,
            vxlan=vxlan,
        ),
    ]
    for box in (box for box, where in boxes.items() if where == host):
        peer = VethPeer(place, f"p-{box}", "br0")
        result += [
            Namespace(box, f"sandbox/{box}"),
            Link(box, "eth0", "veth", f"endpoint/overlay/{box}", mac_of(box), mtu, disable_ipv6=False, peer=peer),
            *(Address(box, "eth0", f"{address}/{24 if '.' in address else 64}") for address in addresses_of(box)),
        ]
    elsewhere = {box: vteps[where] for box, where in boxes.items() if where != host}
    neighbours = {address: mac_of(box) for box in elsewhere for address in addresses_of(box)}
    return (
        *result,
        Fdb(place, "vx0", {mac_of(box): vtep for box, vtep in elsewhere.items()}, flood),
        Neighbours(place, "br0", neighbours),
    )


def a_routed_overlay(boxes: str = "f") -> tuple[Resource, ...]:
    """One in the namespace where a routing daemon reads and writes entries."""
    result: list[Resource] = [
        Namespace(FLAT, "overlays/evpn"),
        Link(
            FLAT,
            "br-flat",
            "bridge",
            "network/flat",
            "02:42:00:00:02:01",
            1450,
            disable_ipv6=False,
            accept_ra=0,
            rp_filter=1,
        ),
        Link(
            FLAT,
            "vx-flat",
            "vxlan",
            "vxlan/flat",
            "02:42:00:00:02:02",
            1450,
            disable_ipv6=True,
            port=replace(QUIET, master="br-flat"),
            vxlan=Vxlan(VNI + 9, VTEPS[4][0]),
        ),
        Fdb(FLAT, "vx-flat", routed=True),
        Neighbours(FLAT, "br-flat", {address: mac_of(box) for box in boxes for address in addresses_of(box)}),
    ]
    for box in boxes:
        peer = VethPeer(FLAT, f"p-{box}", "br-flat", learning=False)
        result += [
            Namespace(box, f"sandbox/{box}"),
            Link(box, "eth0", "veth", f"endpoint/flat/{box}", mac_of(box), 1450, disable_ipv6=False, peer=peer),
            Fdb(FLAT, f"p-{box}", static=(mac_of(box),), sandbox=box),
        ]
    return tuple(result)
