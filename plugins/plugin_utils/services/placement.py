# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Places the tasks of services on hosts.  Pure.

A placed task stays on its host: scaling a service, adding a host or removing one moves no other task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Optional

from ...module_utils.plan.records import dataclass
from ..declaration.ingress import ingress_ports
from ..declaration.placement import admits
from ..declaration.services import task_name, task_number
from ..declaration.topology import Host, Service, Topology
from ..leases.base import ServiceLease
from .rolling import DONE, Roll, former, roll


@dataclass(frozen=True)
class PlacedService:
    """A service with the hosts of its tasks."""

    service: Service
    tasks: Mapping[int, str]
    """Host by number, sorted."""
    resting: frozenset[int] = frozenset()
    """Tasks that get no new connections while the service is rolled out."""
    former: Mapping[int, Service] = field(default_factory=dict)
    """What tasks are made from that are still as they were before."""

    @property
    def names(self) -> list[str]:
        """The tasks' sandboxes."""
        return [task_name(self.service.name, number) for number in self.tasks]

    def weight(self, task: str, host: str) -> int:
        """A task's share of new connections, in proportion to the others; 0 while it is drained."""
        if task in self.service.draining or host in self.service.draining:
            return 0
        if self.resting and task_number(self.service.name, task) in self.resting:
            return 0
        return dict(self.service.weights).get(task, 1)


@dataclass
class Placement:
    """All placed services, and by host the errors about services that cannot be placed."""

    found: dict[str, PlacedService] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    rolls: dict[str, tuple[Service, Roll]] = field(default_factory=dict)
    """Services that are rolled out, if that takes steps."""

    def ending(self, host: str) -> set[str]:
        """The host's tasks that end now, as what they served is served by others."""
        return {task for _service, found in self.rolls.values() for task in found.waiting.ending.get(host, ())}


def place_services(topology: Topology, leased: dict[str, ServiceLease], rolling: str = DONE) -> Placement:
    """Place the tasks of all services; ``leased`` has their present hosts and is updated in place.

    ``rolling`` is how far changes go of services that have them rolled out.
    """
    result = Placement()
    candidates: dict[str, list[Host]] = {}
    services: dict[str, Service] = {}
    for host in sorted(topology.hosts, key=lambda item: item.name):
        for service in host.services:
            services.setdefault(service.name, service)
            candidates.setdefault(service.name, []).append(host)
    load: Counter[str] = Counter()
    before = dict(leased)
    leased.clear()
    for name, service in sorted(services.items()):
        hosts = [host.name for host in candidates[name] if admits(service, host)]
        placed_before = before[name]["tasks"] if name in before else {}
        old = {int(number): host for number, host in placed_before.items() if host in hosts}
        open_hosts = [host for host in hosts if host not in service.draining] or hosts
        is_global = service.mode == "global"
        tasks = (_everywhere(hosts, old) or None) if is_global else _spread(service, open_hosts, old, load)
        if tasks is None:
            result.problems.setdefault(candidates[name][0].name, []).append(_no_room(service, hosts, open_hosts))
            leased.update({name: before[name]} if name in before else {})
            continue
        load.update(tasks.values())
        tasks = dict(sorted(tasks.items()))
        if service.update is None:
            leased[name] = {"tasks": {str(number): host for number, host in tasks.items()}}
            result.found[name] = PlacedService(service, tasks)
            continue
        found = roll(service, before.get(name), tasks, rolling, candidates[name])
        leased[name] = found.now.lease
        result.found[name] = PlacedService(service, found.now.tasks, found.now.resting, former(service, found.now))
        if found.says or found.batches or found.waiting.ending:
            result.rolls[name] = (service, found)
    return result


def is_of_one_host(service: Service, host: Host) -> bool:
    """Whether a service can be planned for one host alone: no other host declares it or can have its tasks."""
    if service.placement.hosts != (host.name,) or (ingress_ports([service]) and host.settings.ingress_mode == "snat"):
        return False
    networks = [host.network(attachment.network) for attachment in service.networks]
    return all(network is not None and network.traits.scope == "local" for network in networks)


def place_on_one_host(host: Host, leased: dict[str, ServiceLease]) -> Placement:
    """As `place_services`, for one host alone: services of other hosts are not changed."""
    own = tuple(service for service in host.services if is_of_one_host(service, host))
    own_leases = {name: entry for name, entry in leased.items() if set(entry["tasks"].values()) == {host.name}}
    leased_elsewhere = {
        service.name: leased[service.name] for service in own if leased.keys() - own_leases.keys() >= {service.name}
    }
    leased_elsewhere = {name: entry for name, entry in leased_elsewhere.items() if entry["tasks"]}
    own = tuple(service for service in own if service.name not in leased_elsewhere)
    result = place_services(Topology((replace(host, services=own),)), own_leases)
    for name in [name for name, entry in leased.items() if set(entry["tasks"].values()) == {host.name}]:
        del leased[name]
    leased.update(own_leases)
    for name, entry in leased_elsewhere.items():
        service = next(item for item in host.services if item.name == name)
        where = ", ".join(sorted(set(entry["tasks"].values())))
        sentence = f"{service.path}: a service `{name}` already exists on {where}. Give one of them another name."
        result.problems.setdefault(host.name, []).append(sentence)
    return result


def _everywhere(hosts: Sequence[str], old: Mapping[int, str]) -> dict[int, str]:
    """A task on each host; new hosts get the lowest free numbers, in order of their names."""
    lowest: dict[str, int] = {}
    for number, host in sorted(old.items()):
        lowest.setdefault(host, number)
    tasks = {number: host for host, number in lowest.items()}
    free = (number for number in range(1, len(hosts) + 1 + len(tasks)) if number not in tasks)
    return {**tasks, **dict(zip(free, (host for host in hosts if host not in tasks.values())))}


def _spread(
    service: Service, hosts: Sequence[str], old: Mapping[int, str], load: Mapping[str, int]
) -> Optional[dict[int, str]]:
    """All tasks: placed ones stay, the others go to the host with the fewest; None if the hosts are too few.

    Of a host that has more tasks than it may, those with the highest numbers move.
    """
    most = service.placement.max_per_host or service.replicas
    tasks: dict[int, str] = {}
    counted: Counter[str] = Counter()
    for number, host in sorted(old.items()):
        if number <= service.replicas and counted[host] < most:
            tasks[number] = host
            counted[host] += 1
    for number in range(1, service.replicas + 1):
        if number not in tasks:
            free = [host for host in hosts if counted[host] < most]
            if not free:
                return None
            tasks[number] = min(free, key=lambda item: (counted[item], load.get(item, 0), item))
            counted[tasks[number]] += 1
    return tasks


def _no_room(service: Service, hosts: Sequence[str], open_hosts: Sequence[str]) -> str:
    path = f"{service.path}.deploy.placement"
    if not hosts:
        return f"{path}: no host that declares the service may have tasks. Name other hosts, or change the constraints."
    drained = [host for host in hosts if host not in open_hosts]
    beside = f"; {', '.join(drained)} is drained and gets no new ones" if drained else ""
    return (
        f"{path}.max_replicas_per_node: {', '.join(open_hosts)} may have {service.placement.max_per_host} tasks each, "
        f"too few for {service.replicas}{beside}. Take fewer replicas, more of them on a host, or more hosts."
    )
