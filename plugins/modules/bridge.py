#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: bridge
short_description: Create, change or remove a bridge
version_added: 0.1.0
description:
  - Creates a bridge, in the host's own network namespace or in a named one, gives it addresses and brings it up.
  - An existing bridge is changed in place.
  - Sets C(accept_ra=0). With only IPv4 O(addresses), IPv6 is disabled on it.
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
  addresses:
    description:
      - All its addresses of global scope, IPv4 and IPv6, each with its prefix length. Others are removed.
      - If omitted, its addresses are not changed; an empty list removes all.
    type: list
    elements: str
  mtu:
    description: MTU in bytes. If omitted, an existing link keeps its MTU and the kernel chooses that of a new one.
    type: int
  mac_address:
    description: MAC address. If omitted, an existing bridge keeps its own and the kernel chooses that of a new one.
    type: str
seealso:
  - module: cnm.fabric.veth
"""

EXAMPLES = r"""
- name: Create a bridge with an address of each family
  cnm.fabric.bridge:
    name: br-lan
    addresses: [10.20.0.1/24, "fd00:20::1/64"]
    mtu: 1400

- name: Remove its IPv6 address, and set its MAC address
  cnm.fabric.bridge:
    name: br-lan
    addresses: [10.20.0.1/24]
    mac_address: "02:42:0a:14:00:01"

- name: Create a namespace
  cnm.fabric.namespace:
    name: blue

- name: Create a bridge in that namespace
  cnm.fabric.bridge:
    name: br0
    namespace: blue

- name: Remove the first bridge
  cnm.fabric.bridge:
    name: br-lan
    state: absent

- name: Remove the namespace and everything in it
  cnm.fabric.namespace:
    name: blue
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
      sample: br-lan
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
from ..module_utils.plan.marks import SINGLE_OBJECT


def read(options: Options) -> single_object.DesiredObject:
    """The desired object, from the module's options."""
    return single_object.desired_link(options, "bridge", SINGLE_OBJECT + "bridge")


def main() -> None:
    module = AnsibleModule(
        argument_spec={**single_object.LINK, **single_object.COMMON},
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
