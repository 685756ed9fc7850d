#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: route
short_description: Make, change or remove a route
version_added: 0.1.0
description:
  - Makes a unicast route in the main routing table, of the host's own network namespace or of a named one.
  - A route of ours is known by its route protocol, 138. That has no room for the project's name, so a route belongs to
    the project of its namespace, else of its link; one of neither belongs to the project V(default).
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.single_object
options:
  destination:
    description:
      - A prefix, IPv4 or IPv6, or V(default). There is one route of ours to each.
      - Of which family V(default) is, O(via) says; without it IPv4. V(::/0) is that of IPv6 in any case.
    type: str
    required: true
  via:
    description: The next router's address. Without it the destination is on the link itself.
    type: str
  link:
    description: The link it leaves by. Without it, the one on whose network O(via) is.
    type: str
  namespace:
    description: Name of the network namespace it is in. Without it, the host's own.
    type: str
seealso:
  - module: cnm.fabric.bridge
  - module: cnm.fabric.veth
"""

EXAMPLES = r"""
- name: A link with a network
  cnm.fabric.bridge:
    name: br-lan
    addresses: [10.20.0.1/24, "fd00:20::1/64"]

- name: A network behind a router on it
  cnm.fabric.route:
    destination: 10.30.0.0/16
    via: 10.20.0.2

- name: The same for IPv6, the link given
  cnm.fabric.route:
    destination: "fd00:30::/48"
    via: "fd00:20::2"
    link: br-lan

- name: Another network on the link itself
  cnm.fabric.route:
    destination: 10.31.0.0/24
    link: br-lan

- name: No more of that
  cnm.fabric.route:
    destination: 10.31.0.0/24
    state: absent

- name: Without the link, and with it its routes
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


class RouteWish(single_object.DesiredObject):
    """A route whose link only the host may know."""

    def missing(self, host: Host) -> list[str]:
        unmet = super().missing(host)
        route = self.resources[0]
        if unmet or not isinstance(route, Route) or route.link or _link_towards(host, route):
            return unmet
        where = single_object.place(route.namespace)
        return [
            f"via: {route.via} is on no link's network in {where}: name the link, or give one such an address before"
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
                f"project: a route has no room for a project's name, and this one would be known as one of {owner}, "
                f"to which its namespace or link belongs: write project: {owner}"
            )
        return replace(self, resources=(route,))


def _link_towards(host: Host, route: Route) -> str:
    """The link on whose network the next router is, that of the narrowest if there are several; "" if there is none."""
    snapshot = host.snapshot(route.namespace)
    found: list[tuple[int, str]] = []
    for entry in snapshot.addresses:
        network, link = ip_interface(entry["address"]).network, snapshot.link_by_index(entry["index"])
        if link is not None and route.via is not None and ip_address(route.via) in network:
            found.append((network.prefixlen, link["name"]))
    return max(found)[1] if found else ""


def read(options: Options) -> single_object.DesiredObject:
    """What is asked for."""
    via, namespace, link = options.gateway(), options.namespace(), options["link"] or ""
    destination, family = options.destination(via)
    route = Route(namespace, destination, family, via, link, single_object=True)
    if options.absent:
        return single_object.DesiredObject(
            (replace(route, via=None, link=""),), needs=(single_object.Prerequisite("namespace", namespace),)
        )
    if via is None and not link:
        options.wrong("via", "a route needs a next router or a link: give via, link or both")
    if via is not None and family_of(via) != family:
        options.wrong("via", f"{via} and the destination {destination} are not of the same IP version")
    if via is not None and ip_address(via).is_link_local and not link:
        options.wrong("link", f"{via} is a link-local address, which is on every link: name the link")
    needs = (single_object.Prerequisite("link" if link else "namespace", namespace, link),)
    return RouteWish((route,), needs=needs)


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
