#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: ipvlan
short_description: Make, change or remove an ipvlan link
version_added: 0.1.0
description:
  - Makes a link with the MAC address of another link of the host, in its place with its final name, and brings it up.
    What is for one of its addresses is its own.
  - Of an existing one only what differs is changed, in place. It is replaced when O(parent) changes.
  - Sets C(accept_ra=0). With only IPv4 O(addresses), IPv6 is disabled on it.
  - A link has either macvlan or ipvlan links on it. It wants a kernel with ipvlan.
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
  parent:
    description:
      - The link it is on, in the host's own network namespace whatever O(namespace) is. Needed for O(state=present).
      - It is never changed.
    type: str
  mode:
    description:
      - V(l2) is on the parent's network with ARP and broadcasts, V(l3) has the host route for it, V(l3s) the same with
        the host's own packet filter seeing it.
      - The kernel has one for all on the same O(parent), so the last one said counts for all.
    type: str
    choices: [l2, l3, l3s]
    default: l2
  flag:
    description:
      - How it is with others of the same O(parent). With V(bridge) they reach each other, with V(private) they do not,
        with V(vepa) what they say to each other goes out to the switch, which may send it back.
      - The kernel has one for all on the same O(parent), so the last one said counts for all.
    type: str
    choices: [bridge, private, vepa]
    default: bridge
  addresses:
    description:
      - All its addresses of global scope, IPv4 and IPv6, each with its prefix length. Others are taken off.
      - Without it, whatever addresses there are stay; with an empty list, none does.
    type: list
    elements: str
  mtu:
    description:
      - MTU in bytes, at most that of the O(parent). Without it, what it has, for a new one that of the parent.
    type: int
seealso:
  - module: cnm.fabric.namespace
  - module: cnm.fabric.macvlan
  - module: cnm.fabric.vlan
"""

EXAMPLES = r"""
- name: A namespace
  cnm.fabric.namespace:
    name: blue

- name: It is on the LAN that the host is on, by the host's own MAC address
  cnm.fabric.ipvlan:
    name: eth0
    namespace: blue
    parent: eth0
    addresses: [10.20.0.2/24]

- name: The host routes for it instead
  cnm.fabric.ipvlan:
    name: eth0
    namespace: blue
    parent: eth0
    mode: l3
    addresses: [10.20.0.2/24]

- name: Without it
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
    """What is asked for."""
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
