# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The planner: Topology, probes and leases in, a plan a host out.  Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ..module_utils.plan import Namespace, Plan, Resource, Sysctl
from .addressing import Allocation, allocate, users
from .declaration.topology import Endpoint, Host, Sandbox, Topology
from .discovery import Naming, names_file
from .drivers.base import PlannedEndpoint, PlannedNetwork
from .drivers.registry import DRIVERS
from .facts import Facts
from .firewall import host_table, sandbox_table
from .identifiers import identifier, mac_of
from .leases.base import Leases, of_host
from .views import model_of

FORWARDING = "net.ipv4.ip_forward"
PREFIX = "com.docker.network.container_iface_prefix"


@dataclass
class Planned:
    """A plan for each host that was probed, what to remember, and what to tell the user."""

    plans: dict[str, Plan] = field(default_factory=dict)
    leases: Leases = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Hosts that cannot be as declared, with every reason; they get no plan, the others do."""
    warnings: dict[str, list[str]] = field(default_factory=dict)


def plan(topology: Topology, facts: Mapping[str, Facts], leases: Leases, now: str) -> Planned:
    """Plan every host that ``facts`` has; the others keep their leases as they are.

    ``now`` is the time a new network is said to be created at, in ISO 8601.
    """
    result = Planned(leases=copy.deepcopy(leases))
    names = {host.name for host in topology.hosts}
    for section, entries in result.leases.items():
        result.leases[section] = {key: value for key, value in entries.items() if key.partition("/")[0] in names}
    for host in sorted(topology.hosts, key=lambda item: item.name):
        known = facts.get(host.name)
        if known is None:
            continue
        before = copy.deepcopy(result.leases)
        allocation = allocate(host, known, result.leases, now)
        if allocation.warnings:
            result.warnings[host.name] = allocation.warnings
        if allocation.problems:
            result.leases = before
            result.refusals[host.name] = allocation.problems
            continue
        result.plans[host.name] = _plan_host(host, known, allocation, result.leases)
    return result


def _plan_host(host: Host, facts: Facts, allocation: Allocation, leases: Leases) -> Plan:
    project = host.settings.project
    networks = _networks(host, allocation, leases)
    endpoints = {
        sandbox.name: _endpoints(host, sandbox, networks, allocation)
        for sandbox in sorted(host.sandboxes, key=lambda item: item.name)
    }
    resources = _network_resources(project, networks, facts)
    every = [endpoint for group in endpoints.values() for endpoint in group]
    names = names_file(project, every)
    if names.files:
        resources.append(names)
    for sandbox in sorted(host.sandboxes, key=lambda item: item.name):
        if mode_of(host, sandbox) != "host":
            naming = Naming(project, facts, names, sandbox, endpoints[sandbox.name])
            resources += _sandbox_resources(naming)
    return Plan(
        host=host.name,
        project=project,
        resources=tuple(sorted(resources, key=lambda item: item.key)),
        model=model_of(host, networks, endpoints),
        leases=of_host(leases, host.name),
    )


def mode_of(host: Host, sandbox: Sandbox) -> Optional[str]:
    """``host`` or ``none`` for a sandbox without networks of its own, by network_mode or a network of that driver."""
    if sandbox.network_mode:
        return sandbox.network_mode
    networks = [host.network(endpoint.network) for endpoint in sandbox.endpoints]
    return next((network.driver for network in networks if network and network.driver in ("host", "none")), None)


def _networks(host: Host, allocation: Allocation, leases: Leases) -> dict[str, PlannedNetwork]:
    result = {}
    for name in users(host):
        network = host.network(name)
        if network is None or name not in allocation.subnets:
            continue
        created = leases["networks"][f"{host.name}/{name}"]["created"]
        network_id = identifier("network", host.settings.project, host.name, name)
        result[name] = PlannedNetwork(network, network_id, created, allocation.subnets[name])
    return result


def _network_resources(project: str, networks: Mapping[str, PlannedNetwork], facts: Facts) -> list[Resource]:
    resources: list[Resource] = []
    bridges: list[tuple[PlannedNetwork, str]] = []
    for network in networks.values():
        driver = DRIVERS[network.network.driver]
        resources += driver.network_resources(network)
        bridge = driver.bridge(network)
        if bridge is not None:
            bridges.append((network, bridge))
    if bridges:
        resources.append(Sysctl("", FORWARDING, "1", former=None if facts.forwarding_before else "0"))
    if bridges or facts.has_table:
        # A host whose last network went is no router of ours any more: what is not ours is not ours to drop.
        resources.append(host_table(project, bridges, facts.forwarding_before or not bridges, facts.bridges))
    return resources


def _endpoints(
    host: Host, sandbox: Sandbox, networks: Mapping[str, PlannedNetwork], allocation: Allocation
) -> list[PlannedEndpoint]:
    placed = [endpoint for endpoint in sandbox.endpoints if endpoint.network in networks]
    chosen = _gateway_endpoint(placed, networks)
    result = []
    for endpoint, link in zip(placed, _link_names(placed, networks)):
        network = networks[endpoint.network]
        subnet = network.subnets[0]
        address = allocation.addresses[(network.name, sandbox.name)]
        result.append(
            PlannedEndpoint(
                network=network,
                sandbox=sandbox,
                endpoint=endpoint,
                id=identifier("endpoint", host.settings.project, host.name, network.name, sandbox.name),
                link=link,
                address=f"{address}/{subnet.subnet.partition('/')[2]}",
                mac=endpoint.mac_address or mac_of(address),
                gateway=subnet.gateway if endpoint is chosen else None,
            )
        )
    return result


def _gateway_endpoint(endpoints: Sequence[Endpoint], networks: Mapping[str, PlannedNetwork]) -> Optional[Endpoint]:
    """Which endpoint supplies the default route, by Docker's order: gw_priority, then the network's name."""
    able = [endpoint for endpoint in endpoints if not networks[endpoint.network].network.internal]
    return min(able, key=lambda item: (-item.gw_priority, item.network), default=None)


def _link_names(endpoints: Sequence[Endpoint], networks: Mapping[str, PlannedNetwork]) -> list[str]:
    """eth0, eth1, … in the order of the list, passing over names that are given explicitly."""
    used = {endpoint.interface_name for endpoint in endpoints if endpoint.interface_name}
    result = []
    for endpoint in endpoints:
        name = endpoint.interface_name
        if not name:
            prefix = networks[endpoint.network].network.option(PREFIX) or "eth"
            name = next(
                f"{prefix}{number}" for number in range(len(endpoints) + len(used)) if f"{prefix}{number}" not in used
            )
            used.add(name)
        result.append(name)
    return result


def _sandbox_resources(naming: Naming) -> list[Resource]:
    name = naming.sandbox.name
    resources: list[Resource] = [Namespace(name, role=f"sandbox/{name}"), naming.files()]
    for endpoint in naming.endpoints:
        resources += DRIVERS[endpoint.network.network.driver].endpoint_resources(endpoint)
    if naming.endpoints:
        resources += [sandbox_table(naming.project, name), naming.resolver()]
    return resources
