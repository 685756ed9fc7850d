# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Checks of services against hosts, networks, sandboxes and each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from ...module_utils.plan.records import dataclass
from .cross_checks import (
    Draft,
    Found,
    Member,
    check_links_together,
    check_on_network,
    distinct_claims,
    endpoints_on,
)
from .errors import ValidationError, VarPath, name_hosts
from .ingress import INGRESS, SANDBOX, ingress_ports
from .keys import did_you_mean
from .placement import admits, is_named
from .services import task_name, task_number
from .topology import Network, Port, Sandbox, Service, ServiceNetwork

_PLAIN = ("host", "none")
_FIXED = ("ipv4_address", "ipv6_address")


@dataclass(frozen=True)
class _Everywhere:
    """A service with the hosts that declare it."""

    service: Service
    drafts: tuple[Draft, ...]

    @property
    def hosts(self) -> list[str]:
        """Those that may have a task."""
        return [draft.host.name for draft in self.drafts if admits(self.service, draft.host)]

    @property
    def first(self) -> str:
        """The host that errors about the whole service are reported for."""
        return self.drafts[0].host.name


def check_services(drafts: Sequence[Draft]) -> Found:
    """All errors of services that show only beside others, as (host, error)."""
    found: dict[str, list[tuple[Draft, Service]]] = {}
    for draft in drafts:
        for service in draft.host.services:
            found.setdefault(service.name, []).append((draft, service))
    for name, pairs in sorted(found.items()):
        yield from _same_everywhere(name, pairs)
        everywhere = _Everywhere(pairs[0][1], tuple(draft for draft, _service in pairs))
        errors: list[ValidationError] = []
        _check_hosts(everywhere, [draft.host.name for draft in drafts], errors)
        yield from ((everywhere.first, error) for error in errors)
        for draft in everywhere.drafts:
            if draft.host.name in everywhere.hosts:
                yield from ((draft.host.name, error) for error in _networks(draft, everywhere.service))
    yield from _distinct_names(drafts, {name: pairs[0][1] for name, pairs in found.items()})
    services = [pairs[0][1] for _name, pairs in sorted(found.items())]
    yield from _distinct_addresses(drafts, services)
    if ingress_ports(services):
        yield from _one_ingress_mode(drafts)
    if any(draft.host.settings.ingress_mode == "local" for draft in drafts):
        for service, error in _published_twice(services):
            yield _declaring(drafts, service), error
    for service, error in [*_named_like_tasks(services), *_distinct_ports(services)]:
        yield _declaring(drafts, service), error


def _published_twice(services: Sequence[Service]) -> Iterator[tuple[Service, ValidationError]]:
    """Ports of every host that are two services', or twice one's; with ingress they would be the same sandbox's."""
    seen: list[tuple[str, Port]] = []
    for service in services:
        for port in (port for port in service.ports if port.mode == "ingress"):
            for path, other in seen:
                apart = port.published[1] < other.published[0] or other.published[1] < port.published[0]
                bound = port.host_ip and other.host_ip and port.host_ip != other.host_ip
                if not apart and not bound and port.protocol == other.protocol:
                    problem = f"Port {port.published[0]}/{port.protocol} of every host is published already, by {path}."
                    yield service, ValidationError(port.path, problem, "Publish another port.")
                    break
            seen.append((port.path, port))


def _one_ingress_mode(drafts: Sequence[Draft]) -> Found:
    hosts: dict[str, list[str]] = {}
    for draft in drafts:
        hosts.setdefault(draft.host.settings.ingress_mode, []).append(draft.host.name)
    if len(hosts) > 1:
        differing = " and ".join(f"{mode} on {name_hosts(names)}" for mode, names in sorted(hosts.items()))
        error = ValidationError(
            "cnm_ingress_mode",
            f"Services publish ports on every host, so it must be the same on every host; it is {differing}.",
            "Set it once, in the group_vars of all hosts of the topology.",
        )
        yield from ((draft.host.name, error) for draft in drafts)


def _named_like_tasks(services: Sequence[Service]) -> Iterator[tuple[Service, ValidationError]]:
    """Services that have the name of another's task."""
    known = {service.name: service for service in services}
    for service in services:
        before, _dot, number = service.name.rpartition(".")
        if before in known and number.isdigit():
            problem = f"This is the name of a task of the service `{before}` ({known[before].path})."
            yield service, ValidationError(service.path, problem, "Give one of them another name.")


