#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: compose
short_description: Write out what Compose files declare
version_added: 0.1.0
description:
  - Reads the Compose files that C(cnm_compose) of the topology's hosts names, and writes for each host what they
    declare as C(cnm_networks) and C(cnm_sandboxes), for those who want to go on from that.
  - For each project whose containers get networks, it also writes a Compose file that takes Docker's networks away from
    them, to start them with.
  - What is wrong in the files is said as M(cnm.fabric.plan) says it. No host is asked or changed.
  - An action on the controller. Run it once per play.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  directory:
    description:
      - The directory of the files, on the controller. It is made if it is not there.
      - A relative path starts at the directory in which Ansible was started.
    type: path
    default: cnm_declarations
attributes:
  check_mode:
    description: Reads and checks the Compose files, and writes nothing.
    support: full
  diff_mode:
    description: Changes nothing on the hosts, so there is nothing to show.
    support: none
  idempotent:
    description: Files that would stay as they are, are not written.
    support: full
seealso:
  - module: cnm.fabric.plan
"""

EXAMPLES = r"""
- name: Write out what the Compose files declare
  cnm.fabric.compose:
    directory: host_vars
  run_once: true
"""

RETURN = r"""
files:
  description: The files, whether they were written or already as they should be.
  returned: success
  type: list
  elements: str
"""
