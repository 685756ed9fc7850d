#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: summary
short_description: Print what a run changed
version_added: 0.1.0
description:
  - Prints what M(cnm.fabric.converge) changed on all hosts of the play, or with C(--check) would change, in the words
    of the inventory and one line a change. What several hosts have in common is one line.
  - Without C(run_once), or with a strategy other than linear, it prints what it changed on its own host. With C(serial)
    it is about one batch after the other.
  - C(cnm_show) and C(cnm_only) say how much it prints.
  - Runs on the controller and changes nothing.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  results:
    description: Name of the variable in which the results of M(cnm.fabric.converge) were registered.
    type: str
    default: fabric_result
  probes:
    description: Name of the variable in which those of M(cnm.fabric.probe) were registered.
    type: str
    default: fabric_probe
  planned:
    description:
      - Name of the variable in which M(cnm.fabric.plan) was registered. It tells of hosts that were as planned, if
        M(cnm.fabric.converge) was not run for them.
    type: str
    default: fabric_plan
  state:
    description: C(absent) if M(cnm.fabric.converge) was to remove everything of the project.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Can run in check mode, as it changes nothing.
    support: full
  diff_mode:
    description: Returns no diff, as it changes nothing.
    support: none
  idempotent:
    description: Never changes anything.
    support: full
seealso:
  - module: cnm.fabric.converge
"""

EXAMPLES = r"""
- name: Bring every host to its plan
  cnm.fabric.converge:
  register: fabric_result

- name: Print what that changed
  cnm.fabric.summary:
  run_once: true
"""

RETURN = r"""
changes:
  description: The C(changes) of each host that came to its plan.
  returned: success
  type: dict
failures:
  description: Why each other host did not, as a sentence.
  returned: success
  type: dict
"""
