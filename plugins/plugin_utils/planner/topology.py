# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The planner: Topology, probes and leases in, a plan a host out.  Pure."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Optional

from ...module_utils.plan.base import Resource
from ...module_utils.plan.encryption import Xfrm
from ...module_utils.plan.marks import encrypted_data_path_port
from ...module_utils.plan.nftables import DockerUser
from ...module_utils.plan.plan import Plan
from ...module_utils.plan.settings import Sysctl
from ..declaration.ingress import INGRESS
from ..declaration.ingress import SANDBOX as INGRESS_SANDBOX
from ..declaration.published import default_route
from ..declaration.routes import off_link
from ..declaration.topology import Endpoint, Host, Sandbox, Topology
from ..dns.names import Naming, names_of_host, unreachable_resolver_warnings
from ..drivers.base import Digests, PlannedEndpoint, PlannedNetwork, by_network
from ..drivers.registry import DRIVERS
from ..facts import Facts
from ..firewall.kernel_settings import closed_families, closing_rules, host_sysctls
from ..firewall.published_ports import (
    published_ports,
    published_twice,
    taken_ports,
    unowned_host_ip_errors,
    unroutable_port_errors,
)
from ..firewall.sources import bridge_table, forwarded_sources, idle_routers, segment_table, sources_behind
from ..firewall.tables import HostRules, host_table, mesh_table, sandbox_table, unnameable_link_warnings
from ..inspect.docker_model import model_of
from ..ipam.addresses import SHIM, Allocation, allocate, users
from ..ipam.identifiers import identifier, mac_of
from ..leases.base import OF_HOSTS, OVERLAYS, SERVICES, Leases, join, kept_by, split
from ..networks.encryption import fingerprint
from ..networks.lan_parents import attach, warnings_of
from ..networks.multi_host import Overlay, Overlays, plan_overlays
from ..services.balancing import Balancing, VirtualService, virtual_services
from ..services.ingress import MeshPort, ingress_backends, mesh_sysctls
from ..services.ipvs import by_ipvs
from ..services.nftables import SCHEDULERS as BY_NFTABLES
from ..services.nftables import by_nftables
from ..services.placement import PlacedService, Placement, is_of_one_host, place_on_one_host, place_services
from ..services.tasks import with_tasks
from .peer_tables import shared_texts, shared_texts_of_lan

_DOCKERS = {4: "ip filter FORWARD", 6: "ip6 filter FORWARD"}
_MOST_PORTS = 1023
"""One of the 1024 numbers is none of a port, and an overlay's VXLAN has one."""
PREFIX = "com.docker.network.container_iface_prefix"


@dataclass
class Planned:
    """A plan for each host that was probed, what to remember, and what to tell the user."""

    plans: dict[str, Plan] = field(default_factory=dict)
    leases: Leases = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Hosts that cannot be as declared, with every reason; they get no plan, the others do."""
    warnings: dict[str, list[str]] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Texts that plans name by digest, because their hosts have them in common."""
    meshes: dict[str, list[str]] = field(default_factory=dict)
    """By host the digests of the tables (`Mesh`) of its networks that span hosts."""


def plan(
    topology: Topology,
    facts: Mapping[str, Facts],
    leases: Leases,
    now: str,
    connections: Mapping[str, str] = MappingProxyType({}),
    whole: bool = True,
) -> Planned:
    """Plan every host that ``facts`` has; the others keep their leases as they are.

    ``now`` is the time a new network is said to be created at, in ISO 8601; ``connections`` is where Ansible reaches
    each host.  ``whole`` false says that there are other hosts, of which nothing is known.
    """
    result = Planned()
    found, spanning = split(copy.deepcopy(leases))
    parts = {host.name: found.get(host.name) or {section: {} for section in OF_HOSTS} for host in topology.hosts}
    others = {host: part for host, part in found.items() if host not in parts}
    fleet = (
        _fleet(topology, facts, connections, parts, spanning, now)
        if whole
        else _alone(topology, facts, parts, spanning, now, others)
    )
    result.shared = fleet.texts
    result.warnings = {host: list(found) for host, found in fleet.overlays.warnings.items() if found}
    for host in sorted(fleet.topology.hosts, key=lambda item: item.name):
        known, part = facts.get(host.name), parts[host.name]
        if known is None:
            if part["hosts"].get(host.name, {}).get("mesh") != (told := fleet.tells(host.name)) and told:
                result.warnings.setdefault(host.name, []).append(fleet.news(host.name))
            continue
        drawn = _allocate_host(host, known, fleet, copy.deepcopy(part), now)
        if drawn.problems:
            result.refusals[host.name] = list(dict.fromkeys(drawn.problems))
            continue
        parts[host.name] = drawn.leases
        if drawn.warnings:
            result.warnings.setdefault(host.name, []).extend(drawn.warnings)
        result.plans[host.name] = _plan_host(host, known, drawn, fleet, kept_by(host.name, drawn.leases, spanning))
        result.meshes[host.name] = sorted(item.shared.table for item in drawn.networks.values() if item.shared)
    result.leases = join(parts, spanning)
    return result


