#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: ipvlan
short_description: Create, change or remove an ipvlan link
version_added: 0.1.0
description:
  - Creates a link on another link of the host, and brings it up. Both have the same MAC address; the new link gets the
    packets for its IP addresses.
  - An existing link is changed in place. It is replaced if O(parent) changes.
  - Sets C(accept_ra=0). With only IPv4 O(addresses), IPv6 is disabled on it.
  - A parent can have either macvlan or ipvlan links, not both. The host's kernel needs ipvlan.
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
  parent:
    description:
      - The link to create it on, always in the host's own network namespace. Required for O(state=present).
      - It is never changed.
    type: str
  mode:
    description:
      - With V(l2) the link is on the parent's network with ARP and broadcasts; with V(l3) the host routes its packets;
        V(l3s) is V(l3), and packets also pass the host's packet filter.
      - The kernel has one mode for all links on the same O(parent), so the last one set applies to all.
    type: str
    choices: [l2, l3, l3s]
    default: l2
  flag:
    description:
      - Whether links on the same O(parent) can reach each other. With V(bridge) they can, with V(private) they cannot,
        with V(vepa) their frames go out to the switch, which may send them back.
      - The kernel has one flag for all links on the same O(parent), so the last one set applies to all.
    type: str
    choices: [bridge, private, vepa]
    default: bridge
  addresses:
    description:
      - All its addresses of global scope, IPv4 and IPv6, each with its prefix length. Others are removed.
      - If omitted, its addresses are not changed; an empty list removes all.
    type: list
    elements: str
  mtu:
    description:
      - MTU in bytes, at most that of the O(parent). If omitted, an existing link keeps its MTU and a new one
        gets that of the parent.
    type: int
seealso:
  - module: cnm.fabric.namespace
  - module: cnm.fabric.macvlan
  - module: cnm.fabric.vlan
"""

EXAMPLES = r"""
- name: Create a namespace
  cnm.fabric.namespace:
    name: blue

- name: Connect it to the LAN of the host, with the host's own MAC address
  cnm.fabric.ipvlan:
    name: eth0
    namespace: blue
    parent: eth0
    addresses: [10.20.0.2/24]

- name: Let the host route its packets instead
  cnm.fabric.ipvlan:
    name: eth0
    namespace: blue
    parent: eth0
    mode: l3
    addresses: [10.20.0.2/24]

- name: Remove the link
  cnm.fabric.ipvlan:
    name: eth0
    namespace: blue
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import single_object
from ..module_utils.arguments import Options


def read(options: Options) -> single_object.DesiredObject:
    """The desired object, from the module's options."""
    return single_object.on_parent(options, "ipvlan", options["mode"], options["flag"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **{name: spec for name, spec in single_object.LINK.items() if name != "mac_address"},
            "parent": {"type": "str"},
            "mode": {"type": "str", "choices": ["l2", "l3", "l3s"], "default": "l2"},
            "flag": {"type": "str", "choices": ["bridge", "private", "vepa"], "default": "bridge"},
            **single_object.COMMON,
        },
        required_if=[("state", "present", ("parent",))],
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
