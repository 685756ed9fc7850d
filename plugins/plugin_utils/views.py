# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What users see: the model a plan carries, Docker's inspect JSON, and tables as Docker prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .declaration.topology import PREDEFINED, Host, Network
from .drivers.base import PlannedEndpoint, PlannedNetwork
from .identifiers import identifier

_NO_TIME = "0001-01-01T00:00:00Z"
_DRIVER_NAMES = {"none": "null"}


def model_of(
    host: Host, networks: Mapping[str, PlannedNetwork], endpoints: Mapping[str, Sequence[PlannedEndpoint]]
) -> dict[str, Any]:
    """The networks and sandboxes of a host in Docker's words, as JSON data.

    ``networks`` are documents of ``docker network inspect``, the predefined ones among them; where each endpoint's link
    is stands under ``sandboxes``.
    """
    project = host.settings.project
    documents = []
    for planned in networks.values():
        containers = {
            identifier("sandbox", project, host.name, item.sandbox.name): {
                "Name": item.sandbox.name,
                "EndpointID": item.id,
                "MacAddress": item.mac,
                "IPv4Address": item.address,
                "IPv6Address": "",
            }
            for group in endpoints.values()
            for item in group
            if item.network is planned
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
            "endpoints": [
                {
                    "network": item.network.name,
                    "link": item.link,
                    "address": item.address,
                    "gateway": item.network.subnets[0].gateway,
                    "names": [sandbox.name, *item.endpoint.aliases],
                }
                for item in endpoints.get(sandbox.name, ())
            ],
        }
        for sandbox in host.sandboxes
    }
    return {"networks": documents, "sandboxes": dict(sorted(sandboxes.items()))}


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
        entry["Gateway"] = item.gateway
        if item.config.aux_addresses:
            entry["AuxiliaryAddresses"] = dict(item.config.aux_addresses)
        config.append(entry)
    return {
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


INSPECT_KEYS = tuple(_document(Network("x"), "", "", None, {}))
"""Docker's keys, in Docker's order."""


_IPAM_KEYS = ("Driver", "Options", "Config")
_CONFIG_KEYS = ("Subnet", "IPRange", "Gateway", "AuxiliaryAddresses")
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
    return result


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as Docker aligns them: three spaces between, the last one not padded."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [header, *rows]]
    return "\n".join(lines)


def network_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """``docker network ls`` over all hosts, with the host in the last column."""
    rows = [
        (document["Id"][:12], document["Name"], document["Driver"], document["Scope"], host)
        for host, model in sorted(models.items())
        for document in model["networks"]
    ]
    return table(("NETWORK ID", "NAME", "DRIVER", "SCOPE", "HOST"), rows)


def sandbox_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """A row an endpoint: sandbox, network, link, address, host."""
    rows = []
    for host, model in sorted(models.items()):
        for name, entry in sorted(model["sandboxes"].items()):
            mode = entry["network_mode"]
            if mode:
                rows.append((name, mode, "", "", host))
            for endpoint in entry["endpoints"]:
                rows.append((name, endpoint["network"], endpoint["link"], endpoint["address"], host))
    return table(("SANDBOX", "NETWORK", "LINK", "ADDRESS", "HOST"), rows)


def live_model(model: Mapping[str, Any], drift: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The model without the endpoints whose link is not there."""
    missing = {item["name"] for item in drift if item["action"] == "create" and item["kind"] in ("link", "namespace")}
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
    return {"networks": documents, "sandboxes": sandboxes}
