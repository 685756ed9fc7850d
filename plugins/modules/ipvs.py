#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: ipvs
short_description: Create, change or remove a virtual server of IPVS
version_added: 0.1.0
description:
  - Manages one virtual server with its real servers, in the host's own network namespace or in a named one. It is
    identified by a packet mark, or by protocol, address and port.
  - It is changed in place. Open connections continue, also those to a real server whose weight becomes 0; only removed
    real servers lose their connections.
  - A virtual server cannot carry an ownership mark. The one that the options name is changed, no matter who created it,
    and C(cnm.fabric.teardown) removes it only in namespaces of the project.
  - Packets to the virtual address must reach the host, for example because it has the address. This module does not
    manage the other things that a method needs (forwarding, the route of the answers, C(net.ipv4.vs) sysctls).
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - cnm.fabric.single_object
options:
  namespace:
    description:
      - Name of its network namespace. If omitted, the host's own.
      - Namespaces of C(cnm.fabric.site) are refused, as its next run would remove the virtual server.
    type: str
  mark:
    description: The packet mark that identifies it, 1 to 4294967295. Rules of nftables set such marks.
    type: int
  family:
    description: The IP version of a virtual server with a mark, and of its real servers. A mark can have one of each.
    type: str
    choices: [ipv4, ipv6]
    default: ipv4
  protocol:
    description: With O(address), the protocol.
    type: str
    choices: [tcp, udp, sctp]
    default: tcp
  address:
    description: The virtual address, IPv4 or IPv6, if it is not identified by a mark.
    type: str
  port:
    description: With O(address), the port. V(0) is every port, and requires O(persistence).
    type: int
  scheduler:
    description: How a real server is chosen for a new connection, see ipvsadm(8).
    type: str
    choices: [rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh]
    default: wlc
  scheduler_flags:
    description:
      - For the schedulers V(sh) and V(mh). With V(fallback) they skip real servers of weight 0 instead of refusing
        connections; with V(port) they use the client's port too.
    type: list
    elements: str
    choices: [fallback, port]
    default: []
  one_packet:
    description: Whether each UDP packet is scheduled separately.
    type: bool
    default: false
  persistence:
    description: Seconds for which a client stays with its real server after its last connection; V(0) turns this off.
    type: int
    default: 0
  persistence_prefix:
    description: With O(persistence), the prefix length by which clients are grouped. If omitted, the whole address.
    type: int
  servers:
    description: All its real servers. If omitted, they are not changed.
    type: list
    elements: dict
    suboptions:
      address:
        description: Its address.
        type: str
        required: true
      port:
        description: Its port. If omitted, that of the virtual server, or with a mark the packet's own.
        type: int
      weight:
        description: Its share of new connections; with V(0) it gets none.
        type: int
        default: 1
      method:
        description:
          - How packets are forwarded. V(masquerade) translates the destination, and answers must come back through this
            host. V(direct) and V(tunnel) keep addresses and ports, so the real server needs the virtual address too.
        type: str
        choices: [masquerade, direct, tunnel]
        default: masquerade
      upper_threshold:
        description: At this number of connections it gets no new ones; V(0) is no limit.
        type: int
        default: 0
      lower_threshold:
        description: Below this number of connections it gets new ones again.
        type: int
        default: 0
requirements:
  - a kernel with IPVS on the host (CONFIG_IP_VS, in most distributions the module ip_vs)
"""

EXAMPLES = r"""
- name: Create a virtual server with two real servers
  cnm.fabric.ipvs:
    protocol: tcp
    address: 192.0.2.80
    port: 80
    scheduler: wrr
    servers:
      - {address: 10.20.0.2, port: 8080}
      - {address: 10.20.0.3, port: 8080, weight: 2}

- name: Drain one of them; open connections continue
  cnm.fabric.ipvs:
    protocol: tcp
    address: 192.0.2.80
    port: 80
    scheduler: wrr
    servers:
      - {address: 10.20.0.2, port: 8080, weight: 0}
      - {address: 10.20.0.3, port: 8080, weight: 2}

- name: Create a namespace
  cnm.fabric.namespace:
    name: blue

- name: Balance all packets in it that a rule has marked, TCP and UDP on any port
  cnm.fabric.ipvs:
    namespace: blue
    mark: 7
    family: ipv6
    scheduler: sh
    scheduler_flags: [fallback]
    servers:
      - address: "fd00:20::2"
      - address: "fd00:20::3"

