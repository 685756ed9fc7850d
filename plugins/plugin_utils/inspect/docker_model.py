# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What users see: the model a plan carries, Docker's inspect JSON, and tables as Docker prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..declaration.options import VNI
from ..declaration.topology import LAN_DRIVERS, PREDEFINED, Host, Network
from ..drivers.base import PlannedEndpoint, PlannedNetwork, by_network
from ..drivers.registry import DRIVERS
from ..firewall.published_ports import PublishedPort, published_ports
from ..ipam.identifiers import identifier
from ..services.placement import PlacedService

_SHOWN = 3
"""How many hosts of a network are named in its row."""
_NO_TIME = "0001-01-01T00:00:00Z"
_DRIVER_NAMES = {"none": "null"}


def model_of(
    host: Host,
    networks: Mapping[str, PlannedNetwork],
    endpoints: Mapping[str, Sequence[PlannedEndpoint]],
    services: Iterable[PlacedService] = (),
    engine: str = "",
) -> dict[str, Any]:
    """The networks and sandboxes of a host in Docker's words, as JSON data.

    ``networks`` are documents of ``docker network inspect``, the predefined ones among them; where each endpoint's link
    is stands under ``sandboxes``.  Under ``services``, if there are any, is what the host has to do with: it has tasks
    of them, or sandboxes on a network of theirs, or a port; and then under ``load_balancer`` the ``engine``.
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
        documents.append(_document(planned.network, planned.id, planned.created, planned, containers))
    for name in PREDEFINED:
        if name not in networks:
            network_id = identifier("network", project, host.name, name)
            containers = _containers_of_mode(host, name)
            documents.append(_document(Network(name, driver=name), network_id, _NO_TIME, None, containers))
    documents.sort(key=lambda item: str(item["Name"]))
    sandboxes = {
        sandbox.name: {
            "network_mode": sandbox.network_mode,
            "ports": [_port(item) for item in published_ports(endpoints.get(sandbox.name, ()))],
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
    seen = {
        placed.service.name: _service(host.name, placed, networks)
        for placed in services
        if any(port.mode == "ingress" for port in placed.service.ports)
        or host.name in placed.tasks.values()
        or any(place.network in networks for place in placed.service.networks)
    }
    known = {name: entry for name, entry in sorted(seen.items()) if entry["networks"] or entry["ports"]}
    return {
        "networks": documents,
        "sandboxes": dict(sorted(sandboxes.items())),
        **({"services": known, "load_balancer": engine} if known else {}),
    }


def _service(host: str, placed: PlacedService, networks: Mapping[str, PlannedNetwork]) -> dict[str, Any]:
    """A service as a host knows it: of its networks those that are there, of its tasks the host's own."""
    service = placed.service
    weights = {task: placed.weight(task, where) for task, where in zip(placed.names, placed.tasks.values())}
    places: dict[str, dict[str, Any]] = {}
    for place in service.networks:
        if place.network in networks:
            vip = networks[place.network].vips.get(service.name)
            names = [service.name, *place.aliases] if vip is not None else []
            places[place.network] = {"vips": list(vip.addresses) if vip is not None else [], "names": names}
            if networks[place.network].overlay is None:
                own = (weights[task] for task, where in zip(placed.names, placed.tasks.values()) if where == host)
                places[place.network]["answers"] = any(own)
    return {
        "mode": service.mode,
        "wanted": len(weights),
        "answers": any(weights.values()),
        "networks": places,
        "ports": [
            {"published": list(p.published), "target": list(p.target), "protocol": p.protocol, "host_ip": p.host_ip}
            for p in service.ports
            if p.mode != "host"
        ],
        "tasks": {
            task: {"weight": weights[task]} for task, where in zip(placed.names, placed.tasks.values()) if where == host
        },
    }


def _port(port: PublishedPort) -> str:
    """As ``docker ps`` has it: ``0.0.0.0:8080->80/tcp``, ``[::]:9000-9010->9000-9010/udp``, ``80/tcp`` if routed."""
    published, target = (str(low) if low == high else f"{low}-{high}" for low, high in (port.published, port.target))
    if not port.translated:
        return f"{target}/{port.protocol}"
    address = port.host_ip or ("0.0.0.0" if port.family == 4 else "::")
    place = f"[{address}]" if port.family == 6 else address
    return f"{place}:{published}->{target}/{port.protocol}"


