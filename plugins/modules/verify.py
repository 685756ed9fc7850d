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
  - Fails if a check fails or the host differs from its plan, and names each failure and difference.
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
  pairs:
    description:
      - The largest number of pairs of sandboxes to test on a host, once for those that must reach each other and once
        for those that must not. If there are more, a fixed sample is tested.
      - Each pair takes two entries of the kernel's neighbour table, which all namespaces of a host share. It holds 1024
        entries unless C(net.ipv4.neigh.default.gc_thresh3) is set otherwise.
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
  description: Every check that failed, with what was wanted and what was found.
  returned: always
  type: list
  elements: dict
"""

import json

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import entrypoints


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "checks": {"type": "str"},
            "digest": {"type": "str", "default": ""},
            "project": {"type": "str", "default": "default"},
            "pairs": {"type": "int", "default": 100},
            "planned": {"type": "str", "default": "fabric_plan"},
        },
        supports_check_mode=True,
    )
    checks = json.loads(module.params["checks"] or "[]")
    try:
        result = entrypoints.verify(module.params["project"], module.params["digest"], checks, module.run_command)
    except entrypoints.Refused as refusal:
        module.fail_json(msg=str(refusal))
    if result["misses"]:
        lines = [
            "{sandbox}: {check} {target}: wanted {wanted}, found {found}".format(**miss) for miss in result["misses"]
        ]
        module.fail_json(msg=f"verification failed ({len(lines)}): " + "; ".join(lines), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
