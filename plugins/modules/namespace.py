#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: namespace
short_description: Make or remove a network namespace
version_added: 0.1.0
description:
  - Makes a named network namespace under C(/run/netns), as C(ip netns add) does, with its C(lo) up and our mark on it.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.single_object
options:
  name:
    description:
      - Name of the namespace.
      - With O(state=absent) everything in it goes too. A process inside keeps it alive without its name.
    type: str
    required: true
seealso:
  - module: cnm.fabric.bridge
  - module: cnm.fabric.veth
"""

EXAMPLES = r"""
- name: A namespace for blue
  cnm.fabric.namespace:
    name: blue

- name: No namespace for blue
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
    """What is asked for."""
    name = options.namespace("name")
    if not name:
        options.wrong("name", "a namespace needs a name")
    # A pair of links goes by its far end: the namespace itself may outlive its name.
    hanging = (("link", name),) if options.absent else ()
    return single_object.DesiredObject((Namespace(name, SINGLE_OBJECT + "namespace"),), hanging)


def main() -> None:
    module = AnsibleModule(
        argument_spec={"name": {"type": "str", "required": True}, **single_object.COMMON},
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
