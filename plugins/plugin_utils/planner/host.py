# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One host's plan: the resources of its networks and sandboxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ...module_utils.plan.base import Resource
from ...module_utils.plan.encryption import Xfrm
from ...module_utils.plan.families import family_of
from ...module_utils.plan.marks import encrypted_data_path_port
from ...module_utils.plan.nftables import DockerUser
from ...module_utils.plan.plan import Plan
from ...module_utils.plan.settings import Sysctl
from ..declaration.ingress import INGRESS
from ..declaration.ingress import SANDBOX as INGRESS_SANDBOX
from ..declaration.topology import Host, Sandbox
from ..dns.resolvers import Naming, names_of_host
from ..drivers.base import PlannedNetwork, by_network
from ..drivers.registry import driver_of
from ..facts import Facts
from ..firewall.host_table import HostRules, host_table
from ..firewall.kernel_settings import closed_families, closing_rules, host_sysctls
from ..firewall.published_ports import published_ports
from ..firewall.sandbox_tables import ingress_table, sandbox_table
from ..firewall.sources import bridge_table, forwarded_sources, segment_table, sources_behind
from ..inspect.docker_model import model_of_host
from ..leases.base import Leases
from ..networks.encryption import fingerprint
from ..services.balancing import Balancing, VirtualService, balancing_engine
from ..services.ingress import IngressPort, ingress_sysctls
from ..services.ipvs import by_ipvs
from ..services.nftables import by_nftables
from .allocation import HostAllocation
from .topology import TopologyPlan


def plan_host(host: Host, facts: Facts, allocated: HostAllocation, topology_plan: TopologyPlan, leases: Leases) -> Plan:
    project = host.settings.project
    """The plan of a host whose networks and endpoints are allocated and free of errors."""
    resources = _network_resources(host, allocated, facts)
    engine = balancing_engine(host, facts)
    names = names_of_host(project, facts, allocated.every)
    if names.file.files:
        resources.append(names.file)
    for sandbox in sorted(host.sandboxes, key=lambda item: item.name):
        if mode_of(host, sandbox) != "host":
            naming = Naming(project, facts, names, sandbox, allocated.endpoints[sandbox.name])
            resources += _sandbox_resources(naming, allocated.virtual, topology_plan.ingress, _BALANCERS[engine])
    return Plan(
        host=host.name,
        project=project,
        resources=tuple(sorted(resources, key=lambda item: item.key)),
        model=model_of_host(
            host, allocated.networks, allocated.endpoints, topology_plan.placement.found.values(), engine
        ),
        leases=leases,
    )


def mode_of(host: Host, sandbox: Sandbox) -> Optional[str]:
    """``host`` or ``none`` for a sandbox without networks of its own, by network_mode or a network of that driver."""
    if sandbox.network_mode:
        return sandbox.network_mode
    networks = [host.network(endpoint.network) for endpoint in sandbox.endpoints]
    return next((network.traits.mode for network in networks if network and network.traits.mode), None)


def _network_resources(host: Host, allocated: HostAllocation, facts: Facts) -> list[Resource]:
    networks, endpoints = allocated.networks, allocated.every
    resources: list[Resource] = []
    bridges: dict[str, str] = {}
    ports = published_ports(endpoints)
    published = {port.network for port in ports if port.at_loopback}
    for network in networks.values():
        driver = driver_of(network)
        resources += driver.network_resources(
            replace(network, published=True) if network.name in published else network
        )
        bridge = driver.bridge(network)
        if bridge is not None:
            bridges[network.name] = bridge
    resources = list({item.key: item for item in resources}.values())  # networks may have a VLAN link in common
    bridged = [networks[name] for name in bridges]
    families = tuple(family for family in (4, 6) if any(network.of(family) for network in bridged))
    resources += host_sysctls(facts, families, len(endpoints))
    tunneled = [network for network in networks.values() if network.tunnel is not None]
    resources += _encryption(host, tunneled)
    resources += closing_rules(host.settings.project, bridges, bridged)
    forwarded = forwarded_sources(endpoints)
    if bridges or tunneled or facts.has_table:
        # A host whose last network went is no router of ours any more: what is not ours is not ours to drop.
        closed = tuple(family for family in families if not facts.forwarded_before(family))
        opened = [family for family in facts.docker_user if host.settings.docker_user and bridges]
        local = [endpoint for endpoint in endpoints if endpoint.network.name in bridges]
        rules = HostRules(
            host.settings.project,
            bridged,
            bridges,
            ports,
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
            for network in tunneled
            if driver_of(network).segment(network) is not None
        ]
    guarded = [network for network in bridged if network.network.firewall]
    if guarded and facts.filters_bridges:
        resources.append(bridge_table(host.settings.project, guarded, endpoints, forwarded))
    return resources


def _data_path_ports(host: Host, tunneled: Iterable[PlannedNetwork]) -> tuple[int, ...]:
    """The UDP ports of tunnels: those of the setting, whether a network uses them or not, and those of networks."""
    usual = host.settings.data_path_port
    return tuple(sorted({usual, encrypted_data_path_port(usual), *(n.tunnel.port for n in tunneled if n.tunnel)}))


def _underlay(host: Host, tunneled: Iterable[PlannedNetwork], facts: Facts) -> str:
    """The link that has the host's VTEP and that packets come in by; "" if it is not known or there is none."""
    vteps = {item.tunnel.vteps[host.name] for item in tunneled if item.tunnel is not None}
    nothing = {name for name, link in facts.links.items() if link.loopback or link.kind == "dummy"}
    return next((link for address, link, _mtu in facts.addresses if address in vteps and link not in nothing), "")


def _shared_bridges(networks: Iterable[PlannedNetwork], bridges: Mapping[str, str], facts: Facts) -> set[str]:
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


def _sandbox_resources(
    naming: Naming,
    virtual: Mapping[str, Sequence[VirtualService]],
    ingress: Sequence[IngressPort],
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
        resources += driver_of(endpoint.network).endpoint_resources(endpoint)
    if name == INGRESS_SANDBOX:
        inner = next(endpoint.link for endpoint in naming.endpoints if endpoint.network.name == INGRESS)
        resources += [ingress_table(naming.project, name, ingress, inner), *ingress_sysctls()]
    elif naming.endpoints:
        services = [item for endpoint in naming.endpoints for item in virtual.get(endpoint.network.name, ())]
        balancing = engine(name, services)
        resources += [sandbox_table(naming.project, name, balancing), *balancing.resources, naming.resolver()]
    return resources


_BALANCERS: dict[str, Callable[[str, Iterable[VirtualService]], Balancing]] = {"ipvs": by_ipvs, "nftables": by_nftables}
