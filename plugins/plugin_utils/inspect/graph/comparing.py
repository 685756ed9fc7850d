# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is declared against what the hosts have, as a `Fabric`.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ...declaration.ingress import SANDBOX as INGRESS_SANDBOX
from ..docker_model import live_model
from ..health import counted, natural
from ..model import EndpointModel, Model, SandboxModel
from . import attribution
from .attribution import NETWORK, SANDBOX
from .fabric import DIFFERS, FINE, LEFT, LOST, NEW, UNKNOWN, Difference, Endpoint, Fabric, Host, Sandbox, State, worst
from .lanes import network_differences, networks_of, service_differences, services_of
from .order import Order, arranged
from .policies import names_of, policies_of, policy_differences
from .report import HostReport

_ABSENT = {
    NEW: "is declared and not there yet",
    LOST: "is gone from the host",
    LEFT: "is there and no longer declared",
}
_ABSENT_END = {NEW: "is declared and not yet on", LOST: "is gone from", LEFT: "is still on", UNKNOWN: "may be on"}


def fabric_of(reports: Mapping[str, HostReport], project: str, order: Optional[Order] = None) -> Fabric:
    """The whole picture.  What ``order`` remembers keeps its place, and what is new comes after it."""
    known = order or Order()
    names = arranged(reports, known.hosts)
    networks = networks_of({name: reports[name] for name in names}, known.networks)
    hosts = tuple(_host(name, reports[name], known.sandboxes.get(name, ())) for name in names)
    services = services_of({name: reports[name] for name in names}, hosts)
    return Fabric(project, hosts, networks, services, policies_of(reports, hosts))


def order_of(fabric: Fabric) -> Order:
    """The places of all things, to be remembered."""
    return Order(
        tuple(host.name for host in fabric.hosts),
        tuple(network.name for network in fabric.networks),
        {host.name: tuple(sandbox.name for sandbox in host.sandboxes) for host in fabric.hosts},
    )


def _host(name: str, report: HostReport, remembered: Iterable[str]) -> Host:
    live = live_model(report.kept, report.drift)
    owned: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    known = {*report.kept["sandboxes"], *report.wanted["sandboxes"]}
    for operation in report.drift:
        owned.setdefault(attribution.owner_of(operation, report.roles, known), []).append(operation)
    shown = {*report.wanted["sandboxes"], *live["sandboxes"]}
    by_name = sorted(shown, key=lambda each: (each == INGRESS_SANDBOX, natural(each)))
    places = arranged(shown, [*remembered, *by_name])
    sandboxes = tuple(_sandbox(each, name, report, live, owned) for each in places)
    differences = [item for sandbox in sandboxes for item in _of_sandbox(sandbox, report, owned)]
    differences += network_differences(name, report) + service_differences(name, report)
    differences += policy_differences(name, report)
    for (kind, subject), operations in sorted(owned.items()):
        if kind != SANDBOX:
            what = f"network {subject}" if kind == NETWORK else "host"
            differences += [_drift(name, what, operation) for operation in operations]
    if report.refused:
        differences.append(Difference(name, "host", DIFFERS, f"a run would leave it alone: {report.refused}"))
    whole = None if report.problem else _of_whole_host(report, live)
    if whole:
        differences = [Difference(name, "host", *whole)]
    if report.problem:
        differences = [Difference(name, "host", UNKNOWN, report.problem)]
    state = UNKNOWN if report.problem else worst([item.state for item in differences])
    vteps = {peer["IP"] for document in report.wanted["networks"] for peer in document.get("Peers", ())}
    words = _words(report, live, differences)
    balancer = report.wanted.get("load_balancer", "")
    return Host(name, state, words, tuple(sorted(vteps)), balancer, sandboxes, tuple(differences))


def _of_whole_host(report: HostReport, live: Model) -> Optional[tuple[State, str]]:
    """One sentence for all of a host that has nothing of what it should have."""
    kept, wanted = report.kept["sandboxes"], report.wanted["sandboxes"]
    if kept and not live["sandboxes"]:
        return LOST, f"lost everything it had: {counted(len(kept), 'sandbox')}"
    if wanted and not report.kept["networks"] and not kept:
        return NEW, "has nothing of this project yet"
    return None


def _words(report: HostReport, live: Model, differences: Sequence[Difference]) -> str:
    if report.problem:
        return report.standing
    whole = _of_whole_host(report, live)
    if whole:
        return whole[1]
    if not report.kept["sandboxes"] and not report.wanted["sandboxes"] and not differences:
        return "nothing is declared here, and nothing is here"
    if not differences:
        return "as declared"
    return f"{len(differences)} {'difference' if len(differences) == 1 else 'differences'}"


