# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is planned once for all hosts: service placement, networks that span hosts, and the texts they share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field

from ...module_utils.plan.marks import identifier
from ...module_utils.plan.records import dataclass
from ..declaration.ingress import INGRESS
from ..declaration.topology import Host, Topology
from ..drivers.base import Digests, PlannedEndpoint, PlannedNetwork
from ..facts import Facts
from ..firewall.published_ports import unowned_host_ip_errors
from ..leases.base import OVERLAYS, SERVICES, Leases
from ..networks.multi_host import plan_spanning_networks
from ..networks.spanning import SpanningNetworks
from ..services.balancing import VirtualService, virtual_services
from ..services.ingress import IngressPort, ingress_backends
from ..services.placement import PlacedService, Placement, place_on_one_host, place_services
from ..services.rolling import DONE
from ..services.tasks import with_tasks
from .peer_tables import shared_texts


@dataclass
class TopologyPlan:
    """What is planned once for all hosts.  With ``single_host`` only one of them is known."""

    topology: Topology
    placement: Placement = field(default_factory=Placement)
    spanning: SpanningNetworks = field(default_factory=SpanningNetworks)
    digests: dict[str, Digests] = field(default_factory=dict)
    virtual: dict[str, list[VirtualService]] = field(default_factory=dict)
    """Services with a VIP by network that spans hosts."""
    ingress: list[IngressPort] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    host_addresses: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The addresses of each host, if there are policies, which may name hosts."""
    single_host: bool = False

    def placed(self, host: Host) -> list[PlacedService]:
        """The services that the host declares."""
        return [self.placement.found[item.name] for item in host.services if item.name in self.placement.found]

    def virtual_on(
        self, networks: Mapping[str, PlannedNetwork], endpoints: Mapping[str, Sequence[PlannedEndpoint]]
    ) -> dict[str, list[VirtualService]]:
        """Services with a VIP by network of the host; a local network's have the host's own tasks only."""
        result = dict(self.virtual)
        for name, network in networks.items():
            if network.own_vips:
                members = {
                    key: each.addresses for key, group in endpoints.items() for each in group if each.network is network
                }
                result[name] = virtual_services(network.own_vips, members, self.placement.found)
        return result

    def peer_digests(self, host: str) -> dict[str, str]:
        """A digest of the peer table and the records of each of a host's networks that span hosts."""
        found = {name: self.digests[name] for name in sorted(self.spanning.of(host))}
        return {name: identifier(each.table, each.names)[:12] for name, each in found.items()}

    def stale_peers_warnings(self, host: str, told: Mapping[str, str]) -> list[str]:
        """The warning for a host that is not in this run, if what it was ``told`` last of a network is out of date."""
        stale = [name for name, digest in self.peer_digests(host).items() if told.get(name) != digest]
        if not stale:
            return []
        what = f"its peer table or names for {', '.join(stale)} are out of date"
        return [f"not part of this run; {what}. Run cnm.fabric.site on it"]


def plan_topology(
    topology: Topology,
    facts: Mapping[str, Facts],
    connections: Mapping[str, str],
    parts: dict[str, Leases],
    spanning: Leases,
    now: str,
    rolling: str = DONE,
) -> TopologyPlan:
    placement = place_services(topology, spanning[SERVICES], rolling)
    for name, problems in unowned_host_ip_errors(topology, facts).items():
        placement.problems.setdefault(name, []).extend(problems)
    topology_plan = TopologyPlan(with_tasks(topology, placement), placement)
    with_vip = [item.service for item in placement.found.values() if item.service.endpoint_mode == "vip"]
    topology_plan.spanning = plan_spanning_networks(
        topology_plan.topology, facts, connections, parts, spanning[OVERLAYS], now, with_vip
    )
    for name, network in topology_plan.spanning.found.items():
        members = {key: member.addresses for key, member in network.members.items()}
        topology_plan.virtual[name] = virtual_services(network.vips, members, placement.found)
    _add_shared_texts(topology_plan)
    if INGRESS in topology_plan.spanning.found:
        topology_plan.ingress = ingress_backends(topology_plan.spanning.found[INGRESS], placement.found)
    return topology_plan


def plan_single_host(
    topology: Topology,
    facts: Mapping[str, Facts],
    parts: dict[str, Leases],
    spanning: Leases,
    now: str,
    others: Mapping[str, Leases],
) -> TopologyPlan:
    """Plan one host without the others: networks of local scope are possible, but who else is on them is not known."""
    placement = Placement()
    for host in topology.hosts:
        own = place_on_one_host(host, spanning[SERVICES])
        placement.found.update(own.found)
        placement.problems.update(own.problems)
    topology_plan = TopologyPlan(with_tasks(topology, placement), placement, single_host=True)
    topology_plan.spanning = plan_spanning_networks(
        topology_plan.topology, facts, {}, parts, spanning[OVERLAYS], now, others=others
    )
    _add_shared_texts(topology_plan)
    return topology_plan


def _add_shared_texts(topology_plan: TopologyPlan) -> None:
    for name, network in topology_plan.spanning.found.items():
        topology_plan.digests[name], texts = shared_texts(topology_plan.topology.hosts[0].settings.project, network)
        topology_plan.texts.update(texts)
