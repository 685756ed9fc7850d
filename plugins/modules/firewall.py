#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Create, change or remove an nftables table
version_added: 0.1.0
description:
  - Manages one nftables table of the family C(inet), in the host's own network namespace or in a named one.
  - Chains, sets and rules that are not given are removed. All differences are changed in one transaction. Chains and
    sets that do not differ are not touched, so that their counters continue.
  - Rules are compared as nft prints them, so that their spelling does not matter. They are tried in a temporary
    namespace before anything is changed.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.single_object
options:
  table:
    description: Name of the table. V(cnm) and names that begin with V(cnm_) are reserved for C(cnm.fabric.site).
    type: str
    required: true
  namespace:
    description: Name of its network namespace. If omitted, the host's own.
    type: str
  chains:
    description: All its chains. A name may not begin with C(user_).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the chain.
        type: str
        required: true
      hook:
        description:
          - The hook of a base chain in nft's syntax, such as V(type filter hook forward priority 10; policy accept).
          - If omitted, it is a regular chain, which rules of other chains can jump to.
        type: str
      rules:
        description: Its rules in nft's syntax, in order.
        type: list
        elements: str
        default: []
  sets:
    description: All its sets and maps. A name may not begin with C(user_).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the set; rules refer to it as C(@name).
        type: str
        required: true
      type:
        description: 'Type of its elements, such as V(ipv4_addr . inet_service); for a map, V(ifname : verdict).'
        type: str
        required: true
      flags:
        description: V(interval) for elements that are prefixes or ranges.
        type: list
        elements: str
        choices: [interval]
        default: []
      elements:
        description: All its elements, in any order. Not for sets that rules fill at run time.
        type: list
        elements: str
        default: []
requirements:
  - nftables on the host
"""

EXAMPLES = r"""
- name: Permit only administrators to reach the host's metrics
  cnm.fabric.firewall:
    table: metrics
    sets:
      - name: administrators
        type: ipv4_addr
        flags: [interval]
        elements: [10.20.0.0/24, 192.0.2.7]
    chains:
      - name: input
        hook: type filter hook input priority 10; policy accept
        rules:
          - tcp dport 9100 ip saddr @administrators accept
          - tcp dport 9100 counter drop

- name: Create a namespace
  cnm.fabric.namespace:
    name: blue

- name: Forward nothing in the namespace
  cnm.fabric.firewall:
    table: guard
    namespace: blue
    chains:
      - name: forward
        hook: type filter hook forward priority 0; policy drop

- name: Remove the first table
  cnm.fabric.firewall:
    table: metrics
    state: absent

- name: Remove the namespace and with it the second table
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
      sample: nftables
    name:
      description: Its name, with its namespace in front if that is not the host's.
      type: str
      returned: always
      sample: inet guard
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import single_object
from ..module_utils.arguments import Options
from ..module_utils.plan.forms import FormError, nft_any_element, nft_hook, nft_name, nft_statement
from ..module_utils.plan.marks import SINGLE_OBJECT
from ..module_utils.plan.nftables import Chain, Nftables, NftSet


def read(options: Options) -> single_object.DesiredObject:
    """The desired object, from the module's options."""
    namespace = options.namespace()
    table = _name(options, "table", options["table"])
    if table == "cnm" or table.startswith("cnm_"):
        options.wrong("table", f"{table!r} is reserved for cnm.fabric.site: choose another name")
    needs = (single_object.Prerequisite("namespace", namespace),)
    resource = Nftables(namespace, "inet", table, SINGLE_OBJECT + "firewall")
    if options.absent:
        return single_object.DesiredObject((resource,), needs=needs)
    sets = tuple(_nft_set(options, f"sets[{index}]", item) for index, item in enumerate(options["sets"]))
    chains = tuple(_chain(options, f"chains[{index}]", item) for index, item in enumerate(options["chains"]))
    for option, names in (("sets", [item.name for item in sets]), ("chains", [item.name for item in chains])):
        for name in sorted({name for name in names if names.count(name) > 1}):
            options.wrong(option, f"{name!r} is given twice: rename one of them")
    resource = Nftables(namespace, "inet", table, SINGLE_OBJECT + "firewall", sets, chains)
    return single_object.DesiredObject((resource,), needs=needs)


def _nft_set(options: Options, where: str, given: dict[str, Any]) -> NftSet:
    flags = f" flags {', '.join(given['flags'])};" if given["flags"] else ""
    return NftSet(
        _part_name(options, where, given["name"]),
        f"type {_statement(options, f'{where}.type', given['type'])};{flags}",
        tuple(_element(options, f"{where}.elements[{index}]", text) for index, text in enumerate(given["elements"])),
    )


def _chain(options: Options, where: str, given: dict[str, Any]) -> Chain:
    hook = " ".join((given["hook"] or "").split()).rstrip("; ")
    if not nft_hook.fits(hook):
        options.wrong(
            f"{where}.hook",
            f"{hook!r} is not a hook: write one like type filter hook forward priority 10; policy accept",
        )
    rules = tuple(_statement(options, f"{where}.rules[{index}]", text) for index, text in enumerate(given["rules"]))
    return Chain(_part_name(options, where, given["name"]), hook, rules)


def _part_name(options: Options, where: str, name: str) -> str:
    if name.startswith("user_"):
        options.wrong(
            f"{where}.name",
            f"{name!r} begins with user_, and such chains and sets are never changed: choose another name",
        )
    return _name(options, f"{where}.name", name)


def _name(options: Options, option: str, name: str) -> str:
    if not nft_name.fits(name):
        options.wrong(
            option,
            f"{name!r} is not a name for nftables: it has letters, digits, `_`, `.` and `-`, and begins with a letter "
            "or `_`",
        )
    return name


def _statement(options: Options, option: str, text: str) -> str:
    """A single nft statement: a text that could end it early would begin a command of its own, for any table."""
    try:
        return nft_statement(text.strip())
    except FormError as error:
        options.wrong(option, str(error))
        return ""


def _element(options: Options, option: str, text: str) -> str:
    try:
        return nft_any_element(text.strip())
    except FormError as error:
        options.wrong(option, str(error))
        return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "table": {"type": "str", "required": True},
            "namespace": {"type": "str"},
            "chains": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "hook": {"type": "str"},
                    "rules": {"type": "list", "elements": "str", "default": []},
                },
            },
            "sets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "type": {"type": "str", "required": True},
                    "flags": {"type": "list", "elements": "str", "choices": ["interval"], "default": []},
                    "elements": {"type": "list", "elements": "str", "default": []},
                },
            },
            **single_object.COMMON,
        },
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
