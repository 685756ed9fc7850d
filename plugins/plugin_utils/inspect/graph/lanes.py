# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks and services over all hosts, from the models of the single ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ...declaration.egress import EGRESS
from ...declaration.ingress import INGRESS
from ...declaration.options import VNI
from ..health import natural
from ..model import Document
from ..tables import port_text
from .fabric import DIFFERS, FINE, LEFT, NEW, UNKNOWN, Difference, Host, Network, Part, Service, State, Task, worst
from .order import arranged
from .report import HostReport

_OF_A_RUN = ("Containers", "Created", "Peers")
"""Keys of a document that do not say what the network is like."""


def _standing(name: str, report: HostReport) -> tuple[Document, State]:
    """A network of a host: as declared, or else as it is there; and how it stands."""
    wanted, kept = report.wanted_networks.get(name), report.kept_networks.get(name)
    if wanted is None:
        return report.kept_networks[name], UNKNOWN if report.problem else LEFT
    if report.problem:
        return wanted, UNKNOWN
    if kept is None:
        return wanted, NEW
    return wanted, FINE if not _different_keys(wanted, kept) else DIFFERS


def _different_keys(wanted: Document, kept: Document) -> list[str]:
    return [key for key in wanted if key not in _OF_A_RUN and wanted[key] != kept.get(key)]


def network_differences(host: str, report: HostReport) -> list[Difference]:
    """Networks of a host that are not as declared."""
    result = []
    for name in sorted({*report.wanted_networks, *report.kept_networks}, key=natural):
        document, state = _standing(name, report)
        words = {NEW: "is declared and not there yet", LEFT: "is there and no longer declared"}.get(state, "")
        values: list[tuple[str, str, str]] = []
        if state is DIFFERS:
            kept = report.kept_networks[name]
            words = "is not as declared"
            values = [(key, _flat(kept.get(key)), _flat(document[key])) for key in _different_keys(document, kept)]
        if words:
            result.append(Difference(host, f"network {name}", state, words, tuple(values)))
    return result


