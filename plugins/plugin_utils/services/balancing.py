# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Virtual IPs in the client's own sandbox, which sends each new connection to one of a service's tasks.  Pure.

The destination is translated in the sandbox where the connection begins, so the tasks see the client's address.  An
engine is a function from a sandbox's name and its virtual services to a `Balancing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...module_utils.plan.base import Resource
from ...module_utils.plan.families import family_of
from ...module_utils.plan.nftables import Chain, NftSet
from ...module_utils.plan.records import dataclass
from ..declaration.topology import Host
from ..facts import Facts
from ..ipam.vips import Vip
from .placement import PlacedService


@dataclass(frozen=True)
class VirtualService:
    """A VIP with its tasks' addresses and weights.  A task of weight 0 is drained: it gets no new connections."""

    vip: str
    scheduler: str
    tasks: tuple[tuple[str, int], ...]

    @property
    def family(self) -> int:
        """4 or 6."""
        return family_of(self.vip)


def virtual_services(
    vips: Mapping[str, Vip], members: Mapping[str, Sequence[str]], services: Mapping[str, PlacedService]
) -> list[VirtualService]:
    """All virtual services of a network, by service, IPv4 first; ``members`` has the addresses of each sandbox."""
    result = []
    for name, vip in vips.items():
        placed = services[name]
        for address in vip.addresses:
            tasks = []
            for task, host in zip(placed.names, placed.tasks.values()):
                weight = placed.weight(task, host)
                same = [each for each in members.get(task, ()) if family_of(each) == family_of(address)]
                tasks += [(each, weight) for each in same]
            result.append(VirtualService(address, placed.service.scheduler, tuple(tasks)))
    return result


def balancing_engine(host: Host, facts: Facts) -> str:
    """The host's engine: the declared one; for ``auto`` IPVS if the kernel has it, else nftables."""
    declared = host.settings.load_balancer
    return ("ipvs" if facts.ipvs else "nftables") if declared == "auto" else declared


def of_family(services: Iterable[VirtualService], family: int) -> list[VirtualService]:
    """The services of one family, sorted, each VIP once."""
    found = {item.vip: item for item in services if item.family == family}
    return [item for _vip, item in sorted(found.items())]


@dataclass(frozen=True)
class Balancing:
    """An engine's rules and resources in a sandbox for its virtual services."""

    sets: tuple[NftSet, ...] = ()
    output: tuple[str, ...] = ()
    """Rules of the chain that translates destinations of connections from the sandbox."""
    chains: tuple[Chain, ...] = ()
    resources: tuple[Resource, ...] = ()
    """Resources besides the table."""