@dataclass
class _TopologyPlan:
    """What is worked out once for all hosts; ``alone`` if only one of them is known."""

    topology: Topology
    placement: Placement = field(default_factory=Placement)
    overlays: Overlays = field(default_factory=Overlays)
    meshes: dict[str, Digests] = field(default_factory=dict)
    virtual: dict[str, list[VirtualService]] = field(default_factory=dict)
    """Services with a VIP by network that spans hosts."""
    mesh: list[MeshPort] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    alone: bool = False

    def placed(self, host: Host) -> list[PlacedService]:
        """The services that the host declares."""
        return [self.placement.found[item.name] for item in host.services if item.name in self.placement.found]

    def virtual_on(
        self, networks: Mapping[str, PlannedNetwork], endpoints: Mapping[str, Sequence[PlannedEndpoint]]
    ) -> dict[str, list[VirtualService]]:
        """Services with a VIP on a host's networks; of those of local scope with the host's own tasks."""
        result = dict(self.virtual)
        for name, network in networks.items():
            if network.own_vips:
                members = {
                    key: each.addresses for key, group in endpoints.items() for each in group if each.network is network
                }
                result[name] = virtual_services(network.own_vips, members, self.placement.found)
        return result

    def tells(self, host: str) -> str:
        """A digest of what a host is told of the others; "" if it has nothing in common with any."""
        names = sorted(self.overlays.subnets_of(host))
        return identifier(*(f"{name} {self.meshes[name].table}" for name in names))[:12] if names else ""

    def news(self, host: str) -> str:
        """A sentence for a host that is not told in this run."""
        names = ", ".join(sorted(self.overlays.subnets_of(host)))
        return f"it was not in this run, and does not know yet who is on {names} now: run cnm.fabric.site for it too"


def _fleet(
    topology: Topology,
    facts: Mapping[str, Facts],
    connections: Mapping[str, str],
    parts: dict[str, Leases],
    spanning: Leases,
    now: str,
) -> _TopologyPlan:
    placement = place_services(topology, spanning[SERVICES])
    for name, problems in unowned_host_ip_errors(topology, facts).items():
        placement.problems.setdefault(name, []).extend(problems)
    fleet = _TopologyPlan(with_tasks(topology, placement), placement)
    with_vip = [item.service for item in placement.found.values() if item.service.endpoint_mode == "vip"]
    fleet.overlays = plan_overlays(fleet.topology, facts, connections, parts, spanning[OVERLAYS], now, with_vip)
    for name, overlay in fleet.overlays.found.items():
        members = {key: member.addresses for key, member in overlay.members.items()}
        fleet.virtual[name] = virtual_services(overlay.vips, members, placement.found)
        fleet.meshes[name], texts = shared_texts(topology.hosts[0].settings.project, overlay)
        fleet.texts.update(texts)
    _share_lans(fleet)
    if INGRESS in fleet.overlays.found:
        fleet.mesh = ingress_backends(fleet.overlays.found[INGRESS], placement.found)
    return fleet


