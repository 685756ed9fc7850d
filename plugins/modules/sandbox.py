#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox
short_description: Create, change or remove a sandbox on a host
version_added: 0.1.0
description:
  - Creates a network namespace with links on networks, addresses, routes, names and ports, without declaring it in the
    inventory.
  - The options are the keys of an entry of C(cnm_sandboxes), with the same meaning. An existing sandbox is changed in
    place.
  - Connections that M(cnm.fabric.endpoint) made are kept. A sandbox that the inventory declares is changed there.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.model
options:
  state:
    description:
      - V(present) creates the sandbox, or changes an existing one to the options.
      - V(absent) removes it, with the connections that M(cnm.fabric.endpoint) made.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the sandbox. Its namespace is C(/run/netns/<name>).
    type: str
    required: true
  networks:
    description:
      - A list of networks, or a mapping from networks to options of the endpoint, which are those of
        M(cnm.fabric.endpoint). The first is C(eth0), the next C(eth1).
      - If this and O(network_mode) are omitted, the predefined network C(bridge).
      - On a command line, names with commas between them, or JSON.
    type: raw
  ports:
    description:
      - Ports of the host that are forwarded to it, such as V(8080:80) or V(127.0.0.1:5353:53/udp), or mappings with
        C(target), C(published), C(protocol) and C(host_ip).
    type: raw
  network_mode:
    description: V(none) or V(host) instead of networks, V(bridge) for the predefined network, or V(sandbox:NAME) for
      the namespace of that sandbox.
    type: str
  namespace:
    description:
      - A foreign network namespace for the sandbox, named by one of these keys. Each run looks it up on the host.
        Objects in it that are not the sandbox's are not changed.
    type: dict
    suboptions:
      docker:
        description: The name of a Docker container that was created with C(--network none).
        type: str
      podman:
        description: The name of a container of root's podman that was created with C(--network none).
        type: str
      pid:
        description: A process id.
        type: int
      machine:
        description: The name of a machine that C(machinectl) knows.
        type: str
      path:
        description: A namespace's path, such as V(/run/netns/other).
        type: str
  hostname:
    description: Its host name. If omitted, the name of the sandbox.
    type: str
  domainname:
    description: Its domain; its C(/etc/hosts) has the host name with it first.
    type: str
  mac_address:
    description: MAC address of its first link, unless O(networks) says otherwise.
    type: str
  expose:
    description: Ports it listens at, such as V(80) and V(3000-3010/udp), for who reads C(cnm ps).
    type: list
    elements: str
  dns:
    description: Resolvers to forward to. If omitted, the host's.
    type: list
    elements: str
  dns_search:
    description: Domains to search.
    type: list
    elements: str
  dns_opt:
    description: Options of the resolver, such as V(ndots:1).
    type: list
    elements: str
  extra_hosts:
    description: A mapping from names to addresses, or a list of C(name=address).
    type: raw
  sysctls:
    description: A mapping of sysctls of its namespace, or a list of C(name=value).
    type: raw
  policies:
    description: Names of policies (C(cnm_policies) of the inventory) that hold for it.
    type: list
    elements: str
seealso:
  - module: cnm.fabric.network
  - module: cnm.fabric.endpoint
  - module: cnm.fabric.namespace
"""

EXAMPLES = r"""
- name: Create a network
  cnm.fabric.network:
    name: ps-bridge
    subnet: 10.0.0.0/24

- name: Create a sandbox on it, with a published port
  cnm.fabric.sandbox:
    name: c1
    networks: [ps-bridge]
    ports: ["8080:80"]

- name: Create one with a fixed address and an alias
  cnm.fabric.sandbox:
    name: c2
    networks:
      ps-bridge:
        ipv4_address: 10.0.0.20
        aliases: [web]
    hostname: web1
    extra_hosts: {db: 192.0.2.7}

- name: Create one with only its loopback
  cnm.fabric.sandbox:
    name: c3
    network_mode: none

- name: Remove the port of the first one
  cnm.fabric.sandbox:
    name: c1
    networks: [ps-bridge]

- name: Remove the second one
  cnm.fabric.sandbox:
    name: c2
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
