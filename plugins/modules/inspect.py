#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: inspect
short_description: Show what hosts have, and what of it is not as planned
version_added: 0.1.0
description:
  - Prints counts, tables of the hosts, networks, services, tasks and sandboxes in Docker's columns, and what is not as
    planned. Tables that would not fit a screen are folded. The data comes from M(cnm.fabric.probe) with
    O(cnm.fabric.probe#module:live=true).
  - With C(cnm_show=quiet), it prints only counts and what is not as planned; with C(cnm_show=full), everything, and the
    JSON of C(docker network inspect). C(cnm_only) narrows it to hosts, networks, sandboxes and services of these names;
    an unknown name is an error.
  - An action on the controller. Run it once per play.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  probes:
    description: Name of the variable in which M(cnm.fabric.probe) was registered.
    type: str
    default: fabric_probe
  quiet:
    description: Return the data without printing anything.
    type: bool
    default: false
attributes:
  check_mode:
    description: Changes nothing, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Read the hosts and their networks
  cnm.fabric.probe:
    live: true
  register: fabric_probe

- name: Show their networks
  cnm.fabric.inspect:
  run_once: true
"""

RETURN = r"""
networks:
  description:
    - For each host, the documents of C(docker network inspect), key for key, without endpoints that are not there. That
      of a network that spans hosts has the endpoints of all of them. C(cnm_only) does not narrow it.
  returned: always
  type: dict
drift:
  description:
    - For each host that differs from its plan, the operations that would repair it, as
      RV(cnm.fabric.probe#module:drift) describes them. C(cnm_only) does not narrow it.
  returned: always
  type: dict
policies:
  description:
    - For each host and each of its sandboxes with policies, their names as C(policies), and what was counted of packets
      to it (C(ingress)) and from it (C(egress)), as RV(cnm.fabric.probe#module:policy_counts) has it. C(cnm_only) does
      not narrow it.
  returned: always
  type: dict
"""