def _reachable_gateways(network: PlannedNetwork) -> list[str]:
    """The host's addresses that sandboxes on the network reach."""
    if network.network.internal:
        return []
    return [item.partition("/")[0] for item in DRIVERS[network.network.driver].host_addresses(network)]


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


def _document(
    network: Network, network_id: str, created: str, planned: Any, containers: Mapping[str, Any]
) -> dict[str, Any]:
    config = []
    for item in planned.subnets if planned else ():
        entry: dict[str, Any] = {"Subnet": item.subnet}
        if item.config.ip_range:
            entry["IPRange"] = item.config.ip_range
        if item.gateway:
            entry["Gateway"] = item.gateway
        if item.config.aux_addresses:
            entry["AuxiliaryAddresses"] = dict(item.config.aux_addresses)
        config.append(entry)
    document: dict[str, Any] = {
        "Name": network.name,
        "Id": network_id,
        "Created": created,
        "Scope": "local" if network.scope == "local" else "swarm",
        "Driver": _DRIVER_NAMES.get(network.driver, network.driver),
        "EnableIPv4": network.enable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {"Driver": network.ipam_driver, "Options": {}, "Config": config},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": dict(sorted(containers.items())),
        "Options": dict(network.driver_opts),
        "Labels": dict(network.labels),
    }
    if planned and planned.overlay is not None:
        document["Options"] = {VNI: str(planned.overlay.vni), **document["Options"]}
        document["Peers"] = [{"Name": planned.host, "IP": planned.overlay.vteps[planned.host]}]
    return document


INSPECT_KEYS = (*_document(Network("x"), "", "", None, {}), "Peers")
"""Docker's keys, in Docker's order."""


_IPAM_KEYS = ("Driver", "Options", "Config")
_CONFIG_KEYS = ("Subnet", "IPRange", "Gateway", "AuxiliaryAddresses")
_PEER_KEYS = ("Name", "IP")
_CONTAINER_KEYS = ("Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address")


def _in_order(data: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: data[key] for key in keys if key in data}


