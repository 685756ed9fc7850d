# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One host's networks and endpoints with their addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ...module_utils.plan.marks import identifier
from ...module_utils.plan.records import dataclass
from ..declaration.published import default_route
from ..declaration.topology import Endpoint, Host, Sandbox, link_names
from ..dns.outside import lan_names_errors, lan_names_warnings
from ..dns.resolvers import confined_resolver_errors, failing_resolver_warnings, unreachable_resolver_warnings
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..drivers.registry import DRIVERS, driver_of
from ..facts import Facts
from ..firewall.host_table import unnameable_link_warnings
from ..firewall.policies import policies_of
from ..firewall.published_ports import (
    open_port_errors,
    published_ports,
    published_twice_errors,
    unroutable_port_errors,
    used_port_errors,
)
from ..firewall.sources import idle_routers
from ..ipam.addresses import SHIM, Allocation, allocate, networks_in_use
from ..ipam.identifiers import mac_of
from ..leases.base import Leases
from ..services.balancing import VirtualService
from .checks import (
    blocked_port_warnings,
    bridge_port_limit_errors,
    encryption_errors,
    evpn_warnings,
    foreign_firewall_warnings,
    keys_not_kept_warnings,
    off_link_errors,
    other_hosts_needed_errors,
    policy_errors,
    policy_warnings,
    scheduler_errors,
)
from .obstacles import absent_owner_errors, missing_link_errors, missing_shaping_errors, stopped_owner_warnings
from .topology import TopologyPlan


@dataclass
class HostAllocation:
    """One host's networks and endpoints with their addresses, with errors and warnings."""

    networks: dict[str, PlannedNetwork]
    endpoints: dict[str, list[PlannedEndpoint]]
    leases: Leases
    virtual: Mapping[str, Sequence[VirtualService]]
    """Services with a VIP by network."""
    problems: list[str]
    warnings: list[str]

    @property
    def every(self) -> list[PlannedEndpoint]:
        """The endpoints of all sandboxes."""
        return [endpoint for group in self.endpoints.values() for endpoint in group]


def allocate_host(host: Host, facts: Facts, topology_plan: TopologyPlan, leases: Leases, now: str) -> HostAllocation:
    spanning = topology_plan.spanning.of(host.name)
    if spanning:
        leases["hosts"].setdefault(host.name, {})["peer_digests"] = topology_plan.peer_digests(host.name)
    services = [placed.service for placed in topology_plan.placed(host)]
    allocation = allocate(host, facts, leases, now, {name: item.subnets for name, item in spanning.items()}, services)
    problems = [
        *topology_plan.placement.problems.get(host.name, ()),
        *topology_plan.spanning.problems.get(host.name, ()),
        *(other_hosts_needed_errors(host, facts) if topology_plan.single_host else ()),
        *allocation.problems,
    ]
    if problems:
        problems += absent_owner_errors(host, facts)
        return HostAllocation({}, {}, leases, {}, problems, [])
    networks, unattached = _attach(_networks_of_host(host, allocation, leases, topology_plan), facts)
    endpoints = {
        sandbox.name: _endpoints_of_sandbox(host, sandbox, networks, allocation)
        for sandbox in sorted(host.sandboxes, key=lambda item: item.name)
    }
    allocated = HostAllocation(networks, endpoints, leases, topology_plan.virtual_on(networks, endpoints), [], [])
    ports = published_ports(allocated.every)
    judged = [
        name
        for name, group in endpoints.items()
        if group and policies_of(group[0].sandbox, [item.network for item in group])
    ]
    allocated.problems = [
        *unattached,
        *absent_owner_errors(host, facts),
        *missing_link_errors(facts, networks, allocated.every),
        *missing_shaping_errors(facts, allocated.every),
        *off_link_errors(allocated.every),
        *bridge_port_limit_errors(networks, allocated.every),
        *confined_resolver_errors(facts, endpoints),
        *encryption_errors(host, facts, networks),
        *scheduler_errors(host, facts, networks, topology_plan.placement.found),
        *policy_errors(facts, judged),
        *published_twice_errors(ports),
        *lan_names_errors(host.settings, ports),
        *open_port_errors(ports),
        # A port may be of a network that is not attached.
        *(unroutable_port_errors(host.sandboxes, ports) if not unattached else ()),
        *used_port_errors(ports, facts),
    ]
    allocated.warnings = [
        *allocation.warnings,
        *(
            foreign_firewall_warnings(host, facts)
            if any(item.network.traits.bridged for item in networks.values())
            else ()
        ),
        *(
            sentence
            for item in networks.values()
            if item.attachment is not None
            for sentence in item.attachment.warnings
        ),
        *policy_warnings(host, facts, judged),
        *stopped_owner_warnings(host, facts),
        *keys_not_kept_warnings(host, facts, networks),
        *evpn_warnings(host, topology_plan.spanning.fabric),
        *unreachable_resolver_warnings(facts, endpoints),
        *lan_names_warnings(host.settings, facts),
        *failing_resolver_warnings(facts, endpoints),
        *unnameable_link_warnings(facts),
        *idle_routers(allocated.every),
        *blocked_port_warnings(facts, spanning.values()),
    ]
    return allocated


