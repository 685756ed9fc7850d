# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Links on a parent as plans written by hand, for hosts of tests: nothing here asks a planner."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address, Route
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace, Parent
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import LAN_GROUP

BENEATH = "lan0"
"""The parent, a link that swallows what is sent: what is on it reaches only each other."""
OVER_VLAN = "lan0.7"
BOXES = ("m1", "m2")

MACVLAN, IPVLAN = Parent(BENEATH, "bridge"), Parent(BENEATH, "l2", "bridge")


def address_of(box: str) -> str:
    return f"10.7.0.{1 + int(box[1:])}"


def a_lan(parent: Parent = MACVLAN, boxes: Sequence[str] = BOXES, vlan: int = 0) -> tuple[Resource, ...]:
    """A host's sandboxes on a LAN, and the link by which the host itself is on it; with ``vlan`` all on a VLAN link."""
    kind = "macvlan" if parent.flag == "" else "ipvlan"
    own_mac = kind == "macvlan" and parent.mode != "passthru"
    own = {"disable_ipv6": True, "accept_ra": 0, "group": LAN_GROUP}
    mac = "02:42:0a:07:00:fe"
    result: list[Resource] = [Link("", BENEATH, "ifb", "parent/lan", mac, **own)]  # type: ignore[arg-type]
    if vlan:
        below = Parent(BENEATH, vlan=vlan)
        result.append(Link("", OVER_VLAN, "vlan", "parent/vlan", parent=below, **own))  # type: ignore[arg-type]
        parent = Parent(OVER_VLAN, parent.mode, parent.flag)
    result += [
        Link("", "shim0", kind, "shim/lan", mac=_mac(99) if own_mac else None, parent=parent, **own),  # type: ignore[arg-type]
        Address("", "shim0", "10.7.0.99/32"),
    ]
    for number, box in enumerate(boxes):
        mac = _mac(number) if own_mac else None
        result += [
            Namespace(box, f"sandbox/{box}"),
            Link(box, "eth0", kind, f"endpoint/lan/{box}", mac, 1500, disable_ipv6=True, accept_ra=0, parent=parent),
            Address(box, "eth0", f"{address_of(box)}/24"),
            Route("", f"{address_of(box)}/32", 4, None, "shim0"),
        ]
    return tuple(result)


def _mac(number: int) -> str:
    return f"02:42:0a:07:00:{number:02x}"
