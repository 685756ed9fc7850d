#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: namespace
short_description: Create or remove a network namespace
version_added: 0.1.0
description:
  - Creates a named network namespace under C(/run/netns), as C(ip netns add) does. Its C(lo) is up and carries the
    project's mark.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.single_object
options:
  name:
    description:
      - Name of the namespace.
      - O(state=absent) removes everything in it too. With O(force=true), a process inside keeps the namespace alive,
        without its name.
    type: str
    required: true
  force:
    description: Whether O(state=absent) removes a namespace although processes run in it; else it names them and fails.
    type: bool
    default: false
seealso:
  - module: cnm.fabric.bridge
  - module: cnm.fabric.veth
"""

EXAMPLES = r"""
- name: Create a namespace
  cnm.fabric.namespace:
    name: blue

- name: Remove the namespace
  cnm.fabric.namespace:
    name: blue
    state: absent
"""

RETURN = r"""
operations:
  description: What was done, or in check mode would be done, sorted; empty when there was nothing to do.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: One of create, change, replace, delete.
      type: str
      returned: always
      sample: create
    kind:
      description: What kind of object.
      type: str
      returned: always
      sample: namespace
    name:
      description: Its name, with its namespace in front if that is not the host's.
      type: str
      returned: always
      sample: blue
    differences:
      description: For a change, each attribute with what was found and what is wanted.
      type: list
      elements: dict
      returned: for change and replace
    reason:
      description: Why it is replaced.
      type: str
      returned: for replace
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import single_object
from ..module_utils.arguments import Options
from ..module_utils.plan.links import Namespace
from ..module_utils.plan.marks import SINGLE_OBJECT


def read(options: Options) -> single_object.DesiredObject:
    """The desired object, from the module's options."""
    name = options.namespace("name")
    if not name:
        options.wrong("name", "a namespace needs a name: write one")
    # Pairs are removed by their far end, as the namespace itself may outlive its name.
    hanging = (("link", name),) if options.absent else ()
    return single_object.DesiredObject((Namespace(name, SINGLE_OBJECT + "namespace"),), hanging)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "force": {"type": "bool", "default": False},
            **single_object.COMMON,
        },
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
