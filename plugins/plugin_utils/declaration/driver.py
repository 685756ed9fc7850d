# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a driver says of its networks.  Everybody else reads these traits, and never asks for a driver by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Optional, Protocol

from ...module_utils.plan.constants import VXLAN_OVERHEAD
from ...module_utils.plan.records import dataclass
from .errors import ValidationError, VarPath

if TYPE_CHECKING:
    from .topology import Endpoint, Network, Sandbox

Reader = Callable[[str, VarPath], str]
"""The option's text in one form, empty if it is wrong, which is noted at its path."""

FAMILIES = (4, 6)


class DriverError(Exception):
    """There is no such driver, or one of another collection cannot be used or has failed."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem} {remedy}".rstrip())
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Option:
    """One of a driver's options: how its text is read, and what it does, in one sentence."""

    read: Reader
    text: str
    default: str = ""
    """The value it has when it is not given, for the documentation."""
    of_host: bool = False
    """Whether it names something of a host, and so may differ between the hosts of one network."""


@dataclass(frozen=True)
class Forwarding:
    """How the host forwards for a network whose bridge is among the host's own links; what its firewall is made of."""

    modes: tuple[str, str] = ("nat", "nat")
    """Docker's gateway mode for IPv4 and IPv6: ``nat``, ``nat-unprotected``, ``routed`` or ``isolated``."""
    icc: bool = True
    """Whether sandboxes of the network may talk to each other."""
    masquerade: bool = True
    sources: tuple[str, str] = ("", "")
    """The IPv4 and IPv6 address that traffic leaves the host with; "" for that of the link it leaves by."""
    trusted_links: tuple[str, ...] = ()
    """Links of the host from which sandboxes may be addressed directly."""
    binding: str = ""
    """The host address of published ports that name none; "" for all."""

    def mode(self, family: int) -> str:
        """The gateway mode of a family."""
        return self.modes[FAMILIES.index(family)]

    def source(self, family: int) -> str:
        """The source address of a family."""
        return self.sources[FAMILIES.index(family)]


@dataclass(frozen=True)
class Tunnel:
    """How a network that spans hosts is carried between them."""

    overhead: tuple[int, int] = (VXLAN_OVERHEAD[4], VXLAN_OVERHEAD[6])
    """Octets that encapsulation adds to a packet, over IPv4 and IPv6; those of VXLAN (RFC 7348) and Geneve (RFC 8926)
    without options."""
    port: int = 0
    """The UDP port; 0 is ``cnm_data_path_port``."""
    vni: int = 0
    """The VNI that is declared; 0: one is chosen from ``cnm_vni_range``."""


@dataclass(frozen=True)
class Traits:
    """What one network is like.  The defaults are those of a network whose sandboxes reach each other and no more."""

    scope: str = "local"
    """As Docker has it: ``local``, or ``global`` for a network that is planned for all hosts at once."""
    spans_hosts: bool = False
    """Whether it is one network on all hosts that have it: the same subnets, no address twice, names known on all."""
    tunnel: Optional[Tunnel] = None
    """Set for a network of scope ``global`` whose hosts reach each other through tunnels: they have VTEPs and a VNI."""
    mode: str = ""
    """``host`` or ``none`` if a sandbox on it has that network_mode instead of an endpoint."""
    bridged: bool = True
    """Whether endpoints are ports of a bridge: a bridge has a limited number, and there their packets are checked."""
    adopted_link: str = ""
    """The host's link that the network takes for its bridge."""
    on_parent: bool = False
    """Whether sandboxes' links are made on a link of the host, so that they are on the LAN the host is on."""
    parent: str = ""
    """That link; "" if the network stays on its host."""
    exclusive: str = ""
    """Why no other network may have the same parent, as a clause; "" if one may."""
    shares_mac: bool = False
    """Whether all endpoints have the MAC address of the parent."""
    host_access: bool = False
    """Whether the host itself has an address among the sandboxes'."""
    chooses_gateway: bool = True
    """Whether a subnet without a gateway gets one; on a LAN the router is not ours to choose."""
    ways_out: tuple[int, ...] = ()
    """Families in which it can supply a sandbox's default route."""
    egress: bool = False
    """Whether sandboxes without another default route also get the egress network."""
    forwarding: Optional[Forwarding] = None
    """Set if the host forwards for it; only such networks publish ports."""
    balances: bool = False
    """Whether services can be on it."""
    isolates: Optional[bool] = False
    """Whether it keeps the sandboxes of a host from each other; None if a switch outside decides."""


class DeclaredDriver(Protocol):
    """What reading the variables needs of a driver; see `drivers.base.Driver`."""

    name: str
    options: Mapping[str, Option]
    subnets_per_family: int
    encrypts: bool

    def traits(self, network: Network) -> Traits:
        """What this network is like."""

    def check(self, network: Network, path: VarPath) -> None:
        """Note at ``path`` what does not go together in the network."""

    def check_members(
        self, network: Network, members: Sequence[tuple[Sandbox, Endpoint]], errors: list[ValidationError]
    ) -> None:
        """Note endpoints that a host's part of the network cannot have."""

    def check_hosts(self, network: Network, hosts: Sequence[str], path: VarPath) -> None:
        """Note if these hosts cannot share the network."""


class Drivers(Protocol):
    """The drivers there are; see `drivers.registry`."""

    names: tuple[str, ...]
    """Those of this collection."""

    def find(self, name: str) -> DeclaredDriver:
        """The driver of that name, which may be another collection's.  Raises `DriverError`."""

    def with_option(self, key: str) -> list[str]:
        """The drivers of this collection that have the option."""
