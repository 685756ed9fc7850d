# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The differences of two models of a host, in the words of the inventory.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .plan.records import dataclass

_DEFAULT, _WITHOUT_LINKS = "bridge", ("host", "none")
"""Predefined networks: every host's documents have them."""
_IMPLIED_NETWORK = "cnm_gwbridge"
"""Comes and goes with networks that need it, and is never declared."""
_IMPLIED_SANDBOX = "ingress_sbox"
"""Comes and goes with the network ingress."""
_NO_ADDRESS = re.compile(r"^(?:0\.0\.0\.0|\[::\]):")
_PORT = re.compile(r"^(?P<published>.+)->(?P<target>[^>]+)$")

Model = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One line: ``action`` is add, change, remove, repair or wait; ``kind`` network, sandbox, service or host.

    ``name`` is "" for the host.
    """

    action: str
    kind: str
    name: str
    text: str
    about: tuple[str, ...] = ()
    """What else it is about: the networks of a sandbox, the sandbox that a network reaches."""

    def as_data(self) -> dict[str, Any]:
        """The change as module results have it."""
        also = {"about": list(self.about)} if self.about else {}
        return {"action": self.action, "kind": self.kind, "name": self.name or None, "text": self.text, **also}


def compare_models(before: Model, after: Model) -> list[Change]:
    """What is added, changed and removed: networks, then services, then sandboxes, each by name."""
    return [*_networks(before, after), *_services(before, after), *_sandboxes(before, after)]


def _networks(before: Model, after: Model) -> Iterable[Change]:
    old, new = (
        {item["Name"]: item for item in model.get("networks", ()) if _is_made(item)} for model in (before, after)
    )
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Change("add", "network", name, f"network {name} ({_network(new[name])})")
        elif name not in new:
            yield Change("remove", "network", name, f"network {name}")
        else:
            differences = list(_of_documents(old[name], new[name]))
            if differences:
                yield Change("change", "network", name, f"network {name}: {', '.join(differences)}")


def _is_made(document: Mapping[str, Any]) -> bool:
    name = document["Name"]
    return name not in _WITHOUT_LINKS and (name != _DEFAULT or bool(document["IPAM"]["Config"]))


def _subnets(document: Mapping[str, Any]) -> str:
    return ", ".join(str(item.get("Subnet", "")) for item in document["IPAM"]["Config"])


def _network(document: Mapping[str, Any]) -> str:
    if document["Name"] == _IMPLIED_NETWORK:
        return "the way out of overlays"
    subnets = _subnets(document)
    internal = ", internal" if document.get("Internal") else ""
    return f"{document['Driver']}{', ' if subnets else ''}{subnets}{internal}"


_OF_A_RUN = ("Containers", "Created", "Id", "IPAM", "Options", "Labels", "Name", "Scope", "ConfigFrom")
_WORDS = {
    "Driver": "driver",
    "EnableIPv4": "enable_ipv4",
    "EnableIPv6": "enable_ipv6",
    "Internal": "internal",
    "Attachable": "attachable",
    "Peers": "VTEP",
}


def _of_documents(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    for key in sorted((old.keys() | new.keys()) - set(_OF_A_RUN)):
        if old.get(key) != new.get(key):
            yield f"{_WORDS.get(key, key)} {_value(old.get(key))} → {_value(new.get(key))}"
    if old["IPAM"] != new["IPAM"]:
        if _subnets(old) != _subnets(new):
            yield f"subnet {_subnets(old) or 'none'} → {_subnets(new) or 'none'}"
        else:
            yield "other gateway or ranges"
    for noun, key in (("option", "Options"), ("label", "Labels")):
        former, present = old.get(key) or {}, new.get(key) or {}
        for name in sorted(former.keys() | present.keys()):
            if former.get(name) != present.get(name):
                yield f"{noun} {name} {_value(former.get(name))} → {_value(present.get(name))}"


def _value(value: Any) -> str:
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):  # peers of a network
        return ", ".join(str(item.get("IP", item)) if isinstance(item, Mapping) else str(item) for item in value)
    return str(value)


def _plain(addresses: Iterable[str]) -> str:
    return ", ".join(address.partition("/")[0] for address in addresses)


def _endpoints(sandbox: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {item["network"]: item for item in sandbox["endpoints"] if item["network"] != _IMPLIED_NETWORK}


def _tasks(model: Model) -> set[str]:
    return {task for service in model.get("services", {}).values() for task in service["tasks"]}


def _sandbox(noun: str, name: str, sandbox: Mapping[str, Any]) -> str:
    places = [f"{network} ({_plain(item['addresses'])})" for network, item in _endpoints(sandbox).items()]
    where = f" on {', '.join(places)}" if places else ""
    if sandbox["network_mode"]:
        where = f", network_mode {sandbox['network_mode']}"
    ports = sorted(_ports(sandbox))
    shown = f", port{'s' if len(ports) > 1 else ''} {', '.join(ports)}" if ports else ""
    return f"{noun} {name}{where}{shown}"


def _sandboxes(before: Model, after: Model) -> Iterable[Change]:
    old, new = (
        {name: item for name, item in model.get("sandboxes", {}).items() if name != _IMPLIED_SANDBOX}
        for model in (before, after)
    )
    tasks = _tasks(before) | _tasks(after)
    for name in sorted(old.keys() | new.keys()):
        noun = "task" if name in tasks else "sandbox"
        if name not in old:
            text = _sandbox(noun, name, new[name])
            yield Change("add", "sandbox", name, text, tuple(_endpoints(new[name])))
        elif name not in new:
            yield Change("remove", "sandbox", name, f"{noun} {name}", tuple(_endpoints(old[name])))
        elif old[name] != new[name]:
            yield from _of_sandboxes(name, old[name], new[name])


def _of_sandboxes(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[Change]:
    if old["network_mode"] != new["network_mode"]:
        text = f"{name}: network_mode {old['network_mode'] or 'not set'} → {new['network_mode'] or 'not set'}"
        yield Change("change", "sandbox", name, text)
    former, present = _endpoints(old), _endpoints(new)
    for network in sorted(former.keys() - present.keys()):
        yield Change("remove", "sandbox", name, f"{name} leaves {network}", (network,))
    for network, item in present.items():
        if network not in former:
            text = f"{name} joins {network} ({_plain(item['addresses'])})"
            yield Change("add", "sandbox", name, text, (network,))
        elif former[network] != item:
            differences = list(_of_endpoints(former[network], item))
            if differences:
                text = f"{name} on {network}: {', '.join(differences)}"
                yield Change("change", "sandbox", name, text, (network,))
    yield from _of_ports(name, _ports(old), _ports(new))


def _of_endpoints(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    if old["addresses"] != new["addresses"]:
        yield f"address {_plain(old['addresses']) or 'none'} → {_plain(new['addresses']) or 'none'}"
    if old["link"] != new["link"]:
        yield f"interface {old['link']} → {new['link']}"
    # Whether a task gets connections is told of its service.
    names, former = ({name for name in item["names"] if not name.startswith("tasks.")} for item in (new, old))
    more, less = names - former, former - names
    signs = [*(f"+{name}" for name in sorted(more)), *(f"-{name}" for name in sorted(less))]
    if signs:
        yield f"names {' '.join(signs)}"


def _ports(sandbox: Mapping[str, Any]) -> dict[str, str]:
    """Published ports, each once for both families where it is on all addresses, and what they are for:
    ``{"8080->80/tcp": "web, http"}``.
    """
    found = (_NO_ADDRESS.sub("", port).partition(" ") for port in sandbox["ports"])
    return {port: note[1:-1] for port, _space, note in found}


def _renamed(old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Ports that are for something else than before, and what they are for."""
    for port in sorted(old.keys() & new.keys()):
        if old[port] != new[port]:
            yield port, f"({new[port]})" if new[port] else "without a name"