def _distinct_ports(services: Sequence[Service]) -> Iterator[tuple[Service, ValidationError]]:
    """Ports of every host that differ only in the host's address; past it, only the number tells them apart."""
    every = [
        (service, index, port)
        for service in services
        for index, port in enumerate(service.ports)
        if port.mode == "ingress" and port.host_ip
    ]
    for position, (service, index, port) in enumerate(every):
        for other, number, used_by in every[:position]:
            alike = service is other and port.published == used_by.published and port.target == used_by.target
            apart = port.published[1] < used_by.published[0] or used_by.published[1] < port.published[0]
            if port.protocol == used_by.protocol and port.host_ip != used_by.host_ip and not apart and not alike:
                problem = (
                    f"Port {port.published[0]}/{port.protocol} of every host leads to one place whatever the address, "
                    f"and {other.path}.ports[{number}] leads to another."
                )
                yield service, ValidationError(f"{service.path}.ports[{index}]", problem, "Publish another port.")
                break


def _same_everywhere(name: str, pairs: Sequence[tuple[Draft, Service]]) -> Found:
    said = [(draft.host.name, _said(service)) for draft, service in pairs]
    for key in said[0][1]:
        hosts: dict[Any, list[str]] = {}
        for host, values in said:
            hosts.setdefault(values[key], []).append(host)
        if len(hosts) > 1:
            differing = " and ".join(sorted(f"one thing on {name_hosts(names)}" for names in hosts.values()))
            error = ValidationError(
                f"{pairs[0][1].path}.{key}",
                f"The service `{name}` must say the same on every host; it says {differing}.",
                "Declare it once, in the group_vars of a group that has all these hosts.",
            )
            yield from ((draft.host.name, error) for draft, _service in pairs)


def _said(service: Service) -> dict[str, Any]:
    """By key what a service says, and what it says of its tasks."""
    found = {
        item.name: getattr(part, item.name) for part in (service.task, service) for item in fields(part) if item.compare
    }
    return {key: value for key, value in found.items() if key not in ("name", "host", "endpoints", "task")}


def _check_hosts(everywhere: _Everywhere, every: Sequence[str], errors: list[ValidationError]) -> None:
    service, path = everywhere.service, VarPath(everywhere.service.path, errors)
    tasks = len(everywhere.hosts) if service.mode == "global" else service.replicas
    _check_placement(everywhere, tasks, path / "deploy" / "placement")
    if any(port.mode == "host" for port in service.ports) and everywhere.hosts and tasks > len(everywhere.hosts):
        (path / "ports").wrong(
            f"A port published with mode host leads to one task of a host, and {tasks} tasks are to be on "
            f"{len(everywhere.hosts)} host{'s' if len(everywhere.hosts) > 1 else ''}.",
            "Leave `mode: host` out, take fewer replicas, or more hosts.",
        )
    names = [task_name(service.name, number) for number in range(1, tasks + 1)]
    for index, name in enumerate(service.draining):
        if name not in every and task_number(service.name, name) is None:
            (path / "deploy" / "draining" / index).wrong(
                "This is neither a task of the service nor a host.",
                did_you_mean(
                    name,
                    [*names, *every],
                    f"Write for example `{task_name(service.name, 1)}`, or a host of the topology (cnm_hosts).",
                ),
                name,
            )


def _check_placement(everywhere: _Everywhere, tasks: int, path: VarPath) -> None:
    """Note if the hosts of a service cannot have all of its tasks."""
    service, hosts = everywhere.service, everywhere.hosts
    named = [draft.host.name for draft in everywhere.drafts if is_named(service, draft.host)]
    most = service.placement.max_per_host
    if not named and service.replicas:
        (path / "hosts").wrong(
            "None of these hosts declares the service.",
            f"Name some of {name_hosts([draft.host.name for draft in everywhere.drafts])}.",
        )
    elif not hosts and service.replicas:
        (path / "constraints").wrong(
            f"None of {name_hosts(named)} is like that.",
            "Set cnm_node_labels in the host_vars of some of them, or ask for less.",
        )
    elif most and tasks > most * len(hosts):
        (path / "max_replicas_per_node").wrong(
            f"The service has {tasks} tasks, and {name_hosts(hosts)} may have {most * len(hosts)} of them.",
            "Take fewer replicas, more of them on a host, or more hosts.",
            most,
        )


