# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Checks that compare policies with what they are about: names that exist, and sandboxes that can be guarded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Union

from .egress import EGRESS
from .errors import ValidationError, VarPath, name_hosts
from .ingress import INGRESS
from .keys import did_you_mean
from .topology import DIRECTIONS, INGRESS_RULES, AddressSet, Host, Network, Policy, Sandbox, Service

Found = Iterator[tuple[str, ValidationError]]

_NOUNS = {
    "network": ("network", "cnm_networks"),
    "sandbox": ("sandbox", "cnm_sandboxes"),
    "service": ("service", "cnm_services"),
    "host": ("host in the topology", "cnm_hosts"),
    "addresses": ("address set", "cnm_address_sets"),
}


def check_policies(hosts: Sequence[Host], complete: bool = True) -> Found:
    """All errors of policies, as (host, error).

    Unless these are all hosts of the topology (``complete``), a rule may name what is only on others.
    """
    names = {
        "network": frozenset(item.name for host in hosts for item in host.networks) | {INGRESS},
        "sandbox": frozenset(item.name for host in hosts for item in host.sandboxes),
        "service": frozenset(item.name for host in hosts for item in host.services),
        "host": frozenset(host.name for host in hosts),
    }
    sharing = {box.name: box.shared_with for host in hosts for box in host.sandboxes if box.shared_with}
    for host in hosts:
        errors: list[ValidationError] = []
        own = {**names, "addresses": frozenset(item.name for item in host.address_sets)}
        for policy in host.policies:
            _check_peers(policy, own if complete else {}, sharing, errors)
        declared = frozenset(policy.name for policy in host.policies)
        for owner in host.policed:
            _check_names(owner, declared, errors)
        for sandbox in host.sandboxes:
            _check_guarded(sandbox, host, errors)
        for service in host.services:
            _check_guarded(service, host, errors)
        yield from ((host.name, error) for error in errors)
    yield from _same("cnm_policies", [(host.name, host.policies) for host in hosts])
    yield from _same("cnm_address_sets", [(host.name, host.address_sets) for host in hosts])


def _check_peers(
    policy: Policy, names: dict[str, frozenset[str]], sharing: Mapping[str, str], errors: list[ValidationError]
) -> None:
    for direction in DIRECTIONS:
        for rule in policy.rules(direction):
            for index, peer in enumerate(rule.peers):
                key = "from" if direction == INGRESS_RULES else "to"
                path = VarPath(rule.path, errors) / key / index / peer.kind
                if peer.kind == "sandbox" and peer.name in sharing:
                    path.wrong(
                        f"It has the network of the sandbox {sharing[peer.name]}, and no addresses of its own.",
                        f"Write `{sharing[peer.name]}`.",
                        peer.name,
                    )
                if peer.kind not in names or peer.name in names[peer.kind]:
                    continue
                noun, variable = _NOUNS[peer.kind]
                path.wrong(
                    f"There is no {noun} `{peer.name[:63]}`.",
                    did_you_mean(peer.name, names[peer.kind], f"Declare it in {variable}, or name one that is there."),
                )


def _check_names(
    owner: Union[Network, Sandbox, Service], declared: frozenset[str], errors: list[ValidationError]
) -> None:
    for index, policy in enumerate(owner.policies):
        if policy not in declared:
            (VarPath(owner.path, errors) / "policies" / index).wrong(
                f"There is no policy `{policy}` on this host.",
                did_you_mean(policy, declared, "Declare it in cnm_policies, for all hosts that use it."),
            )


def _check_guarded(owner: Union[Sandbox, Service], host: Host, errors: list[ValidationError]) -> None:
    """A policy holds on all networks of a sandbox, so each has to be one where packets pass a bridge of ours."""
    places = owner.endpoints if isinstance(owner, Sandbox) else owner.networks
    networks = [item for place in places if (item := host.network(place.network)) is not None]
    policies = (*owner.policies, *(policy for network in networks for policy in network.policies))
    if not policies:
        return
    path = VarPath(owner.path, errors) / "policies"
    mode = owner.network_mode if isinstance(owner, Sandbox) else None
    if mode == "host":
        path.wrong(
            "With network_mode host it has the host's own network, where no policy could hold.",
            "Leave the policies out, or put it on a network.",
        )
    for network in networks:
        reason = _why_unguarded(network)
        if reason and network.name not in (EGRESS, INGRESS):
            path.wrong(
                f"The policy {policies[0]} would hold on the network {network.name} too, {reason}.",
                "Leave the policies out, or the network.",
            )


def _why_unguarded(network: Network) -> str:
    """Why no policy can hold on a network, as a relative clause; "" if one can."""
    traits = network.traits
    if traits.on_parent:
        return "whose packets pass no bridge of the host, so that nothing could drop them out of the sandbox's reach"
    if traits.mode == "host":
        return "which is the host's own"
    if not network.firewall:
        return "which has `firewall: none`"
    if not traits.mode and (not traits.bridged or (traits.forwarding is None and traits.tunnel is None)):
        return "whose driver does not say that its packets pass a bridge of ours"
    return ""


def _same(variable: str, declared: Iterable[tuple[str, Sequence[Union[Policy, AddressSet]]]]) -> Found:
    """A name means the same on every host that has it."""
    found: dict[str, dict[Union[Policy, AddressSet], list[str]]] = {}
    for host, items in declared:
        for item in items:
            found.setdefault(item.name, {}).setdefault(item, []).append(host)
    for versions in found.values():
        if len(versions) < 2:
            continue
        first, *_others = versions
        differing = "; ".join(f"one on {name_hosts(hosts)}" for hosts in versions.values())
        error = ValidationError(
            first.path,
            f"It must be the same on every host that has it; there is {differing}.",
            f"Declare it once, in {variable} of a group that has all these hosts, or give them different names.",
        )
        yield from ((host, error) for hosts in versions.values() for host in hosts)
