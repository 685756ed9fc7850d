# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Checks of macvlan and ipvlan networks and their endpoints: each by itself, and those of one host together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .errors import ValidationError, VarPath
from .options import HOST_ACCESS, IPVLAN_FLAG, MACVLAN_MODE, PARENT
from .topology import Endpoint, Network, Sandbox

PASSTHRU = "passthru"


def check_lan(network: Network, named: bool, path: VarPath) -> None:
    """Note what does not go together in a macvlan or ipvlan network; ``named``: it says a parent, if a wrong one."""
    options = path / "driver_opts"
    if not named and not network.internal:
        options.wrong(
            f"A network of the driver {network.driver} is on a link of the host, and this one names none.",
            "Write `parent: eth0`, with the link that leads to the LAN, or `internal: true` for one without.",
        )
    if not named and network.option(MACVLAN_MODE) == PASSTHRU:
        (options / MACVLAN_MODE).wrong("There is no link to take over.", "Name one as `parent`.", PASSTHRU)
    if not network.firewall:
        (path / "firewall").wrong(
            "The host's firewall never sees what a sandbox on a LAN says.", "Leave it out.", "none"
        )
    apart = network.option(MACVLAN_MODE) or network.option(IPVLAN_FLAG)
    if network.option(HOST_ACCESS) == "true" and apart not in ("", "bridge"):
        (options / HOST_ACCESS).wrong(
            f"What is on the parent of a network that says {apart} is kept from each other, the host among it.",
            f"Leave out one of the two, {HOST_ACCESS} and {apart}.",
        )


def check_parents(networks: Iterable[Network], errors: list[ValidationError]) -> None:
    """Note networks of a host that want a parent that another one has for itself."""
    seen: dict[str, Network] = {}
    ordered = sorted((item for item in networks if item.on_lan and item.parent), key=lambda item: item.name)
    for network in ordered:
        other = seen.setdefault(network.parent, network)
        reason = "" if other is network else _why_alone(network) or _why_alone(other)
        if reason:
            (VarPath(network.path, errors) / "driver_opts" / PARENT).wrong(
                f"The network `{other.name}` ({other.path}) is on that link already, and {reason}.",
                "Give each a parent of its own, such as a VLAN link (`eth0.10`), or make them one network.",
                network.parent,
            )


def _why_alone(network: Network) -> str:
    if network.driver == "ipvlan":
        return "a network of the driver ipvlan shares its parent with no other"
    return "the mode passthru takes the whole link" if network.option(MACVLAN_MODE) == PASSTHRU else ""


def check_members(network: Network, members: Sequence[tuple[Sandbox, Endpoint]], errors: list[ValidationError]) -> None:
    """Note endpoints that a host's part of the network cannot have."""
    passthru = network.option(MACVLAN_MODE) == PASSTHRU
    for number, (sandbox, endpoint) in enumerate(members):
        path = VarPath(endpoint.path, errors)
        if passthru and number:
            path.wrong(
                f"The network `{network.name}` has the mode passthru, in which one sandbox of a host takes the whole "
                f"link; `{members[0][0].name}` ({members[0][0].path}) has it.",
                "Put this one on another network, or choose the mode bridge.",
                sandbox.name,
            )
        if endpoint.mac_address and (passthru or network.driver == "ipvlan"):
            what = "A macvlan network in mode passthru" if passthru else "An ipvlan network"
            (path / "mac_address").wrong(
                f"{what} has the MAC address of its parent for all.",
                "Leave it out, or use the driver macvlan in mode bridge.",
                endpoint.mac_address,
            )