def _networks(draft: Draft, service: Service) -> Iterator[ValidationError]:
    """The networks that tasks on a host would be on."""
    errors: list[ValidationError] = []
    for item in service.networks:
        network, path = draft.valid_network(item.network), VarPath(item.path, errors)
        if item.network == INGRESS:
            path.wrong(
                "This network is for what comes in by ports of every host; no service is on it by name.",
                "Give the service a network of its own.",
            )
        elif item.network in _PLAIN:
            path.wrong(
                "Services are on networks, and this is the name for a sandbox without any.",
                "Name a network of the driver overlay or bridge.",
            )
        elif item.network not in draft.declared:
            path.wrong(
                f"There is no network `{item.network[:63]}` on this host, which may have tasks of the service.",
                did_you_mean(item.network, draft.declared, "Declare it for all hosts of the service's placement."),
            )
        elif network is not None and not network.traits.balances:
            path.wrong(
                f"Services are on networks of the drivers overlay and bridge, and `{network.name}` is of the driver "
                f"{network.driver}.",
                "Use another network.",
            )
        elif network is not None:
            errors += _endpoints(item, network)
    task = replace(service.task, endpoints=tuple(item.endpoint for item in service.networks), path=service.path)
    check_links_together(draft, task, errors)
    yield from errors


def _endpoints(attachment: ServiceNetwork, network: Network) -> list[ValidationError]:
    """What is wrong with the tasks' endpoints on a network: what all have, and what some have beside that."""
    found: list[ValidationError] = []
    check_on_network(attachment.endpoint, network, VarPath(attachment.path, found))
    of_all = len(found)
    for number in attachment.numbers:
        own: list[ValidationError] = []
        check_on_network(attachment.of_task(number), network, VarPath(attachment.path, own))
        for error in own:
            is_fixed = error.path.rpartition(".")[2] in _FIXED
            spot = f"{error.path}es[{number - 1}]" if is_fixed else error.path
            if error not in found[:of_all]:
                found.append(replace(error, path=spot))
    return found


def _distinct_names(drafts: Sequence[Draft], services: dict[str, Service]) -> Found:
    """A service and its tasks have names of sandboxes, and no sandbox may have one of them."""
    has_ingress = bool(ingress_ports(services.values()))
    for draft in drafts:
        for sandbox in draft.host.sandboxes:
            service, _dot, number = sandbox.name.rpartition(".")
            used_by = ""
            if sandbox.name in services:
                used_by = f"the service `{sandbox.name}` ({services[sandbox.name].path})"
            elif service in services and number.isdigit():
                used_by = f"a task of the service `{service}` ({services[service].path})"
            elif has_ingress and sandbox.name == SANDBOX and not sandbox.everywhere:
                used_by = "the sandbox that the ports of services lead to"
            if used_by:
                problem = f"This is the name of {used_by}."
                yield draft.host.name, ValidationError(sandbox.path, problem, "Give the sandbox another name.")


def _distinct_addresses(drafts: Sequence[Draft], services: Sequence[Service]) -> Found:
    """Fixed addresses of tasks, beside those of sandboxes on the same networks."""
    by_network: dict[str, list[Member]] = {}
    for service in services:
        for item in service.networks:
            for number in item.numbers:
                task = Sandbox(task_name(service.name, number), "", path=service.path)
                endpoint = item.of_task(number)
                by_network.setdefault(item.network, []).append((_declaring(drafts, service), task, endpoint))
    for network, tasks in sorted(by_network.items()):
        paths = {endpoint.path for _host, _sandbox, endpoint in tasks}
        for host, error in distinct_claims([*endpoints_on(network, drafts), *tasks]):
            if any(error.path.startswith(path) for path in paths):
                yield host, error


def _declaring(drafts: Sequence[Draft], service: Service) -> str:
    return next(draft.host.name for draft in drafts if service in draft.host.services)