def inspect_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its keys in Docker's order, as a plan's sorted JSON has not kept them."""
    result = _in_order(document, INSPECT_KEYS)
    result["IPAM"] = _in_order(document["IPAM"], _IPAM_KEYS)
    result["IPAM"]["Config"] = [_in_order(entry, _CONFIG_KEYS) for entry in document["IPAM"]["Config"]]
    result["Containers"] = {
        key: _in_order(container, _CONTAINER_KEYS) for key, container in document["Containers"].items()
    }
    if "Peers" in result:
        result["Peers"] = [_in_order(peer, _PEER_KEYS) for peer in result["Peers"]]
    return result


def merged(networks: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Hosts' documents, those of a network that spans hosts with everyone on it on all hosts.

    Such a network has one id.  Its options are each host's own: what is its parent there.
    """
    whole: dict[str, dict[str, Any]] = {}
    for _host, documents in sorted(networks.items()):
        for document in documents:
            known = whole.setdefault(
                document["Id"], {"Containers": {}, **({"Peers": []} if "Peers" in document else {})}
            )
            known["Containers"].update(document["Containers"])
            if "Peers" in document:
                known["Peers"] = [*known["Peers"], *document["Peers"]]
    for document in whole.values():
        document["Containers"] = dict(sorted(document["Containers"].items()))
    return {
        host: [{**document, **whole[document["Id"]]} for document in documents] for host, documents in networks.items()
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as Docker aligns them: three spaces between, the last one not padded."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [header, *rows]]
    return "\n".join(lines)


def network_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """``docker network ls`` over all hosts, with the host in the last column; what spans hosts has one row."""
    rows = []
    places: dict[str, list[str]] = {}
    for host, model in sorted(models.items()):
        for document in model["networks"]:
            places.setdefault(document["Id"], []).append(host)
    for host, model in sorted(models.items()):
        for document in model["networks"]:
            spans = document["Scope"] == "swarm" or document["Driver"] in LAN_DRIVERS
            hosts = places[document["Id"]] if spans else [host]
            if hosts[0] == host:
                row = (document["Id"][:12], document["Name"], document["Driver"], document["Scope"], _few(hosts))
                rows.append(row)
    return table(("NETWORK ID", "NAME", "DRIVER", "SCOPE", "HOST"), rows)


def _few(hosts: Sequence[str]) -> str:
    return ", ".join(hosts) if len(hosts) <= _SHOWN else f"{', '.join(hosts[:_SHOWN])} and {len(hosts) - _SHOWN} more"


def sandbox_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """A row an endpoint: sandbox, network, link, addresses, host; the sandbox's ports stand in its first row."""
    rows = []
    for host, model in sorted(models.items()):
        for name, entry in sorted(model["sandboxes"].items()):
            mode = entry["network_mode"]
            if mode:
                rows.append((name, mode, "", "", host, ""))
            ports = ", ".join(entry["ports"])
            for endpoint in entry["endpoints"]:
                addresses = ", ".join(endpoint["addresses"])
                rows.append((name, endpoint["network"], endpoint["link"], addresses, host, ports))
                ports = ""
    return table(("SANDBOX", "NETWORK", "LINK", "ADDRESS", "HOST", "PORTS"), rows)


def service_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """``docker service ls`` over all hosts, with the virtual addresses; "" without services."""
    known: dict[str, dict[str, Any]] = {}
    for _host, model in sorted(models.items()):
        for name, entry in model.get("services", {}).items():
            whole = known.setdefault(name, {**entry, "tasks": {}, "networks": {}})
            whole["tasks"].update(entry["tasks"])
            whole["networks"].update(entry["networks"])
    rows = [
        (
            name,
            entry["mode"],
            f"{len(entry['tasks'])}/{entry['wanted']}",
            ", ".join(vip for _network, place in sorted(entry["networks"].items()) for vip in place["vips"]),
            ", ".join(_mesh_port(port) for port in entry["ports"]),
        )
        for name, entry in sorted(known.items())
    ]
    return table(("NAME", "MODE", "REPLICAS", "VIPS", "PORTS"), rows) if rows else ""


def _mesh_port(port: Mapping[str, Any]) -> str:
    """As ``docker service ls`` has it: ``*:3000->6379/tcp``."""
    published, target = (
        str(low) if low == high else f"{low}-{high}" for low, high in (port["published"], port["target"])
    )
    return f"{port['host_ip'] or '*'}:{published}->{target}/{port['protocol']}"


def balancer_line(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Which engine balances on which hosts; "" without services."""
    hosts: dict[str, list[str]] = {}
    for host, model in sorted(models.items()):
        if model.get("load_balancer"):
            hosts.setdefault(model["load_balancer"], []).append(host)
    said = ", ".join(f"{engine} on {_few(names)}" for engine, names in sorted(hosts.items()))
    return f"Virtual addresses are balanced by {said}." if said else ""


def task_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """``docker service ps`` of all services: where each task is, whether it gets connections, its addresses."""
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    for host, model in sorted(models.items()):
        for name, entry in model.get("services", {}).items():
            for task, told in entry["tasks"].items():
                ends = [end for end in model["sandboxes"][task]["endpoints"] if end["network"] in entry["networks"]]
                addresses = ", ".join(address for end in ends for address in end["addresses"])
                state = "ready" if told["weight"] else "drained"
                found[(name, int(task.rpartition(".")[2]))] = (task, host, state, addresses)
    rows = [row for _key, row in sorted(found.items())]
    return table(("TASK", "HOST", "STATE", "ADDRESSES"), rows) if rows else ""


def live_model(model: Mapping[str, Any], drift: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The model without the endpoints whose link is not there."""
    created = [(item["kind"], item["name"]) for item in drift if item["action"] == "create"]
    # A link in a sandbox has a slash in its name, one of the host has none.
    missing = {name for kind, name in created if kind == "namespace" or (kind == "link" and "/" in name)}
    sandboxes = {
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
    services = {
        name: {**entry, "tasks": {task: told for task, told in entry["tasks"].items() if task in sandboxes}}
        for name, entry in model.get("services", {}).items()
    }
    more = {"services": services, "load_balancer": model.get("load_balancer", "")} if services else {}
    return {"networks": documents, "sandboxes": sandboxes, **more}
