#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: inspect
short_description: Show networks in Docker's formats
version_added: 0.1.0
description:
  - Prints a table like C(docker network ls), a table of the sandboxes, tables like C(docker service ls) and
    C(docker service ps) if there are services, and the JSON of C(docker network inspect) for the declared networks.
    The data comes from M(cnm.fabric.probe) with O(cnm.fabric.probe#module:live=true).
  - An action on the controller. Run it once per play.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  probes:
    description: Name of the variable in which M(cnm.fabric.probe) was registered.
    type: str
    default: fabric_probe
  quiet:
    description: Return the documents without printing them.
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
  description: For each host, the documents of C(docker network inspect), key for key.
  returned: always
  type: dict
drift:
  description: For each host that differs from its plan, the operations that would repair it.
  returned: always
  type: dict
"""