def _alone(
    topology: Topology,
    facts: Mapping[str, Facts],
    parts: dict[str, Leases],
    spanning: Leases,
    now: str,
    others: Mapping[str, Leases],
) -> _TopologyPlan:
    """A host without the others: its LANs can be had, but who else is on them is not known."""
    placement = Placement()
    for host in topology.hosts:
        mine = place_on_one_host(host, spanning[SERVICES])
        placement.found.update(mine.found)
        placement.problems.update(mine.problems)
    fleet = _TopologyPlan(with_tasks(topology, placement), placement, alone=True)
    fleet.overlays = plan_overlays(fleet.topology, facts, {}, parts, spanning[OVERLAYS], now, others=others)
    _share_lans(fleet)
    return fleet


def _share_lans(fleet: _TopologyPlan) -> None:
    for name, lan in fleet.overlays.lans.items():
        fleet.meshes[name], texts = shared_texts_of_lan(fleet.topology.hosts[0].settings.project, lan)
        fleet.texts.update(texts)


@dataclass
class _HostAllocation:
    """One host's networks and endpoints with their addresses, and what speaks against them."""

    networks: dict[str, PlannedNetwork]
    endpoints: dict[str, list[PlannedEndpoint]]
    leases: Leases
    virtual: Mapping[str, Sequence[VirtualService]]
    """Services with a VIP by network."""
    problems: list[str]
    warnings: list[str]

    @property
    def every(self) -> list[PlannedEndpoint]:
        """The endpoints of all sandboxes."""
        return [endpoint for group in self.endpoints.values() for endpoint in group]


def _allocate_host(host: Host, facts: Facts, fleet: _TopologyPlan, leases: Leases, now: str) -> _HostAllocation:
    mine, spanning = fleet.overlays.of(host.name), fleet.overlays.subnets_of(host.name)
    if spanning:
        leases["hosts"].setdefault(host.name, {})["mesh"] = fleet.tells(host.name)
    services = [placed.service for placed in fleet.placed(host)]
    allocation = allocate(host, facts, leases, now, spanning, services)
    problems = [
        *fleet.placement.problems.get(host.name, ()),
        *fleet.overlays.problems.get(host.name, ()),
        *(_spanning(host) if fleet.alone else ()),
        *allocation.problems,
    ]
    if problems:
        return _HostAllocation({}, {}, leases, {}, problems, [])
    networks, problems = _attached(_networks(host, allocation, leases, fleet), facts)
    endpoints = {
        sandbox.name: _endpoints(host, sandbox, networks, allocation)
        for sandbox in sorted(host.sandboxes, key=lambda item: item.name)
    }
    drawn = _HostAllocation(networks, endpoints, leases, fleet.virtual_on(networks, endpoints), problems, [])
    drawn.problems = problems or [
        *_off_link(drawn.every),
        *_bridge_port_limit_errors(networks, drawn.every),
        *_unencryptable(host, facts, networks),
        *_scheduler_errors(host, facts, fleet, drawn),
        *published_twice(published_ports(drawn.every)),
        *unroutable_port_errors(host.sandboxes, published_ports(drawn.every)),
        *taken_ports(published_ports(drawn.every), facts),
    ]
    drawn.warnings = [
        *allocation.warnings,
        *(_in_the_way(host, facts) if any(not item.network.on_lan for item in networks.values()) else ()),
        *(
            sentence
            for item in networks.values()
            if item.attachment is not None
            for sentence in warnings_of(item.network, item.attachment, facts)
        ),
        *unreachable_resolver_warnings(facts, endpoints),
        *unnameable_link_warnings(facts),
        *idle_routers(drawn.every),
        *(_blocked_port_warnings(facts, mine.values()) if mine else ()),
    ]
    return drawn


def _attached(networks: Mapping[str, PlannedNetwork], facts: Facts) -> tuple[dict[str, PlannedNetwork], list[str]]:
    """The networks, those on LANs with where they are on the host; and sentences about what speaks against it."""
    result, problems = {}, []
    for name, item in networks.items():
        found = attach(item.network, item.id, facts) if item.network.on_lan else None
        if isinstance(found, list):
            problems += found
        else:
            result[name] = replace(item, attachment=found)
    return result, problems


def _spanning(host: Host) -> list[str]:
    names = [name for name in users(host) if (network := host.network(name)) and network.scope == "global"]
    names += [service.name for service in host.services if not is_of_one_host(service, host)]
    what = "what spans hosts is planned for all of them at once: run cnm.fabric.site, or the role multi_host"
    return [f"{', '.join(names)}: {what}"] if names else []


