#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: veth
short_description: Create, change or remove a pair of virtual Ethernet links
version_added: 0.1.0
description:
  - Creates a veth pair and brings both ends up.
  - The end given by O(name) and O(namespace) identifies the pair; O(peer) is the other end, usually a bridge port.
  - An existing pair is changed in place. It is replaced if O(peer.name) or O(peer.namespace) changes; the kernel then
    chooses the MAC address unless O(mac_address) is given.
  - Sets C(accept_ra=0) on both ends. With only IPv4 O(addresses), IPv6 is disabled on the named one.
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
  peer:
    description: The other end. Required for O(state=present).
    type: dict
    suboptions:
      name:
        description: Name of the link, at most 15 characters.
        type: str
        required: true
      namespace:
        description: Name of its network namespace. If omitted, the host's own.
        type: str
      bridge:
        description: The bridge in the same namespace that it is a port of. If omitted, it is not a bridge port.
        type: str
      isolated:
        description: Whether it cannot reach the other isolated ports of the bridge.
        type: bool
        default: false
      addresses:
        description: As O(addresses), for this end. Only for a peer that is not a bridge port.
        type: list
        elements: str
  addresses:
    description:
      - All its addresses of global scope, IPv4 and IPv6, each with its prefix length. Others are removed.
      - If omitted, its addresses are not changed; an empty list removes all.
    type: list
    elements: str
  mtu:
    description:
      - MTU in bytes, of both ends. If omitted, an existing pair keeps its MTU and the kernel chooses that of a new one.
    type: int
  mac_address:
    description: MAC address of the named end. If omitted, it keeps its own, and the kernel chooses that of a new pair.
    type: str
seealso:
  - module: cnm.fabric.namespace
  - module: cnm.fabric.bridge
"""

EXAMPLES = r"""
- name: Create a namespace
  cnm.fabric.namespace:
    name: blue

- name: Create a bridge
  cnm.fabric.bridge:
    name: br-lan
    addresses: [10.20.0.1/24]

- name: Connect the namespace to the bridge
  cnm.fabric.veth:
    name: eth0
    namespace: blue
    addresses: [10.20.0.2/24]
    mac_address: "02:42:0a:14:00:02"
    peer:
      name: veth-blue
      bridge: br-lan

- name: Create a pair between the host and the namespace, without a bridge
  cnm.fabric.veth:
    name: eth1
    namespace: blue
    addresses: ["fd00:21::2/64"]
    mtu: 1400
    peer:
      name: to-blue
      addresses: ["fd00:21::1/64"]

- name: Remove the second pair
  cnm.fabric.veth:
    name: eth1
    namespace: blue
    state: absent

- name: Remove the namespace and with it the first pair
  cnm.fabric.namespace:
    name: blue
    state: absent

- name: Remove the bridge
  cnm.fabric.bridge:
    name: br-lan
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
      description: What kind of object.
      type: str
      returned: always
      sample: link
    name:
      description: Its name, with its namespace in front if that is not the host's.
      type: str
      returned: always
      sample: blue/eth0
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

from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import single_object
from ..module_utils.arguments import Options
from ..module_utils.plan.addresses import Address
from ..module_utils.plan.links import VethPeer
from ..module_utils.plan.marks import SINGLE_OBJECT


def read(options: Options) -> single_object.DesiredObject:
    """The desired object, from the module's options."""
    # The role identifies the two ends of a pair.
    role = "/".join(part for part in (SINGLE_OBJECT + "veth", options["namespace"], options["name"]) if part)
    desired = single_object.desired_link(options, "veth", role)
    return desired if options.absent else _with_peer(options, desired)


def _with_peer(options: Options, desired: single_object.DesiredObject) -> single_object.DesiredObject:
    namespace, name, bridge = options.namespace("peer.namespace"), options.link("peer.name"), options["peer.bridge"]
    addresses = options.addresses("peer.addresses")
    if (namespace, name) == (options["namespace"] or "", options["name"]):
        options.wrong(
            "peer.name", f"both ends are named {name} in {single_object.namespace_label(namespace)}: rename one of them"
        )
    if options["peer.isolated"] and not bridge:
        options.wrong("peer.isolated", "only a bridge port can be isolated: set peer.bridge")
    if addresses and bridge:
        options.wrong("peer.addresses", f"a port of a bridge has no addresses: give them to the bridge {bridge}")
    peer = VethPeer(namespace, name, bridge or "", bool(options["peer.isolated"]))
    link, *rest = desired.resources
    return replace(
        desired,
        resources=(
            replace(link, peer=peer),  # type: ignore[call-arg]
            *rest,
            *(Address(namespace, name, address) for address in addresses or ()),
        ),
        hanging=(*desired.hanging, *((("address", namespace, name),) if addresses is not None else ())),
        needs=(
            *desired.needs,
            single_object.Prerequisite(
                "peer.bridge" if bridge else "peer.namespace", namespace, bridge or "", bool(bridge)
            ),
        ),
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **single_object.LINK,
            "peer": {
                "type": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "namespace": {"type": "str"},
                    "bridge": {"type": "str"},
                    "isolated": {"type": "bool", "default": False},
                    "addresses": {"type": "list", "elements": "str"},
                },
            },
            **single_object.COMMON,
        },
        required_if=[("state", "present", ("peer",))],
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
