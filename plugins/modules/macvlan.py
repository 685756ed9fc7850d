#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: macvlan
short_description: Create, change or remove a macvlan link
version_added: 0.1.0
description:
  - Creates a link with its own MAC address on another link of the host, and brings it up. It connects a namespace to
    the network that the host is connected to.
  - An existing link is changed in place. It is replaced if O(parent) changes, or O(mode) to or from V(passthru).
  - Sets C(accept_ra=0). With only IPv4 O(addresses), IPv6 is disabled on it.
  - The host itself cannot reach links on its own O(parent), except through another macvlan link there.
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
      - It is never changed, except that with V(passthru) the kernel makes it promiscuous.
    type: str
  mode:
    description:
      - Whether links on the same O(parent) can reach each other. With V(bridge) they can, with V(private) they cannot,
        with V(vepa) their frames go out to the switch, which may send them back.
      - With V(passthru) there is only one, and it has the parent's MAC address. It is refused for the link by which
        Ansible reaches the host.
    type: str
    choices: [bridge, private, vepa, passthru]
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
  mac_address:
    description:
      - MAC address. If omitted, an existing link keeps its own and the kernel chooses that of a new one. Cannot be set
        with O(mode=passthru).
    type: str
seealso:
  - module: cnm.fabric.namespace
  - module: cnm.fabric.ipvlan
  - module: cnm.fabric.vlan
"""

EXAMPLES = r"""
- name: Create a namespace
  cnm.fabric.namespace:
    name: blue

- name: Connect it to the LAN of the host
  cnm.fabric.macvlan:
    name: eth0
    namespace: blue
    parent: eth0
    addresses: [10.20.0.2/24]
    mac_address: "02:42:0a:14:00:02"

- name: Create another link, which cannot reach the first
  cnm.fabric.macvlan:
    name: eth1
    namespace: blue
    parent: eth0
    mode: private

- name: Create a link for the host itself, so that it reaches the namespace
  cnm.fabric.macvlan:
    name: lan-host
    parent: eth0
    addresses: [10.20.0.3/24]

- name: Remove the host's link
  cnm.fabric.macvlan:
    name: lan-host
    state: absent

- name: Remove the namespace's second link
  cnm.fabric.macvlan:
    name: eth1
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
    if options["mode"] == "passthru" and options["mac_address"]:
        options.wrong("mac_address", "in mode passthru the link has the parent's MAC address: remove mac_address")
    return single_object.on_parent(options, "macvlan", options["mode"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **single_object.LINK,
            "parent": {"type": "str"},
            "mode": {"type": "str", "choices": ["bridge", "private", "vepa", "passthru"], "default": "bridge"},
            **single_object.COMMON,
        },
        required_if=[("state", "present", ("parent",))],
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
