#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: vlan
short_description: Create, change or remove a VLAN link
version_added: 0.1.0
description:
  - Creates a link for one VLAN (IEEE 802.1Q) of another link of the host, and brings it up.
  - An existing link is changed in place. It is replaced if O(parent) or O(id) changes, and links on it are lost.
  - Sets C(accept_ra=0). With only IPv4 O(addresses), IPv6 is disabled on it.
  - The host's kernel needs 802.1Q.
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
      - It is never changed, and has to be up.
    type: str
  id:
    description: The VLAN, 1 to 4094. Required for O(state=present).
    type: int
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
  mac_address:
    description: MAC address. If omitted, an existing link keeps its own and a new one gets that of the O(parent).
    type: str
seealso:
  - module: cnm.fabric.namespace
  - module: cnm.fabric.macvlan
  - module: cnm.fabric.ipvlan
"""

EXAMPLES = r"""
- name: Create a link for VLAN 10 of a trunk
  cnm.fabric.vlan:
    name: eth0.10
    parent: eth0
    id: 10
    addresses: [10.10.0.11/24]

- name: Create a namespace
  cnm.fabric.namespace:
    name: blue

- name: Put VLAN 20 into it
  cnm.fabric.vlan:
    name: eth0
    namespace: blue
    parent: eth0
    id: 20
    addresses: [10.20.0.11/24, "fd00:20::11/64"]

- name: Remove the link for VLAN 10
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
    """The desired object, from the module's options."""
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
