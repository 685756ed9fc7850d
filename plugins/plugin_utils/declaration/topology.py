# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the variables say, read and validated: the planner's only input besides probes and leases.

Everything here is frozen and hashable, in the words of Docker and the Compose specification.  Addresses are kept
as canonical text (``10.0.0.1``, ``10.0.0.0/24``, ``fd00::1``), MAC addresses in lower case with colons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

Pairs = tuple[tuple[str, str], ...]
"""A mapping as sorted ``(key, value)`` pairs, so that it can be hashed and compared."""

LOCAL_DRIVERS = ("bridge", "macvlan", "ipvlan", "host", "none")
PREDEFINED = ("bridge", "host", "none")


@dataclass(frozen=True)
class IpamConfig:
    """One entry of ``ipam.config``: a subnet and what is said of it."""

    subnet: str
    gateway: Optional[str] = None
    ip_range: Optional[str] = None
    aux_addresses: Pairs = ()

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.subnet else 4


@dataclass(frozen=True)
class Network:
    """One network as one host sees it.  ``path`` is where it is declared, for messages: ``cnm_networks.ps-bridge``."""

    name: str
    driver: str = "bridge"
    ipam_driver: str = "default"
    ipam: tuple[IpamConfig, ...] = ()
    internal: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    attachable: bool = True
    encrypted: bool = False
    driver_opts: Pairs = ()
    labels: Pairs = ()
    path: str = field(default="", compare=False)

    @property
    def scope(self) -> str:
        """``local`` or ``global``; a third party's driver spans hosts only if its file says so (later)."""
        return "global" if self.driver == "overlay" else "local"

    def option(self, key: str, default: str = "") -> str:
        """The value of one of ``driver_opts``."""
        return dict(self.driver_opts).get(key, default)


@dataclass(frozen=True)
class Endpoint:
    """A sandbox's place on a network, in the order of its links (eth0 first)."""

    network: str
    ipv4_address: Optional[str] = None
    ipv6_address: Optional[str] = None
    mac_address: Optional[str] = None
    aliases: tuple[str, ...] = ()
    interface_name: Optional[str] = None
    gw_priority: int = 0
    driver_opts: Pairs = ()
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Port:
    """One published port or range, ranges inclusive: ``published`` and ``target`` are of equal length."""

    target: tuple[int, int]
    published: tuple[int, int]
    protocol: str = "tcp"
    host_ip: Optional[str] = None
    mode: str = "host"
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Namespace:
    """Whose namespace a sandbox lives in; ``owner`` is own, docker, podman, pid, machine or path."""

    owner: str = "own"
    reference: str = ""


@dataclass(frozen=True)
class Sandbox:
    """One network namespace with its endpoints, on one host."""

    name: str
    host: str
    endpoints: tuple[Endpoint, ...] = ()
    network_mode: Optional[str] = None
    namespace: Namespace = Namespace()
    ports: tuple[Port, ...] = ()
    hostname: Optional[str] = None
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    extra_hosts: Pairs = ()
    sysctls: Pairs = ()
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Settings:
    """The ``cnm_*`` settings of one host."""

    project: str = "default"
    underlay_address: Optional[str] = None
    default_address_pools: tuple[tuple[str, int], ...] = ()
    """``(base, size)`` pairs as in Docker's daemon.json; empty: Docker's own list."""
    leases: str = ""


@dataclass(frozen=True)
class Host:
    """Everything that is declared for one inventory host; ``networks`` are those its variables declare, by name."""

    name: str
    settings: Settings = Settings()
    networks: tuple[Network, ...] = ()
    sandboxes: tuple[Sandbox, ...] = ()

    def network(self, name: str) -> Optional[Network]:
        """The network of that name, or None."""
        return next((network for network in self.networks if network.name == name), None)


@dataclass(frozen=True)
class Topology:
    """All hosts, sorted by name."""

    hosts: tuple[Host, ...] = ()

    def host(self, name: str) -> Host:
        """The host of that name; KeyError if the topology has none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)
