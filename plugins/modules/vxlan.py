#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: vxlan
short_description: Create, change or remove a VXLAN link and its peer table
version_added: 0.1.0
description:
  - Creates a VXLAN link (RFC 7348), in the host's own network namespace or in a named one, and brings it up. Its outer
    packets always use the host's namespace, so a named one needs no link to the underlay.
  - With O(peers), its tables hold exactly these other hosts.
  - An existing link is changed in place. It is replaced, and loses the settings whose options are omitted, if O(vni),
    O(port) or O(local) changes, or if O(peers) gets its first plain address or loses its last one.
  - Sets C(accept_ra=0). IPv6 is disabled on it unless O(addresses) or O(peers) have IPv6 addresses.
  - Accepts packets from anyone who can reach the UDP port and knows the VNI; restrict access with the host's firewall.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.single_object
options:
  name:
    description: Name of the link, at most 15 characters.
    type: str
    required: true
  namespace:
    description: Name of its network namespace. If omitted, the host's own.
    type: str
  vni:
    description:
      - The number of the network, 1 to 16777215. Required for O(state=present).
      - A host can have one VXLAN of each VNI, port and address family, counting all its namespaces.
      - C(cnm.fabric.site) chooses unused VNIs from V(4096) on (C(cnm_vni_range)).
    type: int
  local:
    description:
      - The VTEP of this host, that is the source address of its VXLAN packets, IPv4 or IPv6. Required for
        O(state=present).
    type: str
  port:
    description: UDP port that VXLAN packets are sent to and received at.
    type: int
    default: 4789
  peers:
    description:
      - The other hosts of the VXLAN. Entries that are not listed are removed from the link's tables; an empty list
        clears them. If omitted, the tables are not changed.
      - An address is the VTEP of a host that gets a copy of every broadcast and of frames for unknown MAC addresses.
      - A mapping describes a link that is reached through the VTEP V(vtep), whose MAC address need not be learned then.
        V(mac_address) is the link's MAC address, and V(addresses) are its IP addresses, if others need to resolve them.
      - If there are only mappings, nothing is flooded, and the link itself answers ARP and neighbour solicitations for
        the addresses in them. If there are both, each mapping's V(vtep) must also be listed as an address.
      - The host's own VTEP is ignored, so that all hosts can use the same list.
    type: list
    elements: raw
  learning:
    description:
      - Whether the link learns MAC addresses and their VTEPs from received packets, and the O(bridge) learns MAC
        addresses from this port. Anyone who can send to the UDP port can then claim a MAC address.
      - If omitted, it is on if O(peers) has plain addresses and off if it has none. Without O(peers), an existing link
        keeps its setting, and it is off for a new one.
    type: bool
  bridge:
    description:
      - The bridge, in the same namespace, that the link is a port of. If omitted, this is not changed.
    type: str
  flood:
    description: Whether the O(bridge) sends broadcasts, multicasts and frames for unknown MAC addresses to this port.
    type: bool
    default: true
  neigh_suppress:
    description:
      - Whether the O(bridge) answers ARP and neighbour solicitations from its own neighbour table for addresses at this
        port. Use it if a routing daemon fills that table; the addresses in O(peers) do not need it.
    type: bool
    default: false
  addresses:
    description:
      - All its addresses of global scope, IPv4 and IPv6, each with its prefix length. Others are removed. Only for a
        link that is not a bridge port.
      - If omitted, its addresses are not changed; an empty list removes all.
    type: list
    elements: str
  mtu:
    description:
      - MTU in bytes. If omitted, an existing link keeps its MTU, and a new one gets that of the link with O(local),
        less the 50 bytes that VXLAN needs over IPv4, or the 70 bytes over IPv6.
    type: int
  mac_address:
    description: MAC address. If omitted, an existing link keeps its own and the kernel chooses that of a new one.
    type: str
  up:
    description: Whether it is up.
    type: bool
    default: true
seealso:
  - module: cnm.fabric.bridge
  - module: cnm.fabric.veth
  - module: cnm.fabric.firewall
"""

EXAMPLES = r"""
- name: Give this host an address for the other hosts
  cnm.fabric.bridge:
    name: br-underlay
    addresses: [192.0.2.11/24, "2001:db8::11/64"]

- name: Create a VXLAN link between two hosts, with a network of its own
  cnm.fabric.vxlan:
    name: vx-42
    vni: 42
    local: 192.0.2.11
    peers: [192.0.2.12]
    addresses: [10.42.0.1/24]

