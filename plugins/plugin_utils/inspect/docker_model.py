# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The model of a host in a plan: its networks, sandboxes and services in Docker's terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ...module_utils.plan.marks import identifier
from ..declaration.topology import PREDEFINED, Host, Network, Port, Sandbox
from ..drivers.base import PlannedEndpoint, PlannedNetwork, by_network
from ..drivers.registry import driver_of
from ..firewall.policy_samples import Sample
from ..firewall.published_ports import PublishedPort, published_ports
from ..services.placement import PlacedService
from .docker_json import network_document
from .model import Model, PortModel, SandboxModel, ServiceModel, Services, TraitsModel, VipModel, noted
from .policy_model import policies_of

_NO_TIME = "0001-01-01T00:00:00Z"


def model_of_host(
    host: Host,
    networks: Mapping[str, PlannedNetwork],
    endpoints: Mapping[str, Sequence[PlannedEndpoint]],
    services: Iterable[PlacedService] = (),
    engine: str = "",
    judged: Mapping[str, Sample] = MappingProxyType({}),
) -> Model:
    """The networks and sandboxes of a host in Docker's terms, as JSON data.

    ``networks`` are documents of ``docker network inspect``, including the predefined ones; ``sandboxes`` say where
    each endpoint's link is.  ``traits`` are what `verify` has to know of each network (see `TraitsModel`).
    ``services``, if there are any, are those with tasks or ports on the host, or with a network that a sandbox of the
    host is on; then ``load_balancer`` has the ``engine``.  ``judged`` is what policies mean for sandboxes.
    """
    project = host.settings.project
    ids = {sandbox.name: identifier("sandbox", project, host.name, sandbox.name) for sandbox in host.sandboxes}
    members = by_network(endpoint for group in endpoints.values() for endpoint in group)
    documents = []
    for planned in networks.values():
        containers = {
            ids[item.sandbox.name]: {
                "Name": item.sandbox.name,
                "EndpointID": item.id,
                "MacAddress": item.mac,
                "IPv4Address": item.ipv4 or "",
                "IPv6Address": item.ipv6 or "",
            }
            for item in members.get(planned.name, ())
        }
        documents.append(network_document(planned.network, planned.id, planned.created, planned, containers))
    for name in PREDEFINED:
        if name not in networks:
            network_id = identifier("network", project, host.name, name)
            containers = _containers_of_mode(host, name)
            documents.append(network_document(Network(name, driver=name), network_id, _NO_TIME, None, containers))
    documents.sort(key=lambda item: str(item["Name"]))
    sandboxes: dict[str, SandboxModel] = {
        sandbox.name: {
            "network_mode": sandbox.network_mode,
            "ports": [*(_port(item) for item in published_ports(endpoints.get(sandbox.name, ()))), *_exposed(sandbox)],
            "endpoints": [
                {
                    "network": item.network.name,
                    "link": item.link,
                    "addresses": list(item.interfaces),
                    "gateways": _reachable_gateways(item.network),
                    "names": [sandbox.name, *item.endpoint.aliases] if item.network.network.discovery else [],
                }
                for item in endpoints.get(sandbox.name, ())
            ],
        }
        for sandbox in host.sandboxes
    }
    for name, sample in judged.items():
        sandboxes[name]["policy"] = {
            "policies": sample.policies,
            "networks": sample.networks,
            "open": sample.open,
            "closed": sample.closed,
            "connects": [list(pair) for pair in sample.connects],
        }
    seen = {
        placed.service.name: _service(host.name, placed, networks)
        for placed in services
        if any(port.mode == "ingress" for port in placed.service.ports)
        or host.name in placed.tasks.values()
        or any(attachment.network in networks for attachment in placed.service.networks)
    }
    known = {name: entry for name, entry in sorted(seen.items()) if entry["networks"] or entry["ports"]}
    more: Services = {"services": known, "load_balancer": engine} if known else {}
    held = {name for sample in judged.values() for name in sample.policies}
    if held:
        more["policies"] = policies_of(host, held)
    return {
        "networks": documents,
        "traits": {name: _traits(planned.network) for name, planned in sorted(networks.items())},
        "sandboxes": dict(sorted(sandboxes.items())),
        **more,
    }


def _traits(network: Network) -> TraitsModel:
    traits = network.traits
    found: TraitsModel = {
        "isolates": traits.isolates,
        "public": bool(traits.parent),
        "ways_out": list(traits.ways_out),
    }
    return {**found, "policies": list(network.policies)} if network.policies else found


