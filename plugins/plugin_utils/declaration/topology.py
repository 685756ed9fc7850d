# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The validated declaration: the planner's only input besides probes and leases.

Everything here is frozen and hashable, in the words of Docker and the Compose specification.  Addresses are kept
as canonical text (``10.0.0.1``, ``10.0.0.0/24``, ``fd00::1``), MAC addresses in lower case with colons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Optional

from ...module_utils.plan.constants import LINK_PREFIX, shared_with
from ...module_utils.plan.families import family_of
from ...module_utils.plan.marks import DATA_PATH_PORT
from .driver import Traits

Pairs = tuple[tuple[str, str], ...]
"""A mapping as sorted ``(key, value)`` pairs, so that it can be hashed and compared."""

MTU = "com.docker.network.driver.mtu"
LINK_NAMES = "com.docker.network.container_iface_prefix"
PREDEFINED = ("bridge", "host", "none")

TASK = "{task}"
"""Stands for a task's number in whose namespace it is to be."""

HOST_GATEWAY = "host-gateway"
"""What `Sandbox.extra_hosts` says for the host's own address, as Docker's ``--add-host`` does."""


@dataclass(frozen=True)
class StaticRoute:
    """A route of a sandbox besides the default one: prefix and gateway, of the same family."""

    destination: str
    gateway: str


@dataclass(frozen=True)
class IpamConfig:
    """One entry of ``ipam.config``: a subnet and what is said of it."""

    subnet: str
    gateway: Optional[str] = None
    ip_range: Optional[str] = None
    aux_addresses: Pairs = ()
    path: str = field(default="", compare=False)

    @property
    def family(self) -> int:
        """4 or 6."""
        return family_of(self.subnet)


@dataclass(frozen=True)
class Network:
    """One network as one host sees it.  ``path`` is where it is declared, for messages: ``cnm_networks.ps-bridge``."""

    name: str
    driver: str = "bridge"
    ipam_driver: str = "default"
    ipam: tuple[IpamConfig, ...] = ()
    ipam_options: Pairs = ()
    """As they are written: the driver ``default`` has none that would change anything."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(family, prefix length) of subnets to be chosen; without one, as the pool has it."""
    internal: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    attachable: bool = True
    encrypted: bool = False
    driver_opts: Pairs = ()
    labels: Pairs = ()
    routes: tuple[StaticRoute, ...] = ()
    """Routes every sandbox on the network gets."""
    policies: tuple[str, ...] = ()
    """Names of policies that hold for every sandbox on it."""
    discovery: bool = True
    """Whether its sandboxes' names resolve on it; not on one that only leads out."""
    firewall: bool = True
    """False: ``firewall: none``; the network's traffic is neither filtered nor translated, and has no ports."""
    standing: bool = False
    """Whether it is on the host although no sandbox uses it: the module `network` made it."""
    path: str = field(default="", compare=False)
    traits: Traits = field(default=Traits(), compare=False, repr=False)
    """What its driver says it is like."""

    @property
    def mtu(self) -> int:
        """The MTU that is declared; 0 for the default, which for a tunnel is that of the underlay."""
        return int(self.option(MTU) or 0)

    @property
    def link_prefix(self) -> str:
        """What names of sandboxes' links begin with."""
        return self.option(LINK_NAMES, LINK_PREFIX)

    def has(self, family: int) -> bool:
        """Whether it has addresses of the family 4 or 6."""
        return self.enable_ipv6 if family == 6 else self.enable_ipv4

    def size(self, family: int) -> Optional[int]:
        """The prefix length that a chosen subnet must have."""
        return dict(self.sizes).get(family)

    def option(self, key: str, default: str = "") -> str:
        """The value of one of ``driver_opts``."""
        return self._options.get(key, default)

    @cached_property
    def _options(self) -> dict[str, str]:
        return dict(self.driver_opts)


@dataclass(frozen=True)
class Shape:
    """How an endpoint is limited, and what link to it is emulated; 0 for what is not.

    Rates are in octets a second, ``ingress`` and ``egress`` as the sandbox sees them; times in microseconds.
    """

    ingress: int = 0
    egress: int = 0
    delay_us: int = 0
    jitter_us: int = 0
    loss_ppm: int = 0
    rate: int = 0


