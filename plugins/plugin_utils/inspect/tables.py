# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Models as tables, in the columns Docker prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .model import Model, PortModel, ServiceModel

_SHOWN = 3
"""How many hosts of a network its row names."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as Docker aligns them: three spaces between, the last one not padded."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [header, *rows]]
    return "\n".join(lines)


def network_table(models: Mapping[str, Model]) -> str:
    """``docker network ls`` over all hosts, with a column for the host; a network that spans hosts has one row."""
    rows = []
    hosts_of: dict[str, list[str]] = {}
    for host, model in sorted(models.items()):
        for document in model["networks"]:
            hosts_of.setdefault(document["Id"], []).append(host)
    for host, model in sorted(models.items()):
        for document in model["networks"]:
            hosts = hosts_of[document["Id"]]
            if hosts[0] == host:
                row = (document["Id"][:12], document["Name"], document["Driver"], document["Scope"], _few(hosts))
                rows.append(row)
    return table(("NETWORK ID", "NAME", "DRIVER", "SCOPE", "HOST"), rows)


def _few(hosts: Sequence[str]) -> str:
    return ", ".join(hosts) if len(hosts) <= _SHOWN else f"{', '.join(hosts[:_SHOWN])} and {len(hosts) - _SHOWN} more"


def sandbox_table(models: Mapping[str, Model]) -> str:
    """A row per endpoint: sandbox, network, link, addresses, host; the sandbox's ports are in its first row."""
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


def service_table(models: Mapping[str, Model]) -> str:
    """``docker service ls`` over all hosts, with the virtual addresses; "" without services."""
    known: dict[str, ServiceModel] = {}
    for _host, model in sorted(models.items()):
        for name, entry in model.get("services", {}).items():
            complete = known.setdefault(name, {**entry, "tasks": {}, "networks": {}})
            complete["tasks"].update(entry["tasks"])
            complete["networks"].update(entry["networks"])
    rows = [
        (
            name,
            entry["mode"],
            f"{len(entry['tasks'])}/{entry['wanted']}",
            ", ".join(vip for _network, network in sorted(entry["networks"].items()) for vip in network["vips"]),
            ", ".join(_ingress_port(port) for port in entry["ports"]),
        )
        for name, entry in sorted(known.items())
    ]
    return table(("NAME", "MODE", "REPLICAS", "VIPS", "PORTS"), rows) if rows else ""


def _ingress_port(port: PortModel) -> str:
    """A port as in ``docker service ls``: ``*:3000->6379/tcp``."""
    published, target = (
        str(low) if low == high else f"{low}-{high}" for low, high in (port["published"], port["target"])
    )
    return f"{port['host_ip'] or '*'}:{published}->{target}/{port['protocol']}"


def balancer_line(models: Mapping[str, Model]) -> str:
    """A sentence that says which hosts use which load-balancing engine; "" without services."""
    hosts: dict[str, list[str]] = {}
    for host, model in sorted(models.items()):
        if model.get("load_balancer"):
            hosts.setdefault(model["load_balancer"], []).append(host)
    engines = ", ".join(f"{engine} on {_few(names)}" for engine, names in sorted(hosts.items()))
    return f"Virtual addresses are balanced by {engines}." if engines else ""


def task_table(models: Mapping[str, Model]) -> str:
    """``docker service ps`` of all services: where each task is, whether it gets connections, its addresses."""
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    for host, model in sorted(models.items()):
        for name, entry in model.get("services", {}).items():
            for task, shown in entry["tasks"].items():
                ends = [end for end in model["sandboxes"][task]["endpoints"] if end["network"] in entry["networks"]]
                addresses = ", ".join(address for end in ends for address in end["addresses"])
                state = "ready" if shown["weight"] else "drained"
                found[(name, int(task.rpartition(".")[2]))] = (task, host, state, addresses)
    rows = [row for _key, row in sorted(found.items())]
    return table(("TASK", "HOST", "STATE", "ADDRESSES"), rows) if rows else ""
