#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: macvlan
short_description: Make, change or remove a macvlan link
version_added: 0.1.0
description:
  - Makes a link with a MAC address of its own on another link of the host, in its place with its final name, and brings
    it up. By it a namespace is on the network that the host is on.
  - Of an existing one only what differs is changed, in place. It is replaced when O(parent) changes, or O(mode) to or
    from V(passthru).
  - Sets C(accept_ra=0). With only IPv4 O(addresses), IPv6 is disabled on it.
  - The host itself does not reach what is on its own O(parent), but by another macvlan link there.
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
      - It is never changed, but for V(passthru), in which the kernel lets it hear whatever is sent.
    type: str
  mode:
    description:
      - How it is with others of the same O(parent). In V(bridge) they reach each other, in V(private) they do not, in
        V(vepa) what they say to each other goes out to the switch, which may send it back.
      - In V(passthru) there is one, and it has the parent's own MAC address. A link by which the host is reached is
        not taken over.
    type: str
    choices: [bridge, private, vepa, passthru]
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
  mac_address:
    description:
      - MAC address. Without it, what it has, for a new one what the kernel chooses. There is none in O(mode=passthru).
    type: str
seealso:
  - module: cnm.fabric.namespace
  - module: cnm.fabric.ipvlan
  - module: cnm.fabric.vlan
"""

EXAMPLES = r"""
- name: A namespace
  cnm.fabric.namespace:
    name: blue

- name: It is on the LAN that the host is on
  cnm.fabric.macvlan:
    name: eth0
    namespace: blue
    parent: eth0
    addresses: [10.20.0.2/24]
    mac_address: "02:42:0a:14:00:02"

- name: Another link that keeps to itself
  cnm.fabric.macvlan:
    name: eth1
    namespace: blue
    parent: eth0
    mode: private

- name: The host on the same LAN, to reach the namespace
  cnm.fabric.macvlan:
    name: lan-host
    parent: eth0
    addresses: [10.20.0.3/24]

- name: Without that one
  cnm.fabric.macvlan:
    name: lan-host
    state: absent

- name: Without the namespace's second link
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
    """What is asked for."""
    if options["mode"] == "passthru" and options["mac_address"]:
        options.wrong("mac_address", "in mode passthru it has that of its parent: leave it out")
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
