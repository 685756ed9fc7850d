#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Read the facts of a host that planning needs
version_added: 0.1.0
description:
  - Reads a host's routes, resolvers and forwarding, the programs that it lacks, and the plan that it keeps. Changes
    nothing.
  - Hosts outside the topology (C(cnm_hosts)) are skipped without connecting to them.
  - A host's answer is trusted only about that host. Values of the wrong form are dropped with a warning; if the answer
    cannot be used without them, the host fails. Nothing else of the answer reaches the play.
author:
  - cnm.fabric contributors (@cnm-fabric)
options:
  project:
    description: The project whose plan is read. The action of the same name takes it from C(cnm_project).
    type: str
    default: default
  live:
    description: Also return the kept plan's networks and sandboxes, and the differences from it.
    type: bool
    default: false
  declared:
    description: Also return the variables that the kept plan was made from, and its networks and sandboxes.
    type: bool
    default: false
  encryption:
    description:
      - Also test whether the host can encrypt overlays; its kernel may have to load modules for this.
      - The action sets this if C(cnm_overlay_secret) is set.
    type: bool
    default: false
  ask_resolvers:
    description:
      - Also ask the host's upstream resolvers, all at once and for at most a second, whether they resolve names; unless
        the host keeps a plan in which no sandbox forwards any.
      - The action does not pass this on if the host declares no sandbox and no service.
    type: bool
    default: false
  obstacles:
    description:
      - Also look for what may keep the host from being as declared, such as types of links that its kernel lacks.
    type: bool
    default: true
  owners:
    description:
      - Owners of namespaces to look for, as in C(namespace) of C(cnm_sandboxes). The action takes them from there.
    type: list
    elements: dict
    default: []
    suboptions:
      owner:
        description: One of V(docker), V(podman), V(pid), V(machine), V(path).
        type: str
        required: true
      reference:
        description: The owner's name, process id or path.
        type: str
        required: true
  staying:
    description:
      - Names of the sandboxes that are still declared. In the project's others, processes are looked for, as removing
        these is refused. If omitted, nothing is looked for.
      - The action takes them from C(cnm_sandboxes), unless C(cnm_force) is set.
    type: list
    elements: str
  shaping:
    description:
      - Also look whether the kernel can limit endpoints and emulate links.
      - The action sets this if a declared sandbox has C(limits) or C(netem).
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
  description: Addresses by which other hosts may reach this one, with their links and the links' MTUs.
  returned: always
  type: list
  elements: dict
vnis:
  description: VNIs of VXLAN links that are not the project's, including those of a Docker Engine.
  returned: always
  type: list
  elements: int
links:
  description: Links of the host that can be the parent of a network.
  returned: always
  type: list
  elements: dict
reached_by:
  description: Links with the address by which Ansible reaches the host.
  returned: always
  type: list
  elements: str
bridges:
  description: Bridges of the host that belong to no project.
  returned: always
  type: list
  elements: str
resolvers:
  description: The host's upstream resolvers (for a local stub resolver, its upstreams), search domains and options.
  returned: always
  type: dict
failing_resolvers:
  description:
    - By address, why each of the upstream resolvers resolves nothing, V(REFUSED), V(SERVFAIL), V(unreachable) or
      V(silent); empty if one of them answers, or unless O(ask_resolvers=true).
  returned: always
  type: dict
forwarding_before:
  description: The IP versions that the host forwarded before the project enabled it.
  returned: always
  type: list
  elements: int
forwarding_links:
  description:
    - By IP version, links that forwarded before, for example because of C(IPv4Forwarding=) in systemd-networkd.
    - V(default) stands for links that are created later.
  returned: always
  type: dict
ra_links:
  description: Links with a default route learned from router advertisements.
  returned: always
  type: list
  elements: str
neighbour_tables:
  description: Sizes of the kernel's neighbour tables, as C(ipv4.gc_thresh1) and so on.
  returned: always
  type: dict
listeners:
  description: Listening sockets on the host, each with protocol, address, port and process.
  returned: always
  type: list
  elements: dict
