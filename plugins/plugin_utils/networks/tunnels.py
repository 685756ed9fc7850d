# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks in tunnels: the VTEP of each host, and the VNI, UDP port and MTU of each network."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from ...module_utils.plan.constants import DEFAULT_MTU, ESP_OVERHEAD, SMALLEST_MTU
from ...module_utils.plan.marks import encrypted_data_path_port
from ..declaration.driver import FAMILIES, Tunnel
from ..declaration.errors import name_hosts
from ..declaration.topology import Host, Network
from ..facts import Facts
from ..leases.base import HostLease, Leases, NetworkLease
from .spanning import Member, SpanningDraft, SpanningNetworks
from .underlay import Claims, Underlay, underlay_of

_MANY_ENTRIES = 16384

_MANY_HOSTS = 100


def find_underlays(
    hosts: Iterable[Host],
    facts: Mapping[str, Facts],
    connections: Mapping[str, str],
    parts: Mapping[str, Leases],
    claims: Claims,
    result: SpanningNetworks,
    needed: Container[str],
) -> dict[str, Underlay]:
    """The VTEP of each of these hosts; recorded in its leases for runs that do not reach it.

    Of hosts that are not ``needed`` nobody is told why one has none.
    """
    found, by_name = {}, {host.name: host for host in hosts}
    for host in by_name.values():
        leased = parts[host.name]["hosts"].get(host.name, {})
        underlay = underlay_of(host, facts.get(host.name), leased, connections.get(host.name))
        if isinstance(underlay, str) and host.name not in needed:
            continue
        if isinstance(underlay, str):
            (result.problems if host.name in facts else result.warnings).setdefault(host.name, []).append(underlay)
            continue
        found[host.name] = underlay
    for name, sentence in claims.judge({name: item.address for name, item in found.items()}).items():
        if name in needed:
            (result.problems if name in facts else result.warnings).setdefault(name, []).append(sentence)
        del found[name]
    for name, underlay in found.items():
        host, leased = by_name[name], parts[name]["hosts"].get(name, {})
        seen = list(facts[host.name].vnis) if host.name in facts else leased.get("vnis", [])
        entry: HostLease = {**leased, "underlay": underlay.address, "mtu": underlay.mtu, "vnis": seen}
        parts[host.name]["hosts"] = {host.name: entry}
    return found


def choose_vnis(
    spanning_networks: Mapping[str, SpanningDraft],
    facts: Mapping[str, Facts],
    parts: Mapping[str, Leases],
    leased: Mapping[str, NetworkLease],
    result: SpanningNetworks,
) -> dict[str, int]:
    """A VNI each: the one declared, the one leased, else the lowest that is unused on all hosts of the topology.

    A leased one is kept while it is free on the network's hosts: a new one would separate its hosts until all have run,
    and those that are not reached for longer.
    """
    seen = {
        host: set(facts[host].vnis if host in facts else part["hosts"].get(host, {}).get("vnis", ()))
        for host, part in sorted(parts.items())
    }
    found = {name: vni for name, spanned in spanning_networks.items() if (vni := tunnel_of(spanned.network).vni)}
    for name, vni in found.items():
        for host in spanning_networks[name].names:
            if vni in seen[host]:
                sentence = (
                    f"{spanning_networks[name].network.path}: the VNI {vni} is used by a foreign VXLAN on {host}."
                )
                result.problems.setdefault(host, []).append(f"{sentence} Choose another, or leave the option out.")
    used = set(found.values())
    for name, spanned in spanning_networks.items():
        before = leased.get(name, {}).get("vni")
        if name not in found and before is not None and before not in used.union(*map(seen.__getitem__, spanned.names)):
            found[name] = before
            used.add(before)
    used.update(*seen.values())
    for name, spanned in spanning_networks.items():
        if name in found:
            continue
        first, last = spanned.hosts[0].settings.vni_range
        free = next((vni for vni in range(first, last + 1) if vni not in used), None)
        if free is None:
            for host in spanned.names:
                sentence = f"{spanned.network.path}: no VNI is left in cnm_vni_range. Make the range larger."
                result.problems.setdefault(host, []).append(sentence)
            continue
        found[name] = free
        used.add(free)
    return found


