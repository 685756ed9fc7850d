# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""All that the drawings show, as HTML tables, and the details that have no place in a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..health import counted, few
from .fabric import FINE, STATES, Difference, Fabric, Host, Network, Part, Policy, Sandbox, Service, State
from .markup import Content, Markup, element
from .policies import rule_words

FOLD = 6
"""Of more hosts than these, sandboxes and lists of names are folded."""
_SHORT = 110
"""Characters of a difference that need no unfolding."""


def state_cell(state: State, words: str = "") -> Markup:
    """A state, by sign and words."""
    sign = element("span", state.sign, aria_hidden="true")
    return element("span", sign, f" {words or state.words}", class_=f"state w-{state.key}")


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Content]], filtered: bool = True) -> Markup:
    """A table whose rows have their first cell as their heading."""
    head = element("thead", element("tr", [element("th", cell, scope="col") for cell in header]))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            [element("td", cell) for cell in row[1:]],
            data_row=True if filtered else None,
        )
        for row in rows
    ]
    made = element("table", element("caption", caption), head, element("tbody", body))
    role = "region" if filtered else "group"  # only what is worth a place among the page's landmarks is one
    return element("div", made, class_="scroll", role=role, tabindex="0", aria_label=caption)


def folded(summary: Content, content: Content, opened: bool = False, class_: str = "fold") -> Markup:
    """What unfolds, with no script."""
    return element("details", element("summary", summary), content, class_=class_, open=opened)


def _lines(items: Sequence[Content]) -> Content:
    return [element("div", item) for item in items]


def _code(items: Sequence[str]) -> Content:
    return [element("div", element("code", item)) for item in items]


def differences(fabric: Fabric) -> Markup:
    """What is not as declared, each once with all its hosts; a sentence if there is nothing."""
    grouped = fabric.grouped
    if not grouped:
        return element("p", "Nothing: every host that was asked is as declared.", class_="calm")
    rows = [
        (element("strong", difference.what), _hosts(hosts), state_cell(difference.state), _told(difference))
        for difference, hosts in grouped
    ]
    return table("What is not as declared", ("What", "Hosts", "State", "What is wrong"), rows)


def _hosts(hosts: Sequence[str]) -> Content:
    if len(hosts) <= FOLD:
        return ", ".join(hosts)
    return folded(few(hosts), ", ".join(hosts), class_="inline")


def _told(difference: Difference) -> Content:
    if not difference.values:
        return difference.words
    if len(difference.values) == 1 and sum(map(len, difference.values[0])) < _SHORT:
        ((name, found, wanted),) = difference.values
        return [f"{difference.words}: {name} ", element("code", found), ", declared ", element("code", wanted)]
    rows = [(name, element("code", found), element("code", wanted)) for name, found, wanted in difference.values]
    inner = table(f"{difference.what}: values", ("Attribute", "Found", "Declared"), rows, filtered=False)
    return folded(difference.words, inner, class_="inline")


def hosts(fabric: Fabric) -> Markup:
    """A row a host."""
    rows = []
    for host in fabric.hosts:
        networks = [network.name for network in fabric.networks if host.name in network.hosts]
        rows.append(
            (
                host.name,
                state_cell(host.state, host.words),
                _code(host.addresses) if host.addresses else "none",
                ", ".join(networks) or "none",
                str(len(host.sandboxes)),
                host.balancer or "none",
            )
        )
    header = ("Host", "State", "VTEP", "Networks", "Sandboxes", "Load balancer")
    return table("Hosts", header, rows)


def networks(fabric: Fabric) -> Markup:
    """A row for each network; those of single hosts that are alike have one together."""
    counts: dict[tuple[str, str], int] = {}
    for sandbox in fabric.sandboxes:
        for end in sandbox.endpoints:
            counts[(end.network, sandbox.host)] = counts.get((end.network, sandbox.host), 0) + 1
    rows = [_network(network, parts, counts) for network in fabric.networks for parts in _alike(network)]
    header = ("Network", "State", "Driver", "Subnets", "Gateways", "Where", "Endpoints", "Details")
    return table("Networks", header, rows)


def _alike(network: Network) -> list[list[Part]]:
    """The parts of a network that differ in nothing but their addresses."""
    found: dict[object, list[Part]] = {}
    for part in network.parts:
        found.setdefault((len(part.hosts) > 1, part.driver, part.flags, part.options, part.labels), []).append(part)
    return list(found.values())


def _network(network: Network, parts: Sequence[Part], counts: dict[tuple[str, str], int]) -> Sequence[Content]:
    first = parts[0]
    hosts = [host for part in parts for host in part.hosts]
    one = "one network on " if len(first.hosts) > 1 else "one on each of " if len(parts) > 1 else "on "
    by_state: dict[State, list[str]] = {}
    for host, state in (standing for part in parts for standing in part.states):
        by_state.setdefault(state, []).append(host)
    states = [
        element("div", state_cell(state), "" if len(by_state) == 1 else f" {few(by_state[state], FOLD)}")
        for state in STATES
        if state in by_state
    ]
    details = [*first.flags, *(f"{key}={value}" for key, value in first.options)]
    details += [f"label {key}={value}" for key, value in first.labels]
    vteps = [f"{host}: VTEP {address}" for part in parts for host, address in part.vteps]
    return (
        network.name,
        states,
        first.driver,
        _addresses([(part.hosts[0], part.subnets) for part in parts], "subnet"),
        _addresses([(part.hosts[0], part.gateways) for part in parts], "gateway"),
        [one, _hosts(hosts)],
        str(sum(counts.get((network.name, host), 0) for host in hosts)),
        [_code(details), folded(counted(len(vteps), "VTEP"), _code(vteps), class_="inline") if vteps else ""],
    )


