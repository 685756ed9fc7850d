# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads hosts' module objects together with the variables.  Errors in a host's objects refuse that host only.  Pure.

Each host keeps its own, so it can report anything.  An error in it excludes only that host from the run.  Objects that
affect other hosts (a network or service that spans hosts) are accepted only with the lease store's signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional

from ..declaration import reading
from ..declaration.errors import DeclarationError, NothingDeclared, ValidationError
from ..declaration.module_objects import ModuleState, disconnect, explained, module_removal_hint, own_networks
from ..declaration.topology import Host, Topology
from ..drivers.registry import DRIVERS
from ..ipam.addresses import networks_in_use
from ..services.placement import is_of_one_host

_MOST = 5
Refused = dict[str, list[str]]


def read_topology(
    variables: Mapping[str, Mapping[str, Any]],
    groups: Optional[Mapping[str, Sequence[str]]] = None,
    module_state: Optional[Mapping[str, ModuleState]] = None,
) -> Topology:
    """As `declaration.reading.read_topology`, with the drivers there are."""
    return reading.read_topology(variables, groups, module_state, drivers=DRIVERS)


def read_contained(
    variables: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    module_state: Mapping[str, ModuleState],
    vouched: Callable[[str], bool],
) -> tuple[Topology, dict[str, ModuleState], Refused]:
    """The topology, the accepted module objects, and the refused hosts with the reasons.

    ``vouched`` returns whether a host's module objects have the store's signature.  Raises DeclarationError for errors
    in the variables.
    """
    counting, refused = dict(module_state), Refused()
    doubtful = {host for host, made in module_state.items() if made != ModuleState() and not vouched(host)}
    first = None
    while True:
        try:
            topology = disconnect(read_topology(variables, groups, counting), counting)
            found = _reaching(topology, {host: counting[host] for host in doubtful - refused.keys()})
        except NothingDeclared:
            raise
        except DeclarationError as error:
            first = first or explained(error, module_state)
            found = _guilty(first if not refused else explained(error, counting), counting, doubtful - refused.keys())
            if not found:
                raise first from error
        if not found:
            return topology, counting, refused
        refused.update(found)
        counting.update(dict.fromkeys(found, ModuleState()))


def _guilty(error: DeclarationError, module_state: Mapping[str, ModuleState], doubtful: set[str]) -> Refused:
    """Hosts whose module objects the errors are about; only those without a signature, if there are such."""
    made = {host for host, objects in module_state.items() if objects != ModuleState()}
    found: dict[str, list[ValidationError]] = {}
    for item in error.errors:
        named = made.intersection(item.hosts)
        text = f"{item.path} {item.problem}"
        about = {host for host in named if module_removal_hint(text, host, module_state[host])}
        for host in about or (named & doubtful):
            found.setdefault(host, []).append(item)
    first = {host: errors for host, errors in found.items() if host in doubtful} or found
    return {host: [item.in_one_line for item in errors[:_MOST]] for host, errors in first.items()}


def _reaching(topology: Topology, doubtful: Mapping[str, ModuleState]) -> Refused:
    """Hosts without a signature that report module objects which other hosts share, and the reasons to refuse them."""
    if not doubtful:
        return {}
    on: dict[str, set[str]] = {}
    services: dict[str, set[str]] = {}
    for host in topology.hosts:
        for name in networks_in_use(host):
            network = host.network(name)
            if network is not None and network.traits.spans_hosts:
                on.setdefault(name, set()).add(host.name)
        for service in host.services:
            services.setdefault(service.name, set()).add(host.name)
    found = {name: list(_reaches(topology.host(name), made, on, services)) for name, made in doubtful.items()}
    remedy = "This is not signed by the lease store. Declare it in the inventory, or create it with the module again"
    return {
        host: [f"this host reports that modules made {', '.join(sorted(set(reasons))[:_MOST])}. {remedy}."]
        for host, reasons in found.items()
        if reasons
    }


def _reaches(
    host: Host, module_state: ModuleState, on: Mapping[str, set[str]], services: Mapping[str, set[str]]
) -> Iterator[str]:
    def shared(name: str) -> bool:
        network = host.network(name)
        if network is None or not network.traits.spans_hosts:
            return False
        return network.traits.scope == "global" or on.get(name, set()) != {host.name}

    yield from (f"the network {name}, which spans hosts" for name in module_state.networks if shared(name))
    for sandbox, entry in module_state.sandboxes.items():
        yield from (f"{sandbox} on {name}, which spans hosts" for name in own_networks(entry) or () if shared(name))
    for sandbox, edits in module_state.endpoints.items():
        yield from (f"changes of {sandbox} on {name}, which spans hosts" for name in edits if shared(name))
    for service in host.services:
        others = services[service.name] - {host.name}
        if service.name in module_state.services and (others or not is_of_one_host(service, host)):
            yield f"the service {service.name}, which other hosts share"