@dataclass(frozen=True)
class Endpoint:
    """A sandbox's place on a network, in the order of its links (eth0 first)."""

    network: str
    ipv4_address: Optional[str] = None
    ipv6_address: Optional[str] = None
    mac_address: Optional[str] = None
    link_local_ips: tuple[str, ...] = ()
    """More addresses of its link, of 169.254.0.0/16 and fe80::/64."""
    aliases: tuple[str, ...] = ()
    interface_name: Optional[str] = None
    gw_priority: int = 0
    driver_opts: Pairs = ()
    """Without those that have a field of their own: ``…endpoint.ifname`` and ``…endpoint.sysctls``."""
    routes: tuple[StaticRoute, ...] = ()
    sysctls: Pairs = ()
    """``…endpoint.sysctls``: names with ``IFNAME`` for the link, as ``net.ipv4.conf.IFNAME.log_martians``."""
    shape: Optional[Shape] = None
    path: str = field(default="", compare=False)


def link_names(endpoints: Iterable[tuple[Optional[str], str]]) -> list[str]:
    """The names of a sandbox's links, each given or None with its network's prefix: eth0, eth1, … in the order of the
    endpoints, passing over names that are given.
    """
    every = list(endpoints)
    used = {given for given, _prefix in every if given}
    result = []
    for given, prefix in every:
        name = given or next(
            name for number in range(len(every) + len(used)) if (name := f"{prefix}{number}") not in used
        )
        used.add(name)
        result.append(name)
    return result


@dataclass(frozen=True)
class Port:
    """One published port or range, ranges inclusive: ``published`` and ``target`` are of equal length.

    As written, one target may have a range of published ports: one of them is chosen (`published.chosen_ports`).

    ``host_ip`` None is every address of the host, IPv4 and IPv6; ``0.0.0.0`` and ``::`` every one of that family.
    """

    target: tuple[int, int]
    published: tuple[int, int]
    protocol: str = "tcp"
    host_ip: Optional[str] = None
    mode: str = "host"
    """``ingress``: of every host; ``host``: of a sandbox; ``local``: of a host, for all tasks that it has."""
    allow_from: Optional[tuple[str, ...]] = None
    """Prefixes that it may be called from, and (until they are read) address sets as ``@NAME``; None: everybody."""
    note: str = ""
    """What it is for, as people read it: its ``name`` and its ``app_protocol``."""
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class TaskPort(Port):
    """A port of the host that tasks share."""

    weight: int = 1
    """How many of the connections this one gets, in proportion; none while it is drained."""


@dataclass(frozen=True)
class Namespace:
    """Whose namespace a sandbox lives in."""

    owner: str = ""
    """``docker``, ``podman``, ``pid``, ``machine`` or ``path``; "" is the collection."""
    reference: str = ""
    """The owner's name, process id or path; of a service's tasks with `TASK` where their numbers go."""

    def of_task(self, number: int) -> Namespace:
        """That of one of the service's tasks."""
        return Namespace(self.owner, self.reference.replace(TASK, str(number)))


@dataclass(frozen=True)
class Sandbox:
    """One network namespace with its endpoints, on one host."""

    name: str
    host: str
    endpoints: tuple[Endpoint, ...] = ()
    network_mode: Optional[str] = None
    """``host``, ``none``, or ``sandbox:`` and the name of the one whose namespace it shares; None with networks."""
    namespace: Namespace = Namespace()
    ports: tuple[Port, ...] = ()
    exposed: tuple[str, ...] = ()
    """Ports it says it listens at, like ``80/tcp``: for who reads it, as all are open on its networks."""
    hostname: Optional[str] = None
    domainname: Optional[str] = None
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    extra_hosts: Pairs = ()
    """(name, address) pairs; an address may be `HOST_GATEWAY`."""
    sysctls: Pairs = ()
    policies: tuple[str, ...] = ()
    everywhere: bool = False
    """Whether other hosts have one of that name too."""
    path: str = field(default="", compare=False)

    @property
    def shared_with(self) -> str:
        """The sandbox whose namespace it shares; "" for one with a namespace of its own."""
        return shared_with(self.network_mode)

    @property
    def key(self) -> str:
        """What tells it from others on a network that spans hosts."""
        return f"{self.name}@{self.host}" if self.everywhere else self.name


