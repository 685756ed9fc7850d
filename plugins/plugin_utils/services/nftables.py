# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Virtual IPs by nftables: one rule per VIP chooses a number and translates to the task with that number.  Pure.

The map from numbers to tasks is part of the rule, so that both change at once.  With a named map there would be a
moment in which a number without a task is chosen, and that connection would never be translated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...module_utils.plan.families import NFT_PROTOCOL, NFT_TYPE
from ...module_utils.plan.forms import address
from ...module_utils.plan.nftables import VIP_TASKS, NftSet, task_set
from .balancing import Balancing, VirtualService, of_family

_SEED = "0x636e6d"
"""A fixed seed: otherwise the kernel chooses a new one with each change of rules, and all clients change tasks."""
_CHOICES = {"rr": "numgen inc mod {n}", "sh": f"jhash {{ip}} saddr mod {{n}} seed {_SEED}"}
"""The expression that chooses one of ``n`` numbers, by scheduler (nft(8))."""


SCHEDULERS = tuple(_CHOICES)
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
        return [f"{at} meta l4proto 6 reject with tcp reset", f"{at} reject"]
    choice = _CHOICES[service.scheduler].format(n=sum(weight for _task, weight in weights), ip=ip)
    return [f"{at} dnat {ip} to {chosen(choice, weights)}"]


def chosen(choice: str, weights: Sequence[tuple[str, int]]) -> str:
    """An expression for one of several targets: those of a greater weight have more of the numbers."""
    if len(weights) == 1:
        return weights[0][0]
    numbers, first = [], 0
    for target, weight in weights:
        numbers.append(f"{first if weight == 1 else f'{first}-{first + weight - 1}'} : {target}")
        first += weight
    return f"{choice} map {{ {', '.join(numbers)} }}"
