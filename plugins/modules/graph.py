#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: graph
short_description: Draw networks as a page and as diagrams
version_added: 0.1.0
description:
  - Writes one HTML page of the hosts, networks, sandboxes, services, policies and published ports, as they are declared
    and as they are on the hosts, with what is not as declared. The page needs no network, no script and no file beside
    it.
  - Writes the same beside it as a Mermaid flowchart (C(.mmd)) and in the DOT language of Graphviz (C(.dot)).
  - The same hosts and variables give the same bytes. A page that is written over an earlier one keeps the places of
    hosts, networks and sandboxes that are still there; new ones come after them.
  - The data comes from M(cnm.fabric.probe) with O(cnm.fabric.probe#module:live=true), and from M(cnm.fabric.plan).
    Without a plan, the plan that a host keeps counts as declared.
  - Hosts that did not answer are shown as such.
  - An action on the controller. Run it once per play.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  file:
    description:
      - The page, on the controller. Its name has to end in C(.html) or C(.htm).
      - A relative path starts at the directory in which Ansible was started.
    type: path
    default: cnm_graph.html
  probes:
    description: Name of the variable in which M(cnm.fabric.probe) was registered.
    type: str
    default: fabric_probe
  planned:
    description: Name of the variable in which M(cnm.fabric.plan) was registered.
    type: str
    default: fabric_plan
attributes:
  check_mode:
    description: Changes nothing on the hosts, and writes its files in check mode too.
    support: none
  diff_mode:
    description: Changes nothing on the hosts, so there is nothing to show.
    support: none
  idempotent:
    description: Files that would stay as they are, are not written.
    support: full
seealso:
  - module: cnm.fabric.inspect
  - module: cnm.fabric.plan
  - module: cnm.fabric.probe
"""

EXAMPLES = r"""
- name: Read the hosts and their networks
  cnm.fabric.probe:
    live: true
  register: fabric_probe

- name: Plan all of them at once
  cnm.fabric.plan:
  check_mode: true
  run_once: true
  register: fabric_plan

- name: Draw them
  cnm.fabric.graph:
    file: /srv/www/networks.html
  run_once: true
"""

RETURN = r"""
files:
  description: The files, whether they were written or already as they should be.
  returned: success
  type: list
  elements: str
differences:
  description: How many things are not as declared; one that is the same on several hosts counts once.
  returned: success
  type: int
"""
