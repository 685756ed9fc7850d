#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: vxlan
short_description: Make, change or remove a VXLAN link and its peer table
version_added: 0.1.0
description:
  - Makes a VXLAN link (RFC 7348), in the host's own network namespace or in a named one, and brings it up. Its packets
    travel in the host's namespace in any case, so nothing of the underlay has to be in the named one.
  - With O(peers), its tables hold exactly these other hosts.
  - Of an existing one only what differs is changed, in place. It is replaced, and what is left out is lost, when
    O(vni), O(port) or O(local) changes, or O(peers) come to have an address where there was none, or none any more.
  - Sets C(accept_ra=0). IPv6 is disabled on it unless O(addresses) or O(peers) have IPv6 addresses.
  - Accepts packets from anyone who can reach the UDP port and knows the VNI; restrict access by the host's firewall.
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
    description: Name of the network namespace it is in. Without it, the host's own.
    type: str
  vni:
    description:
      - The number of the network, 1 to 16777215. Needed for O(state=present).
      - A host has one VXLAN of each VNI, port and address family, whatever namespace it is in.
      - C(cnm.fabric.site) takes its own from V(4096) on (C(cnm_vni_range)), and none that is in use.
    type: int
  local:
    description:
      - The address of this host that packets leave with, IPv4 or IPv6, its VTEP. Needed for O(state=present).
    type: str
  port:
    description: UDP port that VXLAN packets are sent to and received at.
    type: int
    default: 4789
  peers:
    description:
      - The other hosts of the VXLAN. All others are removed from the link's tables; an empty list clears them.
        Without it, the tables are not changed.
      - An address is the VTEP of a host that gets a copy of every broadcast and of frames for unknown MAC addresses.
      - A mapping describes a link behind a VTEP, V(vtep), which then need not be learned. It has the link's
        V(mac_address) and, if others are to find the link by IP addresses, these as V(addresses).
      - If there are only mappings, nothing is flooded, and the link itself answers ARP and neighbour solicitations for
        the addresses in them. Where there are both, each mapping's V(vtep) must be among the addresses too.
      - The host's own VTEP is ignored, so that all hosts can use the same list.
    type: list
    elements: raw
  learning:
    description:
      - Whether it learns from the packets that come which VTEP a MAC address is behind, and the O(bridge) that it is
        behind this port. Whoever can send to the port can then say so, too.
      - Without it, that is on where O(peers) has addresses and off where it has none. Without O(peers) it is what it
        is, for a new link off.
    type: bool
  bridge:
    description:
      - The bridge, in the same namespace, that it is a port of. Without it, of the one it is a port of already.
    type: str
  flood:
    description: Whether the O(bridge) sends broadcasts, multicasts and what is for unknown MAC addresses to this port.
    type: bool
    default: true
  neigh_suppress:
    description:
      - Whether the O(bridge) answers ARP and neighbour solicitations for what its own neighbour table has behind this
        port, as where a routing daemon fills that table. It is not needed for the addresses in O(peers).
    type: bool
    default: false
  addresses:
    description:
      - All its addresses of global scope, IPv4 and IPv6, each with its prefix length. Others are taken off. For a link
        that is no port of a bridge.
      - Without it, whatever addresses there are stay; with an empty list, none does.
    type: list
    elements: str
  mtu:
    description:
      - MTU in bytes. Without it, what it has, for a new one that of the link that has O(local), less the 50 bytes that
        VXLAN needs over IPv4 or the 70 over IPv6.
    type: int
  mac_address:
    description: MAC address. Without it, what it has, for a new one what the kernel chooses.
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
- name: An address that the other hosts reach this one by
  cnm.fabric.bridge:
    name: br-underlay
    addresses: [192.0.2.11/24, "2001:db8::11/64"]

- name: A VXLAN link between two hosts, with a network of its own
  cnm.fabric.vxlan:
    name: vx-42
    vni: 42
    local: 192.0.2.11
    peers: [192.0.2.12]
    addresses: [10.42.0.1/24]

- name: A namespace
  cnm.fabric.namespace:
    name: fabric

- name: A bridge in it
  cnm.fabric.bridge:
    name: br0
    namespace: fabric