- name: Remove the first virtual server
  cnm.fabric.ipvs:
    protocol: tcp
    address: 192.0.2.80
    port: 80
    state: absent

- name: Remove the namespace and with it the second
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
      description: One of create, change, delete.
      type: str
      returned: always
      sample: create
    kind:
      description: What kind of object.
      type: str
      returned: always
      sample: ipvs
    name:
      description: Its name, with its namespace in front if that is not the host's.
      type: str
      returned: always
      sample: blue/mark 0x00000007 ipv6
    differences:
      description: For a change, each attribute with what was found and what is wanted.
      type: list
      elements: dict
      returned: for change
"""

from dataclasses import replace
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import single_object
from ..module_utils.arguments import Options
from ..module_utils.entrypoints import Refused
from ..module_utils.kernel.host import Host
from ..module_utils.plan.balancing import Ipvs, RealServer
from ..module_utils.plan.constants import LARGEST_PORT
from ..module_utils.plan.families import family_of
from ..module_utils.plan.marks import is_pruned, role_of
from ..module_utils.resources.ipvs import sorted_servers, virtual_server

_FAMILIES = {"ipv4": 4, "ipv6": 6}
_BITS = {4: 32, 6: 128}
_LARGEST = {"mark": 0xFFFFFFFF, "weight": 65535, "seconds": 31 * 86400, "connections": 0x7FFFFFFF}
_HASHING = ("sh", "mh")


class DesiredIpvs(single_object.DesiredObject):
    """A virtual server.  It carries no mark, so nobody can tell who created it."""

    def missing(self, host: Host) -> list[str]:
        (item,) = self.resources
        namespace = item.key[1]
        alias = host.snapshot(namespace).links.get("lo", {}).get("alias", "") if namespace else ""
        if is_pruned(role_of(alias, host.project)):
            where = single_object.namespace_label(namespace)
            raise Refused(
                f"namespace: {where} belongs to cnm.fabric.site, which would remove the virtual server: declare a "
                "service in cnm_services instead"
            )
        return super().missing(host)


class DesiredIpvsWithoutServers(DesiredIpvs):
    """A virtual server whose present real servers are kept."""

    def completed(self, host: Host) -> single_object.DesiredObject:
        (item,) = self.resources
        found = virtual_server(host, item) if isinstance(item, Ipvs) else None
        if found is None or not isinstance(item, Ipvs):
            return self
        return DesiredIpvs((replace(item, servers=found.servers),), needs=self.needs)


def read(options: Options) -> single_object.DesiredObject:
    """The desired object, from the module's options."""
    namespace = options.namespace()
    item = _identity(options, namespace)
    needs = (single_object.Prerequisite("namespace", namespace),)
    if options.absent:
        return DesiredIpvs((item,), needs=needs)
    _check_flags(options)
    flags = [*options["scheduler_flags"], *(["one_packet"] if options["one_packet"] else [])]
    prefix = _prefix(options, item.family)
    item = replace(
        item,
        scheduler=options["scheduler"],
        flags=tuple(sorted(set(flags))),
        persistence=options.number("persistence", 0, _LARGEST["seconds"], "a number of seconds for IPVS"),
        prefix=0 if prefix == _BITS[item.family] else prefix,
    )
    if options["servers"] is None:
        return DesiredIpvsWithoutServers((item,), needs=needs)
    servers = [_server(options, index, given, item) for index, given in enumerate(options["servers"])]
    endpoints = [(server.address, server.port) for server in servers]
    for address, port in sorted({endpoint for endpoint in endpoints if endpoints.count(endpoint) > 1 and endpoint[0]}):
        what = f"{address} with port {port}" if port else address
        options.wrong("servers", f"{what} is given twice: write it once, and set its share as weight")
    return DesiredIpvs((replace(item, servers=sorted_servers(servers)),), needs=needs)


