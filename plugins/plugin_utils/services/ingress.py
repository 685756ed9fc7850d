# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Docker's routing mesh: a published port of any host is forwarded to a task on any host.  Pure.

As in Docker's Swarm, each host has an ingress sandbox on a network of all hosts.  The host's port is forwarded to that
sandbox, and from there, with the sandbox's address as source, to a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...module_utils.plan import forms
from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE, family_of
from ...module_utils.plan.nftables import INGRESS_TASKS, Chain, NftSet, task_set
from ...module_utils.plan.records import dataclass
from ...module_utils.plan.settings import Sysctl
from ..declaration.ingress import SANDBOX
from ..declaration.topology import Port
from ..networks.spanning import Spanning
from .nftables import in_turn
from .placement import PlacedService

Range = tuple[int, int]


@dataclass(frozen=True)
class IngressPort:
    """A published port or range with the addresses of the service's tasks on the ingress network."""

    port: Port
    tasks: tuple[tuple[str, int], ...]
    """Address and weight, of both families, without drained tasks."""


def ingress_backends(network: Spanning, services: Mapping[str, PlacedService]) -> list[IngressPort]:
    """Each published port with its tasks' addresses and weights."""
    result = []
    for placed in services.values():
        tasks = [
            (address, placed.weight(task, host))
            for task, host in zip(placed.names, placed.tasks.values())
            if task in network.members
            for address in network.members[task].addresses
        ]
        result += [IngressPort(port, tuple(tasks)) for port in placed.service.ports if port.mode == "ingress"]
    return sorted(result, key=lambda item: (item.port.published, item.port.protocol))


def ingress_rules(ports: Iterable[IngressPort], inner: str) -> tuple[list[NftSet], list[Chain]]:
    """Sets and chains of an ingress sandbox whose link on the ingress network is ``inner``.

    A port whose tasks are all drained is not translated, so connections to it are refused.
    """
    sets: list[NftSet] = []
    translated: list[str] = []
    every, link = list(ports), forms.nft_link(inner)
    for family in (4, 6):
        served = []
        for item in every:
            tasks = [(address, weight) for address, weight in item.tasks if family_of(address) == family]
            weights = [(address, weight) for address, weight in tasks if weight]
            published = f"{item.port.protocol} . {_range(item.port.published)}"
            served += [f"{published} . {address}" for address, _weight in tasks]
            if weights:
                rules = translations(item.port.protocol, item.port.published, item.port.target, weights, family)
                translated += [f"iifname != {link} {rule}" for rule in rules]
        # Bookkeeping set, used by no rule: removing an element deletes its conntrack entries.
        kind = f"type inet_proto . inet_service . {NFT_TYPE[family]}; flags interval;"
        sets.append(task_set(INGRESS_TASKS, family, kind, tuple(sorted(set(served)))))
    return sets, [
        Chain("prerouting", "type nat hook prerouting priority -100; policy accept", tuple(dict.fromkeys(translated))),
        Chain("postrouting", "type nat hook postrouting priority 100; policy accept", (f"oifname {link} masquerade",)),
    ]


def ingress_sysctls() -> list[Resource]:
    """The ingress sandbox forwards packets."""
    return [Sysctl(SANDBOX, name, "1") for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")]


def _range(numbers: tuple[int, int]) -> str:
    return str(numbers[0]) if numbers[0] == numbers[1] else f"{numbers[0]}-{numbers[1]}"


def translations(
    protocol: str, published: Range, target: Range, weights: Sequence[tuple[str, int]], family: int
) -> list[str]:
    """Rules that translate ports to one of several addresses: one rule if the numbers do not change, else one each.

    ``weights`` are addresses with their shares of the connections, at least one address.
    """
    weights = [(forms.address(address), weight) for address, weight in weights]
    of_family = f"meta nfproto ipv{family} {protocol} dport"
    if published == target:
        to = in_turn(weights)
        return [f"{of_family} {_range(published)} dnat {NFT_PROTOCOL[family]} to {to}"]
    numbers = zip(range(published[0], published[1] + 1), range(target[0], target[1] + 1))
    if len(weights) == 1:
        address = f"[{weights[0][0]}]" if family == 6 else weights[0][0]
        return [f"{of_family} {number} dnat {NFT_PROTOCOL[family]} to {address}:{to}" for number, to in numbers]
    return [
        f"{of_family} {number} dnat {NFT_PROTOCOL[family]} addr . port to "
        + in_turn([(f"{address} . {target_port}", weight) for address, weight in weights])
        for number, target_port in numbers
    ]