def _of_ports(owner: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[Change]:
    for port, words in _renamed(old, new):
        yield Change("change", "sandbox", owner, f"port {port} of {owner}: {words}")
    gone, come = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    if len(gone) == len(come) == 1:
        former, present = _PORT.match(gone[0]), _PORT.match(come[0])
        if former and present and former["target"] == present["target"]:
            ports = f"{former['published']}→{present['published']}"
            yield Change("change", "sandbox", owner, f"port {ports} of {owner}")
            return
    for port in gone:
        yield Change("remove", "sandbox", owner, f"port {port} of {owner}")
    for port in come:
        yield Change("add", "sandbox", owner, f"port {port} of {owner}")


def _services(before: Model, after: Model) -> Iterable[Change]:
    old, new = (model.get("services", {}) for model in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Change(
                "add", "service", name, f"service {name} ({_service(new[name])})", tuple(new[name]["networks"])
            )
        elif name not in new:
            yield Change("remove", "service", name, f"service {name}", tuple(old[name]["networks"]))
        else:
            differences = list(_of_services(old[name], new[name]))
            if differences:
                text = f"service {name}: {', '.join(differences)}"
                yield Change("change", "service", name, text, tuple(new[name]["networks"]))


def _count(number: int) -> str:
    return f"{number} task{'' if number == 1 else 's'}"


def _vips(service: Mapping[str, Any]) -> dict[str, str]:
    return {network: _plain(item["vips"]) for network, item in service["networks"].items() if item["vips"]}


def _service_ports(service: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{item['host_ip'] + ':' if item['host_ip'] else ''}{_range(item['published'])}->{_range(item['target'])}"
        f"/{item['protocol']}": item.get("note", "")
        for item in service["ports"]
    }


def _range(port: Iterable[int]) -> str:
    low, high = port
    return str(low) if low == high else f"{low}-{high}"


def _service(service: Mapping[str, Any]) -> str:
    vips = [f"{address} on {network}" for network, address in sorted(_vips(service).items())]
    ports = sorted(_service_ports(service))
    size = "global" if service["mode"] == "global" else _count(service["wanted"])
    shown = [size, *(f"VIP {vip}" for vip in vips), *(f"port {port}" for port in ports)]
    return ", ".join(shown)


def _of_services(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    if old["mode"] != new["mode"]:
        yield f"mode {old['mode']} → {new['mode']}"
    if old["wanted"] != new["wanted"]:
        yield f"{old['wanted']} → {_count(new['wanted'])}"
    former, present = _vips(old), _vips(new)
    for network in sorted(former.keys() & present.keys()):
        if former[network] != present[network]:
            yield f"VIP on {network} {former[network]} → {present[network]}"
    was, now = _service_ports(old), _service_ports(new)
    for port, words in _renamed(was, now):
        yield f"port {port} is {words}"
    gone, come = sorted(was.keys() - now.keys()), sorted(now.keys() - was.keys())
    if len(gone) == len(come) == 1:
        yield f"port {gone[0]} → {come[0]}"
    else:
        yield from (f"-port {port}" for port in gone)
        yield from (f"+port {port}" for port in come)
    weights, others = ({task: item["weight"] for task, item in service["tasks"].items()} for service in (old, new))
    for task in sorted(weights.keys() & others.keys()):
        if weights[task] != others[task]:
            yield f"weight of {task} {weights[task]} → {others[task]}"
