# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The pass that protects: the host's firewall and that of its bridges, forwarding, encryption, and virtual IPs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from ...module_utils.plan.base import Resource
from ...module_utils.plan.encryption import Xfrm
from ...module_utils.plan.families import family_of
from ...module_utils.plan.marks import encrypted_data_path_port
from ...module_utils.plan.nftables import DockerUser
from ..declaration.ingress import INGRESS
from ..declaration.ingress import SANDBOX as INGRESS_SANDBOX
from ..declaration.topology import Host
from ..dns.resolvers import upstreams
from ..drivers.base import PlannedEndpoint, PlannedNetwork, by_network
from ..drivers.registry import driver_of
from ..facts import Facts
from ..firewall.host_table import HostRules, host_table
from ..firewall.kernel_settings import closing_rules, host_sysctls, neighbours_of
from ..firewall.policies import HostPolicies, host_policies
from ..firewall.policy_tables import with_policies
from ..firewall.sandbox_tables import ingress_table, sandbox_table
from ..firewall.sources import bridge_table, forwarded_sources, segment_table, sources_behind
from ..networks.encryption import fingerprint
from ..networks.evpn import control_plane
from ..services.balancing import Balancing, VirtualService, balancing_engine
from ..services.ingress import IngressPort, ingress_sysctls
from ..services.ipvs import by_ipvs
from ..services.nftables import by_nftables
from .allocation import HostAllocation
from .connect import Connected


