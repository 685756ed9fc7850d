# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Published ports: which port of a host is forwarded to which sandbox.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Optional

from ...module_utils.plan.families import family_of
from ...module_utils.plan.forms import printable
from ...module_utils.plan.records import dataclass
from ..declaration.ingress import ingress_ports
from ..declaration.published import binding
from ..declaration.topology import Sandbox, TaskPort, Topology
from ..drivers.base import PlannedEndpoint
from ..facts import Facts

Range = tuple[int, int]
_SHOWN = 60
"""How many characters of a process's name are shown, as a process can choose any name."""


@dataclass(frozen=True)
class PublishedPort:
    """A port or range of one family and its sandbox's address; both ranges are inclusive and of equal length."""

    family: int
    protocol: str
    host_ip: Optional[str]
    """None: every address of the host of that family."""
    published: Range
    address: str
    target: Range
    translated: bool
    """False in gateway mode routed: the port is open at the sandbox's own address, and the host publishes none."""
    network: str
    weight: Optional[int] = None
    """Its share of the connections if several sandboxes share the host's port; None if it is the only one."""
    path: str = ""
    allow_from: Optional[tuple[str, ...]] = None
    """Prefixes that it may be called from; None: everybody."""
    note: str = ""
    """What it is for, as people read it."""

    @property
    def at_loopback(self) -> bool:
        """Whether the host reaches it at 127.0.0.1.  For ``::1`` the kernel cannot route the answers back."""
        return self.translated and self.family == 4 and (not self.host_ip or ip_address(self.host_ip).is_loopback)


def published_ports(endpoints: Sequence[PlannedEndpoint]) -> list[PublishedPort]:
    """All ports that sandboxes publish, sorted by their targets.

    As in Docker, a port of the host is forwarded to the endpoint that supplies the sandbox's default route of that
    family; with gateway mode routed, the port is open on each such endpoint.
    """
    found = [
        item
        for endpoint in endpoints
        if endpoint.sandbox.ports and endpoint.network.network.firewall
        for item in _of_endpoint(endpoint)
    ]
    return sorted(found, key=lambda item: (item.family, ip_address(item.address).packed, item.protocol, item.published))


def _of_endpoint(endpoint: PlannedEndpoint) -> Iterator[PublishedPort]:
    network = endpoint.network.network
    forwarding = network.traits.forwarding
    if network.internal or forwarding is None:
        return
    for address in endpoint.addresses:
        family = family_of(address)
        routed = forwarding.mode(family) == "routed"
        gives_way = any(family_of(gateway) == family for gateway in endpoint.gateways)
        if not routed and not gives_way:
            continue
        for port in endpoint.sandbox.ports:
            weight = port.weight if isinstance(port, TaskPort) else None
            bound, host_ip = binding(port, network, family)
            if routed or bound:
                translation = (host_ip, port.published, address, port.target)
                more = (network.name, weight, port.path, port.allow_from)
                yield PublishedPort(family, port.protocol, *translation, not routed, *more, note=port.note)


def open_port_errors(ports: Iterable[PublishedPort]) -> list[str]:
    """Errors about ports whose callers are to be told apart, and which are open at the sandbox's own address."""
    return sorted(
        {
            f"{port.path}: its network has gateway mode routed, where the port is not the host's, which could tell "
            "callers apart. Leave allow_from out, and give the sandbox a policy."
            for port in ports
            if port.allow_from is not None and not port.translated
        }
    )


def used_port_errors(ports: Sequence[PublishedPort], facts: Facts) -> list[str]:
    """Errors about ports that a process of the host listens on."""
    wanted: dict[str, list[PublishedPort]] = {}
    for item in ports:
        if item.translated:
            wanted.setdefault(item.protocol, []).append(item)
    result = []
    for protocol, address, number, process in facts.listeners:
        other_port = next((item for item in wanted.get(protocol, ()) if _conflicts(item, address, number)), None)
        if other_port is not None:
            result.append(
                f"{other_port.path}: port {number}/{protocol} of the host is not free: {printable(process, _SHOWN)} "
                f"listens on it{'' if address in ('0.0.0.0', '::') else f' at {address}'}. Publish another "
                "port, or stop it."
            )
    return sorted(set(result))


def unowned_host_ip_errors(topology: Topology, facts: Mapping[str, Facts]) -> dict[str, list[str]]:
    """By host, errors about ports with a host_ip that no host has; empty unless the facts of all hosts are known."""
    if any(host.name not in facts for host in topology.hosts):
        return {}
    known = {address for each in facts.values() for address, _link, _mtu in each.addresses}
    known.update(config.gateway or "" for host in topology.hosts for net in host.networks for config in net.ipam)
    result: dict[str, list[str]] = {}
    for host in topology.hosts:
        for port in ingress_ports(host.services):
            address = ip_address(port.host_ip or "0.0.0.0")
            if not (address.is_unspecified or address.is_loopback or str(address) in known):
                sentence = (
                    f"{port.path}.host_ip: no host has the address {address}. Write one that a host has, or none."
                )
                result.setdefault(host.name, []).append(sentence)
    return result


def unroutable_port_errors(sandboxes: Iterable[Sandbox], ports: Sequence[PublishedPort]) -> list[str]:
    """Errors about tasks' ports that cannot be reached: no network of the task has a route out of the host."""
    done = {port.path for port in ports}
    return sorted(
        {
            f"{port.path}: no network of the task {sandbox.name} can receive connections from outside for this port. "
            "Remove it, or put the service on a network that is not internal and has addresses of the port's family."
            for sandbox in sandboxes
            for port in sandbox.ports
            if port.path not in done
        }
    )


@dataclass(frozen=True)
class SharedPort:
    """A port or range of the host, of one family, that several sandboxes share."""

    port: PublishedPort
    """One of them, for the fields that all have in common."""
    weights: tuple[tuple[str, int], ...]
    """Address and weight, sorted, without drained tasks."""


def shared_ports(ports: Iterable[PublishedPort]) -> list[SharedPort]:
    """The ports that several sandboxes share, sorted."""
    found: dict[tuple[int, str, Range, str], dict[str, PublishedPort]] = {}
    for port in ports:
        if port.weight is not None and port.translated:
            key = (port.family, port.protocol, port.published, port.host_ip or "")
            found.setdefault(key, {})[port.address] = port
    return [
        SharedPort(
            next(iter(group.values())), tuple((address, port.weight or 0) for address, port in sorted(group.items()))
        )
        for _key, group in sorted(found.items())
    ]


def published_twice_errors(ports: Sequence[PublishedPort]) -> list[str]:
    """Errors about ports that two tasks on the same host publish."""
    seen: dict[tuple[int, str, Optional[str], int], PublishedPort] = {}
    result = []
    for item in ports:
        for number in range(item.published[0], item.published[1] + 1) if item.translated else ():
            other = seen.setdefault((item.family, item.protocol, item.host_ip, number), item)
            shared = item.weight is not None and item.path == other.path
            if other.address != item.address and not shared:
                result.append(
                    f"{item.path}: port {number}/{item.protocol} is also published by {other.path} for a sandbox on "
                    "the same host. Publish another port, or place the sandboxes on different hosts."
                )
                break
    return sorted(set(result))


def _conflicts(item: PublishedPort, address: str, number: int) -> bool:
    if not item.published[0] <= number <= item.published[1]:
        return False
    if address == "::":
        return True  # by default a socket at :: accepts IPv4 too
    if family_of(address) != item.family:
        return False
    return address == "0.0.0.0" or item.host_ip in (None, address)