def _off_link(endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """Sentences about routes that do not go with the subnet that was chosen for their network."""
    found = {
        f"{owner.path}.routes: {problem}, which was chosen for the network. Declare its subnet.": None
        for item in endpoints
        for owner in (item.network.network, item.endpoint)
        for problem in off_link(owner.routes, [subnet.subnet for subnet in item.network.subnets])
    }
    return list(found)


def _in_the_way(host: Host, facts: Facts) -> list[str]:
    """Sentences about what would drop the networks' traffic, whatever our own table says."""
    handled = {_DOCKERS[family] for family in facts.docker_user if host.settings.docker_user}
    unfiltered = (
        "this host's nftables cannot filter bridged frames (it wants nft 1.0.3 and CONFIG_NF_TABLES_BRIDGE): sandboxes "
        "of one network can speak in each other's name, in that of their gateway, and fill its bridge with addresses"
    )
    flushed = (
        f"{facts.flushing} has `flush ruleset`: whenever nftables.service is started or reloaded, the networks' rules "
        "are gone until the next run. Write `destroy table` for its own tables instead"
    )
    found = [unfiltered] * (not facts.filters_bridges and "nft" not in facts.missing) + [flushed] * bool(facts.flushing)
    return found + [
        f"the chain {chain} of the host's other firewall drops forwarded traffic it does not know, that of the "
        "networks too: let it accept what comes from and goes to their bridges"
        for chain in facts.dropping
        if chain not in handled
    ]


def _blocked_port_warnings(facts: Facts, overlays: Iterable[Overlay]) -> list[str]:
    """Sentences about what may keep the other hosts' packets from arriving."""
    # What has been decrypted comes by once more, as what it is then.
    words = {f"{'ESP (IP protocol 50) and in it ' * item.network.encrypted}UDP port {item.port}" for item in overlays}
    wanted = " and ".join(sorted(words, reverse=True))
    return [
        f"the chain {chain} of the host's other firewall drops what it does not know: let it accept {wanted} from the "
        "other hosts, by which overlays travel"
        for chain in facts.closed
    ]


def _bridge_port_limit_errors(
    networks: Mapping[str, PlannedNetwork], endpoints: Sequence[PlannedEndpoint]
) -> list[str]:
    """Sentences about networks with more endpoints on the host than a bridge has ports (BR_MAX_PORTS)."""
    found = []
    numbers = Counter(item.network.name for item in endpoints)
    for name, network in networks.items():
        number = numbers[name]
        if number >= _MOST_PORTS and not network.network.on_lan:
            found.append(
                f"{network.network.path}: {number} sandboxes of this host are on it, and a bridge of Linux has "
                f"{_MOST_PORTS - 1} ports: divide them into several networks."
            )
    return found


def _plan_host(host: Host, facts: Facts, drawn: _HostAllocation, fleet: _TopologyPlan, leases: Leases) -> Plan:
    project = host.settings.project
    resources = _network_resources(host, drawn, facts)
    names = names_of_host(project, facts, drawn.every)
    if names.file.files:
        resources.append(names.file)
    for sandbox in sorted(host.sandboxes, key=lambda item: item.name):
        if mode_of(host, sandbox) != "host":
            naming = Naming(project, facts, names, sandbox, drawn.endpoints[sandbox.name])
            resources += _sandbox_resources(naming, drawn.virtual, fleet.mesh, _ENGINES[_engine(host, facts)])
    return Plan(
        host=host.name,
        project=project,
        resources=tuple(sorted(resources, key=lambda item: item.key)),
        model=model_of(host, drawn.networks, drawn.endpoints, fleet.placement.found.values(), _engine(host, facts)),
        leases=leases,
    )


def mode_of(host: Host, sandbox: Sandbox) -> Optional[str]:
    """``host`` or ``none`` for a sandbox without networks of its own, by network_mode or a network of that driver."""
    if sandbox.network_mode:
        return sandbox.network_mode
    networks = [host.network(endpoint.network) for endpoint in sandbox.endpoints]
    return next((network.driver for network in networks if network and network.driver in ("host", "none")), None)


def _networks(host: Host, allocation: Allocation, leases: Leases, fleet: _TopologyPlan) -> dict[str, PlannedNetwork]:
    result = {}
    overlays, lans, meshes = fleet.overlays.of(host.name), fleet.overlays.lans_of(host.name), fleet.meshes
    for name in users(host):
        network = host.network(name)
        if network is None:
            continue
        if name in overlays:
            overlay = overlays[name]
            place = (overlay.id, overlay.created, overlay.subnets)
            result[name] = PlannedNetwork(network, *place, host=host.name, overlay=overlay, shared=meshes[name])
        elif name in lans:
            lan = lans[name]
            own = lan.members.get(f"{SHIM}@{host.name}")
            place = (lan.id, lan.created, lan.subnets)
            shim = own.addresses if own is not None else ()
            result[name] = PlannedNetwork(network, *place, host=host.name, lan=lan, shared=meshes[name], shim=shim)
        elif name in allocation.subnets:
            created = leases["networks"][f"{host.name}/{name}"]["created"]
            network_id = identifier("network", host.settings.project, host.name, name)
            result[name] = PlannedNetwork(
                network,
                network_id,
                created,
                allocation.subnets[name],
                host=host.name,
                own_vips=allocation.vips.get(name, {}),
                shim=allocation.of_host(name, host.name),
            )
    return result


def _network_resources(host: Host, drawn: _HostAllocation, facts: Facts) -> list[Resource]:
    networks, endpoints = drawn.networks, drawn.every
    resources: list[Resource] = []
    bridges: dict[str, str] = {}
    ports = published_ports(endpoints)
    published = {port.network for port in ports if port.at_loopback}
    for network in networks.values():
        driver = DRIVERS[network.network.driver]
        resources += driver.network_resources(
            replace(network, published=True) if network.name in published else network
        )
        bridge = driver.bridge(network)
        if bridge is not None:
            bridges[network.name] = bridge
    resources = list({item.key: item for item in resources}.values())  # networks may have a VLAN link in common
    ingress_backends = [networks[name] for name in bridges]
    families = tuple(family for family in (4, 6) if any(network.of(family) for network in ingress_backends))
    resources += host_sysctls(facts, families, len(endpoints))
    overlays = [network for network in networks.values() if network.overlay is not None]
    resources += _encryption(host, overlays)
    resources += closing_rules(host.settings.project, bridges, ingress_backends)
    forwarded = forwarded_sources(endpoints)
    if bridges or overlays or facts.has_table:
        # A host whose last network went is no router of ours any more: what is not ours is not ours to drop.
        closed = tuple(family for family in families if not facts.forwarded_before(family))
        opened = [family for family in facts.docker_user if host.settings.docker_user and bridges]
        local = [endpoint for endpoint in endpoints if endpoint.network.name in bridges]
        rules = HostRules(
            host.settings.project,
            ingress_backends,
            bridges,
            ports,
            closed,
            [link for link in facts.forwarding_links.get(4, ()) if link != "default"] if 4 in closed else [],
            sorted(set(facts.bridges) - set(bridges.values())),
            bool(opened),
            facts.uplinks,
            overlays,
            _called_by_host(drawn),
            _with_others(ingress_backends, bridges, facts),
            sources_behind(local, forwarded),
            (host.settings.data_path_port, encrypted_data_path_port(host.settings.data_path_port)),
            _underlay(host, overlays, facts),
            {
                name: [address for item in group for address in item.addresses]
                for name, group in by_network(local).items()
            },
        )
        resources += [host_table(rules), *(DockerUser(family) for family in opened)]
    if facts.filters_bridges:
        on_network = by_network(endpoints)
        resources += [
            segment_table(host.settings.project, network, on_network.get(network.name, ()), forwarded)
            for network in overlays
        ]
    guarded = [network for network in ingress_backends if network.network.firewall]
    if guarded and facts.filters_bridges:
        resources.append(bridge_table(host.settings.project, guarded, endpoints, forwarded))
    return resources


def _underlay(host: Host, overlays: Iterable[PlannedNetwork], facts: Facts) -> str:
    """The link that has the host's VTEP and that packets come in by; "" if it is not known or there is none."""
    vteps = {item.overlay.vteps[host.name] for item in overlays if item.overlay is not None}
    nothing = {name for name, link in facts.links.items() if link.loopback or link.kind == "dummy"}
    return next((link for address, link, _mtu in facts.addresses if address in vteps and link not in nothing), "")


def _with_others(networks: Iterable[PlannedNetwork], bridges: Mapping[str, str], facts: Facts) -> set[str]:
    """Bridges that somebody else made, or where somebody else is the default gateway."""
    known = {name: facts.links.get(bridges[name]) for name in bridges}
    adopted = {name for name, link in known.items() if link and link.kind == "bridge" and not (link.ours or link.owner)}
    others = {
        network.name
        for network in networks
        for subnet in network.subnets
        if f"DefaultGatewayIPv{subnet.family}" in dict(subnet.config.aux_addresses)
    }
    return {bridges[name] for name in adopted | others}


def _called_by_host(drawn: _HostAllocation) -> list[VirtualService]:
    """Services on networks where the host has an address of the VIP's family."""
    found: dict[str, VirtualService] = {}
    for name, network in drawn.networks.items():
        own = DRIVERS[network.network.driver].host_addresses(network) if network.own_vips else ()
        families = {6 if ":" in address else 4 for address in own}
        found.update({item.vip: item for item in drawn.virtual.get(name, ()) if own and item.family in families})
    return [item for _vip, item in sorted(found.items())]


def _encryption(host: Host, overlays: Iterable[PlannedNetwork]) -> list[Resource]:
    """ESP with the other hosts on networks that are encrypted."""
    both = [(item.overlay, item.shared) for item in overlays if item.network.encrypted]
    found = [(overlay, shared) for overlay, shared in both if overlay is not None and shared is not None]
    if not found:
        return []
    overlay, tables = found[0][0], tuple(sorted(shared.table for _overlay, shared in found))
    settings = host.settings
    print_of = fingerprint(settings.overlay_secret or "", settings.project)
    return [Xfrm(overlay.vteps[host.name], overlay.port, settings.key_epoch, tables=tables, fingerprint=print_of)]


def _unencryptable(host: Host, facts: Facts, networks: Mapping[str, PlannedNetwork]) -> list[str]:
    """Sentences about what encrypted networks lack here."""
    found = [item for item in networks.values() if item.network.encrypted and item.overlay is not None]
    if not found:
        return []
    place, families = (
        found[0].network.path,
        {6 if ":" in item.overlay.vteps[host.name] else 4 for item in found if item.overlay},
    )
    problems = [f"{place}.encrypted: {facts.no_esp[family]}" for family in sorted(families) if family in facts.no_esp]
    if host.settings.overlay_secret is None:
        problem = f"{place}.encrypted: there is no cnm_overlay_secret to derive keys from."
        problems.append(f"{problem} Set it for all hosts of the network, from a vault.")
    return problems


def _endpoints(
    host: Host, sandbox: Sandbox, networks: Mapping[str, PlannedNetwork], allocation: Allocation
) -> list[PlannedEndpoint]:
    placed = [endpoint for endpoint in sandbox.endpoints if endpoint.network in networks]
    gateways = _gateways(placed, networks)
    result = []
    for endpoint, link in zip(placed, _link_names(placed, networks)):
        network = networks[endpoint.network]
        ipv4, ipv6 = _places(network, sandbox, allocation)
        result.append(
            PlannedEndpoint(
                network=network,
                sandbox=sandbox,
                endpoint=endpoint,
                id=identifier("endpoint", host.settings.project, host.name, network.name, sandbox.name),
                link=link,
                ipv4=ipv4,
                ipv6=ipv6,
                mac=""
                if network.network.shares_mac
                else endpoint.mac_address or mac_of((ipv4 or ipv6 or "").partition("/")[0]),
                gateways=tuple(gateways.get(endpoint.network, ())),
            )
        )
    return result


def _places(network: PlannedNetwork, sandbox: Sandbox, allocation: Allocation) -> tuple[Optional[str], Optional[str]]:
    """The sandbox's addresses on the network, with their prefix length."""
    spanning = network.overlay or network.lan
    if spanning is not None:
        member = spanning.members[sandbox.key]
        return member.ipv4, member.ipv6
    place = (network.name, sandbox.key)
    return allocation.ipv4.get(place), allocation.ipv6.get(place)


def _gateways(endpoints: Sequence[Endpoint], networks: Mapping[str, PlannedNetwork]) -> dict[str, list[str]]:
    """Which networks supply the default routes, with the gateways of each."""
    members = [(endpoint, networks[endpoint.network].network) for endpoint in endpoints]
    chosen: dict[str, list[str]] = {}
    for family in (4, 6):
        supplier = default_route(members, family)
        gateway = DRIVERS[supplier.driver].gateway(networks[supplier.name], family) if supplier else None
        if supplier is not None and gateway is not None:
            chosen.setdefault(supplier.name, []).append(gateway)
    return chosen


def _link_names(endpoints: Sequence[Endpoint], networks: Mapping[str, PlannedNetwork]) -> list[str]:
    """eth0, eth1, … in the order of the list, passing over names that are given explicitly."""
    used = {endpoint.interface_name for endpoint in endpoints if endpoint.interface_name}
    result = []
    for endpoint in endpoints:
        name = endpoint.interface_name
        if not name:
            prefix = networks[endpoint.network].network.option(PREFIX) or "eth"
            name = next(
                f"{prefix}{number}" for number in range(len(endpoints) + len(used)) if f"{prefix}{number}" not in used
            )
            used.add(name)
        result.append(name)
    return result


def _sandbox_resources(
    naming: Naming,
    virtual: Mapping[str, Sequence[VirtualService]],
    mesh: Sequence[MeshPort],
    engine: Callable[[str, Iterable[VirtualService]], Balancing],
) -> list[Resource]:
    name = naming.sandbox.name
    namespace = naming.namespace()
    if not namespace.owner and name != INGRESS_SANDBOX:
        links = [endpoint.endpoint for endpoint in naming.endpoints]
        namespace = replace(namespace, no_forwarding=closed_families(naming.sandbox, links))
    resources: list[Resource] = [namespace, naming.files()]
    resources += [Sysctl(name, parameter, value) for parameter, value in naming.sandbox.sysctls]
    for endpoint in naming.endpoints:
        resources += DRIVERS[endpoint.network.network.driver].endpoint_resources(endpoint)
    if name == INGRESS_SANDBOX:
        inner = next(endpoint.link for endpoint in naming.endpoints if endpoint.network.name == INGRESS)
        resources += [mesh_table(naming.project, name, mesh, inner), *mesh_sysctls()]
    elif naming.endpoints:
        services = [item for endpoint in naming.endpoints for item in virtual.get(endpoint.network.name, ())]
        balancing = engine(name, services)
        resources += [sandbox_table(naming.project, name, balancing), *balancing.resources, naming.resolver()]
    return resources


_ENGINES: dict[str, Callable[[str, Iterable[VirtualService]], Balancing]] = {"ipvs": by_ipvs, "nftables": by_nftables}


def _engine(host: Host, facts: Facts) -> str:
    """What balances on the host: IPVS where its kernel has it, unless it is said."""
    said = host.settings.load_balancer
    return ("ipvs" if facts.ipvs else "nftables") if said == "auto" else said


def _scheduler_errors(host: Host, facts: Facts, fleet: _TopologyPlan, drawn: _HostAllocation) -> list[str]:
    """Sentences about what services want of the host's kernel or engine and do not get."""
    if not any(drawn.virtual.get(name) for name in drawn.networks):
        return []
    if _engine(host, facts) == "ipvs":
        return [] if facts.ipvs else ["cnm_load_balancer: this host's kernel has no IPVS. Write nftables, or auto."]
    return [
        f"{placed.service.path}.deploy.scheduler: {placed.service.scheduler} takes IPVS, and this host balances with "
        "nftables, which has rr and sh. Write one of these, or run a kernel with IPVS there."
        for placed in fleet.placement.found.values()
        if placed.service.scheduler not in BY_NFTABLES and placed.service.endpoint_mode == "vip"
    ]