def protect(
    host: Host,
    facts: Facts,
    allocated: HostAllocation,
    connected: Connected,
    ingress: Iterable[IngressPort],
    fabric: Mapping[str, str],
    of_hosts: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> list[Resource]:
    """What guards a host's networks, and what leads their packets elsewhere.

    ``of_hosts`` has the addresses of the topology's hosts, which policies may name.
    """
    project, networks, endpoints = host.settings.project, allocated.networks, allocated.every
    bridged = [networks[name] for name in connected.bridges]
    tunneled = [network for network in networks.values() if network.tunnel is not None]
    forwarding = [network for network in bridged if network.network.traits.forwarding is not None]
    families = tuple(family for family in (4, 6) if any(network.of(family) for network in forwarding))
    forwarded = forwarded_sources(endpoints)
    resources = host_sysctls(facts, families, neighbours_of(endpoints))
    resources += _encryption(host, tunneled)
    resources += control_plane(host, fabric)
    resources += closing_rules(project, connected.bridges, bridged)
    if connected.bridges or tunneled or facts.has_table:
        resources += _host_rules(host, facts, allocated, connected, families, forwarded)
    if facts.filters_bridges:
        judged = policies(host, facts, allocated, of_hosts)
        resources += _bridge_rules(project, bridged, networks.values(), endpoints, forwarded, judged)
    return resources + _sandbox_rules(host, facts, allocated, list(ingress))


def _host_rules(
    host: Host,
    facts: Facts,
    allocated: HostAllocation,
    connected: Connected,
    families: tuple[int, ...],
    forwarded: Mapping[str, set[str]],
) -> list[Resource]:
    bridges, networks = connected.bridges, allocated.networks
    bridged = [networks[name] for name in bridges]
    tunneled = [network for network in networks.values() if network.tunnel is not None]
    # A host whose last network went is no router of ours any more: what is not ours is not ours to drop.
    closed = tuple(family for family in families if not facts.forwarded_before(family))
    opened = [family for family in facts.docker_user if host.settings.docker_user and family in families]
    local = [endpoint for endpoint in allocated.every if endpoint.network.name in bridges]
    rules = HostRules(
        host.settings.project,
        bridged,
        bridges,
        connected.ports,
        closed,
        [link for link in facts.forwarding_links.get(4, ()) if link != "default"] if 4 in closed else [],
        sorted(set(facts.bridges) - set(bridges.values())),
        bool(opened),
        facts.uplinks,
        tunneled,
        _services_called_by_host(allocated),
        _shared_bridges(bridged, bridges, facts),
        sources_behind(local, forwarded),
        _data_path_ports(host, tunneled),
        _underlay(host, tunneled, facts),
        {name: [address for item in group for address in item.addresses] for name, group in by_network(local).items()},
    )
    return [host_table(rules), *(DockerUser(family) for family in opened)]


def _bridge_rules(
    project: str,
    bridged: Iterable[PlannedNetwork],
    networks: Iterable[PlannedNetwork],
    endpoints: list[PlannedEndpoint],
    forwarded: Mapping[str, set[str]],
    judged: HostPolicies,
) -> list[Resource]:
    on_network = by_network(endpoints)
    places: dict[str, list[PlannedNetwork]] = {}
    for network in networks:
        segment = driver_of(network).segment(network)
        if segment is not None:
            places.setdefault(segment.namespace, []).append(network)
    resources: list[Resource] = []
    for group in places.values():
        own = [each for item in group for each in on_network.get(item.name, ())]
        resources.append(with_policies(segment_table(project, group, own, forwarded), judged, own, group))
    guarded = [network for network in bridged if network.network.firewall]
    if guarded:
        own = [each for item in guarded for each in on_network.get(item.name, ())]
        table = bridge_table(project, guarded, endpoints, forwarded)
        resources.append(with_policies(table, judged, own, guarded))
    return resources


def policies(
    host: Host, facts: Facts, allocated: HostAllocation, of_hosts: Mapping[str, Iterable[str]]
) -> HostPolicies:
    """The policies of a host's sandboxes."""
    if not host.policies:
        return HostPolicies()
    servers = {name: upstreams(facts, group) for name, group in allocated.endpoints.items() if group}
    return host_policies(host, allocated.networks, allocated.endpoints, servers, of_hosts, facts.rejects_bridged)


def _sandbox_rules(host: Host, facts: Facts, allocated: HostAllocation, ingress: list[IngressPort]) -> list[Resource]:
    engine = _BALANCERS[balancing_engine(host, facts)]
    project, resources = host.settings.project, list[Resource]()
    for name, endpoints in allocated.endpoints.items():
        if name == INGRESS_SANDBOX:
            inner = next(endpoint.link for endpoint in endpoints if endpoint.network.name == INGRESS)
            resources += [ingress_table(project, name, ingress, inner), *ingress_sysctls()]
        elif endpoints:
            services = [item for endpoint in endpoints for item in allocated.virtual.get(endpoint.network.name, ())]
            balancing = engine(name, services)
            resources += [sandbox_table(project, name, balancing), *balancing.resources]
    return resources


_BALANCERS: dict[str, Callable[[str, Iterable[VirtualService]], Balancing]] = {"ipvs": by_ipvs, "nftables": by_nftables}


def _data_path_ports(host: Host, tunneled: Iterable[PlannedNetwork]) -> tuple[int, ...]:
    """The UDP ports of tunnels: those of the setting, whether a network uses them or not, and those of networks."""
    usual = host.settings.data_path_port
    return tuple(sorted({usual, encrypted_data_path_port(usual), *(n.tunnel.port for n in tunneled if n.tunnel)}))


def _underlay(host: Host, tunneled: Iterable[PlannedNetwork], facts: Facts) -> str:
    """The link that has the host's VTEP and gets the packets; "" if unknown."""
    vteps = {item.tunnel.vteps[host.name] for item in tunneled if item.tunnel is not None}
    nothing = {name for name, link in facts.links.items() if link.loopback or link.kind == "dummy"}
    return next((link for address, link, _mtu in facts.addresses if address in vteps and link not in nothing), "")


def _shared_bridges(networks: Iterable[PlannedNetwork], bridges: Mapping[str, str], facts: Facts) -> set[str]:
    """Bridges that are foreign, or whose default gateway is."""
    known = {name: facts.links.get(bridges[name]) for name in bridges}
    adopted = {
        name
        for name, link in known.items()
        if link and link.kind == "bridge" and not (link.ours or link.owner or link.single_object)
    }
    others = {
        network.name
        for network in networks
        for subnet in network.subnets
        if f"DefaultGatewayIPv{subnet.family}" in dict(subnet.config.aux_addresses)
    }
    return {bridges[name] for name in adopted | others}


def _services_called_by_host(allocated: HostAllocation) -> list[VirtualService]:
    """Services on networks where the host has an address of the VIP's family."""
    found: dict[str, VirtualService] = {}
    for name, network in allocated.networks.items():
        own = driver_of(network).host_addresses(network) if network.own_vips else ()
        families = {family_of(address) for address in own}
        found.update({item.vip: item for item in allocated.virtual.get(name, ()) if own and item.family in families})
    return [item for _vip, item in sorted(found.items())]


def _encryption(host: Host, tunneled: Iterable[PlannedNetwork]) -> list[Resource]:
    """ESP with the other hosts on networks that are encrypted."""
    both = [(item.tunnel, item.shared) for item in tunneled if item.network.encrypted]
    found = [(tunnel, shared) for tunnel, shared in both if tunnel is not None and shared is not None]
    if not found:
        return []
    tunnel, tables = found[0][0], tuple(sorted(shared.table for _tunnel, shared in found))
    settings = host.settings
    print_of = fingerprint(settings.overlay_secret or "", settings.project)
    return [Xfrm(tunnel.vteps[host.name], tunnel.port, settings.key_epoch, tables=tables, fingerprint=print_of)]
