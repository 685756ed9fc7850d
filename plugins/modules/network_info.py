#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: network_info
short_description: Read the networks of a host
version_added: 0.1.0
description:
  - Returns what C(docker network inspect) shows of the networks of one host, whether the inventory declares them or
    M(cnm.fabric.network) made them. C(bridge), C(host) and C(none) are always among them.
  - An endpoint whose link no longer exists is left out.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  name:
    description: The network to return. If omitted, all.
    type: str
  project:
    description: The project. If omitted, C(cnm_project) of the host, or else V(default).
    type: str
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
notes:
  - Needs root on the host.
seealso:
  - module: cnm.fabric.network
  - module: cnm.fabric.inspect
"""

EXAMPLES = r"""
- name: Read all networks of the host
  cnm.fabric.network_info:
  register: there

- name: Read one of them
  cnm.fabric.network_info:
    name: ps-bridge
"""

RETURN = r"""
exists:
  description: Whether there is such a network.
  returned: success
  type: bool
networks:
  description: The documents of C(docker network inspect), key for key, by name.
  returned: success
  type: list
  elements: dict
"""