def _sandbox(
    name: str, host: str, report: HostReport, live: Model, owned: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
) -> Sandbox:
    wanted, kept, there = (model["sandboxes"].get(name) for model in (report.wanted, report.kept, live))
    entry = live["sandboxes"][name] if wanted is None else wanted
    before = {item["network"]: item for item in (kept["endpoints"] if kept else ())}
    present = {item["network"] for item in (there["endpoints"] if there else ())}
    macs = report.macs.get(name, {})
    endpoints = [
        _endpoint(item, before.get(item["network"]), item["network"] in present, macs, report)
        for item in entry["endpoints"]
    ]
    declared = {item["network"] for item in entry["endpoints"]}
    for network in sorted(present - declared):
        endpoints.append(_as(before[network], LEFT, macs))
    if report.problem:
        state = UNKNOWN
    elif wanted is None:
        state = LEFT
        endpoints = [_as(item, LEFT, macs) for item in entry["endpoints"]]
    elif there is None:
        state = NEW if kept is None else LOST
    else:
        same = all(item.state is FINE for item in endpoints) and _plain(wanted) == _plain(kept)
        state = FINE if same and (SANDBOX, name) not in owned else DIFFERS
    service, weight = report.tasks.get(name, ("", 1))
    mode = entry["network_mode"] or ""
    policies = names_of(entry)
    return Sandbox(name, host, mode, tuple(entry["ports"]), tuple(endpoints), state, service, not weight, policies)


def _plain(entry: Optional[SandboxModel]) -> Any:
    return (entry["network_mode"], entry["ports"], names_of(entry)) if entry else None


def _endpoint(
    item: EndpointModel, before: Optional[EndpointModel], present: bool, macs: Mapping[str, str], report: HostReport
) -> Endpoint:
    if report.problem:
        return _as(item, UNKNOWN, macs)
    if before is None:
        return _as(item, NEW, macs)
    if not present:
        return _as(item, LOST, macs)
    if (item["addresses"], item["link"], item["names"]) == (before["addresses"], before["link"], before["names"]):
        return _as(item, FINE, macs)
    return _as(item, DIFFERS, macs, tuple(before["addresses"]) if before["addresses"] != item["addresses"] else ())


def _as(item: EndpointModel, state: State, macs: Mapping[str, str], was: tuple[str, ...] = ()) -> Endpoint:
    mac = macs.get(item["network"], "")
    return Endpoint(item["network"], item["link"], tuple(item["addresses"]), mac, tuple(item["names"]), state, was)


def _of_sandbox(
    sandbox: Sandbox, report: HostReport, owned: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
) -> list[Difference]:
    """What is to be said of a sandbox that is not as declared: of one that is absent, one sentence."""
    what, host = f"sandbox {sandbox.name}", sandbox.host
    operations = owned.get((SANDBOX, sandbox.name), ())
    if sandbox.state in (NEW, LOST, LEFT):
        waits = [attribution.in_words(item) for item in operations if item["action"] == "wait for"]
        return [Difference(host, what, sandbox.state, (waits or [_ABSENT[sandbox.state]])[0])]
    result = []
    wanted, kept = (model["sandboxes"].get(sandbox.name) for model in (report.wanted, report.kept))
    for end in sandbox.endpoints:
        if end.state is DIFFERS:
            values = (("addresses", ", ".join(end.was), ", ".join(end.addresses)),) if end.was else ()
            words = f"on {end.network} is not as declared" + ("" if values else f": {_what_differs(end, kept)}")
            result.append(Difference(host, what, DIFFERS, words, values))
        elif end.state is not FINE:
            result.append(Difference(host, what, end.state, f"{_ABSENT_END[end.state]} {end.network}"))
    if wanted and kept and wanted["ports"] != kept["ports"]:
        values = (("ports", ", ".join(kept["ports"]) or "none", ", ".join(wanted["ports"]) or "none"),)
        result.append(Difference(host, what, DIFFERS, "publishes other ports than declared", values))
    if wanted and kept and wanted["network_mode"] != kept["network_mode"]:
        values = (("network_mode", kept["network_mode"] or "none set", wanted["network_mode"] or "none set"),)
        result.append(Difference(host, what, DIFFERS, "has another network mode than declared", values))
    if wanted and kept and names_of(wanted) != names_of(kept):
        values = (("policies", ", ".join(names_of(kept)) or "none", ", ".join(names_of(wanted)) or "none"),)
        result.append(Difference(host, what, DIFFERS, "has other policies than declared", values))
    told = {f"{sandbox.name}/{end.link}" for end in sandbox.endpoints if end.state is LOST}
    return result + [
        _drift(host, what, item)
        for item in operations
        if not (item["kind"] == "link" and item["action"] == "create" and item["name"] in told)
    ]


def _what_differs(end: Endpoint, kept: Optional[SandboxModel]) -> str:
    before = next(item for item in (kept["endpoints"] if kept else ()) if item["network"] == end.network)
    if before["link"] != end.link:
        return f"its link is {before['link']}, declared is {end.link}"
    return f"it is known there as {', '.join(before['names'])}, declared is {', '.join(end.names)}"


def _drift(host: str, what: str, operation: Mapping[str, Any]) -> Difference:
    state = {"create": LOST, "delete": LEFT}.get(operation["action"], DIFFERS)
    return Difference(host, what, state, attribution.in_words(operation), attribution.values(operation))
