# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Documents of ``docker network inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..declaration.options import VNI
from ..declaration.topology import Network

_DRIVER_NAMES = {"none": "null"}


def network_document(
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
        "Scope": "swarm" if network.traits.scope == "global" else "local",
        "Driver": _DRIVER_NAMES.get(network.driver, network.driver),
        "EnableIPv4": network.enable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {"Driver": network.ipam_driver, "Options": dict(network.ipam_options), "Config": config},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": dict(sorted(containers.items())),
        "Options": dict(network.driver_opts),
        "Labels": dict(network.labels),
    }
    if planned and planned.tunnel is not None:
        encrypted = {"encrypted": ""} if network.encrypted else {}
        document["Options"] = {VNI: str(planned.tunnel.vni), **encrypted, **document["Options"]}
        document["Peers"] = [{"Name": planned.host, "IP": planned.tunnel.vteps[planned.host]}]
    return document


INSPECT_KEYS = (*network_document(Network("x"), "", "", None, {}), "Peers")
"""Docker's keys, in Docker's order."""

_IPAM_KEYS = ("Driver", "Options", "Config")

_CONFIG_KEYS = ("Subnet", "IPRange", "Gateway", "AuxiliaryAddresses")

_PEER_KEYS = ("Name", "IP")

_CONTAINER_KEYS = ("Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address")


def _in_order(data: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: data[key] for key in keys if key in data}


def inspect_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its keys in Docker's order, which a plan's sorted JSON loses."""
    result = _in_order(document, INSPECT_KEYS)
    result["IPAM"] = _in_order(document["IPAM"], _IPAM_KEYS)
    result["IPAM"]["Config"] = [_in_order(entry, _CONFIG_KEYS) for entry in document["IPAM"]["Config"]]
    result["Containers"] = {
        key: _in_order(container, _CONTAINER_KEYS) for key, container in document["Containers"].items()
    }
    if "Peers" in result:
        result["Peers"] = [_in_order(peer, _PEER_KEYS) for peer in result["Peers"]]
    return result


def merge_documents(networks: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The documents by host; that of a network that spans hosts contains its endpoints on all hosts.

    Such a network has the same id on all hosts.  Its options may differ, such as its parent.
    """
    complete: dict[str, dict[str, Any]] = {}
    for _host, documents in sorted(networks.items()):
        for document in documents:
            known = complete.setdefault(
                document["Id"], {"Containers": {}, **({"Peers": []} if "Peers" in document else {})}
            )
            known["Containers"].update(document["Containers"])
            if "Peers" in document:
                known["Peers"] = [*known["Peers"], *document["Peers"]]
    for document in complete.values():
        document["Containers"] = dict(sorted(document["Containers"].items()))
    return {
        host: [{**document, **complete[document["Id"]]} for document in documents]
        for host, documents in networks.items()
    }
