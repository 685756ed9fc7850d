# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Checks of one host's plan: errors refuse the host, warnings are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ...module_utils.plan.constants import MODULES_PACKAGE
from ...module_utils.plan.families import family_of
from ..declaration.routes import off_link
from ..declaration.topology import Host, Topology
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..facts import Facts
from ..ipam.addresses import networks_in_use
from ..networks.evpn import unreached_reflectors
from ..networks.spanning import Spanning
from ..services.balancing import balancing_engine
from ..services.nftables import SCHEDULERS as BY_NFTABLES
from ..services.placement import PlacedService, is_of_one_host
from .front_ends import chains_of

_DOCKER_CHAINS = {4: "ip filter FORWARD", 6: "ip6 filter FORWARD"}

REPLACE_TABLE = "table inet NAME; delete table inet NAME;"
"""Removes a table or none at its place, in any version of nft; ``destroy table`` needs 1.0.7, Debian 12 has 1.0.6."""

_BRIDGE_PORTS = 1023
"""BR_MAX_PORTS is 1024, but number 0 is unused; an overlay's VXLAN link takes one more."""


def other_hosts_needed_errors(host: Host, facts: Facts) -> list[str]:
    names = [
        name for name in networks_in_use(host) if (network := host.network(name)) and network.traits.scope == "global"
    ]
    names += [service.name for service in host.services if not is_of_one_host(service, host)]
    what = "what spans hosts is planned for all of them at once: run cnm.fabric.site, or the role multi_host"
    found = [f"{', '.join(names)}: {what}"] if names else []
    if facts.has_frr or host.settings.evpn is not None:
        found.append(f"this host tells others of endpoints, or passes that on (cnm_control_plane: evpn): {what}")
    return found


def unused_networks(topology: Topology) -> list[str]:
    """The networks that are declared on some host, and used by no sandbox or service of any, sorted."""
    declared: set[str] = set()
    used: set[str] = set()
    for host in topology.hosts:
        declared.update(network.name for network in host.networks)
        used.update(networks_in_use(host))
        used.update(attachment.network for service in host.services for attachment in service.networks)
    return sorted(declared - used)


