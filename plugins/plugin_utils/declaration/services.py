# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One entry of ``cnm_services``: plain data of the right structure → `Service`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from . import schema
from .addresses import read_address
from .errors import ValidationError, VarPath
from .names import HOSTNAME, OBJECT, Rule, name
from .namespaces import read_task_namespace
from .placement import read_placement
from .policies import read_names
from .ports import read_ports
from .sandboxes import read_endpoint, read_namespace_settings
from .topology import TASK, Endpoint, Placement, Sandbox, Service, ServiceNetwork
from .updates import read_update
from .validation import fit
from .values import at, texts

SERVICE = Rule(
    OBJECT.pattern,
    57,
    "A service's name is that of a sandbox, and short enough for its tasks' numbers: at most 57 characters.",
    OBJECT.remedy,
)

_LARGEST_NUMBER = "100000"
"""The most tasks that a service can have."""

_MAKES_TASKS = ("networks", "namespace", "sysctls")
"""What of a service a task's sandbox is made from; all else of it changes without anybody noticing."""


def read_service(key: str, value: Mapping[str, Any], path: VarPath) -> Service:
    """Read what a service says; every error is noted at its place."""
    if name(key, SERVICE, path) is not None:
        name(key, HOSTNAME, path)
    deploy, spot = value.get("deploy") or {}, path / "deploy"
    mode = deploy.get("mode") or "replicated"
    if mode == "global" and deploy.get("replicas") is not None:
        (spot / "replicas").wrong(
            "A global service has one task on every host of its placement.", "Leave replicas out.", deploy["replicas"]
        )
    networks = _networks(value.get("networks"), path / "networks")
    if not networks and not (path / "networks").is_wrong:
        path.wrong("A service is on no network.", "Name at least one in `networks`.")
    replicas = 1 if deploy.get("replicas") is None else int(deploy["replicas"])
    update = read_update(
        deploy.get("update_config"),
        value.get("stop_grace_period"),
        value.get("ports"),
        spot / "update_config",
        path / "stop_grace_period",
    )
    return Service(
        name=key,
        networks=networks,
        mode=mode,
        replicas=replicas,
        endpoint_mode=deploy.get("endpoint_mode") or "vip",
        scheduler=deploy.get("scheduler") or "rr",
        weights=_weights(deploy.get("weights") or {}, key, spot / "weights"),
        placement=read_placement(deploy.get("placement") or {}, mode, spot / "placement"),
        draining=tuple(text for _index, text in texts(deploy.get("draining"))),
        ports=tuple(read_ports(value.get("ports"), path / "ports", service=True)),
        namespace=read_task_namespace(value.get("namespace"), mode, replicas, path / "namespace"),
        policies=read_names(value.get("policies"), path / "policies"),
        update=update,
        task=_task(key, networks, value, path),
        tasks_said=json.dumps({part: value.get(part) for part in _MAKES_TASKS}) if update is not None else "",
        path=path.path,
    )


def _task(service: str, networks: Sequence[ServiceNetwork], value: Mapping[str, Any], path: VarPath) -> Sandbox:
    """What every task has of a sandbox, still without name and networks."""
    hostname, spot = value.get("hostname"), path / "hostname"
    if hostname is not None:
        name(hostname.replace(TASK, _LARGEST_NUMBER), HOSTNAME, spot)
    if hostname in (service, *(alias for network in networks for alias in network.aliases)):
        spot.wrong(
            "This is a name of the service, and would lead to the tasks beside its virtual address.",
            f"Write {TASK} for the task's number, as in `{hostname[:50]}-{TASK}`, or leave it out.",
            hostname,
        )
    return replace(read_namespace_settings(value, path), hostname=hostname)


def made_from(service: Service, said: str) -> Optional[Service]:
    """The service with tasks that are made from what was declared of it then; None if that is no longer valid.

    ``said`` is a `Service.tasks_said`.
    """
    errors: list[ValidationError] = []
    path = VarPath(service.path, errors)
    try:
        value = fit(json.loads(said), schema.SERVICE, path)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    before = read_service(service.name, value, path)
    names = {network.network: network.aliases for network in service.networks}
    networks = tuple(
        replace(network, endpoint=replace(network.endpoint, aliases=names.get(network.network, ())))
        for network in before.networks
    )
    task = replace(service.task, sysctls=before.task.sysctls)
    return None if errors else replace(service, networks=networks, namespace=before.namespace, task=task)


def of_host(service: Service, host: str) -> Service:
    """The service of one host, as the module `service` makes it: its tasks are there, and its ports lead to them."""
    ports = tuple(replace(port, mode="local") if port.mode == "ingress" else port for port in service.ports)
    return replace(service, placement=Placement((host,)), ports=ports)


def task_name(service: str, number: int) -> str:
    """What a task's sandbox is called: ``redis.1``."""
    return f"{service}.{number}"


def task_number(service: str, task: str) -> Optional[int]:
    """The number of a task of the service, None if no task of it has the name."""
    before, _dot, number = task.rpartition(".")
    return int(number) if before == service and number.isascii() and number.isdigit() and int(number) > 0 else None


def _networks(value: Any, path: VarPath) -> tuple[ServiceNetwork, ...]:
    if isinstance(value, Mapping):
        return tuple(_network(key, options or {}, path / key) for key, options in value.items())
    found: dict[str, ServiceNetwork] = {}
    for index, key in texts(value):
        if key in found:
            at(path, index).wrong(
                "The network is in the list twice; a task is on a network once.", "Leave one of them out.", key
            )
        found.setdefault(key, ServiceNetwork(Endpoint(key, path=at(path, index).path)))
    return tuple(found.values())


def _network(network: str, options: Mapping[str, Any], path: VarPath) -> ServiceNetwork:
    ipv4, ipv6 = (tuple(_addresses(options, family, path)) for family in (4, 6))
    return ServiceNetwork(read_endpoint(network, options, path), ipv4, ipv6)


def _addresses(options: Mapping[str, Any], family: int, path: VarPath) -> Iterator[str]:
    key = f"ipv{family}_addresses"
    for index, text in texts(options.get(key)):
        address = read_address(text, at(path / key, index), family)
        if address is not None:
            yield str(address)


def _weights(value: Mapping[str, Any], service: str, path: VarPath) -> tuple[tuple[str, int], ...]:
    for task in value:
        if task_number(service, task) is None:
            (path / task).wrong(
                f"This is no task of the service `{service}`.", f"Write for example `{task_name(service, 1)}`."
            )
    return tuple(sorted((task, int(weight)) for task, weight in value.items() if weight is not None))