def mixed_underlay_family_errors(network: Network, vteps: Mapping[str, Underlay]) -> list[str]:
    """An error if some of a network's VTEPs are IPv4 and others IPv6."""
    groups: dict[int, list[str]] = {}
    for host, underlay in vteps.items():
        groups.setdefault(underlay.family, []).append(host)
    if len(groups) < 2:
        return []
    differing = " and ".join(f"IPv{family} on {name_hosts(hosts)}" for family, hosts in sorted(groups.items()))
    problem = f"{network.path}: its hosts must all be reached by IPv4, or all by IPv6, and it is {differing}."
    return [f"{problem} Set cnm_underlay_address."]


def tunnel_of(network: Network) -> Tunnel:
    return network.traits.tunnel or Tunnel()


def data_path_port(network: Network, port: int) -> int:
    port = tunnel_of(network).port or port
    return encrypted_data_path_port(port) if network.encrypted else port


def choose_mtu(
    network: Network, members: Mapping[str, Underlay], vteps: Mapping[str, Underlay], result: SpanningNetworks
) -> int:
    """The MTU that fits the smallest underlay of ``vteps``: the network's hosts, and all that may come to have it."""
    sizes: dict[int, list[str]] = {}
    for host, underlay in vteps.items():
        if underlay.mtu is not None:
            sizes.setdefault(underlay.mtu, []).append(host)
    smallest = min(sizes, default=DEFAULT_MTU)
    declared = network.mtu
    underlay_mtu = declared or smallest
    added = dict(zip(FAMILIES, tunnel_of(network).overhead))
    overhead = max((added[item.family] for item in vteps.values()), default=added[4])
    mtu = (underlay_mtu - overhead - ESP_OVERHEAD) // 4 * 4 if network.encrypted else underlay_mtu - overhead
    differing = ", ".join(f"{size} on {name_hosts(hosts)}" for size, hosts in sorted(sizes.items()))
    if declared > smallest:
        sentence = (
            f"{network.path}: the MTU of the underlay is not {declared} everywhere, it is {differing}: packets get lost"
        )
        for host in sizes[smallest]:
            result.warnings.setdefault(host, []).append(sentence)
    elif len(sizes) > 1 and not declared:
        sentence = f"{network.path}: the MTU of the underlay is {differing}: the network has {mtu} on all of them"
        for host in sizes[smallest]:
            result.warnings.setdefault(host, []).append(sentence)
    _say_if_small(network, mtu, members, result)
    return mtu


def _say_if_small(network: Network, mtu: int, hosts: Iterable[str], result: SpanningNetworks) -> None:
    left = f"{network.path}: the underlay's MTU leaves {mtu} octets for the network"
    for host in hosts:
        if mtu < SMALLEST_MTU[4]:
            problem = (
                f"{left}, and IPv4 takes at least {SMALLEST_MTU[4]}. Raise the MTU of the underlay, or the option."
            )
            result.problems.setdefault(host, []).append(problem)
        elif network.enable_ipv6 and mtu < SMALLEST_MTU[6]:
            warning = f"{left}, and IPv6 takes at least {SMALLEST_MTU[6]}: there is no IPv6 on it"
            result.warnings.setdefault(host, []).append(warning)


def warn_of_size(result: SpanningNetworks, spanned: SpanningDraft, members: Mapping[str, Member], flood: bool) -> None:
    first = result.warnings.setdefault(spanned.names[0], [])
    if len(members) > _MANY_ENTRIES:
        first.append(
            f"{spanned.network.path}: {len(members)} endpoints are as many forwarding entries on each of its hosts; "
            "kernels before 6.16 lose throughput beyond 16384. Split it into several networks."
        )
    if flood and len(spanned.hosts) > _MANY_HOSTS:
        first.append(
            f"{spanned.network.path}: with cnm_flood each broadcast is sent {len(spanned.hosts) - 1} times. Turn it "
            "off, or split the network."
        )