def _addresses(by_host: Sequence[tuple[str, tuple[str, ...]]], noun: str) -> Content:
    """What all have, or else what each of them has."""
    every = {addresses for _host, addresses in by_host}
    if len(every) == 1:
        return _code(by_host[0][1]) if by_host[0][1] else "none"
    lines = [f"{host}: {', '.join(addresses) or 'none'}" for host, addresses in by_host]
    return folded(f"{noun}s by host", _code(lines), class_="inline")


def sandboxes(host: Host) -> Markup:
    """A row for each sandbox of a host, with a line for each of its endpoints."""
    rows = [_sandbox(sandbox) for sandbox in host.sandboxes]
    header = ("Sandbox", "Host", "State", "Networks and addresses", "MAC", "Names", "Published ports", "Policies")
    return table(f"Sandboxes of {host.name}", header, rows)


def _sandbox(sandbox: Sandbox) -> Sequence[Content]:
    name: Content = sandbox.name
    if sandbox.service:
        state = "drained task" if sandbox.drained else "task"
        name = [sandbox.name, element("div", f"{state} of {sandbox.service}", class_="note")]
    ends: list[Content] = [f"network mode {sandbox.mode}"] if sandbox.mode else []
    for end in sandbox.endpoints:
        line: list[Content] = [
            element("b", end.network),
            " ",
            element("code", end.link),
            " ",
            element("code", ", ".join(end.addresses)),
        ]
        if end.was:
            line += [" (now ", element("code", ", ".join(end.was)), ")"]
        if end.state is not FINE:
            line += [" ", state_cell(end.state)]
        ends.append(line)
    macs = [end.mac for end in sandbox.endpoints if end.mac]
    names = [f"{', '.join(end.names)} on {end.network}" for end in sandbox.endpoints if end.names]
    return (
        name,
        sandbox.host,
        state_cell(sandbox.state),
        _lines(ends) if ends else "none",
        _code(macs) if macs else "none",
        _lines(names) if names else "none",
        _code(sandbox.ports) if sandbox.ports else "none",
        ", ".join(sandbox.policies) or "none",
    )


def policies(fabric: Fabric) -> Markup:
    """A row for each policy: who may speak to the sandboxes that it holds for, and to whom they may."""
    services = {(sandbox.host, sandbox.name): sandbox.service for sandbox in fabric.sandboxes}
    rows = [
        (
            policy.name,
            _lines(rule_words(policy.ingress, policy.ingress_default)),
            _holders(policy, services),
            _lines(rule_words(policy.egress, policy.egress_default)),
        )
        for policy in fabric.policies
    ]
    return table("Policies", ("Policy", "Who may speak to them →", "Sandboxes", "→ To whom they may speak"), rows)


def _holders(policy: Policy, services: Mapping[tuple[str, str], str]) -> Content:
    """The sandboxes that a policy holds for, on their hosts; tasks by their services."""
    names = dict.fromkeys(
        f"service {services[each]}" if services.get(each) else f"{each[1]} on {each[0]}" for each in policy.holders
    )
    every = [f"all on the network {name}" for name in policy.networks]
    listed = _hosts(list(names)) if names else "none"
    return [_lines(every), listed]


def services(fabric: Fabric) -> Markup:
    """A row for each service, with its tasks."""
    header = ("Service", "State", "Mode", "Virtual addresses", "Names", "Ports of every host", "Tasks")
    return table("Services", header, [_service(service) for service in fabric.services])


def _service(service: Service) -> Sequence[Content]:
    vips = [f"{address} on {network}" for network, address in service.vips]
    names = [f"{', '.join(names)} on {network}" if names else f"on {network}" for network, names in service.networks]
    rows = [
        (
            task.name,
            task.host,
            state_cell(task.state),
            "drained" if not task.weight else f"weight {task.weight}",
            _code(task.addresses),
        )
        for task in service.tasks
    ]
    header = ("Task", "Host", "State", "Connections", "Addresses")
    tasks = table(f"Tasks of {service.name}", header, rows, filtered=False)
    summary = f"{len(service.tasks)} of {counted(service.wanted, 'task')}"
    return (
        service.name,
        state_cell(service.state),
        service.mode,
        _code(vips) if vips else "none: its name has the addresses of all tasks",
        _lines(names),
        _code(service.ports) if service.ports else "none",
        folded(summary, tasks, class_="inline") if rows else summary,
    )


def ports(fabric: Fabric) -> Markup:
    """Every published port: of sandboxes on their hosts, and of services on all."""
    rows: list[Sequence[Content]] = [
        (f"sandbox {sandbox.name}", sandbox.host, _code(sandbox.ports), state_cell(sandbox.state))
        for sandbox in fabric.sandboxes
        if sandbox.ports
    ]
    rows += [
        (f"service {service.name}", "every host", _code(service.ports), state_cell(service.state))
        for service in fabric.services
        if service.ports
    ]
    return table("Published ports", ("Of", "Host", "Ports", "State"), rows)


def legend() -> Markup:
    """What the signs mean."""
    return table(
        "Signs", ("State", "What it means"), [(state_cell(state), state.meaning) for state in STATES], filtered=False
    )