@dataclass(frozen=True)
class ServiceNetwork:
    """A service's place on a network: what the endpoints of its tasks have in common, and what each has for itself."""

    endpoint: Endpoint
    """Its aliases are the service's."""
    ipv4_addresses: tuple[str, ...] = ()
    """Those of tasks 1, 2, … where they are fixed."""
    ipv6_addresses: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        """Its name."""
        return self.endpoint.network

    @property
    def aliases(self) -> tuple[str, ...]:
        """More names of the service there."""
        return self.endpoint.aliases

    @property
    def path(self) -> str:
        """Where it stands."""
        return self.endpoint.path

    @property
    def numbers(self) -> range:
        """The tasks that have fixed addresses."""
        return range(1, max(len(self.ipv4_addresses), len(self.ipv6_addresses)) + 1)

    def of_task(self, number: int, aliases: tuple[str, ...] = ()) -> Endpoint:
        """The endpoint of one of the tasks."""
        ipv4, ipv6 = (
            addresses[number - 1] if number <= len(addresses) else None
            for addresses in (self.ipv4_addresses, self.ipv6_addresses)
        )
        return replace(self.endpoint, ipv4_address=ipv4, ipv6_address=ipv6, aliases=aliases)


@dataclass(frozen=True)
class Constraint:
    """What a host has to be like to have tasks of a service."""

    label: str
    """The label that counts; "" for the host's name."""
    equal: bool
    """Whether it has to have that value, or another one."""
    value: str


@dataclass(frozen=True)
class Placement:
    """Where a service's tasks may be."""

    hosts: Optional[tuple[str, ...]] = None
    """Hosts and groups; None: every host that declares the service."""
    constraints: tuple[Constraint, ...] = ()
    max_per_host: int = 0
    """How many tasks one host may have; 0 for any number."""


@dataclass(frozen=True)
class Update:
    """How a changed service is rolled out; times in milliseconds."""

    parallelism: int = 1
    """How many tasks change at once; 0 for all."""
    delay: int = 0
    """Between two batches."""
    start_first: bool = False
    """Whether further tasks serve before a batch gets no new connections any more."""
    goes_on: bool = False
    """Whether to go on although nothing listens in a new task."""
    monitor: int = 5000
    """How long a new task has until something listens in it."""
    grace: int = 10000
    """How long open connections have to end."""


@dataclass(frozen=True)
class Service:
    """A name in front of several sandboxes, its tasks."""

    name: str
    networks: tuple[ServiceNetwork, ...] = ()
    mode: str = "replicated"
    replicas: int = 1
    endpoint_mode: str = "vip"
    scheduler: str = "rr"
    weights: tuple[tuple[str, int], ...] = ()
    """By task; one that is not named weighs 1."""
    placement: Placement = Placement()
    draining: tuple[str, ...] = ()
    """Tasks and hosts that get no new connections."""
    ports: tuple[Port, ...] = ()
    namespace: Namespace = Namespace()
    policies: tuple[str, ...] = ()
    update: Optional[Update] = None
    """None: a change is carried out at once."""
    task: Sandbox = Sandbox("", "")
    """What every task has of a sandbox; `TASK` in its hostname stands for the number."""
    tasks_said: str = field(default="", compare=False)
    """What tasks are made from, as it is declared, if changes of it are rolled out; see `services.made_from`."""
    path: str = field(default="", compare=False)

    def hostname(self, number: int) -> Optional[str]:
        """That of one of the tasks, if it is not the task's name."""
        return self.task.hostname and self.task.hostname.replace(TASK, str(number))


INGRESS_RULES, EGRESS_RULES = "ingress", "egress"
"""The directions of a policy, as a sandbox sees them."""
DIRECTIONS = (INGRESS_RULES, EGRESS_RULES)

EVERYTHING, PROTOCOL, PORTS, ICMP = "all", "protocol", "ports", "icmp"
"""What a `Match` is about."""


@dataclass(frozen=True, order=True)
class Match:
    """What packets a rule of a policy is about: of a protocol, and a range of ports or an ICMP type."""

    kind: str = EVERYTHING
    protocol: int = 0
    first: int = 0
    last: int = 0


@dataclass(frozen=True, order=True)
class Peer:
    """Who is at the other end: ``kind`` is the key that says so, ``name`` what stands behind it."""

    kind: str
    """``network``, ``sandbox``, ``service``, ``host``, ``cidr`` or ``addresses``."""
    name: str