dropping:
  description: Foreign chains that drop unmatched forwarded traffic.
  returned: always
  type: list
  elements: str
closed:
  description: Foreign chains that drop unmatched traffic to the host.
  returned: always
  type: list
  elements: str
front_ends:
  description: C(ufw) and C(firewalld), where they are active.
  returned: always
  type: list
  elements: str
let_by:
  description: What these have been told to let by, such as C(in br0) of forwarded traffic, C(udp 192.0.2.1 4789).
  returned: always
  type: list
  elements: str
flushing:
  description: The ruleset file of an enabled service that flushes all nftables tables at its start; null if none does.
  returned: always
  type: str
filters_bridges:
  description: Whether the host's nftables can filter bridged frames.
  returned: always
  type: bool
rejects_bridged:
  description: Whether it can answer bridged frames that policies reject; else they are dropped.
  returned: always
  type: bool
docker_user:
  description: IP versions in which a Docker Engine has its chain DOCKER-USER.
  returned: always
  type: list
  elements: int
no_esp:
  description: By IP version, a sentence that says why overlays cannot be encrypted; empty unless O(encryption=true).
  returned: always
  type: dict
ipvs:
  description: Whether the kernel has IPVS or can load its module.
  returned: always
  type: bool
missing_links:
  description: Types of links that the kernel neither has nor can load a module for, such as V(vlan).
  returned: always
  type: list
  elements: str
missing_shaping:
  description: What of V(netem), V(police) and V(tbf) the kernel neither has nor can load; empty unless O(shaping=true).
  returned: always
  type: list
  elements: str
foreign:
  description: By kind (V(link), V(namespace), V(nftables)), names of objects of others that plans cannot use.
  returned: always
  type: dict
absent_owners:
  description: Those of the O(owners) that have no namespace now, each with owner, reference,
    problem, and whether the kept plan has a sandbox there.
  returned: always
  type: list
  elements: dict
occupied:
  description: By sandbox that is not in O(staying), the processes that run in it, with their ids.
  returned: always
  type: dict
has_table:
  description: Whether the project's nftables table exists.
  returned: always
  type: bool
link_managers:
  description: Programs of the host that configure links, V(networkd), V(NetworkManager) and V(udev), if systemd runs.
  returned: always
  type: list
  elements: str
has_frr:
  description: Whether the host has an FRR of the collection, or a text for one of others (C(cnm_control_plane)).
  returned: always
  type: bool
systemd:
  description: Whether systemd is the host's first process.
  returned: always
  type: bool
dnsmasq_confined:
  description: Whether AppArmor keeps dnsmasq from the files of resolvers.
  returned: always
  type: bool
missing:
  description:
    - Programs that a plan may need and the host lacks, C(frr) for those of FRR, and the user C(cnm-resolver) if it is
      missing.
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
      description: The lease store's signature of the leases and of the objects that modules made.
      returned: always
      type: str
    leases:
      description: The host's part of the lease store.
      returned: always
      type: dict
    module_state:
      description: Objects that modules made and the inventory does not declare.
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
  description: Whether the host is as its kept plan.
  returned: always
  type: bool
seen:
  description:
    - What was seen of a host that is as its kept plan, as a digest, for O(cnm.fabric.converge#module:seen); empty if it
      is not, or if its kernel does not say whether rules of nftables have changed.
  returned: always
  type: str
drift:
  description:
    - Operations that would bring the host back to its kept plan.
    - For a sandbox whose namespace is another program's and not there, C(action) is C(wait for) and C(reason) says why.
  returned: when O(live=true)
  type: list
  elements: dict
repairs:
  description: The same by sandbox and network, in words, as RV(cnm.fabric.converge#module:changes) describes them.
  returned: when O(live=true)
  type: list
  elements: dict
policy_counts:
  description:
    - For each sandbox with policies that hold, what was counted since it has these policies, for packets to it
      (C(ingress)) and from it (C(egress)), as C(passed), C(passed_bytes), C(dropped) and C(dropped_bytes).
  returned: when O(live=true)
  type: dict
"""