def _attach(networks: Mapping[str, PlannedNetwork], facts: Facts) -> tuple[dict[str, PlannedNetwork], list[str]]:
    """The networks with what their drivers found for them on the host, and errors that rule it out."""
    result, problems = {}, []
    for name, item in networks.items():
        found = driver_of(item).attach(item.network, item.id, facts)
        problems += found if isinstance(found, list) else []
        if not isinstance(found, list) or not found:
            result[name] = replace(item, attachment=None if isinstance(found, list) else found)
    return result, problems


def _networks_of_host(
    host: Host, allocation: Allocation, leases: Leases, topology_plan: TopologyPlan
) -> dict[str, PlannedNetwork]:
    result = {}
    spanning, digests = topology_plan.spanning.of(host.name), topology_plan.digests
    for name in networks_in_use(host):
        network = host.network(name)
        if network is None:
            continue
        if name in spanning:
            item = spanning[name]
            own = item.members.get(f"{SHIM}@{host.name}")
            shim = own.addresses if own is not None else ()
            result[name] = PlannedNetwork(
                network,
                item.id,
                item.created,
                item.subnets,
                host=host.name,
                spanning=item,
                shared=digests[name],
                shim=shim,
            )
        elif name in allocation.subnets:
            created = leases["networks"][f"{host.name}/{name}"]["created"]
            network_id = identifier("network", host.settings.project, host.name, name)
            result[name] = PlannedNetwork(
                network,
                network_id,
                created,
                allocation.subnets[name],
                host=host.name,
                own_vips=allocation.vips.get(name, {}),
                shim=allocation.of_host(name, host.name),
            )
    return result


def _endpoints_of_sandbox(
    host: Host, sandbox: Sandbox, networks: Mapping[str, PlannedNetwork], allocation: Allocation
) -> list[PlannedEndpoint]:
    placed = [endpoint for endpoint in sandbox.endpoints if endpoint.network in networks]
    gateways = _gateways(placed, networks)
    result = []
    links = link_names((each.interface_name, networks[each.network].network.link_prefix) for each in placed)
    for endpoint, link in zip(placed, links):
        network = networks[endpoint.network]
        ipv4, ipv6 = _addresses(network, sandbox, allocation)
        result.append(
            PlannedEndpoint(
                network=network,
                sandbox=sandbox,
                endpoint=endpoint,
                id=identifier("endpoint", host.settings.project, host.name, network.name, sandbox.name),
                link=link,
                ipv4=ipv4,
                ipv6=ipv6,
                mac=""
                if network.network.traits.shares_mac
                else endpoint.mac_address or mac_of((ipv4 or ipv6 or "").partition("/")[0]),
                gateways=tuple(gateways.get(endpoint.network, ())),
            )
        )
    return result


def _addresses(
    network: PlannedNetwork, sandbox: Sandbox, allocation: Allocation
) -> tuple[Optional[str], Optional[str]]:
    """The sandbox's addresses on the network, with their prefix length."""
    if network.spanning is not None:
        member = network.spanning.members[sandbox.key]
        return member.ipv4, member.ipv6
    identity = (network.name, sandbox.key)
    return allocation.ipv4.get(identity), allocation.ipv6.get(identity)


def _gateways(endpoints: Sequence[Endpoint], networks: Mapping[str, PlannedNetwork]) -> dict[str, list[str]]:
    """Which networks supply the default routes, with the gateways of each."""
    members = [(endpoint, networks[endpoint.network].network) for endpoint in endpoints]
    chosen: dict[str, list[str]] = {}
    for family in (4, 6):
        supplier = default_route(members, family)
        gateway = DRIVERS.find(supplier.driver).gateway(networks[supplier.name], family) if supplier else None
        if supplier is not None and gateway is not None:
            chosen.setdefault(supplier.name, []).append(gateway)
    return chosen
