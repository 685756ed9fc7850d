#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: verdict
short_description: Explain what verification found on all hosts
version_added: 0.1.0
description:
  - Groups the failures that M(cnm.fabric.verify) found on all hosts by the smallest cause that explains them, and
    prints each cause once, with names, the kernel's evidence and what to do. Such causes are a host that answers
    nobody, a rule that drops, a resolver that does not run, what differs from the plan.
  - Fails if there is any failure, or if a host of the topology could not be verified.
  - An action on the controller. Run it once per play, after M(cnm.fabric.verify) with
    O(cnm.fabric.verify#module:explain=false).
  - C(cnm_show) and C(cnm_only) say how much is printed, and of what. They do not change when it fails.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  planned:
    description: Name of the variable in which M(cnm.fabric.plan) was registered.
    type: str
    default: fabric_plan
  probes:
    description: Name of the variable in which M(cnm.fabric.probe) was registered.
    type: str
    default: fabric_probe
  results:
    description: Name of the variable in which M(cnm.fabric.verify) was registered.
    type: str
    default: fabric_verify
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
  - module: cnm.fabric.verify
"""

EXAMPLES = r"""
- name: Run the checks
  cnm.fabric.verify:
    explain: false
  register: fabric_verify

- name: Show what verify found
  cnm.fabric.verdict:
  run_once: true
"""

RETURN = r"""
msg:
  description: How many checks were made, and how many failed.
  returned: always
  type: str
  sample: "12 sandboxes on 3 hosts: 214 checks, no miss"
"""
