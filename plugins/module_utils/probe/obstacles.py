# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a host may not be able to do: what its kernel lacks, and what is in the way of a plan."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, Optional

from ..kernel import modules, namespaces, netns_owners
from ..kernel.host import Host
from ..kernel.netns_owners import OwnerError, Silent
from ..plan.forms import FormError
from ..plan.marks import role_of, table_name
from ..plan.records import dataclass
from ..resources import foreign_netns_records, own_namespaces
from ..resources.occupants import SANDBOX, occupants


@dataclass(frozen=True)
class Obstacles:
    """What to look for."""

    owners: Sequence[Mapping[str, Any]] = ()
    """Owners of namespaces that the plan may need: ``owner`` and ``reference`` of each."""
    staying: Optional[Sequence[str]] = None
    """Sandboxes that are still declared: processes are looked for in the others; None: in none."""
    shaping: bool = False
    """Whether endpoints are to be shaped."""

    def found(self, host: Host) -> dict[str, Any]:
        """The sections of the probe's result."""
        return {
            "missing_links": missing_links(host),
            "missing_shaping": modules.missing_shaping(host.run_command) if self.shaping else [],
            "foreign": foreign_objects(host),
            "absent_owners": absent_owners(host, self.owners),
            "occupied": {} if self.staying is None else occupied(host, self.staying),
        }


LINK_TYPES = ("bridge", "ifb", "ipvlan", "macvlan", "veth", "vlan", "vxlan")
"""The types of links that plans are made of."""
_LONGEST = 400


def missing_links(host: Host) -> list[str]:
    """The types of links that the kernel has no way to make."""
    return modules.missing_link_types(LINK_TYPES, host.run_command)


def foreign_objects(host: Host) -> dict[str, list[str]]:
    """Names that plans cannot have for what they make, as others have them: links, namespaces and tables of nftables.

    An object that is left out here is found when the plan is carried out, and refused then.
    """
    links = host.snapshot("").links.values()
    own = own_namespaces.recorded(host.project)
    planned = own_namespaces.planned(host.project) if own is None else ()
    attached = foreign_netns_records.records(host.project)
    return {
        # Ours have a group before they have a mark.
        "link": sorted(
            link["name"]
            for link in links
            if role_of(link["alias"], host.project) is None and not link["group"] and not link["loopback"]
        ),
        "namespace": [
            name
            for name, number in namespaces.numbers().items()
            if name not in attached
            and (name not in planned if own is None else name not in own or own[name].number != number)
        ],
        "nftables": sorted(
            f"{family} {name}"
            for (family, name), table in host.tables("").items()
            if name == table_name(host.project) and role_of(table.comment, host.project) is None
        ),
    }


def absent_owners(host: Host, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of these owners of namespaces that have none now, each with the problem as a sentence.

    Who has one in the kept plan is asked when the host is compared with that; see `stopped_owners`.
    """
    result: list[dict[str, Any]] = []
    silent: dict[str, str] = {}
    kept = own_namespaces.planned_owners(host.project).values() if wanted else ()
    for item in wanted:
        owner, reference = str(item["owner"]), str(item["reference"])
        if (owner, reference) in kept:
            continue
        problem = silent.get(owner, "")
        try:
            if not problem:
                netns_owners.find(owner, reference, host.run_command)
        except (OwnerError, FormError) as error:
            problem = str(error)[:_LONGEST]
            if isinstance(error, Silent):
                silent[owner] = problem
        if problem:
            result.append({"owner": owner, "reference": reference, "problem": problem, "kept": False})
    return result


def stopped_owners(host: Host) -> list[dict[str, Any]]:
    """The same of the kept plan's owners, once the host has been compared with it: ``kept`` says so."""
    if not host.broken:
        return []
    return [
        {"owner": owner, "reference": reference, "problem": host.broken[name][:_LONGEST], "kept": True}
        for name, (owner, reference) in sorted(own_namespaces.planned_owners(host.project).items())
        if name in host.broken
    ]


def occupied(host: Host, staying: Container[str]) -> dict[str, str]:
    """By sandbox of ours that is not among those that stay, the processes in it."""
    own = own_namespaces.recorded(host.project) or {}
    there = namespaces.numbers()
    return occupants(
        {
            name: item.number
            for name, item in own.items()
            if name not in staying and item.role.startswith(SANDBOX) and there.get(name) == item.number
        }
    )
