# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What macvlan and ipvlan have in common: sandboxes' links are made on a link of the host, their parent.

The parent is the host's and stays as it is.  Made on the host, and only where it is asked for, are a VLAN link to be
the parent, a link that swallows what is sent for a network without one, and the shim by which the host is on the
network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional, Union

from ...module_utils.plan.addresses import Address, Route
from ...module_utils.plan.base import Resource
from ...module_utils.plan.constants import DEFAULT_MTU
from ...module_utils.plan.families import LENGTH, family_of
from ...module_utils.plan.links import Link, Parent
from ...module_utils.plan.marks import LAN_GROUP
from ..declaration.driver import Option, Traits
from ..declaration.errors import ValidationError, VarPath
from ..declaration.names import LINK, name
from ..declaration.options import ANY_NETWORK, boolean
from ..declaration.topology import Endpoint, Network, Sandbox
from ..facts import Facts, LinkFacts
from ..ipam.identifiers import lan_name, mac_of, shim_name
from .base import Attachment, Driver, PlannedEndpoint, PlannedNetwork
from .endpoints import ANNOUNCEMENT_OPTIONS, endpoint_resources

PARENT, HOST_ACCESS = "parent", "host_access"

_LARGEST_VLAN = 4094
_VLAN = re.compile(r"[1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-4]")
_EXCLUSIVE_KINDS = ("macvlan", "ipvlan")
_SHOWN = 12


def _read_parent(text: str, path: VarPath) -> str:
    if text == "lo":
        path.wrong("The loopback leads to no network.", "Write the link that does, like `eth0`.", text)
        return ""
    base, dot, number = text.rpartition(".")
    if dot and number.isascii() and number.isdigit() and not _VLAN.fullmatch(number):
        path.wrong(
            f"There is no VLAN {number[:10]}: their IDs are 1 to {_LARGEST_VLAN} (IEEE 802.1Q), with no 0 in front.",
            f"Write a link and a VLAN's ID, like `{base[:10] or 'eth0'}.10`.",
            text,
        )
        return ""
    return name(text, LINK, path) or ""


PARENT_OPTIONS = {
    **ANY_NETWORK,
    **ANNOUNCEMENT_OPTIONS,
    PARENT: Option(_read_parent, "The host's link that leads to the LAN; `eth0.10` is made if need be.", of_host=True),
    HOST_ACCESS: Option(boolean, "Whether the host has an address on the network, too.", "false", of_host=True),
}


class ParentDriver(Driver):
    """Networks of a link type that is made on another link."""

    def traits_on_parent(self, network: Network, *, exclusive: str, shares_mac: bool, routed: bool = False) -> Traits:
        """``routed``: whether the host routes between the network and the rest; the others are traits."""
        parent, forwarding = network.option(PARENT), self.forwarding(network)
        ways_out = [
            family
            for family in (4, 6)
            if network.has(family)
            and not network.internal
            and (routed or any(config.gateway for config in network.ipam if config.family == family))
        ]
        return Traits(
            spans_hosts=bool(parent) and not routed,
            bridged=False,
            on_parent=True,
            parent=parent,
            exclusive=exclusive,
            shares_mac=shares_mac,
            host_access=network.option(HOST_ACCESS) == "true",
            chooses_gateway=False,
            ways_out=tuple(ways_out),
            isolates=None if forwarding == "vepa" else forwarding == "private",
        )

    def check(self, network: Network, path: VarPath) -> None:
        options = path / "driver_opts"
        if not names_parent(network, path) and not network.internal:
            options.wrong(
                f"A network of the driver {self.name} is on a link of the host, and this one names none.",
                "Write `parent: eth0`, with the link that leads to the LAN, or `internal: true` for one without.",
            )
        if not network.firewall:
            (path / "firewall").wrong(
                "The host's firewall never sees what a sandbox on a LAN says.", "Leave it out.", "none"
            )
        apart = self.forwarding(network)
        if network.traits.host_access and apart not in ("", "bridge"):
            (options / HOST_ACCESS).wrong(
                f"What is on the parent of a network that says {apart} is kept from each other, the host among it.",
                f"Leave out one of the two, {HOST_ACCESS} and {apart}.",
            )

    def attach(self, network: Network, network_id: str, facts: Facts) -> Union[Attachment, list[str], None]:
        parent, mtu = network.traits.parent, network.mtu
        if not parent:
            return Attachment(lan_name(network_id), mtu or DEFAULT_MTU, "ifb")
        link = facts.links.get(parent)
        found = _of_a_vlan(parent, facts) if link is None or link.made else _as_it_is(parent, link, self.name, facts)
        problems = [found] if isinstance(found, str) else _too_large(mtu, found)
        if isinstance(found, str) or problems:
            return [f"{network.path}.driver_opts.{PARENT}: {problem}" for problem in problems]
        return replace(found, mtu=mtu or found.mtu, warnings=_warnings(network, found.link, facts))

    def gateway(self, network: PlannedNetwork, family: int) -> Optional[str]:
        """As in Docker 29 only one that is given."""
        if network.network.internal:
            return None
        return next((item.gateway for item in network.of(family) if item.gateway), None)

    def host_addresses(self, network: PlannedNetwork) -> list[str]:
        return [f"{address}/{_length(address)}" for address in network.shim]

    def forwarding(self, network: Network) -> str:
        """How the parent forwards between the links on it: "" or ``bridge``, ``private``, ``vepa``, ``passthru``."""
        raise NotImplementedError

    def parent(self, network: Network, attachment: Attachment) -> Parent:
        """The parent of the network's links, with their mode."""
        raise NotImplementedError

    def network_resources(self, network: PlannedNetwork) -> list[Resource]:
        attachment = _attachment(network)
        return [*_made_parent(attachment), *(self._shim(network, attachment) if network.shim else ())]

    def _shim(self, network: PlannedNetwork, attachment: Attachment) -> list[Resource]:
        name = shim_name(network.id)
        link = Link(
            "",
            name,
            self.name,
            role=f"shim/{network.name}",
            mac=None if network.network.traits.shares_mac else mac_of(network.shim[0]),
            mtu=attachment.mtu,
            disable_ipv6=not any(":" in address for address in network.shim),
            accept_ra=0,
            group=LAN_GROUP,
            parent=self.parent(network.network, attachment),
        )
        return [link, *(Address("", name, address) for address in self.host_addresses(network))]

    def endpoint_resources(self, endpoint: PlannedEndpoint) -> list[Resource]:
        network, attachment = endpoint.network, _attachment(endpoint.network)
        lengths = {_length(address) for address in network.shim}
        return [
            *endpoint_resources(endpoint, self.name, attachment.mtu, parent=self.parent(network.network, attachment)),
            *(
                Route("", f"{address}/{length}", family_of(address), None, shim_name(network.id))
                for address in endpoint.addresses
                if (length := _length(address)) in lengths
            ),
        ]