def _service(host: str, placed: PlacedService, networks: Mapping[str, PlannedNetwork]) -> ServiceModel:
    """A service from the host's view: only the networks and tasks that are on the host."""
    service = placed.service
    weights = {task: placed.weight(task, where) for task, where in zip(placed.names, placed.tasks.values())}
    result: dict[str, VipModel] = {}
    for attachment in service.networks:
        if attachment.network in networks:
            vip = networks[attachment.network].vips.get(service.name)
            names = [service.name, *attachment.aliases] if vip is not None else []
            result[attachment.network] = {"vips": list(vip.addresses) if vip is not None else [], "names": names}
            if networks[attachment.network].spanning is None:
                own = (weights[task] for task, where in zip(placed.names, placed.tasks.values()) if where == host)
                result[attachment.network]["answers"] = any(own)
    on = (networks[attachment.network] for attachment in service.networks if attachment.network in networks)
    shown: ServiceModel = {
        "mode": service.mode,
        "wanted": len(weights),
        "answers": any(weights.values()),
        "networks": result,
        "ports": [_port_of_service(port) for port in service.ports if port.mode != "host"],
        "tasks": {
            task: {"weight": weights[task]} for task, where in zip(placed.names, placed.tasks.values()) if where == host
        },
    }
    if service.policies or any(network.network.policies for network in on):
        shown["judged"] = True
    return shown


def _port_of_service(port: Port) -> PortModel:
    shown: PortModel = {
        "published": list(port.published),
        "target": list(port.target),
        "protocol": port.protocol,
        "host_ip": port.host_ip,
    }
    if port.note:
        shown["note"] = port.note
    return shown


def _exposed(sandbox: Sandbox) -> list[str]:
    """What it exposes and does not publish."""
    published = {
        f"{low if low == high else f'{low}-{high}'}/{port.protocol}"
        for port in sandbox.ports
        for low, high in [port.target]
    }
    return [port for port in sandbox.exposed if port not in published]


def _port(port: PublishedPort) -> str:
    """A port as in ``docker ps``: ``0.0.0.0:8080->80/tcp``, ``[::]:9000-9010->9000-9010/udp``, ``80/tcp`` if routed.

    What it is for follows: ``80/tcp (web, http)``.
    """
    published, target = (str(low) if low == high else f"{low}-{high}" for low, high in (port.published, port.target))
    if not port.translated:
        return noted(f"{target}/{port.protocol}", port.note)
    address = port.host_ip or ("0.0.0.0" if port.family == 4 else "::")
    shown = f"[{address}]" if port.family == 6 else address
    return noted(f"{shown}:{published}->{target}/{port.protocol}", port.note)


def _reachable_gateways(network: PlannedNetwork) -> list[str]:
    """The host's addresses that sandboxes on the network can reach."""
    if network.network.internal:
        return []
    return [item.partition("/")[0] for item in driver_of(network).host_addresses(network)]


def _containers_of_mode(host: Host, mode: str) -> dict[str, Any]:
    return {
        identifier("sandbox", host.settings.project, host.name, sandbox.name): {
            "Name": sandbox.name,
            "EndpointID": identifier("endpoint", host.settings.project, host.name, mode, sandbox.name),
            "MacAddress": "",
            "IPv4Address": "",
            "IPv6Address": "",
        }
        for sandbox in host.sandboxes
        if sandbox.network_mode == mode
    }


def live_model(model: Model, drift: Sequence[Mapping[str, Any]]) -> Model:
    """The model without endpoints whose link is missing on the host, or whose namespace is awaited."""
    created = [(item["kind"], item["name"]) for item in drift if item["action"] == "create"]
    # The label of a link in a sandbox has a slash, that of a link on the host has none.
    missing = {name for kind, name in created if kind == "namespace" or (kind == "link" and "/" in name)}
    missing |= {item["name"] for item in drift if item["action"] == "wait for"}
    sandboxes: dict[str, SandboxModel] = {
        name: {
            **entry,
            "endpoints": [
                e for e in entry["endpoints"] if name not in missing and f"{name}/{e['link']}" not in missing
            ],
        }
        for name, entry in model["sandboxes"].items()
        if name not in missing
    }
    present = {(e["network"], name) for name, entry in sandboxes.items() for e in entry["endpoints"]}
    present |= {(entry["network_mode"], name) for name, entry in sandboxes.items() if entry["network_mode"]}
    documents = []
    for document in model["networks"]:
        containers = {
            key: value for key, value in document["Containers"].items() if (document["Name"], value["Name"]) in present
        }
        documents.append({**document, "Containers": containers})
    services: dict[str, ServiceModel] = {
        name: {**entry, "tasks": {task: shown for task, shown in entry["tasks"].items() if task in sandboxes}}
        for name, entry in model.get("services", {}).items()
    }
    more: Services = {"services": services, "load_balancer": model.get("load_balancer", "")} if services else {}
    if "policies" in model:
        more["policies"] = model["policies"]
    return {"networks": documents, "traits": model.get("traits", {}), "sandboxes": sandboxes, **more}
