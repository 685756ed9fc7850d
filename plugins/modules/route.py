#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: route
short_description: Create, change or remove a route
version_added: 0.1.0
description:
  - Creates a unicast route in the main routing table, of the host's own network namespace or of a named one.
  - These routes have the route protocol 138. A route cannot carry a project's name, so it belongs to the project of its
    namespace, or else to that of its link, or else to the project V(default).
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.single_object
options:
  destination:
    description:
      - A prefix, IPv4 or IPv6, or V(default). This module manages one route for each destination.
      - V(default) has the family of O(via), or IPv4 if that is omitted. V(::/0) is always the default route of IPv6.
    type: str
    required: true
  via:
    description: The address of the next router. If omitted, the destination is on the link itself.
    type: str
  link:
    description: The outgoing link. If omitted, the link whose network contains O(via).
    type: str
  namespace:
    description: Name of its network namespace. If omitted, the host's own.
    type: str
seealso:
  - module: cnm.fabric.bridge
  - module: cnm.fabric.veth
"""

EXAMPLES = r"""
- name: Create a link with a network
  cnm.fabric.bridge:
    name: br-lan
    addresses: [10.20.0.1/24, "fd00:20::1/64"]

- name: Create a route to a network behind a router on that link
  cnm.fabric.route:
    destination: 10.30.0.0/16
    via: 10.20.0.2

- name: Create one for IPv6, and name the link
  cnm.fabric.route:
    destination: "fd00:30::/48"
    via: "fd00:20::2"
    link: br-lan

- name: Create a route to another network on the link itself
  cnm.fabric.route:
    destination: 10.31.0.0/24
    link: br-lan

- name: Remove that route
  cnm.fabric.route:
    destination: 10.31.0.0/24
    state: absent

- name: Remove the link and with it its routes
  cnm.fabric.bridge:
    name: br-lan
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
      sample: route
    name:
      description: Its name, with its namespace in front if that is not the host's.
      type: str
      returned: always
      sample: 10.30.0.0/16
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

from dataclasses import replace
from ipaddress import ip_address, ip_interface

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import single_object
from ..module_utils.arguments import Options
from ..module_utils.entrypoints import Refused
from ..module_utils.kernel.host import Host
from ..module_utils.plan.addresses import Route
from ..module_utils.plan.families import family_of
from ..module_utils.plan.marks import project_of


class DesiredRoute(single_object.DesiredObject):
    """A route whose link is looked up on the host if the options do not name it."""

    def missing(self, host: Host) -> list[str]:
        unmet = super().missing(host)
        route = self.resources[0]
        if unmet or not isinstance(route, Route) or route.link or _link_towards(host, route):
            return unmet
        where = single_object.namespace_label(route.namespace)
        return [
            f"via: no link in {where} has a network with {route.via}: set link, or give a link such an address first"
        ]

    def completed(self, host: Host) -> single_object.DesiredObject:
        route = self.resources[0]
        if not isinstance(route, Route):
            return self
        route = replace(route, link=route.link or _link_towards(host, route))
        links = host.snapshot(route.namespace).links
        marks = (links.get("lo", {}).get("alias", ""), links.get(route.link, {}).get("alias", ""))
        owner = next((owner for owner in map(project_of, marks) if owner), "default")
        if route.link in links and owner != host.project:
            raise Refused(
                f"project: a route belongs to the project of its namespace or link, and that is {owner}: write "
                f"project: {owner}"
            )
        return replace(self, resources=(route,))


def _link_towards(host: Host, route: Route) -> str:
    """The link whose network contains the next router, that of the longest prefix if several do; "" if none does."""
    snapshot = host.snapshot(route.namespace)
    found: list[tuple[int, str]] = []
    for entry in snapshot.addresses:
        network, link = ip_interface(entry["address"]).network, snapshot.link_by_index(entry["index"])
        if link is not None and route.via is not None and ip_address(route.via) in network:
            found.append((network.prefixlen, link["name"]))
    return max(found)[1] if found else ""


def read(options: Options) -> single_object.DesiredObject:
    """The desired object, from the module's options."""
    via, namespace, link = options.gateway(), options.namespace(), options["link"] or ""
    destination, family = options.destination(via)
    route = Route(namespace, destination, family, via, link, single_object=True)
    if options.absent:
        return single_object.DesiredObject(
            (replace(route, via=None, link=""),), needs=(single_object.Prerequisite("namespace", namespace),)
        )
    if via is None and not link:
        options.wrong("via", "a route needs a next router or a link: set via, link or both")
    if via is not None and family_of(via) != family:
        options.wrong("via", f"{via} and the destination {destination} have different IP versions: write both in one")
    if via is not None and ip_address(via).is_link_local and not link:
        options.wrong("link", f"{via} is a link-local address, valid on one link only: set link")
    needs = (single_object.Prerequisite("link" if link else "namespace", namespace, link),)
    return DesiredRoute((route,), needs=needs)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "destination": {"type": "str", "required": True},
            "via": {"type": "str"},
            "link": {"type": "str"},
            "namespace": {"type": "str"},
            **single_object.COMMON,
        },
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