- name: Create a namespace
  cnm.fabric.namespace:
    name: fabric

- name: Create a bridge in it
  cnm.fabric.bridge:
    name: br0
    namespace: fabric

- name: Create a VXLAN link as a port of that bridge, with the same list of peers on all hosts
  cnm.fabric.vxlan:
    name: vx0
    namespace: fabric
    vni: 43
    local: 192.0.2.11
    bridge: br0
    peers: [192.0.2.11, 192.0.2.12, 192.0.2.13]

- name: List the MAC addresses of each peer, so that nothing is flooded
  cnm.fabric.vxlan:
    name: vx0
    namespace: fabric
    vni: 43
    local: 192.0.2.11
    bridge: br0
    peers:
      - {vtep: 192.0.2.12, mac_address: "02:42:0a:2b:00:02", addresses: [10.43.0.2, "fd00:43::2"]}
      - {vtep: 192.0.2.13, mac_address: "02:42:0a:2b:00:03", addresses: [10.43.0.3]}

- name: Create one whose tables a routing daemon fills (EVPN)
  cnm.fabric.vxlan:
    name: vx1
    namespace: fabric
    vni: 44
    local: 2001:db8::11
    bridge: br0
    learning: false
    neigh_suppress: true

- name: Remove the namespace and everything in it
  cnm.fabric.namespace:
    name: fabric
    state: absent

- name: Remove the first link
  cnm.fabric.vxlan:
    name: vx-42
    state: absent

- name: Remove the bridge with the address
  cnm.fabric.bridge:
    name: br-underlay
    state: absent
"""

RETURN = r"""
operations:
  description: What was done, or in check mode would be done, sorted; empty when there was nothing to do.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: One of create, change, replace, delete.
      type: str
      returned: always
      sample: create
    kind:
      description:
        - What kind of object. V(fdb) is the table of MAC addresses and VTEPs, V(neighbour) that of IP addresses.
      type: str
      returned: always
      sample: link
    name:
      description: Its name, with its namespace in front if that is not the host's.
      type: str
      returned: always
      sample: fabric/vx0
    differences:
      description: For a change, each attribute with what was found and what is wanted.
      type: list
      elements: dict
      returned: for change and replace
    reason:
      description: Why it is replaced.
      type: str
      returned: for replace
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import single_object
from ..module_utils.arguments import Options
from ..module_utils.kernel import namespaces
from ..module_utils.kernel.host import Host
from ..module_utils.plan.addresses import Fdb, Neighbours
from ..module_utils.plan.base import Resource
from ..module_utils.plan.constants import LARGEST_PORT, LARGEST_VNI, VXLAN_OVERHEAD
from ..module_utils.plan.families import family_of
from ..module_utils.plan.links import BridgePort, Link, Vxlan
from ..module_utils.plan.marks import SINGLE_OBJECT
from ..module_utils.plan.records import dataclass
from ..module_utils.resources.link.vxlan import vni_holder
from ..module_utils.vxlan_peers import Peers, read_peers, read_vtep


@dataclass(frozen=True)
class DesiredVxlan(single_object.DesiredObject):
    """A VXLAN link whose omitted options default to the present state."""

    peers: Optional[Peers] = None
    learning: Optional[bool] = None

    def missing(self, host: Host) -> list[str]:
        unmet = super().missing(host)
        link = self.resources[0]
        if not isinstance(link, Link) or link.vxlan is None:
            return unmet
        vxlan = link.vxlan
        if _link_of(host, vxlan.local) is None:
            unmet.append(f"local: {vxlan.local} is not an address of this host: write one that is, or add it first")
        holder = vni_holder(host, vxlan, ["", *namespaces.names()])
        if holder not in ("", link.label):
            unmet.append(
                f"vni: this host already has a VXLAN with VNI {vxlan.id} on port {vxlan.port}, {holder}: choose "
                "another VNI or another port"
            )
        return unmet

    def completed(self, host: Host) -> single_object.DesiredObject:
        link, *rest = self.resources
        if not isinstance(link, Link) or link.vxlan is None:
            return self
        there = host.snapshot(link.namespace).links.get(link.name)
        before = there["data"] if there is not None and there["kind"] == "vxlan" else {}
        proxy, learning = bool(before.get("proxy")), bool(before.get("learning"))
        if self.peers is not None:
            proxy, learning = self.peers.answers, bool(self.peers.flood)
        learning = learning if self.learning is None else self.learning
        link = replace(
            link,
            mtu=link.mtu or (there["mtu"] if there is not None and before else _fitting(host, link.vxlan.local)),
            vxlan=replace(link.vxlan, learning=learning, proxy=proxy),
            port=replace(link.port, learning=learning) if link.port is not None else None,
        )
        return replace(self, resources=(link, *rest))


