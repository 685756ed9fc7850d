# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Virtual IPs by nftables: one rule per VIP chooses a number and translates to the task with that number.  Pure.

The map from numbers to tasks is part of the rule, so that both change at once.  With a named map there would be a
moment in which a number without a task is chosen, and that connection would never be translated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import gcd

from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE
from ...module_utils.plan.forms import address
from ...module_utils.plan.nftables import VIP_TASKS, NftSet, task_set
from .balancing import Balancing, VirtualService, of_family

_SEED = "0x636e6d"
"""A fixed seed: otherwise the kernel chooses a new one with each change of rules, and all clients change tasks."""
_BY_CALLER = "sh"
SCHEDULERS = ("rr", "wrr", _BY_CALLER)
"""What it has; as by IPVS, tasks of unequal weights get unequal shares with ``rr`` too."""
_LONGEST_TURN = 256
"""Numbers of a rule that takes tasks in turn; beyond that it would grow with the weights, and chance does as well."""
_NEAREST = {"mh": "sh"}
"""Replacements for schedulers that nftables lacks, if rr is not the most similar one."""


def host_services(services: Iterable[VirtualService]) -> list[VirtualService]:
    """The services for clients on the host itself.  IPVS is not used there, as the host may use it otherwise."""
    return [
        item if item.scheduler in SCHEDULERS else replace(item, scheduler=_NEAREST.get(item.scheduler, "rr"))
        for item in services
    ]


def by_nftables(sandbox: str, services: Iterable[VirtualService]) -> Balancing:
    """Rules of a sandbox's chain ``output``, and the tasks of each VIP, drained ones too."""
    del sandbox
    every = list(services)
    sets: list[NftSet] = []
    rules: list[str] = []
    for family, ip in NFT_PROTOCOL.items():
        own = of_family(every, family)
        if not own:
            continue
        for item in own:
            rules += _rules(item, ip)
        # Bookkeeping set, used by no rule: removing an element deletes its conntrack entries.
        elements = tuple(sorted(f"{item.vip} . {task}" for item in own for task, _weight in item.tasks))
        kind = f"type {NFT_TYPE[family]} . {NFT_TYPE[family]};"
        sets.append(task_set(VIP_TASKS, family, kind, elements))
    return Balancing(tuple(sets), tuple(rules))


def _rules(service: VirtualService, ip: str) -> list[str]:
    at = f"{ip} daddr {address(service.vip)}"
    weights = [(address(task), weight) for task, weight in service.tasks if weight]
    if not weights:
        # Chains of the type nat see packets only while something in the namespace tracks connections: this does.
        at += " ct state new"
        return [f"{at} meta l4proto 6 reject with tcp reset", f"{at} reject"]
    to = _of_caller(weights, ip) if service.scheduler == _BY_CALLER else in_turn(weights)
    return [f"{at} dnat {ip} to {to}"]


def in_turn(weights: Sequence[tuple[str, int]]) -> str:
    """An expression that takes one of several targets after the other, each as often as its weight says.

    Those of a greater weight do not get their connections in one go: of 3 and 1 the turn is a a b a.
    """
    if len(weights) == 1:
        return weights[0][0]
    divisor = gcd(*(weight for _target, weight in weights))
    shares = [(target, weight // divisor) for target, weight in weights]
    total = sum(weight for _target, weight in shares)
    if total > _LONGEST_TURN:
        return _numbered(f"numgen random mod {total}", shares)
    return _numbered(f"numgen inc mod {total}", [(target, 1) for target in _turn(shares, total)])


def _turn(shares: Sequence[tuple[str, int]], total: int) -> Iterator[str]:
    """The order in which targets are taken: each time the one that is most behind its share."""
    behind = [0] * len(shares)
    for _number in range(total):
        behind = [more + weight for more, (_target, weight) in zip(behind, shares)]
        next_one = behind.index(max(behind))
        behind[next_one] -= total
        yield shares[next_one][0]


def _of_caller(weights: Sequence[tuple[str, int]], ip: str) -> str:
    """An expression that takes the same target for all connections from an address."""
    if len(weights) == 1:
        return weights[0][0]
    total = sum(weight for _target, weight in weights)
    return _numbered(f"jhash {ip} saddr mod {total} seed {_SEED}", weights)


def _numbered(choice: str, weights: Sequence[tuple[str, int]]) -> str:
    """An expression for one of several targets: those of a greater weight have more of the numbers."""
    numbers, first = [], 0
    for target, weight in weights:
        numbers.append(f"{first if weight == 1 else f'{first}-{first + weight - 1}'} : {target}")
        first += weight
    return f"{choice} map {{ {', '.join(numbers)} }}"