def off_link_errors(endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """Errors of routes whose gateway is outside the subnet that was chosen for their network."""
    found = {
        f"{owner.path}.routes: {problem}, which was chosen for the network. Declare its subnet.": None
        for item in endpoints
        for owner in (item.network.network, item.endpoint)
        for problem in off_link(owner.routes, [subnet.subnet for subnet in item.network.subnets])
    }
    return list(found)


def foreign_firewall_warnings(host: Host, facts: Facts) -> list[str]:
    """Warnings of foreign firewall rules that drop the networks' traffic, whatever our own table accepts."""
    handled = {_DOCKER_CHAINS[family] for family in facts.docker_user if host.settings.docker_user}
    unfiltered = (
        "this host's nftables cannot filter bridged frames (it needs nft 1.0.3 and CONFIG_NF_TABLES_BRIDGE): sandboxes "
        "of one network can speak in each other's name, in that of their gateway, and fill its bridge with addresses"
    )
    flushed = (
        f"{facts.flushing} has `flush ruleset`: whenever nftables.service is started or reloaded, the networks' rules "
        f"are gone until the next run. Write `{REPLACE_TABLE}` for each of its tables instead"
    )
    restored = facts.systemd and host.settings.boot
    found = [unfiltered] * (not facts.filters_bridges)
    found += [flushed] * (bool(facts.flushing) and not restored)
    return found + [
        f"the chain {chain} of the host's other firewall drops unmatched forwarded traffic, including "
        "that of the networks. Allow traffic from and to their bridges"
        for chain in facts.dropping
        if chain not in handled and chain not in chains_of(facts)
    ]


def policy_errors(facts: Facts, judged: Iterable[str]) -> list[str]:
    """Errors of a host that cannot enforce the policies of these sandboxes."""
    names = sorted(judged)
    if not names or facts.filters_bridges:
        return []
    why = f"this host's nftables cannot filter bridged frames, so that the policies of {', '.join(names)} could not be"
    return [
        f"{why} enforced: it needs nft 1.0.3 and a kernel with CONFIG_NF_TABLES_BRIDGE, or the sandboxes no policies"
    ]


def policy_warnings(host: Host, facts: Facts, judged: Iterable[str]) -> list[str]:
    """Warnings of a host whose kernel cannot reject what policies say it should."""
    if facts.rejects_bridged or not list(judged):
        return []
    rejecting = [
        policy.name
        for policy in host.policies
        if "reject" in policy.defaults or any(rule.action == "reject" for rule in (*policy.ingress, *policy.egress))
    ]
    if not rejecting:
        return []
    why = "this host's kernel cannot answer bridged packets (CONFIG_NFT_BRIDGE_REJECT)"
    return [f"{why}: what {', '.join(rejecting)} rejects is dropped without a word"]


def blocked_port_warnings(facts: Facts, networks: Iterable[Spanning]) -> list[str]:
    """Warnings of foreign firewall rules that may drop tunnels or ESP from the other hosts."""
    # What has been decrypted comes by once more, as what it is then.
    words = {
        f"{'ESP (IP protocol 50) and in it ' * item.network.encrypted}UDP port {item.tunnel.port}"
        for item in networks
        if item.tunnel
    }
    wanted = " and ".join(sorted(words, reverse=True))
    return [
        f"the chain {chain} of the host's other firewall drops unmatched traffic. Allow {wanted} from the other "
        "hosts, which overlays are carried in"
        for chain in facts.closed
        if words and chain not in chains_of(facts)
    ]


def bridge_port_limit_errors(networks: Mapping[str, PlannedNetwork], endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """Errors of networks with more endpoints on the host than a bridge has ports (BR_MAX_PORTS)."""
    found = []
    numbers = Counter(item.network.name for item in endpoints)
    for name, network in networks.items():
        number = numbers[name]
        if number >= _BRIDGE_PORTS and network.network.traits.bridged:
            found.append(
                f"{network.network.path}: {number} sandboxes of this host are on it, and a bridge of Linux has "
                f"{_BRIDGE_PORTS - 1} ports: divide them into several networks."
            )
    return found


def encryption_errors(host: Host, facts: Facts, networks: Mapping[str, PlannedNetwork]) -> list[str]:
    """Errors of what encrypted networks need and this host lacks."""
    found = [item for item in networks.values() if item.network.encrypted and item.tunnel is not None]
    if not found:
        return []
    path = found[0].network.path
    families = {family_of(item.tunnel.vteps[host.name]) for item in found if item.tunnel}
    problems = [f"{path}.encrypted: {facts.no_esp[family]}" for family in sorted(families) if family in facts.no_esp]
    if host.settings.overlay_secret is None:
        problem = f"{path}.encrypted: there is no cnm_overlay_secret to derive keys from."
        problems.append(f"{problem} Set it for all hosts of the network, from a vault.")
    return problems


def keys_not_kept_warnings(host: Host, facts: Facts, networks: Mapping[str, PlannedNetwork]) -> list[str]:
    """Warnings of networks that do not come back by themselves: encrypted ones, and those that BGP tells hosts of."""
    if host.settings.keep_keys or not host.settings.boot or not facts.systemd:
        return []
    evpn = host.settings.evpn is not None and host.settings.evpn.manage
    kept = [name for name, item in networks.items() if item.network.encrypted or (item.tunnel is not None and evpn)]
    names = ", ".join(sorted(kept))
    return [f"cnm_keep_keys is false: after a reboot {names} stays down until cnm.fabric.site is run"] if names else []


def evpn_warnings(host: Host, fabric: Mapping[str, str]) -> list[str]:
    """Warnings of what the control plane EVPN lacks on a host."""
    evpn = host.settings.evpn
    if evpn is None or host.name not in fabric:
        return []
    found = [
        f"cnm_evpn.route_reflectors: {name} was never reached, so nobody is told of it. Run cnm.fabric.site on it"
        for name in unreached_reflectors(evpn, fabric)
    ]
    if evpn.manage and len(evpn.route_reflectors) == 1:
        found.append(
            "cnm_evpn.route_reflectors has one reflector: when it fails, no host reaches sandboxes of others. Name two"
        )
    return found


def scheduler_errors(
    host: Host, facts: Facts, networks: Mapping[str, PlannedNetwork], services: Mapping[str, PlacedService]
) -> list[str]:
    """Errors of the services on the host's networks whose scheduler its kernel or engine lacks."""
    called = {name for network in networks.values() for name, vip in network.vips.items() if vip.addresses}
    if not called:
        return []
    if balancing_engine(host, facts) == "ipvs":
        problem = f"this host's kernel has no IPVS: load its module ip_vs (modprobe ip_vs; {MODULES_PACKAGE})"
        return [] if facts.ipvs else [f"cnm_load_balancer: {problem}, or write nftables, or auto."]
    return [
        f"{placed.service.path}.deploy.scheduler: {placed.service.scheduler} takes IPVS, and this host balances with "
        f"nftables, which has {', '.join(BY_NFTABLES)}. Write one of these, or run a kernel with IPVS there."
        for name, placed in services.items()
        if name in called and placed.service.scheduler not in BY_NFTABLES
    ]