def _flat(value: Any) -> str:
    """A value of a document in a few words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_flat(item)}" for key, item in sorted(value.items())) or "none"
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_flat, value)) or "none"
    return {True: "yes", False: "no", None: "none"}.get(value, str(value)) if not isinstance(value, str) else value


def networks_of(reports: Mapping[str, HostReport], remembered: Iterable[str]) -> tuple[Network, ...]:
    """The lanes: first networks that span hosts, then those of single hosts, last those that the collection adds."""
    found: dict[str, dict[str, list[tuple[str, Document, State]]]] = {}
    for host, report in reports.items():
        for name in {**report.wanted_networks, **report.kept_networks}:
            document, state = _standing(name, report)
            found.setdefault(name, {}).setdefault(document["Id"], []).append((host, document, state))
    networks = {
        name: Network(name, tuple(_part(group, reports) for group in parts.values())) for name, parts in found.items()
    }
    first = sorted(
        networks.values(), key=lambda item: (item.name in (EGRESS, INGRESS), not item.spans, natural(item.name))
    )
    order = arranged(networks, [*(name for name in remembered if name in networks), *(item.name for item in first)])
    return tuple(networks[name] for name in order)


def _part(group: Sequence[tuple[str, Document, State]], reports: Mapping[str, HostReport]) -> Part:
    # What one host says it has must not stand for what is declared for the others.
    documents = [each for host, each, _state in group if _declares(reports[host], "networks", each["Name"])]
    documents = documents or [each for _host, each, _state in group]
    document = documents[0]
    options = {key: value for each in documents for key, value in each["Options"].items()}
    vni, encrypted = options.pop(VNI, ""), options.pop("encrypted", None) is not None
    flags = [
        *(["internal"] if document["Internal"] else []),
        *(["encrypted"] if encrypted else []),
        *([f"VNI {vni}"] if vni else []),
    ]
    configs = document["IPAM"]["Config"]
    vteps = tuple((host, peer["IP"]) for host, each, _state in group for peer in each.get("Peers", ()))
    return Part(
        document["Id"],
        document["Driver"],
        tuple(host for host, _document, _state in group),
        tuple(item["Subnet"] for item in configs),
        tuple(item["Gateway"] for item in configs if "Gateway" in item),
        tuple(flags),
        tuple(sorted(options.items())),
        tuple(sorted(document["Labels"].items())),
        vteps,
        tuple((host, state) for host, _document, state in group),
    )


def _declares(report: HostReport, key: str, name: str) -> bool:
    """Whether a network or a service is in the plan that a host would be given."""
    if report.declared is None:
        return False
    return name in (report.wanted_networks if key == "networks" else report.declared.get("services", {}))


def services_of(reports: Mapping[str, HostReport], hosts: Sequence[Host]) -> tuple[Service, ...]:
    """The services over all hosts, with their tasks where these are."""
    sandboxes = {(host.name, sandbox.name): sandbox for host in hosts for sandbox in host.sandboxes}
    names = {
        name
        for report in reports.values()
        for model in (report.wanted, report.kept)
        for name in model.get("services", {})
    }
    return tuple(_service(name, reports, sandboxes) for name in sorted(names, key=natural))


def _service(name: str, reports: Mapping[str, HostReport], sandboxes: Mapping[tuple[str, str], Any]) -> Service:
    networks: dict[str, tuple[str, ...]] = {}
    vips: dict[tuple[str, str], None] = {}
    ports: dict[str, None] = {}
    tasks, states, wanted, mode = [], [], 0, ""
    declared = any(_declares(report, "services", name) for report in reports.values())
    for host, report in reports.items():
        entry, kept = (model.get("services", {}).get(name) for model in (report.wanted, report.kept))
        states.append(_service_state(report, entry, kept))
        shown = entry or kept
        if shown is None:
            continue
        if not declared or _declares(report, "services", name):  # as in `_part`
            if entry is not None or not mode:
                mode, wanted = shown["mode"], shown["wanted"]
            for network, vip in shown["networks"].items():
                networks[network] = tuple(vip["names"]) or networks.get(network, ())
                vips.update(dict.fromkeys((network, address) for address in vip["vips"]))
            ports.update(dict.fromkeys(port_text(port) for port in shown["ports"]))
        for task, of_task in {**(kept or shown)["tasks"], **shown["tasks"]}.items():
            sandbox = sandboxes.get((host, task))
            if sandbox is not None:
                ends = [end for end in sandbox.endpoints if end.network in shown["networks"]]
                addresses = tuple(address for end in ends for address in end.addresses)
                tasks.append(Task(task, host, addresses, of_task["weight"], sandbox.state))
    tasks.sort(key=lambda task: (natural(task.name), task.host))
    state = worst([state for state in (*states, *(task.state for task in tasks)) if state is not None])
    return Service(
        name, mode, wanted, tuple(sorted(networks.items())), tuple(sorted(vips)), tuple(ports), tuple(tasks), state
    )


def _service_state(report: HostReport, entry: Any, kept: Any) -> Optional[State]:
    if entry is None and kept is None:
        return None
    if report.problem:
        return UNKNOWN
    if kept is None:
        return NEW
    if entry is None:
        return LEFT
    return DIFFERS if _service_values(entry, kept) else FINE


def _service_values(entry: Any, kept: Any) -> tuple[tuple[str, str, str], ...]:
    """What of a service is not as declared, apart from its tasks, which are sandboxes."""
    values = []
    for key in ("mode", "wanted", "networks", "ports"):
        found, wanted = kept[key], entry[key]
        if key == "ports":
            found, wanted = ([port_text(port) for port in ports] for ports in (found, wanted))
        elif key == "networks":
            found, wanted = (
                {network: [*vip["vips"], *vip["names"]] for network, vip in networks.items()}
                for networks in (found, wanted)
            )
        if found != wanted:
            values.append(("replicas" if key == "wanted" else key, _flat(found), _flat(wanted)))
    return tuple(values)


def service_differences(host: str, report: HostReport) -> list[Difference]:
    """Services of a host that are not as declared."""
    wanted, kept = report.wanted.get("services", {}), report.kept.get("services", {})
    result = []
    for name in sorted({*wanted, *kept}, key=natural):
        state = _service_state(report, wanted.get(name), kept.get(name))
        words = {
            NEW: "is declared and not there yet",
            LEFT: "is there and no longer declared",
            DIFFERS: "is not as declared",
        }
        if state in words:
            values = _service_values(wanted[name], kept[name]) if state is DIFFERS else ()
            result.append(Difference(host, f"service {name}", state, words[state], values))
    return result
