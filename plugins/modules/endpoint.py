#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint
short_description: Connect a live sandbox to a network, or disconnect it
version_added: 0.1.0
description:
  - Does what C(docker network connect) and C(docker network disconnect) do, for a sandbox that M(cnm.fabric.sandbox)
    made or the inventory declares. Its other links stay as they are.
  - The playbook C(cnm.fabric.site) keeps the connection until the inventory itself puts the sandbox on that network,
    and keeps it disconnected until the inventory no longer does.
  - A sandbox that was disconnected from its last network has its loopback alone.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.model
options:
  state:
    description:
      - V(present) connects the sandbox, or changes what differs from the options.
      - V(absent) disconnects it.
    type: str
    choices: [present, absent]
    default: present
  network:
    description: Name of a network that M(cnm.fabric.network) made or the inventory declares, or V(bridge).
    type: str
    required: true
  sandbox:
    description: Name of the sandbox.
    type: str
    required: true
  ipv4_address:
    description: Its IPv4 address on the network. Without it, one that is free.
    type: str
  ipv6_address:
    description: Its IPv6 address on the network. Without it, one that is free.
    type: str
  mac_address:
    description: MAC address of the link. Without it, one that follows from the address.
    type: str
  aliases:
    description: More names for the sandbox on this network.
    type: list
    elements: str
  interface_name:
    description: Name of the link. Without it, the next free C(ethN).
    type: str
  gw_priority:
    description: The network of the highest supplies the default route.
    type: int
  driver_opts:
    description: Docker's own options of an endpoint, such as C(com.docker.network.endpoint.sysctls).
    type: dict
  routes:
    description: Routes the sandbox gets by this network, each with C(destination) and C(gateway).
    type: raw
seealso:
  - module: cnm.fabric.network
  - module: cnm.fabric.sandbox
"""

EXAMPLES = r"""
- name: A network
  cnm.fabric.network:
    name: front
    subnet: 10.0.0.0/24

- name: Another one
  cnm.fabric.network:
    name: back
    subnet: 10.0.1.0/24
    internal: true

- name: A sandbox on the first
  cnm.fabric.sandbox:
    name: c1
    networks: [front]

- name: The second one as well
  cnm.fabric.endpoint:
    network: back
    sandbox: c1
    ipv4_address: 10.0.1.20
    aliases: [db]

- name: The first no more
  cnm.fabric.endpoint:
    network: front
    sandbox: c1
    state: absent

- name: Again
  cnm.fabric.endpoint:
    network: front
    sandbox: c1

- name: Only that
  cnm.fabric.endpoint:
    network: back
    sandbox: c1
    state: absent
"""

RETURN = r"""
operations:
  description:
    - What was done, or in check mode would be done, sorted; empty when there was nothing to do.
    - One of the kind network or sandbox stands for a difference that only users see, such as a label.
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
      sample: c1/eth0
    differences:
      description: For a change, each attribute with what was found and what is wanted.
      type: list
      elements: dict
      returned: for change and replace
    reason:
      description: Why it is replaced.
      type: str
      returned: for replace
sandbox:
  description: The sandbox with its endpoints, links, addresses and ports; null if there is no such sandbox.
  returned: success, when what it needs is there
  type: dict
"""