@dataclass(frozen=True)
class PolicyRule:
    """One rule of a policy."""

    action: str
    """``allow``, ``drop`` or ``reject``."""
    peers: tuple[Peer, ...] = ()
    """None: everybody."""
    matches: tuple[Match, ...] = (Match(),)
    log: bool = False
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Policy:
    """Who may speak to a sandbox, and to whom it may."""

    name: str
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()
    defaults: tuple[str, str] = ("", "")
    """What happens to packets of a direction that no rule is about; "" for a direction that it says nothing of."""
    path: str = field(default="", compare=False)

    def rules(self, direction: str) -> tuple[PolicyRule, ...]:
        """Those of a direction."""
        return self.ingress if direction == INGRESS_RULES else self.egress

    def default(self, direction: str) -> str:
        """That of a direction."""
        return self.defaults[DIRECTIONS.index(direction)]


@dataclass(frozen=True)
class AddressSet:
    """Prefixes under a name."""

    name: str
    prefixes: tuple[str, ...] = ()
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Evpn:
    """``cnm_evpn``: how the hosts tell each other of their endpoints with ``cnm_control_plane: evpn``."""

    asn: int = 65000
    route_reflectors: tuple[str, ...] = ()
    """Hosts of the topology, and addresses of reflectors that others run."""
    password: Optional[str] = field(default=None, repr=False)
    """Of all BGP sessions (RFC 2385)."""
    manage: bool = True
    """Whether the hosts get an FRR of ours; else others run one there."""


@dataclass(frozen=True)
class LeaseStore:
    """Where leases are kept (``cnm_leases``), and how it is spoken to (``cnm_leases_options``)."""

    kind: str = "sqlite"
    addresses: tuple[tuple[str, int], ...] = ()
    """Hosts, IPv6 addresses in brackets, and ports; none for SQLite."""
    where: str = ""
    """SQLite's file, "" for the default one; of other stores the prefix of all keys."""
    url: str = ""
    """As it was written; it has no secret in it."""
    ca_cert: str = ""
    client_cert: str = ""
    client_key: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    sasl: bool = False
    """ZooKeeper's: name and password are of SASL, not of a digest."""
    timeout: int = 10
    """Seconds in which one of the addresses has to answer a request."""

    @property
    def tls(self) -> bool:
        """Whether it is spoken to by TLS only."""
        return bool(self.ca_cert or self.client_cert)


@dataclass(frozen=True)
class Settings:
    """The ``cnm_*`` settings of one host."""

    project: str = "default"
    underlay_address: Optional[str] = None
    overlay_pools: tuple[tuple[str, int], ...] = ()
    """As `default_address_pools`, for networks that span hosts."""
    vni_range: tuple[int, int] = (4096, 2**24 - 1)
    data_path_port: int = DATA_PATH_PORT
    flood: bool = False
    """Whether broadcasts are replicated to all hosts of an overlay."""
    load_balancer: str = "auto"
    ingress_mode: str = "snat"
    overlay_secret: Optional[str] = field(default=None, repr=False)
    key_epoch: int = 1
    default_address_pools: tuple[tuple[str, int], ...] = ()
    """``(base, size)`` pairs as in Docker's daemon.json; empty: Docker's own list."""
    leases: LeaseStore = LeaseStore()
    evpn: Optional[Evpn] = None
    """Set if BGP EVPN tells the hosts where endpoints of overlays are; else the plan does."""
    node_labels: Pairs = ()
    """What tells the host apart for constraints of services."""
    all_or_nothing: bool = False
    """Whether no host is changed unless all can be."""
    docker_user: bool = True
    """Whether a rule may be put into Docker's chain DOCKER-USER where it is."""
    domain: str = "cnm.internal"
    """Where the names of sandboxes are outside of them."""
    host_names: bool = False
    """Whether the host knows them."""
    lan_names: Optional[str] = None
    """The host's address at which others ask for them; None if they may not."""
    boot: bool = True
    """Whether the host brings its networks back by itself, where systemd runs."""
    keep_keys: bool = True
    """Whether it may keep the keys of encrypted overlays for that."""


@dataclass(frozen=True)
class Host:
    """Everything that is declared for one inventory host; ``networks`` are those its variables declare, by name."""

    name: str
    settings: Settings = Settings()
    networks: tuple[Network, ...] = ()
    sandboxes: tuple[Sandbox, ...] = ()
    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()
    address_sets: tuple[AddressSet, ...] = ()

    @property
    def policed(self) -> tuple[Network | Sandbox | Service, ...]:
        """All that can have policies."""
        return (*self.networks, *self.sandboxes, *self.services)

    def network(self, name: str) -> Optional[Network]:
        """The network of that name, or None."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Network]:
        return {network.name: network for network in self.networks}


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