- name: A port of that bridge for several hosts, with one list for all of them
  cnm.fabric.vxlan:
    name: vx0
    namespace: fabric
    vni: 43
    local: 192.0.2.11
    bridge: br0
    peers: [192.0.2.11, 192.0.2.12, 192.0.2.13]

- name: The same, but everybody's place is known and nothing is flooded
  cnm.fabric.vxlan:
    name: vx0
    namespace: fabric
    vni: 43
    local: 192.0.2.11
    bridge: br0
    peers:
      - {vtep: 192.0.2.12, mac_address: "02:42:0a:2b:00:02", addresses: [10.43.0.2, "fd00:43::2"]}
      - {vtep: 192.0.2.13, mac_address: "02:42:0a:2b:00:03", addresses: [10.43.0.3]}

- name: One for a routing daemon, which fills the tables itself (EVPN)
  cnm.fabric.vxlan:
    name: vx1
    namespace: fabric
    vni: 44
    local: 2001:db8::11
    bridge: br0
    learning: false
    neigh_suppress: true

- name: None of them, as their namespace goes
  cnm.fabric.namespace:
    name: fabric
    state: absent

- name: Nor the first one
  cnm.fabric.vxlan:
    name: vx-42
    state: absent

- name: Nor the address
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
        - What kind of object. What is behind which VTEP is V(fdb), which IP address has which MAC address V(neighbour).
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
from dataclasses import dataclass, replace
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
from ..module_utils.resources.link.vxlan import vni_holder
from ..module_utils.vxlan_peers import Peers, read_peers, read_vtep


@dataclass(frozen=True)
class VxlanWish(single_object.DesiredObject):
    """A VXLAN link, of which what is left out depends on what there is."""

    peers: Optional[Peers] = None
    learning: Optional[bool] = None

    def missing(self, host: Host) -> list[str]:
        unmet = super().missing(host)
        link = self.resources[0]
        if not isinstance(link, Link) or link.vxlan is None:
            return unmet
        vxlan = link.vxlan
        if _link_of(host, vxlan.local) is None:
            unmet.append(f"local: {vxlan.local} is no address of this host: write one of its own, or add it before")
        holder = vni_holder(host, vxlan, ["", *namespaces.names()])
        if holder not in ("", link.label):
            unmet.append(
                f"vni: this host has a VXLAN of VNI {vxlan.id} on port {vxlan.port} already, {holder}: choose another "
                "VNI, or another port"
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
    """The MTU that goes through the link of that address; None if it is no way out."""
    link = _link_of(host, local)
    return None if link is None or link["loopback"] else int(link["mtu"]) - VXLAN_OVERHEAD[family_of(local)]


def read(options: Options) -> single_object.DesiredObject:
    """What is asked for."""
    wish = single_object.link_wish(options, "vxlan", SINGLE_OBJECT + "vxlan")
    link, *rest = wish.resources
    if options.absent or not isinstance(link, Link):
        return wish
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
            options.wrong(flag, "it is about a port of a bridge: name the bridge, too")
    if not options["flood"] and peers is not None and peers.answers:
        options.wrong("flood", "what the link is to answer has to reach it: leave it out, as nothing goes further")
    return VxlanWish(
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
            *wish.hanging,
            *((("fdb", namespace, name), ("neighbour", namespace, name)) if peers is not None else ()),
        ),
        needs=(*wish.needs, *((single_object.Prerequisite("bridge", namespace, bridge, True),) if bridge else ())),
        peers=peers,
        learning=options["learning"],
    )


def _without_ipv6(options: Options, peers: Optional[Peers], bridged: bool) -> Optional[bool]:
    """Whether it has no IPv6; None if nothing says so.  The kernel takes IPv6 neighbours only on a link that has it."""
    addresses = [*(options["addresses"] or ()), *(peers.neighbours if peers is not None else ())]
    return 6 not in map(family_of, addresses) if addresses or bridged else None


def _port(options: Options, bridge: str) -> BridgePort:
    flood = options["flood"]
    return BridgePort(
        bridge, neigh_suppress=options["neigh_suppress"], flood=flood, mcast_flood=flood, bcast_flood=flood
    )


def _tables(namespace: str, name: str, peers: Optional[Peers]) -> list[Resource]:
    """The link's tables; one without entries needs no making."""
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
