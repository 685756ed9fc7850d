#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: Create, change, scale or remove a service on a host
version_added: 0.1.0
description:
  - Does what C(docker service create), C(docker service update) and C(docker service scale) do on a swarm of one host.
    It creates sandboxes, which are the tasks, and for them one name and virtual address on each of its networks.
  - The options are the keys of an entry of C(cnm_services), with the same meaning. An existing service is changed in
    place, and no task moves.
  - All tasks and networks of the service are on the host. Declare a service of several hosts in the inventory.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.model
options:
  state:
    description:
      - V(present) creates the service, or changes an existing one to the options.
      - V(absent) removes it with its tasks.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the service. Its tasks are called C(<name>.1), C(<name>.2) and so on.
    type: str
    required: true
  networks:
    description:
      - A list of networks of the driver bridge, or a mapping from networks to C(aliases) of the service,
        C(ipv4_addresses) and C(ipv6_addresses) of tasks 1, 2 and so on, and for every task C(interface_name),
        C(gw_priority), C(driver_opts), C(routes), C(limits) and C(netem) as in M(cnm.fabric.endpoint).
      - On a command line, names with commas between them, or JSON.
    type: raw
  deploy:
    description: The number of tasks, and how connections are distributed among them.
    type: dict
    suboptions:
      mode:
        description: V(replicated), or V(global) for one task.
        type: str
        choices: [replicated, global]
      replicas:
        description: Number of tasks. If omitted, one.
        type: int
      endpoint_mode:
        description: V(vip), or V(dnsrr) for no virtual address; the name then resolves to the addresses of all tasks.
        type: str
        choices: [vip, dnsrr]
      scheduler:
        description: How a task is chosen for a connection. If omitted, V(rr). V(lc), V(wlc) and V(mh) require IPVS.
        type: str
        choices: [rr, wrr, lc, wlc, sh, mh]
      weights:
        description: A mapping from tasks to their weights; the default weight is 1.
        type: dict
      draining:
        description: Tasks that get no new connections; open connections continue.
        type: list
        elements: str
  ports:
    description:
      - Ports of the host that are forwarded to the tasks in turn, such as V(8080:80), or mappings with C(target),
        C(published), C(protocol), C(host_ip) and C(mode). The tasks see the client's address.
      - With C(mode=host) the service can have only one task.
    type: raw
  namespace:
    description: Foreign network namespaces for the tasks, by their owners; C({task}) stands for the task's number.
    type: dict
    suboptions:
      docker:
        description: A container's name.
        type: str
      podman:
        description: A container's name.
        type: str
      pid:
        description: A process id.
        type: raw
      machine:
        description: A machine's name.
        type: str
      path:
        description: A namespace's path.
        type: str
  hostname:
    description: The host name of every task; C({task}) stands for the task's number. If omitted, the name of the task.
    type: str
  domainname:
    description: The domain of every task; its C(/etc/hosts) has the host name with it first.
    type: str
  dns:
    description: Resolvers that every task forwards to. If omitted, the host's.
    type: list
    elements: str
  dns_search:
    description: Domains that every task searches.
    type: list
    elements: str
  dns_opt:
    description: Options of every task's resolver, such as V(ndots:1).
    type: list
    elements: str
  extra_hosts:
    description: A mapping from names to addresses, or a list of C(name=address), for every task.
    type: raw
  sysctls:
    description: A mapping of sysctls of every task's namespace, or a list of C(name=value).
    type: raw
  policies:
    description: Names of policies (C(cnm_policies) of the inventory) that hold for every task.
    type: list
    elements: str
seealso:
  - module: cnm.fabric.network
  - module: cnm.fabric.sandbox
  - module: cnm.fabric.ipvs
"""

EXAMPLES = r"""
- name: Create a network
  cnm.fabric.network:
    name: public
    subnet: 10.0.8.0/24

- name: Run three tasks with one virtual address, and publish them on port 8080 of the host
  cnm.fabric.service:
    name: web
    networks: [public]
    deploy: {replicas: 3}
    ports: ["8080:80"]

- name: Create a sandbox that can use the service by its name
  cnm.fabric.sandbox:
    name: worker
    networks: [public]

- name: Scale to four tasks and drain the first
  cnm.fabric.service:
    name: web
    networks: [public]
    deploy: {replicas: 4, draining: [web.1]}
    ports: ["8080:80"]

- name: Let a name resolve to the addresses of all tasks
  cnm.fabric.service:
    name: db
    networks:
      public: {aliases: [store]}
    deploy: {replicas: 2, endpoint_mode: dnsrr}

- name: Remove the service
  cnm.fabric.service:
    name: web
    state: absent
"""

RETURN = r"""
operations:
  description:
    - What was done, or in check mode would be done, sorted; empty when there was nothing to do.
    - One of the kind service stands for a difference that only users see, such as a label.
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
service:
  description:
    - The service as it is on the host, with C(mode), C(networks) (each with C(vips) and C(names)), C(ports), and
      C(tasks) (each with its C(weight)); null if the host has no such service.
  returned: success, if the objects that it needs exist
  type: dict
"""
