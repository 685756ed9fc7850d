#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Prove that the networks do what is declared
version_added: 0.1.0
description:
  - From inside every sandbox of the host, pings whom it must reach and whom it must not, and asks its resolver for the
    names it must know. Virtual addresses of services are pinged and asked for like sandboxes.
  - From the host itself, begins a TCP connection to each port of the ingress mesh on every host. One that is accepted
    or refused arrived; silence is a miss. Whether anybody serves in the task, and what happens to UDP, is not tried,
    nor are ports of one C(host_ip); that nothing of the fabric refuses is what the comparison below proves.
  - Fails on any miss and names each, and on whatever of the host is not as planned.
  - The action of the same name derives the checks from what M(cnm.fabric.plan) planned.
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
    description: Whose objects these are. The action of the same name fills it in.
    type: str
    default: default
  pairs:
    description:
      - The most pairs of sandboxes to try each way on a host; of more a fixed sample is taken.
      - Each pair takes two entries of the kernel's neighbour table, which all namespaces of a host share and which
        holds 1024 unless C(net.ipv4.neigh.default.gc_thresh3) says otherwise.
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
        module.fail_json(msg=f"{len(lines)} of what is declared does not hold: " + "; ".join(lines), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
