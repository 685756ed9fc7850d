#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Turn the inventory's variables into a plan for each host
version_added: 0.1.0
description:
  - Reads the C(cnm_) variables of all hosts of the topology, validates them, allocates addresses, and writes each
    host's plan to a private directory on the controller, where M(cnm.fabric.converge) finds it.
  - An action on the controller. Run it once per play, after M(cnm.fabric.probe), with C(run_once=true), in a play with
    strategy linear and without C(serial).
  - Every error in the variables is reported at once, before any host is touched, with the file and line it was written
    in. Callbacks get the errors as data, as C(invocation.errors) of the result.
  - What keeps hosts from being as declared is listed once for all of them; these hosts get no plan. If
    C(cnm_all_or_nothing) is set, the task fails for all.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  probes:
    description: Name of the variable in which M(cnm.fabric.probe) was registered.
    type: str
    default: fabric_probe
  scope:
    description:
      - V(topology) plans all hosts and is run once.
      - V(host) plans the host of the task from its own variables alone, for networks of local scope.
    type: str
    choices: [topology, host]
    default: topology
  project:
    description: The project. If omitted, C(cnm_project) of each host, or else V(default).
    type: str
  all_or_nothing:
    description: Whether C(cnm_all_or_nothing) holds. V(false) is for plays that change no host.
    type: bool
    default: true
  rolling:
    description:
      - How far the changes of services go that have C(deploy.update_config).
      - V(done) plans as if they were rolled out, V(begin) the first step, or again the one at which a run was cut off,
        V(step) the next one. After V(begin), RV(steps_left) plans with V(step) follow, each brought to the hosts.
    type: str
    choices: [done, begin, step]
    default: done
attributes:
  check_mode:
    description: Plans as usual, but does not write to the lease store.
    support: full
  diff_mode:
    description: Plans only; what would change is shown by M(cnm.fabric.converge).
    support: none
  idempotent:
    description: The same inventory and hosts give the same plans.
    support: full
seealso:
  - module: cnm.fabric.probe
  - module: cnm.fabric.converge
"""

EXAMPLES = r"""
- name: Read the hosts
  cnm.fabric.probe:
  register: fabric_probe

- name: Plan all of them at once
  cnm.fabric.plan:
  run_once: true
  register: fabric_plan
"""

RETURN = r"""
directory:
  description: Directory with one plan file per host, readable only by the user; removed when the run ends.
  returned: success
  type: str
hosts:
  description: For each probed host, its plan's digest and revision, or why it has none.
  returned: success
  type: dict
settled:
  description:
    - Whether no host of the play has failed and each is as planned, so that M(cnm.fabric.converge) would find
      nothing to do, and no service is rolled out in further steps.
  returned: success
  type: bool
steps_left:
  description: How many plans with O(rolling=step) follow until all services are rolled out.
  returned: success
  type: int
  sample: 4
pause:
  description: Seconds to wait before the next of them.
  returned: success
  type: float
  sample: 10.0
"""
