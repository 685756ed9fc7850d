#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: vlan
short_description: Make, change or remove a VLAN link
version_added: 0.1.0
description:
  - Makes a link for one VLAN (IEEE 802.1Q) of another link of the host, in its place with its final name, and brings it
    up.
  - Of an existing one only what differs is changed, in place. It is replaced when O(parent) or O(id) changes, and what
    was made on it is lost.
  - Sets C(accept_ra=0). With only IPv4 O(addresses), IPv6 is disabled on it.
  - It wants a kernel with 802.1Q.
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
      - It is never changed, and has to be up.
    type: str
  id:
    description: The VLAN, 1 to 4094. Needed for O(state=present).
    type: int
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
  mac_address:
    description: MAC address. Without it, what it has, for a new one that of the O(parent).
    type: str
seealso:
  - module: cnm.fabric.namespace
  - module: cnm.fabric.macvlan
  - module: cnm.fabric.ipvlan
"""

EXAMPLES = r"""
- name: VLAN 10 of a trunk
  cnm.fabric.vlan:
    name: eth0.10
    parent: eth0
    id: 10
    addresses: [10.10.0.11/24]

- name: A namespace
  cnm.fabric.namespace:
    name: blue

- name: It has VLAN 20 for itself
  cnm.fabric.vlan:
    name: eth0
    namespace: blue
    parent: eth0
    id: 20
    addresses: [10.20.0.11/24, "fd00:20::11/64"]

- name: Without VLAN 10
  cnm.fabric.vlan:
    name: eth0.10
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
    vlan = 0 if options.absent else options.number("id", 1, 4094, "a VLAN's ID")
    return single_object.on_parent(options, "vlan", vlan=vlan)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **single_object.LINK,
            "parent": {"type": "str"},
            "id": {"type": "int"},
            **single_object.COMMON,
        },
        required_if=[("state", "present", ("parent", "id"))],
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
