# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which resources of a plan are restored together, and which need others."""

from __future__ import annotations

from ansible_collections.cnm.fabric.plugins.module_utils.hostd.restore import parts_of
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address, Fdb, Route
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import (
    BridgePort,
    Link,
    Namespace,
    Parent,
    VethPeer,
    Vxlan,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File, Resolver, Sysctl, Target

GUARDS = "the rules of the host"
TABLE = Nftables("", "inet", "cnm")
BRIDGE = Link("", "br-front", "bridge", "network/front")
IN_C1 = Link("c1", "eth0", "veth", "endpoint/front/c1", peer=VethPeer("", "veth1", "br-front"))
OVERLAY: list[Resource] = [
    Namespace("ov", "overlay/hidden"),
    Link("ov", "br0", "bridge", "network/hidden"),
    Link("ov", "vx0", "vxlan", "vxlan/hidden", port=BridgePort("br0"), vxlan=Vxlan(4096, "192.0.2.1", source_port=50)),
    Fdb("ov", "vx0"),
    Namespace("h1", "sandbox/h1"),
    Link("h1", "eth0", "veth", "endpoint/hidden/h1", peer=VethPeer("ov", "veth2", "br0")),
]


def names_and_needs(*resources: Resource) -> dict[str, set[str]]:
    return {part.name: part.needs for part in parts_of(resources)}


def test_a_sandbox_and_each_of_its_networks_are_parts_and_everything_needs_the_rules() -> None:
    found = names_and_needs(
        Resolver("c1"),
        IN_C1,
        Address("c1", "eth0", "10.0.0.2/24"),
        Route("c1", "default", via="10.0.0.1", link="eth0"),
        Sysctl("c1", "net.ipv4.conf.eth0.log_martians", "1"),
        Sysctl("c1", "net.ipv4.ip_forward", "1"),
        File("/etc/netns/c1", "sandbox/c1"),
        Nftables("c1", "inet", "cnm"),
        Namespace("c1", "sandbox/c1"),
        BRIDGE,
        Address("", "br-front", "10.0.0.1/24"),
        TABLE,
    )
    assert found == {
        GUARDS: set(),
        "network front": {GUARDS},
        "sandbox c1": {GUARDS},
        "network front in sandbox c1": {GUARDS, "network front", "sandbox c1"},
    }


def test_what_belongs_to_a_sandboxs_link_comes_with_it() -> None:
    (part,) = [
        part
        for part in parts_of([IN_C1, Address("c1", "eth0", "10.0.0.2/24"), Sysctl("c1", "net.ipv4.conf.eth0.x", "1")])
        if part.name == "network front in sandbox c1"
    ]
    assert {item.kind for item in part.resources} == {"link", "address", "sysctl"}


def test_an_encrypted_overlay_needs_the_encryption_and_an_open_one_does_not() -> None:
    encryption = Xfrm("192.0.2.1")
    found = names_and_needs(*OVERLAY, encryption)
    assert found["network hidden"] == {"encryption"}
    assert found["network hidden in sandbox h1"] == {"network hidden", "sandbox h1"}
    opened = [Link("ov", "vx0", "vxlan", "vxlan/hidden", vxlan=Vxlan(4096, "192.0.2.1"))]
    assert names_and_needs(*OVERLAY[:2], *opened, encryption)["network hidden"] == set()


def test_a_link_on_a_parent_of_ours_needs_it_and_on_one_of_others_nothing() -> None:
    vlan = Link("", "eth0.10", "vlan", "parent/eth0.10", parent=Parent("eth0", vlan=10))
    inside = Link("m1", "eth0", "macvlan", "endpoint/office/m1", parent=Parent("eth0.10", "bridge"))
    found = names_and_needs(inside, vlan, Link("", "sh-1", "macvlan", "shim/office", parent=Parent("eth1")))
    assert found == {"link eth0.10": set(), "network office in sandbox m1": {"link eth0.10"}, "network office": set()}


def test_applications_need_everything_in_their_sandbox() -> None:
    in_b = Link("c1", "eth1", "veth", "endpoint/back/c1")
    found = names_and_needs(Namespace("c1", "sandbox/c1"), Namespace("c2", "sandbox/c2"), IN_C1, in_b, Target("c1"))
    assert found["applications in sandbox c1"] == {
        "sandbox c1",
        "network front in sandbox c1",
        "network back in sandbox c1",
    }


def test_parts_come_after_what_they_need() -> None:
    order = [part.name for part in parts_of([*OVERLAY, Xfrm("192.0.2.1"), IN_C1, BRIDGE, TABLE])]
    for part in parts_of([*OVERLAY, Xfrm("192.0.2.1"), IN_C1, BRIDGE, TABLE]):
        assert all(order.index(other) < order.index(part.name) for other in part.needs)
