# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which sandbox each published port of a host leads to, and by which network.

As in Docker a port of the host leads to the network that supplies the sandbox's default route of that family; in
gateway mode routed the host has no port of its own, and the sandbox's is open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Optional

from ...module_utils.plan.families import family_of
from ...module_utils.plan.records import dataclass
from .errors import ValidationError, VarPath
from .ports import is_choice
from .topology import Endpoint, Network, Port, Sandbox

_DIGITS = re.compile(r"\d+")

Member = tuple[Endpoint, Network]
Lookup = Callable[[str], Optional[Network]]


@dataclass(frozen=True)
class _Claim:
    """A range of ports of the host, at one address or (None) at every one of the family."""

    ports: tuple[int, int]
    address: Optional[str]
    sandbox: Sandbox
    port: Port


@dataclass(frozen=True)
class _Ways:
    """What a sandbox's ports lead through: by family the network for ports of the host, and where they are open."""

    translated: dict[int, Network]
    families: frozenset[int]


def chosen_ports(sandboxes: Sequence[Sandbox], errors: list[ValidationError]) -> tuple[Sandbox, ...]:
    """The sandboxes with one port in place of each range that has one target: the first that no other one of the host
    publishes, in order of the sandboxes' names, as Docker does in the order in which containers start.
    """
    fixed = [port for sandbox in sandboxes for port in sandbox.ports if not is_choice(port)]
    result = {}
    for sandbox in sorted(sandboxes, key=lambda item: _DIGITS.sub(lambda match: match[0].zfill(9), item.name)):
        ports = []
        for port in sandbox.ports:
            chosen = _chosen(port, fixed, errors) if is_choice(port) else port
            if chosen is not None:
                ports.append(chosen)
            if chosen is not None and chosen is not port:
                fixed.append(chosen)
        result[sandbox.name] = replace(sandbox, ports=tuple(ports))
    return tuple(result[sandbox.name] for sandbox in sandboxes)


def _chosen(port: Port, others: Sequence[Port], errors: list[ValidationError]) -> Optional[Port]:
    first, last = port.published
    used = sorted(
        other.published
        for other in others
        if other.protocol == port.protocol and (None in (other.host_ip, port.host_ip) or other.host_ip == port.host_ip)
    )
    for low, high in used:
        if low <= first <= high:
            first = high + 1
    if first > last:
        VarPath(port.path, errors).wrong(
            f"All ports of {port.published[0]}-{last} are published by others of this host.", "Write a wider range."
        )
        return None
    return replace(port, published=(first, first))


def check_ports(sandboxes: Sequence[Sandbox], network: Lookup, errors: list[ValidationError]) -> None:
    """Note ports that cannot be published, or lead to two sandboxes; ``network`` gives None for what is broken."""
    claims: dict[tuple[int, str], list[_Claim]] = {}
    for sandbox in sandboxes:
        if not sandbox.ports:
            continue
        networks = [network(endpoint.network) for endpoint in sandbox.endpoints]
        members = [(endpoint, net) for endpoint, net in zip(sandbox.endpoints, networks) if net is not None]
        if len(members) < len(networks):
            continue
        ways = _ways(members)
        if not ways.families:
            problem, remedy = _why_none(sandbox, members)
            (VarPath(sandbox.path, errors) / "ports").wrong(problem, remedy)
            continue
        for port in sandbox.ports:
            _check_family(port, ways, errors)
            for family, address in _bindings(port, ways):
                claim = _Claim(port.published, address, sandbox, port)
                claims.setdefault((family, port.protocol), []).append(claim)
    _check_claims(claims, errors)


def _ways(members: Sequence[Member]) -> _Ways:
    translated, families = {}, set()
    for family in (4, 6):
        default = default_route(members, family)
        if default is not None and default.firewall and default.traits.forwarding and not _is_routed(default, family):
            translated[family] = default
        if family in translated or any(
            family in network.traits.ways_out and network.firewall and _is_routed(network, family)
            for _endpoint, network in members
        ):
            families.add(family)
    return _Ways(translated, frozenset(families))


def _is_routed(network: Network, family: int) -> bool:
    forwarding = network.traits.forwarding
    return forwarding is not None and forwarding.mode(family) == "routed"


def default_route(members: Sequence[Member], family: int) -> Optional[Network]:
    """The network that supplies a sandbox's default route: by gw_priority, number of families, and name."""
    found = [(endpoint, network) for endpoint, network in members if family in network.traits.ways_out]
    if len(found) < 2:
        return found[0][1] if found else None
    return min(found, key=lambda item: (-item[0].gw_priority, -len(item[1].traits.ways_out), item[1].name))[1]