def _attachment(network: PlannedNetwork) -> Attachment:
    if network.attachment is None:
        raise ValueError(f"{network.name} was not planned as a network on a parent")
    return network.attachment


def _length(address: str) -> int:
    return LENGTH[family_of(address)]


def _made_parent(attachment: Attachment) -> list[Resource]:
    """What is made to be the parent; networks that share it have it in common."""
    if not attachment.makes:
        return []
    # The host itself is not on that LAN: without IPv6 no router there can configure it.
    return [
        Link(
            "",
            attachment.link,
            attachment.makes,
            role=f"parent/{attachment.link}",
            mac=None if attachment.vlan else mac_of(f"fd00::{int(attachment.link[-4:], 16):x}"),
            mtu=None if attachment.vlan else attachment.mtu,
            disable_ipv6=True,
            accept_ra=0,
            group=LAN_GROUP,
            parent=Parent(attachment.below, vlan=attachment.vlan) if attachment.vlan else None,
        )
    ]


def names_parent(network: Network, path: VarPath) -> bool:
    """Whether the network names a parent.  One that is wrong has been noted and left out, but is not missing."""
    noted = (path / "driver_opts" / PARENT).path
    return bool(network.traits.parent) or any(error.path == noted for error in path.errors)


def refuse_mac_address(what: str, members: Sequence[tuple[Sandbox, Endpoint]], errors: list[ValidationError]) -> None:
    """Note endpoints with a MAC address on a network whose endpoints all have that of the parent."""
    for _sandbox, endpoint in members:
        if endpoint.mac_address:
            (VarPath(endpoint.path, errors) / "mac_address").wrong(
                f"{what} has the MAC address of its parent for all.",
                "Leave it out, or use the driver macvlan in mode bridge.",
                endpoint.mac_address,
            )


def _warnings(network: Network, name: str, facts: Facts) -> tuple[str, ...]:
    link = facts.links.get(name)
    if link is None or link.up:
        return ()
    problem = f"its parent {name} is down, so nothing gets through"
    return (f"{network.path}: {problem}: it is the host's own, and not brought up by us",)


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


def _as_it_is(name: str, link: LinkFacts, driver: str, facts: Facts) -> Union[Attachment, str]:
    others = sorted(
        other
        for other, item in facts.links.items()
        if item.below == name and item.kind in _EXCLUSIVE_KINDS and item.kind != driver and not item.made
    )
    if link.loopback or not link.ethernet:
        return f"{name} is no Ethernet link. Write one that is: {_names(facts.links)}."
    if link.owner:
        return f"{name} was made by the project {link.owner} and goes when that does. Write a link of the host's own."
    if link.ours:
        return f"{name} is made by this inventory itself ({link.ours}). Write a link of the host's own."
    if link.kind in _EXCLUSIVE_KINDS:
        return f"{name} is a {link.kind} link itself. Write what it is on{f', {link.below}' if link.below else ''}."
    if link.master:
        return f"{name} is a port of {link.master}, which gets all its traffic. Write {link.master} instead."
    if others:
        carried = f"the {facts.links[others[0]].kind} link {others[0]}"
        return f"{name} already carries {carried}; no {driver} can share it."
    return Attachment(name, link.mtu)


def _too_large(wanted: int, found: Attachment) -> list[str]:
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
        and link.kind not in _EXCLUSIVE_KINDS
        and not (link.loopback or link.master or link.ours or link.made or link.owner)
    )
    more = [f"and {len(usable) - _SHOWN} more"] if len(usable) > _SHOWN else []
    return ", ".join([*usable[:_SHOWN], *more]) or "none"
