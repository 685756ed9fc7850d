# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The parent link of macvlan and ipvlan networks on a host: an existing link, a VLAN link to make, or none.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from ...module_utils.plan.links import Parent
from ..declaration.options import MTU
from ..declaration.topology import Network
from ..facts import Facts, LinkFacts

_DEFAULT_MTU = 1500
_TAKEN_WHOLE = ("macvlan", "ipvlan")
_STEMS = {"macvlan": "dm", "ipvlan": "di"}
_NAMED = 12


@dataclass(frozen=True)
class Attachment:
    """The link that a network's sandboxes are made on, and the MTU they have."""

    link: str
    mtu: int
    makes: str = ""
    """What has to be made there: "" for a link that is there anyway, ``vlan``, or ``ifb`` if nothing leads out."""
    below: str = ""
    vlan: int = 0
    """Of a VLAN link to make what it is made on, and its ID."""

    def on(self, network: Network) -> Parent:
        """As what a link of the network is made."""
        if network.driver == "macvlan":
            return Parent(self.link, network.option("macvlan_mode") or "bridge")
        return Parent(self.link, network.option("ipvlan_mode") or "l2", network.option("ipvlan_flag") or "bridge")


def attach(network: Network, network_id: str, facts: Facts) -> Union[Attachment, list[str]]:
    """The network's parent on the host, or the errors that rule it out."""
    name = network.parent
    if not name:
        mtu = int(network.option(MTU) or 0) or _DEFAULT_MTU
        return Attachment(f"{_STEMS[network.driver]}-{network_id[:12]}", mtu, "ifb")
    link = facts.links.get(name)
    found = _of_a_vlan(name, facts) if link is None or link.made else _as_it_is(name, link, network, facts)
    problems = [found] if isinstance(found, str) else _too_large(network, found)
    if not problems and network.option("macvlan_mode") == "passthru" and name in carrying(facts):
        why = f"Ansible reaches this host by {name}, and the mode passthru would take it from the host."
        problems = [f"{why} Choose another link, or the mode bridge."]
    if isinstance(found, str) or problems:
        return [f"{network.path}.driver_opts.parent: {problem}" for problem in problems]
    return Attachment(found.link, int(network.option(MTU) or 0) or found.mtu, found.makes, found.below, found.vlan)


def warnings_of(network: Network, attachment: Attachment, facts: Facts) -> list[str]:
    """Warnings of a parent link that is down."""
    link = facts.links.get(attachment.link)
    if link is None or link.up:
        return []
    problem = f"its parent {attachment.link} is down, so nothing gets through"
    return [f"{network.path}: {problem}: it is the host's own, and not brought up by us"]


def carrying(facts: Facts) -> set[str]:
    """The links by which Ansible reaches the host, with their lower links and ports."""
    result: set[str] = set()
    left = list(facts.reached_by)
    while left:
        name = left.pop()
        if name not in result:
            result.add(name)
            link = facts.links.get(name)
            left += [link.below] if link is not None and link.below else []
            left += [other for other, item in facts.links.items() if item.master == name]
    return result


def _of_a_vlan(name: str, facts: Facts) -> Union[Attachment, str]:
    base, dot, number = name.rpartition(".")
    below = facts.links.get(base)
    if not (dot and number.isdigit()):
        return f"there is no link {name} on this host. Write one that it has: {_names(facts.links)}."
    if below is None:
        return f"there is no link {name} on this host, and no {base} to make it on. It has {_names(facts.links)}."
    if not below.ethernet or below.loopback:
        return f"{base} is no Ethernet link, so it has no VLANs. Write one that is: {_names(facts.links)}."
    if not below.up:
        return f"{base}, which the VLAN link {name} is to be made on, is down. Bring it up before."
    return Attachment(name, below.mtu, "vlan", base, int(number))


def _as_it_is(name: str, link: LinkFacts, network: Network, facts: Facts) -> Union[Attachment, str]:
    others = sorted(
        other
        for other, item in facts.links.items()
        if item.below == name and item.kind in _TAKEN_WHOLE and item.kind != network.driver and not item.made
    )
    if link.loopback or not link.ethernet:
        return f"{name} is no Ethernet link. Write one that is: {_names(facts.links)}."
    if link.owner:
        return f"{name} was made by the project {link.owner} and goes when that does. Write a link of the host's own."
    if link.ours:
        return f"{name} is made by this inventory itself ({link.ours}). Write a link of the host's own."
    if link.kind in _TAKEN_WHOLE:
        return f"{name} is a {link.kind} link itself. Write what it is on{f', {link.below}' if link.below else ''}."
    if link.master:
        return f"{name} is a port of {link.master}, which has all that comes by it. Write {link.master} instead."
    if others:
        carried = f"the {facts.links[others[0]].kind} link {others[0]}"
        return f"{name} already carries {carried}; no {network.driver} can share it."
    return Attachment(name, link.mtu)


def _too_large(network: Network, found: Attachment) -> list[str]:
    wanted = int(network.option(MTU) or 0)
    if wanted <= found.mtu:
        return []
    below = found.below or found.link
    return [
        f"{below} has an MTU of {found.mtu}, and the network's cannot be larger ({wanted}). Leave it out, or lower it."
    ]


def _names(links: Mapping[str, LinkFacts]) -> str:
    usable = sorted(
        name
        for name, link in links.items()
        if link.ethernet
        and link.kind not in _TAKEN_WHOLE
        and not (link.loopback or link.master or link.ours or link.made or link.owner)
    )
    more = [f"and {len(usable) - _NAMED} more"] if len(usable) > _NAMED else []
    return ", ".join([*usable[:_NAMED], *more]) or "none"
