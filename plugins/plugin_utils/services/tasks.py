# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Turns the tasks of services into sandboxes of the topology.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..declaration.egress import with_egress
from ..declaration.ingress import INGRESS, ingress_ports
from ..declaration.services import task_name
from ..declaration.topology import Endpoint, Host, Sandbox, TaskPort, Topology
from ..drivers.registry import DRIVERS
from .placement import PlacedService, Placement

TASKS = "tasks."
"""Prefix of the name that resolves to all tasks of a service, as in Docker."""


def with_tasks(topology: Topology, placement: Placement) -> Topology:
    """The topology with the tasks added as sandboxes."""
    by_host: dict[str, list[Sandbox]] = {}
    modes = {host.name: host.settings.ingress_mode for host in topology.hosts}
    for placed in placement.found.values():
        for number, host in placed.tasks.items():
            by_host.setdefault(host, []).append(_task(placed, number, host, modes[host]))
    return Topology(tuple(_with(host, by_host.get(host.name, [])) for host in topology.hosts))


def _with(host: Host, tasks: Sequence[Sandbox]) -> Host:
    if not tasks:
        return host
    networks = {network.name: network for network in host.networks}
    found, sandboxes = with_egress(networks, [*host.sandboxes, *tasks], host.settings.project, DRIVERS)
    return replace(
        host,
        networks=tuple(network for _name, network in sorted(found.items())),
        sandboxes=tuple(sorted(sandboxes, key=lambda item: item.name)),
    )


def _task(placed: PlacedService, number: int, host: str, ingress_mode: str) -> Sandbox:
    service, task = placed.former.get(number, placed.service), task_name(placed.service.name, number)
    endpoints = []
    for network in service.networks:
        names = [service.name, *network.aliases]
        aliases = [TASKS + name for name in names] if placed.weight(task, host) else []
        aliases += names if service.endpoint_mode == "dnsrr" and aliases else []
        endpoints.append(network.of_task(number, tuple(aliases)))
    ports = [port for port in service.ports if port.mode == "host"]
    everywhere = ingress_ports([service])
    if everywhere and ingress_mode == "snat":
        endpoints.append(Endpoint(INGRESS, path=service.path))
        everywhere = []
    shared = [*everywhere, *(port for port in service.ports if port.mode == "local")]
    ports += [TaskPort(**vars(port), weight=placed.weight(task, host)) for port in shared]
    namespace = service.namespace.of_task(number)
    return replace(
        service.task,
        name=task,
        host=host,
        endpoints=tuple(endpoints),
        namespace=namespace,
        hostname=service.hostname(number),
        ports=tuple(ports),
        policies=service.policies,
        path=service.path,
    )
