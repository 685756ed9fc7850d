# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The fabric as nodes and edges, from which Mermaid and Graphviz text is made."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import field

from ....module_utils.plan.records import dataclass
from ..health import counted, few
from .fabric import FINE, Fabric, Host, Sandbox, State, worst
from .policies import peer_words
from .words import bare, of_part, short_ports

Networks = dict[tuple[str, str], str]
"""The box of each network by its name and a host that has it."""


@dataclass(frozen=True)
class Node:
    """A box: lines of text, and how it stands."""

    id: str
    lines: tuple[str, ...]
    state: State
    network: bool = False


@dataclass(frozen=True)
class Edge:
    """A line between two boxes; one of a service to a task, or of a policy to whom it holds for, is dashed."""

    one: str
    other: str
    text: str = ""
    state: State = FINE
    dashed: bool = False
    speaks: str = ""
    """What a rule does with who speaks this way: ``allow``, ``drop`` or ``reject``; "" for other lines."""


@dataclass
class Diagram:
    """Hosts with the boxes in them, networks, services, and the lines between them."""

    hosts: list[tuple[Node, list[Node]]] = field(default_factory=list)
    networks: list[Node] = field(default_factory=list)
    services: list[Node] = field(default_factory=list)
    policies: list[Node] = field(default_factory=list)
    others: list[Node] = field(default_factory=list)
    """Who else is named by rules: prefixes, hosts, everybody."""
    edges: list[Edge] = field(default_factory=list)


def diagram_of(fabric: Fabric, most: int) -> Diagram:
    """A box a sandbox, or a box a host if there would be more than ``most`` lines.

    A network that spans hosts is a box between them, one of a single host a box in it.
    """
    result = Diagram()
    networks: Networks = {}
    local: dict[str, list[Node]] = {}
    parts = [(network, part) for network in fabric.networks for part in network.parts]
    for number, (network, part) in enumerate(parts, 1):
        node = Node(f"n{number}", (network.name, of_part(part)), worst([state for _host, state in part.states]), True)
        networks.update({(network.name, host): node.id for host in part.hosts})
        if len(part.hosts) > 1 or part.vteps:
            result.networks.append(node)
        else:
            local.setdefault(part.hosts[0], []).append(node)
    lines = sum(len(sandbox.endpoints) for sandbox in fabric.sandboxes) + sum(len(s.tasks) for s in fabric.services)
    boxes: dict[tuple[str, str], str] = {}
    for number, host in enumerate(fabric.hosts, 1):
        node = Node(f"h{number}", (host.name, host.words), host.state)
        inside = local.get(host.name, [])
        if lines > most:
            inside = [*inside, _summary(host, number, networks, result.edges)]
            boxes[(host.name, "")] = f"b{number}"
        for place, sandbox in enumerate(host.sandboxes if lines <= most else (), 1):
            box = Node(f"s{number}_{place}", _of_sandbox(sandbox), sandbox.state)
            inside = [*inside, box]
            boxes[(host.name, sandbox.name)] = box.id
            for end in sandbox.endpoints:
                # A host may say that it has an endpoint on a network that it does not say it has.
                if (end.network, host.name) in networks:
                    result.edges.append(Edge(box.id, networks[(end.network, host.name)], "", end.state))
        result.hosts.append((node, inside))
    for number, service in enumerate(fabric.services, 1):
        vips = [f"VIP {address} on {network}" for network, address in service.vips]
        result.services.append(Node(f"v{number}", (service.name, *vips, *short_ports(service.ports)), service.state))
        ends = [boxes.get((task.host, task.name)) or boxes[(task.host, "")] for task in service.tasks]
        result.edges += [Edge(f"v{number}", end, dashed=True) for end in dict.fromkeys(ends)]
    if lines <= most:
        _add_policies(fabric, result, networks, boxes, most - lines)
    return result


def _add_policies(
    fabric: Fabric, result: Diagram, networks: Networks, boxes: Mapping[tuple[str, str], str], most: int
) -> None:
    """A box a policy, arrows between it and those whom its rules name, and lines to those for whom it holds.

    Nothing of it if there would be more than ``most`` lines.
    """
    services = {item.name: f"v{number}" for number, item in enumerate(fabric.services, 1)}
    sandboxes = {(item.host, item.name): item for item in fabric.sandboxes}
    others: dict[tuple[str, ...], Node] = {}
    policies, edges = list[Node](), list[Edge]()

    def ends(peer: tuple[str, ...], hosts: Container[str]) -> dict[str, None]:
        """The boxes of a peer; of networks those that sandboxes on these hosts have."""
        kind, name = peer[:1], peer[-1:]
        found: list[str] = []
        if kind == ("network",):
            found = [box for (network, host), box in networks.items() if (network,) == name and host in hosts]
        elif kind == ("sandbox",):
            found = [box for (_host, sandbox), box in boxes.items() if (sandbox,) == name]
        elif kind == ("service",):
            found = [box for service, box in services.items() if (service,) == name]
        if not found:
            node = others.setdefault(peer, Node(f"o{len(others) + 1}", (peer_words(peer) or "everybody",), FINE))
            found = [node.id]
        return dict.fromkeys(found)

    for number, policy in enumerate(fabric.policies, 1):
        box, hosts = f"p{number}", {host for host, _name in policy.holders}
        defaults = (("to", policy.ingress_default), ("from", policy.egress_default))
        words = [f"all else {way} it: {default}" for way, default in defaults if default]
        policies.append(Node(box, (f"policy {policy.name}", *words), FINE))
        holders = {end: None for name in policy.networks for end in ends(("network", name), hosts)}
        for each in policy.holders:
            holder = sandboxes[each]
            if {end.network for end in holder.endpoints}.isdisjoint(policy.networks):
                holders[services.get(holder.service) or boxes[each]] = None
        edges += [Edge(box, end, dashed=True) for end in holders]
        for rules, inward in ((policy.ingress, True), (policy.egress, False)):
            about: dict[tuple[str, str], dict[str, None]] = {}
            for rule in rules:
                for peer in rule.peers or ((),):
                    for end in ends(peer, hosts):
                        about.setdefault((end, rule.action), {}).update(dict.fromkeys(rule.about or ("everything",)))
            for (end, action), found in about.items():
                text = few(list(found), 4) if action == "allow" else f"{action} {few(list(found), 4)}"
                one, other = (end, box) if inward else (box, end)
                edges.append(Edge(one, other, text, speaks=action))
    if len(edges) <= most:
        result.policies, result.others = policies, list(others.values())
        result.edges += edges


def _of_sandbox(sandbox: Sandbox) -> tuple[str, ...]:
    state = () if sandbox.state is FINE else (f"{sandbox.state.sign} {sandbox.state.words}",)
    addresses = [bare(address) for end in sandbox.endpoints for address in end.addresses[:1]]
    mode = (f"network mode {sandbox.mode}",) if sandbox.mode else ()
    return (sandbox.name, *mode, *addresses, *short_ports(sandbox.ports), *state)


def _summary(host: Host, number: int, networks: Networks, edges: list[Edge]) -> Node:
    found: dict[str, int] = {}
    for sandbox in host.sandboxes:
        for end in (end for end in sandbox.endpoints if (end.network, host.name) in networks):
            found[end.network] = found.get(end.network, 0) + 1
    edges += [
        Edge(f"b{number}", networks[(network, host.name)], counted(ends, "endpoint")) for network, ends in found.items()
    ]
    names: Sequence[str] = [sandbox.name for sandbox in host.sandboxes]
    return Node(f"b{number}", (counted(len(names), "sandbox"), few(names)), host.state)
