#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: network
short_description: Create, change or remove a network on a host
version_added: 0.1.0
description:
  - Does what C(docker network create) and C(docker network rm) do. The network is created on the host even if no
    sandbox uses it.
  - The options are the keys of an entry of C(cnm_networks), with the same meaning. An existing network is changed in
    place.
  - A network with sandboxes on it is not removed. A network that the inventory declares has to be changed there.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.model
options:
  state:
    description:
      - V(present) creates the network, or changes an existing one to the options.
      - V(absent) removes it.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the network.
    type: str
    required: true
  driver:
    description:
      - The driver, in Docker's words, V(bridge), V(macvlan) or V(ipvlan), or the FQCN of another collection's driver
        whose networks are of local scope. Without it, V(bridge).
      - The networks of the drivers V(host) and V(none) always exist, one of each.
    type: str
  subnet:
    description:
      - A subnet of each family, short for C(ipam.config). A family without one gets a free subnet from
        C(cnm_default_address_pools).
    type: list
    elements: str
  ipam:
    description: Subnets and their settings, as in the Compose specification.
    type: dict
    suboptions:
      driver:
        description: The IPAM driver.
        type: str
      config:
        description: A mapping for each subnet.
        type: list
        elements: dict
        suboptions:
          subnet:
            description: The subnet, such as V(10.0.0.0/24).
            type: str
          gateway:
            description: The bridge's own address in it. If omitted, the lowest free one.
            type: str
          ip_range:
            description: The part of the subnet from which addresses are allocated.
            type: str
          aux_addresses:
            description: A mapping of names to addresses that are never allocated.
            type: dict
      options:
        description: Options of the IPAM driver.
        type: dict
  internal:
    description: Whether the network has no default route and no DNS forwarding.
    type: bool
  enable_ipv4:
    description: Whether it has IPv4. If omitted, it has.
    type: bool
  enable_ipv6:
    description: Whether it has IPv6. If omitted, it has if there is an IPv6 subnet.
    type: bool
  attachable:
    description: Accepted and shown, without any effect.
    type: bool
  encrypted:
    description: Only for overlay networks.
    type: bool
  driver_opts:
    description: Docker's own options of the driver, such as C(com.docker.network.bridge.name).
    type: dict
  labels:
    description: A mapping of labels, or a list of C(name=value).
    type: raw
  routes:
    description: Routes for every sandbox on it, each with C(destination) and C(gateway).
    type: raw
  firewall:
    description: With V(none) its traffic is neither filtered nor translated, and it cannot have published ports.
    type: str
  policies:
    description: Names of policies (C(cnm_policies) of the inventory) that hold for every sandbox on it.
    type: list
    elements: str
seealso:
  - module: cnm.fabric.network_info
  - module: cnm.fabric.sandbox
  - module: cnm.fabric.endpoint
"""

EXAMPLES = r"""
- name: Create a network with a given subnet
  cnm.fabric.network:
    name: office
    subnet: 10.0.4.0/24

- name: Create an internal one with addresses from one half of the subnet, and with a free IPv6 subnet
  cnm.fabric.network:
    name: inside
    internal: true
    enable_ipv6: true
    ipam:
      config:
        - subnet: 10.0.5.0/24
          ip_range: 10.0.5.128/25
          aux_addresses: {printer: 10.0.5.9}
    driver_opts:
      com.docker.network.bridge.name: br-inside

- name: Give the first one a label
  cnm.fabric.network:
    name: office
    subnet: 10.0.4.0/24
    labels: {com.example.tier: front}

- name: Remove the second network
  cnm.fabric.network:
    name: inside
    state: absent

- name: Remove the first network
  cnm.fabric.network:
    name: office
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
network:
  description: The document of C(docker network inspect), key for key; null if there is no such network.
  returned: success, if the objects that it needs exist
  type: dict
"""
