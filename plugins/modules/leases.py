#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: leases
short_description: Show, check, move, export and import leases
version_added: 0.1.0
description:
  - Looks after the lease store that C(cnm_leases) names, for all projects of the topology.
  - An action on the controller. Run it once per play.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  do:
    description:
      - V(show) tells what the store has.
      - V(check) compares it with what the hosts report, and fails if the two contradict each other. It deletes what
        controllers that died have left in the store.
      - V(move) copies the leases, and the key that signs them, to the store O(to). Set C(cnm_leases) to it afterwards.
        Whoever still uses the old store gets an error that says where the leases are.
      - V(export) writes the leases, without the key, to O(file).
      - V(import) writes the leases of O(file) into the store, which must have none but those that have moved away.
    type: str
    choices: [show, check, move, export, import]
    default: show
  to:
    description: The store to move to, as C(cnm_leases).
    type: str
  to_options:
    description: How that store is spoken to, as C(cnm_leases_options).
    type: dict
  file:
    description: A file on the controller. A relative path is beside the inventory.
    type: path
    default: cnm-leases.json
  probes:
    description: Name of the variable in which M(cnm.fabric.probe) was registered; V(check) needs it.
    type: str
    default: fabric_probe
attributes:
  check_mode:
    description: Tells what would be done. Only reads the stores.
    support: full
  diff_mode:
    description: Leases have no diff of their own.
    support: none
  idempotent:
    description: What is there already is not written again.
    support: full
seealso:
  - module: cnm.fabric.probe
  - module: cnm.fabric.plan
"""

EXAMPLES = r"""
- name: Show what the lease store has
  cnm.fabric.leases:
  run_once: true

- name: Move it
  cnm.fabric.leases:
    do: move
    to: etcd://store1:2379,store2:2379,store3:2379/cnm
    to_options: "{{ vaulted_options }}"
  run_once: true
"""

RETURN = r"""
projects:
  description: For each project, its revision in the store and the numbers of its hosts, endpoints, networks that span
    hosts, and services.
  returned: with V(show)
  type: dict
wrong:
  description: For each host, or C("") for the store itself, what contradicts the other side.
  returned: with V(check)
  type: dict
"""
