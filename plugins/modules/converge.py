#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: converge
short_description: Bring a host to its plan
version_added: 0.1.0
description:
  - Brings one host to the plan that M(cnm.fabric.plan) made for it. One call handles all of the host's networks.
  - Reads the host's state, changes only what differs from the plan, and reads it again. Objects of the project that are
    no longer declared are removed.
  - Used by the playbook C(cnm.fabric.site); there is little reason to call it elsewhere.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  project:
    description: The project that the objects belong to, as in C(cnm_project).
    type: str
    default: default
  plan:
    description:
      - The host's plan as JSON text. The action of the same name fills it in from what M(cnm.fabric.plan) wrote.
      - If omitted, the host's own last plan is used, provided that it has the O(digest).
    type: str
  shared:
    description:
      - Texts that are the same for all hosts of a network, by the digest that the plan refers to them with. Only those
        that the host lacks are needed. The action fills them in.
    type: dict
    default: {}
  pair_keys:
    description:
      - The host's own keys of encrypted overlays, by epoch, sender and receiver, each of 40 hexadecimal digits. The
        action derives them and fills them in.
      - The host keeps them in a file of mode 0600 if the plan says so (C(cnm_keep_keys)), else only in its kernel. They
        are required for a plan with encrypted overlays, unless the host already is as planned.
    type: dict
    default: {}
  bgp_password:
    description:
      - The password of the host's BGP sessions, for plans with C(cnm_control_plane=evpn). The action fills it in from
        C(cnm_evpn). The host keeps it as it keeps O(pair_keys), and in a file that its bgpd alone can read.
    type: str
    default: ""
  digest:
    description: SHA-256 of the plan. The host refuses a text with another digest.
    type: str
  revision:
    description: The lease store's revision of the plan. A host refuses a plan older than its own.
    type: int
    default: 0
  signature:
    description:
      - The lease store's signature of the plan's leases. The host keeps it beside the plan and reports it, so that the
        store recognizes leases that it gave out. The action fills it in.
    type: str
    default: ""
  based_on:
    description:
      - Digest of the plan that the host kept when this one was made. If it keeps another now, this plan is refused if
        it would lose objects that modules have made since.
    type: str
  seen:
    description:
      - What M(cnm.fabric.probe) returned as RV(cnm.fabric.probe#module:seen). If the host's own namespace still is as
        the probe saw it, the run looks only at what the plan changes, and at what depends on it; otherwise, or if
        empty, at everything.
      - The action fills it in, unless C(cnm_full_look) is set.
    type: str
    default: ""
  strict:
    description: Refuse the plan if the host now keeps any plan other than O(based_on) or this one.
    type: bool
    default: false
  planned:
    description: Name of the variable in which M(cnm.fabric.plan) was registered.
    type: str
    default: fabric_plan
  state:
    description:
      - V(present) puts the plan in place.
      - V(absent) removes all objects of the project and nothing else, and restores the settings that it changed.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - Whether to remove sandboxes in which processes run that are not the project's own. Without it the run is
        refused, and names them. The action takes it from C(cnm_force).
    type: bool
    default: false
  lock_timeout:
    description: Seconds to wait for another run on this host to end.
    type: int
    default: 60
  leaving:
    description: By task, how many milliseconds connections to it have to end before anything is changed.
    type: dict
    default: {}
  ending:
    description: Tasks that the plan removes; units that are bound to them are stopped before.
    type: list
    elements: str
    default: []
  coming:
    description:
      - By task, how many milliseconds it has until something listens in it, after the host is as planned. If nothing
        does, the call fails. The action fills it in, as it does O(leaving) and O(tried).
    type: dict
    default: {}
  tried:
    description: As O(coming), but the call only warns.
    type: dict
    default: {}
requirements:
  - nftables, dnsmasq and the system user C(cnm-resolver) on the host, which the role P(cnm.fabric.host#role) installs
    and creates
attributes:
  check_mode:
    description: Can run in check mode and predict the operations without doing them.
    support: full
  diff_mode:
    description: Returns what differs, object by object.
    support: full
  idempotent:
    description: A second run does nothing.
    support: full
seealso:
  - module: cnm.fabric.plan
  - module: cnm.fabric.probe
"""

EXAMPLES = r"""
- name: Bring every host to its plan
  cnm.fabric.converge:

- name: Remove everything of the project
  cnm.fabric.converge:
    state: absent
"""

RETURN = r"""
operations:
  description: What was done, or in check mode would be done, sorted; empty when the host already was as planned.
  returned: always
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
      sample: link
    name:
      description: Its name, with its namespace in front if that is not the host's.
      type: str
      returned: always
      sample: c1/eth0
    reason:
      description: Why an object has to be replaced.
      type: str
      returned: for replace
      sample: the kernel cannot change the type of a link in place
    differences:
      description: For a change, each attribute with what was found and what is wanted.
      type: list
      elements: dict
      returned: for change and replace
changes:
  description:
    - The same in the words of the inventory, one entry a change; what follows from another change is not told again.
    - M(cnm.fabric.summary) prints them.
  returned: success, and if only sandboxes in namespaces of others failed
  type: list
  elements: dict
  contains:
    action:
      description:
        - V(add), V(change) and V(remove) are what is declared otherwise than in the plan that the host kept.
        - V(repair) is what the kernel had lost although it is declared as before, V(wait) a sandbox in the namespace of
          a container or process that does not run.
      type: str
      returned: always
      sample: add
    kind:
      description: One of network, sandbox, service, host.
      type: str
      returned: always
      sample: sandbox
    name:
      description: Its name, none for the host.
      type: str
      returned: always
      sample: web
    text:
      description: What is added, changed, removed or repaired.
      type: str
      returned: always
      sample: sandbox web on front (10.0.1.3)
    about:
      description: Names of other networks and sandboxes that it is about.
      type: list
      elements: str
      returned: for changes that are about others
      sample: [front]
digest:
  description: SHA-256 of the plan the host keeps now.
  returned: when O(state=present)
  type: str
  sample: 4fc82b26aecb47d2868c4efbe3581732a3e7cbcc6c2efb32062c08170a05eeb8
overtaken:
  description: Whether it failed because another run changed the host after this one's plan was made.
  returned: failure
  type: bool
"""
