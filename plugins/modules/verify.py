#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Prove that the networks work as declared
version_added: 0.1.0
description:
  - From inside every sandbox of the host, pings the addresses that it must reach and those that it must not, and
    queries its resolver for the names that it must know. Virtual addresses of services are tested like sandboxes.
  - From the host itself, opens a TCP connection to each ingress port on every host. A connection that is accepted or
    refused has arrived; no answer is a failure. Whether the task serves the port, UDP, and ports with a C(host_ip) are
    not tested.
  - Compares the host with its plan.
  - If anything failed, looks for the rules of others' nftables that drop packets of the networks (chain and rule), for
    hosts that do not answer a ping, and for a neighbour table of the kernel that is full.
  - Fails if a check fails or the host differs from its plan, and prints what explains it, unless O(explain=false).
  - The action of the same name derives the checks from the plan that M(cnm.fabric.plan) made.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  checks:
    description: The checks as JSON text. The action of the same name fills them in.
    type: str
  digest:
    description: SHA-256 of the plan the host must have. The action of the same name fills it in.
    type: str
    default: ""
  project:
    description: The project that the objects belong to. The action of the same name fills it in.
    type: str
    default: default
  explain:
    description:
      - Whether to explain failures of this host by itself, and fail. If not, it returns them, and M(cnm.fabric.verdict)
        explains those of all hosts together.
    type: bool
    default: true
  pairs:
    description:
      - The largest number of pairs of sandboxes to test on a host, once for those that must reach each other and once
        for those that must not. If there are more, a fixed sample is tested.
      - Each pair takes two entries of the kernel's neighbour table, which all namespaces of a host share.
        M(cnm.fabric.plan) makes it large enough. Where it cannot, checks for which it has no place are repeated, and
        those that still have none are returned in RV(unproven).
    type: int
    default: 100
  planned:
    description: Name of the variable in which M(cnm.fabric.plan) was registered.
    type: str
    default: fabric_plan
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
seealso:
  - module: cnm.fabric.plan
  - module: cnm.fabric.verdict
"""

EXAMPLES = r"""
- name: Prove the data plane of every host
  cnm.fabric.verify:
"""

RETURN = r"""
counts:
  description: How many checks of each kind were made.
  returned: always
  type: dict
  sample: {reach: 4, refuse: 0, names: 2, egress: 2, connect: 3}
misses:
  description:
    - Every check that failed, with what was wanted and what was found. C(check) is V(reach), V(mtu), V(refuse),
      V(egress), V(resolve), V(connect), V(sandbox), V(parent), or V(plan) for a part of the plan that differs, with
      C(kinds) of the objects and C(entries) of tables of links that do.
  returned: always
  type: list
  elements: dict
unproven:
  description: Checks that could not be made, as the kernel's neighbour table was full. They are no failures.
  returned: always
  type: list
  elements: dict
drops:
  description: If anything failed, where others' nftables drop packets of the networks.
  returned: always
  type: list
  elements: dict
  sample:
    - {packet: udp 4789, chain: inet filter input, hook: input, rule: udp dport 4789 drop, sure: true}
silent:
  description: If anything failed, addresses of other hosts that do not answer a ping of this one.
  returned: always
  type: list
  elements: str
neighbours:
  description: How many entries the kernel's neighbour table may have.
  returned: always
  type: int
pairs:
  description: The option O(pairs).
  returned: always
  type: int
"""