def _identity(options: Options, namespace: str) -> Ipvs:
    if options["mark"] is not None:
        if options["port"] is not None:
            options.wrong("port", "a mark applies to every port: remove port")
        mark = options.number("mark", 1, _LARGEST["mark"], "a mark")
        return Ipvs(namespace, _FAMILIES[options["family"]], mark)
    address = options.read_host("address", options["address"], "a virtual server")
    if options["port"] is None:
        options.wrong("port", "an address needs a port: set one, or set 0 for all ports together with persistence")
        return Ipvs(namespace, protocol=options["protocol"], address=address)
    port = options.number("port", 0, LARGEST_PORT, "a port")
    if not port and not options["persistence"] and not options.absent:
        options.wrong("port", "0, which is every port, requires persistence: set that too, or use a mark")
    return Ipvs(namespace, family_of(address), 0, options["protocol"], address, port)


def _check_flags(options: Options) -> None:
    if options["scheduler_flags"] and options["scheduler"] not in _HASHING:
        options.wrong("scheduler_flags", f"{options['scheduler']} has no flags, only sh and mh have: remove them")
    if options["one_packet"] and options["mark"] is None and options["protocol"] != "udp":
        options.wrong("one_packet", f"it is for udp, not for {options['protocol']}: remove it")
    if options["persistence_prefix"] is not None and not options["persistence"]:
        options.wrong("persistence_prefix", "it has no effect without persistence: set that too, or remove it")


def _prefix(options: Options, family: int) -> int:
    if options["persistence_prefix"] is None:
        return 0
    return options.number("persistence_prefix", 1, _BITS[family], f"a number of bits of an IPv{family} address")


def _server(options: Options, index: int, given: dict[str, Any], of: Ipvs) -> RealServer:
    where = f"servers[{index}]"
    address = options.read_host(f"{where}.address", given["address"], "a real server")
    method = given["method"]
    family = family_of(address)
    if address and family != of.family and method != "tunnel" and (of.mark or of.address):
        options.wrong(
            f"{where}.address",
            f"{address} is not an IPv{of.family} address, as that of the virtual server is: use the method tunnel",
        )
    port = _port(options, where, given["port"], of)
    if method != "masquerade" and port != of.port:
        options.wrong(f"{where}.port", f"the method {method} keeps the port: remove it")
    weight = _bounded(options, f"{where}.weight", given["weight"], "weight", "a weight")
    limits = [
        _bounded(options, f"{where}.{name}", given[name], "connections", "a number of connections")
        for name in ("upper_threshold", "lower_threshold")
    ]
    if limits[1] > limits[0]:
        options.wrong(f"{where}.lower_threshold", f"{limits[1]} exceeds upper_threshold: lower it")
    return RealServer(address, weight, port, method, limits[0], limits[1])


def _port(options: Options, where: str, given: Optional[int], of: Ipvs) -> int:
    if given is None:
        return of.port
    if not 0 < given <= LARGEST_PORT:
        options.wrong(f"{where}.port", f"{given} is not a port: choose 1 to {LARGEST_PORT}, or remove it")
    return given


def _bounded(options: Options, where: str, value: int, bound: str, noun: str) -> int:
    if not 0 <= value <= _LARGEST[bound]:
        options.wrong(where, f"{value} is not {noun}: choose 0 to {_LARGEST[bound]}")
    return value


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "namespace": {"type": "str"},
            "mark": {"type": "int"},
            "family": {"type": "str", "choices": ["ipv4", "ipv6"], "default": "ipv4"},
            "protocol": {"type": "str", "choices": ["tcp", "udp", "sctp"], "default": "tcp"},
            "address": {"type": "str"},
            "port": {"type": "int"},
            "scheduler": {
                "type": "str",
                "choices": ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"],
                "default": "wlc",
            },
            "scheduler_flags": {"type": "list", "elements": "str", "choices": ["fallback", "port"], "default": []},
            "one_packet": {"type": "bool", "default": False},
            "persistence": {"type": "int", "default": 0},
            "persistence_prefix": {"type": "int"},
            "servers": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int"},
                    "weight": {"type": "int", "default": 1},
                    "method": {
                        "type": "str",
                        "choices": ["masquerade", "direct", "tunnel"],
                        "default": "masquerade",
                    },
                    "upper_threshold": {"type": "int", "default": 0},
                    "lower_threshold": {"type": "int", "default": 0},
                },
            },
            **single_object.COMMON,
        },
        mutually_exclusive=[("mark", "address")],
        required_one_of=[("mark", "address")],
        supports_check_mode=True,
    )
    single_object.answer(module, read)


if __name__ == "__main__":
    main()
