#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint
short_description: Connect a running sandbox to a network, or disconnect it
version_added: 0.1.0
description:
  - Does what C(docker network connect) and C(docker network disconnect) do, for a sandbox that M(cnm.fabric.sandbox)
    made or the inventory declares. Its other links are not changed.
  - The playbook C(cnm.fabric.site) keeps the connection until the inventory itself declares the sandbox on that
    network, and keeps the sandbox disconnected until the inventory no longer declares it there.
  - A sandbox that was disconnected from its last network has only its loopback.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.model
options:
  state:
    description:
      - V(present) connects the sandbox, or changes an existing connection to the options.
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
    description: Its IPv4 address on the network. If omitted, a free one.
    type: str
  ipv6_address:
    description: Its IPv6 address on the network. If omitted, a free one.
    type: str
  mac_address:
    description: MAC address of the link. If omitted, one derived from the address.
    type: str
  link_local_ips:
    description: More addresses of the link, of 169.254.0.0/16 and fe80::/64.
    type: list
    elements: str
  aliases:
    description: More names for the sandbox on this network.
    type: list
    elements: str
  interface_name:
    description: Name of the link. If omitted, the next free C(ethN).
    type: str
  gw_priority:
    description: The network with the highest priority supplies the default route.
    type: int
  driver_opts:
    description: Docker's own options of an endpoint, such as C(com.docker.network.endpoint.sysctls).
    type: dict
  routes:
    description: Routes of the sandbox over this network, each with C(destination) and C(gateway).
    type: raw
  limits:
    description:
      - How fast the sandbox is reached and may send, with C(ingress) and C(egress) as in C(100mbit).
      - On networks of the drivers bridge and overlay.
    type: dict
  netem:
    description:
      - The link to the sandbox that is emulated, with C(delay) and C(jitter) as in C(20ms), C(loss) as in C(1%), and
        C(rate) as in C(10mbit).
      - On networks of the drivers bridge and overlay.
    type: dict
seealso:
  - module: cnm.fabric.network
  - module: cnm.fabric.sandbox
"""

EXAMPLES = r"""
- name: Create a network
  cnm.fabric.network:
    name: front
    subnet: 10.0.6.0/24

- name: Create another one
  cnm.fabric.network:
    name: back
    subnet: 10.0.7.0/24
    internal: true

- name: Create a sandbox on the first
  cnm.fabric.sandbox:
    name: c4
    networks: [front]

- name: Connect it to the second one as well
  cnm.fabric.endpoint:
    network: back
    sandbox: c4
    ipv4_address: 10.0.7.20
    aliases: [db]

- name: Disconnect it from the first
  cnm.fabric.endpoint:
    network: front
    sandbox: c4
    state: absent

- name: Connect it again
  cnm.fabric.endpoint:
    network: front
    sandbox: c4

- name: Disconnect it from the second
  cnm.fabric.endpoint:
    network: back
    sandbox: c4
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
  returned: success, if the objects that it needs exist
  type: dict
"""