def _link_of(host: Host, address: str) -> Optional[Mapping[str, Any]]:
    """The host's own link that has the address."""
    snapshot = host.snapshot("")
    indexes = (item["index"] for item in snapshot.addresses if item["address"].partition("/")[0] == address)
    return next((link for index in indexes if (link := snapshot.link_by_index(index)) is not None), None)


def _fitting(host: Host, local: str) -> Optional[int]:
    """The largest MTU for VXLAN packets that leave by the link with that address; None if it is the loopback."""
    link = _link_of(host, local)
    return None if link is None or link["loopback"] else int(link["mtu"]) - VXLAN_OVERHEAD[family_of(local)]


def read(options: Options) -> single_object.DesiredObject:
    """The desired object, from the module's options."""
    desired = single_object.desired_link(options, "vxlan", SINGLE_OBJECT + "vxlan")
    link, *rest = desired.resources
    if options.absent or not isinstance(link, Link):
        return desired
    namespace, name = options["namespace"] or "", options["name"]
    vni = options.number("vni", 1, LARGEST_VNI, "a VNI")
    port = options.number("port", 1, LARGEST_PORT, "a UDP port")
    local = read_vtep(options, "local", options["local"])
    peers = read_peers(options, local)
    bridge = options["bridge"] or ""
    if bridge and options["addresses"]:
        options.wrong("addresses", f"a port of a bridge has no addresses: give them to the bridge {bridge}")
    for flag, default in (("flood", True), ("neigh_suppress", False)):
        if options[flag] != default and not bridge:
            options.wrong(flag, "it applies to a bridge port only: set bridge too")
    if not options["flood"] and peers is not None and peers.answers:
        options.wrong(
            "flood",
            "the link must get the broadcasts that it answers: remove flood, as peers without plain addresses get none",
        )
    return DesiredVxlan(
        resources=(
            replace(
                link,
                up=options["up"],
                disable_ipv6=_without_ipv6(options, peers, bool(bridge)),
                port=_port(options, bridge) if bridge else None,
                vxlan=Vxlan(vni, local, port),
            ),
            *rest,
            *_tables(namespace, name, peers),
        ),
        hanging=(
            *desired.hanging,
            *((("fdb", namespace, name), ("neighbour", namespace, name)) if peers is not None else ()),
        ),
        needs=(*desired.needs, *((single_object.Prerequisite("bridge", namespace, bridge, True),) if bridge else ())),
        peers=peers,
        learning=options["learning"],
    )


def _without_ipv6(options: Options, peers: Optional[Peers], bridged: bool) -> Optional[bool]:
    """Whether IPv6 is disabled; None if the options do not say.  IPv6 neighbours need a link with IPv6."""
    addresses = [*(options["addresses"] or ()), *(peers.neighbours if peers is not None else ())]
    return 6 not in map(family_of, addresses) if addresses or bridged else None


def _port(options: Options, bridge: str) -> BridgePort:
    flood = options["flood"]
    return BridgePort(
        bridge, neigh_suppress=options["neigh_suppress"], flood=flood, mcast_flood=flood, bcast_flood=flood
    )


def _tables(namespace: str, name: str, peers: Optional[Peers]) -> list[Resource]:
    """The link's tables; empty ones are left out."""
    if peers is None:
        return []
    tables: list[Resource] = []
    if peers.flood or peers.entries:
        tables.append(Fdb(namespace, name, peers.entries, tuple(sorted(peers.flood))))
    if peers.neighbours:
        tables.append(Neighbours(namespace, name, peers.neighbours))
    return tables


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **single_object.LINK,
            "vni": {"type": "int"},
            "local": {"type": "str"},
            "port": {"type": "int", "default": 4789},
            "peers": {"type": "list", "elements": "raw"},
            "learning": {"type": "bool"},
            "bridge": {"type": "str"},
            "flood": {"type": "bool", "default": True},
            "neigh_suppress": {"type": "bool", "default": False},
            "up": {"type": "bool", "default": True},
            **single_object.COMMON,
        },
        required_if=[("state", "present", ("vni", "local"))],
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
