#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Read what the planner must know of a host
version_added: 0.1.0
description:
  - Reads a host's routes, resolvers and forwarding, which programs it lacks, and the plan it keeps. Changes nothing.
  - Hosts outside the topology (C(cnm_hosts)) are skipped without being connected to.
  - What a host answers is believed about that host alone. What has not the form it must have is left out with a
    warning; an answer that cannot be used without it fails that host. Nothing else that it answers reaches the play.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  project:
    description: Whose objects count as ours. The action of the same name takes it from C(cnm_project).
    type: str
    default: default
  live:
    description: Also return the kept plan's networks and sandboxes, and what of them is not as planned.
    type: bool
    default: false
  declared:
    description: Also return what of the inventory the kept plan follows from, and its networks and sandboxes.
    type: bool
    default: false
  encryption:
    description:
      - Also try whether the host can encrypt overlays, for which its kernel may have to load modules.
      - The action asks for it where C(cnm_overlay_secret) is set.
    type: bool
    default: false
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
seealso:
  - module: cnm.fabric.plan
"""

EXAMPLES = r"""
- name: Read the hosts
  cnm.fabric.probe:
"""

RETURN = r"""
routes:
  description: Routes of the host that do not belong to the project.
  returned: always
  type: list
  elements: dict
addresses:
  description: Addresses that other hosts may know this one by, with their links and the links' MTUs.
  returned: always
  type: list
  elements: dict
vnis:
  description: VNIs of VXLAN links that are not the project's, a Docker Engine's among them.
  returned: always
  type: list
  elements: int
links:
  description: Links of the host that networks might be made on.
  returned: always
  type: list
  elements: dict
reached_by:
  description: Links that have the address by which Ansible reaches the host.
  returned: always
  type: list
  elements: str
bridges:
  description: Bridges of the host that belong to no project.
  returned: always
  type: list
  elements: str
resolvers:
  description: The host's upstream resolvers (those behind a stub on the loopback), search domains and options.
  returned: always
  type: dict
forwarding_before:
  description: The IP versions that the host forwarded before the project enabled it.
  returned: always
  type: list
  elements: int
forwarding_links:
  description:
    - By IP version the links that forwarded without that, as they do by C(IPv4Forwarding=) of systemd-networkd.
    - V(default) stands for links to come.
  returned: always
  type: dict
ra_links:
  description: Links with a default route that they learned from a router's advertisements.
  returned: always
  type: list
  elements: str
neighbour_tables:
  description: Sizes of the kernel's neighbour tables, as C(ipv4.gc_thresh1) and so on.
  returned: always
  type: dict
listeners:
  description: Sockets on the host that others can reach, each with protocol, address, port and process.
  returned: always
  type: list
  elements: dict
dropping:
  description: Chains of others that drop unmatched forwarded traffic.
  returned: always
  type: list
  elements: str
closed:
  description: Chains of others that drop unmatched traffic to the host.
  returned: always
  type: list
  elements: str
flushing:
  description: A file of an enabled service that clears all nftables tables when it is started; null if there is none.
  returned: always
  type: str
filters_bridges:
  description: Whether the host's nftables can filter bridged frames.
  returned: always
  type: bool
docker_user:
  description: IP versions in which a Docker Engine would drop what is forwarded, and has a chain for its users' rules.
  returned: always
  type: list
  elements: int
no_esp:
  description: By IP version a sentence about what is missing for encrypted overlays; empty if that was not asked.
  returned: always
  type: dict
ipvs:
  description: Whether the kernel has IPVS, or a module of it that can be loaded.
  returned: always
  type: bool
has_table:
  description: Whether the project's nftables table is there.
  returned: always
  type: bool
missing:
  description: Programs, and the resolvers' user C(cnm-resolver), that a plan would need and the host lacks.
  returned: always
  type: list
  elements: str
distribution:
  description: ID and ID_LIKE of os-release.
  returned: always
  type: list
  elements: str
kept:
  description: The plan that the host keeps.
  returned: always
  type: dict
  contains:
    revision:
      description: Revision of the lease store that the plan was made with; V(0) if the host keeps no plan.
      returned: always
      type: int
    digest:
      description: SHA-256 of the plan; empty if the host keeps no plan.
      returned: always
      type: str
    shared:
      description: Digests of the shared texts kept with the plan.
      returned: always
      type: list
      elements: str
    signature:
      description: The lease store's signature under the leases and what modules made.
      returned: always
      type: str
    leases:
      description: The host's part of the lease store.
      returned: always
      type: dict
    module_state:
      description: What modules made beside the inventory.
      returned: always
      type: dict
    model:
      description: The plan's networks and sandboxes.
      returned: when O(live=true) or O(declared=true)
      type: dict
    declared:
      description: The inventory's variables that the plan was made from.
      returned: when O(declared=true)
      type: dict
settled:
  description: Whether the host is as its kept plan says.
  returned: always
  type: bool
drift:
  description: Operations that would bring the host back to its kept plan.
  returned: when O(live=true)
  type: list
  elements: dict
"""

import sys

from ansible.module_utils.basic import AnsibleModule

try:
    from ..module_utils import entrypoints
except (SyntaxError, TypeError):  # what an older Python says of newer code
    OLD_PYTHON = True
else:
    OLD_PYTHON = False


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "default": "default"},
            "live": {"type": "bool", "default": False},
            "declared": {"type": "bool", "default": False},
            "encryption": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if OLD_PYTHON:
        module.fail_json(
            msg=f"cnm.fabric needs Python 3.9 or newer on the host, and {sys.executable} is {sys.version.split()[0]}. "
            "Set ansible_python_interpreter to a newer one."
        )
    try:
        asked = module.params
        wanted = (asked["live"], asked["declared"], module.run_command, asked["encryption"])
        result = entrypoints.probe(asked["project"], *wanted)
    except entrypoints.Refused as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