def _why_none(sandbox: Sandbox, members: Sequence[Member]) -> tuple[str, str]:
    mode = sandbox.network_mode or next((net.traits.mode for _endpoint, net in members if net.traits.mode), "")
    if mode == "host":
        problem = "A sandbox in the host's own network has the host's ports, and none to publish."
        return problem, "Leave ports out: what listens in it is reached at the host's addresses."
    if sandbox.shared_with:
        return "The sandbox is in the namespace of another one, which publishes the ports.", (
            f"Write them with {sandbox.shared_with}."
        )
    if mode == "none" or not members:
        return "A sandbox without a network has no ports to publish.", "Leave ports out, or put it on a network."
    able = next(
        (net.name for _endpoint, net in members if net.traits.forwarding and net.firewall and net.traits.ways_out),
        "",
    )
    reasons = ", ".join(f"`{network.name}` {_why_not(network)}" for _endpoint, network in members)
    remedy = "Leave ports out, or put it on a bridge network that is not internal."
    if able:
        remedy = f"Leave ports out, or give the endpoint on `{able}` the highest gw_priority."
    return f"No network of the sandbox can publish ports: {reasons}.", remedy


def _why_not(network: Network) -> str:
    forwarding = network.traits.forwarding
    if network.traits.on_parent:
        return f"is of the driver {network.driver}, where a sandbox is reached at its own address and has all its ports"
    modes = [forwarding.mode(family) for family in (4, 6) if network.has(family)] if forwarding else []
    if modes and all(mode == "isolated" for mode in modes):
        return "has the gateway mode isolated"
    if network.internal:
        return "is internal"
    return "does not supply the default route" if network.firewall else "has `firewall: none`"


def _check_family(port: Port, ways: _Ways, errors: list[ValidationError]) -> None:
    if port.host_ip is None or family_of(port.host_ip) in ways.families:
        return
    family = family_of(port.host_ip)
    VarPath(port.path, errors).wrong(
        f"The sandbox has no network that publishes ports for IPv{family}.",
        f"Write an IPv{10 - family} address of the host, or none, or give one of its networks IPv{family}.",
        port.host_ip,
    )


def _bindings(port: Port, ways: _Ways) -> Iterator[tuple[int, Optional[str]]]:
    """Families and addresses (None: all) of the host that a port is published at."""
    for family, network in ways.translated.items():
        bound, address = binding(port, network, family)
        if bound:
            yield family, address


def binding(port: Port, network: Network, family: int) -> tuple[bool, Optional[str]]:
    """Whether a port that leads to a network is published in that family, and at which address of the host (None: all).

    The network's own ``0.0.0.0`` is Docker's word for all addresses of both families, a port's own is not.
    """
    default = network.traits.forwarding.binding if network.traits.forwarding else ""
    address = port.host_ip or ("" if default == "0.0.0.0" else default)
    if address and family_of(address) != family:
        return False, None
    return True, None if address in ("", "0.0.0.0", "::") else address


def _check_claims(claims: dict[tuple[int, str], list[_Claim]], errors: list[ValidationError]) -> None:
    """In order of port, a range overlaps one before if it begins no later than the farthest of those ended."""
    seen = set()
    for group in claims.values():
        farthest: dict[Optional[str], _Claim] = {}
        widest: Optional[_Claim] = None
        for claim in sorted(group, key=lambda item: item.ports[0]):
            rivals = (widest,) if claim.address is None else (farthest.get(None), farthest.get(claim.address))
            other = next((item for item in rivals if item and item.ports[1] >= claim.ports[0]), None)
            if other is not None and (claim.port.path, other.port.path) not in seen:
                seen.add((claim.port.path, other.port.path))
                _report_conflict(claim, other, errors)
            if widest is None or claim.ports[1] > widest.ports[1]:
                widest = claim
            before = farthest.get(claim.address)
            if before is None or claim.ports[1] > before.ports[1]:
                farthest[claim.address] = claim


def _report_conflict(claim: _Claim, other: _Claim, errors: list[ValidationError]) -> None:
    first, last = claim.ports[0], min(claim.ports[1], other.ports[1])
    ports = f"Port {first}" if first == last else f"Ports {first}-{last}"
    VarPath(claim.port.path, errors).wrong(
        f"{ports}/{claim.port.protocol} of the host lead{'s' if first == last else ''} to the sandbox "
        f"`{other.sandbox.name}` ({other.port.path}) already.",
        "Publish another port, or each at an address of its own.",
    )
