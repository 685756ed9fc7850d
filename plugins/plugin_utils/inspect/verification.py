# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The checks that ``verify`` makes on a host, derived from its plan's model.  Pure."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...module_utils.plan.families import family_of
from ...module_utils.plan.peers import PeerEndpoint, PeerTable
from ..declaration.ingress import INGRESS as NETWORK
from ..declaration.ingress import SANDBOX as INGRESS
from .model import EndpointModel, Model, SandboxModel

Check = dict[str, Any]
"""``{"sandbox": "c1", "reach": [address …], "refuse": [address …], "names": {name: [address …]},
"way_out": [4, 6]}``, the last being the families with a default route, and ``"allowed"``, where policies are, targets
as of ``connect``; or, with sandbox "", a check of the host itself:
``"connect": [[address, port] …]``, which TCP connections must reach, and ``"hosts": [address …]``, the VTEPs of other
hosts, which need not answer."""


def checks_of(model: Model, limit: int, peer_tables: Sequence[PeerTable] = (), host: str = "") -> list[Check]:
    """For each sandbox of a host: addresses it must reach, addresses it must not, and names with their addresses.

    ``limit`` bounds the number of pairs that must reach each other and of those that must not; if there are more, a
    sample is taken, the same in each run.  It also bounds, for each of the ``peer_tables``, the pairs with sandboxes of
    other hosts; the virtual addresses; and the ingress ports, of this host and of others.
    """
    addresses = _addresses(model["sandboxes"])
    traits = model.get("traits", {})
    unconnected = {name for name, item in traits.items() if item["isolates"]}
    unsure = {name for name, item in traits.items() if item["isolates"] is None}
    public = {name for name, item in traits.items() if item["public"]}
    ways_out = {name: item["ways_out"] for name, item in traits.items()}
    pairs = [(one, other) for one in sorted(addresses) for other in sorted(addresses) if one != other]
    kinds: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for one, other in pairs:
        kinds[addresses[one].keys().isdisjoint(addresses[other])].append((one, other))
    chosen = {pair for kind in kinds.values() for pair in _sample(kind, limit)}
    called = _called(model, peer_tables)
    remote = {peers.network: _remote(peers, host, addresses, limit) for peers in peer_tables}
    virtual = _virtual(model, addresses, limit)
    result = []
    for sandbox, entry in sorted(model["sandboxes"].items()):
        if not entry["endpoints"]:
            continue
        reach: set[str] = set()
        refuse: set[str] = set()
        names: set[str] = set()
        policy = entry.get("policy")
        # What policies leave of these networks is known for a sample only.
        judged = set(policy["networks"]) if policy else set[str]()
        unknown = unsure | judged
        for endpoint in entry["endpoints"]:
            reach.update(endpoint["gateways"] if endpoint["network"] not in judged else ())
            for peer in remote.get(endpoint["network"], {}).get(sandbox, ()):
                reach.update(peer.addresses if endpoint["network"] not in unknown else ())
                names.update(peer.names)
        for vip in virtual.get(sandbox, ()):
            reach.update(vip["vips"] if vip["answers"] and vip["network"] not in judged else ())
            names.update(vip["names"])
        for _one, other in sorted(pair for pair in chosen if pair[0] == sandbox):
            shared = _shared(addresses, sandbox, other)
            connected = [network for network in shared if network not in unconnected and network not in unknown]
            reach.update(item for network in connected for item in addresses[other][network])
            # The ingress sandbox must reach all tasks, even on a network that isolates sandboxes.
            apart = [network for network in shared if network in unconnected and INGRESS not in (sandbox, other)]
            refuse.update(item for network in apart for item in addresses[other][network])
            if not shared:
                # Routers of the LAN decide who can reach a sandbox on it.
                non_public = [name for name in addresses[other] if name not in public]
                refuse.update(item for network in non_public for item in addresses[other][network])
            else:
                names.update(_names(model, other))
        if policy:
            reach.update(policy["open"])
            refuse.update(policy["closed"])
        networks = [endpoint["network"] for endpoint in entry["endpoints"]]
        found = {(end["network"], family_of(address)) for end in entry["endpoints"] for address in _bare(end)}
        way_out = sorted({family for network, family in found if family in ways_out.get(network, ())})
        resolve = {name: sorted({a for net in networks for a in called.get((net, name), ())}) for name in sorted(names)}
        resolve = {name: found for name, found in resolve.items() if found}
        check = {"reach": sorted(reach), "refuse": sorted(refuse), "names": resolve, "way_out": way_out}
        result.append({"sandbox": sandbox, **check, **({"allowed": policy["connects"]} if policy else {})})
    connect = [
        target for peers in peer_tables if peers.network == NETWORK for target in _published(model, peers, host, limit)
    ]
    connect += _own_ports(model, limit) if not any(peers.network == NETWORK for peers in peer_tables) else []
    vteps = sorted({address for peers in peer_tables for address in peers.others(host).values() if address})
    hosts = sorted(_sample([(host, address) for address in vteps], limit))
    if not connect and not hosts:
        return result
    return [*result, {"sandbox": "", "connect": connect, "hosts": [address for _host, address in hosts]}]


def _own_ports(model: Model, limit: int) -> list[list[Any]]:
    """Ports of this host that lead to its own tasks, at its loopback, if there is no ingress mesh."""
    found = {
        port["published"][0]
        for entry in model.get("services", {}).values()
        if not entry.get("judged")
        for port in entry["ports"]
        if port["protocol"] == "tcp" and not port["host_ip"]
        for task, shown in entry["tasks"].items()
        if shown["weight"]
        and any(shown_port.startswith("0.0.0.0:") for shown_port in model["sandboxes"][task]["ports"])
    }
    return [["127.0.0.1", port] for port in sorted(found)[:limit]]


def _virtual(model: Model, addresses: Mapping[str, Any], limit: int) -> dict[str, list[dict[str, Any]]]:
    """Virtual addresses and names of the services on the networks of each sandbox."""
    vips: list[dict[str, Any]] = [
        {"network": network, "service": name, "answers": entry["answers"], **vip}
        for name, entry in model.get("services", {}).items()
        for network, vip in entry["networks"].items()
        if vip["vips"]
    ]
    result = {}
    for sandbox, networks in addresses.items():
        own = [vip for vip in vips if vip["network"] in networks]
        each = max(1, limit // max(1, len(addresses)))
        if len(own) > each:
            own = heapq.nsmallest(each, own, key=lambda item: _chance(sandbox, item["network"], item["service"]))
        result[sandbox] = own
    return result


def _published(model: Model, peers: PeerTable, host: str, limit: int) -> list[list[Any]]:
    """Addresses and ports that TCP connections must reach: the first port of each range, on this host and on others.

    A refused connection counts as reached, as a task need not listen.  Ports with a `host_ip` are left out, as these
    hosts may not have that address.
    """
    ports = [
        port["published"][0]
        for entry in model.get("services", {}).values()
        # What policies leave of callers through the mesh is theirs to say.
        if not entry.get("judged")
        for port in entry["ports"]
        if port["protocol"] == "tcp" and not port["host_ip"] and entry["answers"]
    ]
    pairs = [(other, str(port)) for other in sorted(peers.vteps) for port in sorted(set(ports))]
    if len(pairs) > limit:
        pairs = sorted(pairs, key=lambda pair: _chance(host, *pair))[:limit]
    return [[peers.vteps[other], int(port)] for other, port in sorted(pairs)]


def _called(model: Model, peer_tables: Iterable[PeerTable]) -> dict[tuple[str, str], set[str]]:
    """All addresses that each name resolves to, by network and name."""
    result: dict[tuple[str, str], set[str]] = {}
    for entry in model["sandboxes"].values():
        for item in entry["endpoints"]:
            for name in item["names"]:
                result.setdefault((item["network"], name), set()).update(_bare(item))
    for peers in peer_tables:
        for peer in peers.endpoints:
            for name in peer.names:
                result.setdefault((peers.network, name), set()).update(peer.addresses)
    for service in model.get("services", {}).values():
        for network, vip in service["networks"].items():
            for name in vip["names"] if vip["vips"] else ():
                result.setdefault((network, name), set()).update(vip["vips"])
    return result


def _remote(
    peers: PeerTable, host: str, addresses: Mapping[str, Mapping[str, list[str]]], limit: int
) -> dict[str, list[PeerEndpoint]]:
    """For each sandbox of this host, the peer table's rows of other hosts' endpoints that it must reach."""
    own = sorted(sandbox for sandbox, networks in addresses.items() if peers.network in networks)
    others = [peer for peer in peers.endpoints if peer.host != host and peer.host in peers.vteps]
    each = max(1, limit // max(1, len(own)))
    if len(others) <= each:
        return dict.fromkeys(own, others)
    result: dict[str, list[PeerEndpoint]] = {}
    for sandbox in own:
        # At equal distances, from a place of its own: to rank all others for each would take hosts minutes.
        start = int.from_bytes(_chance(sandbox), "big")
        places = ((start + number * len(others) // each) % len(others) for number in range(each))
        result[sandbox] = [others[place] for place in places]
    return result


def _chance(*names: str) -> bytes:
    return hashlib.sha256("\0".join(names).encode()).digest()


def _addresses(sandboxes: Mapping[str, SandboxModel]) -> dict[str, dict[str, list[str]]]:
    return {
        name: {item["network"]: _bare(item) for item in entry["endpoints"]}
        for name, entry in sandboxes.items()
        if entry["endpoints"]
    }


def _bare(endpoint: EndpointModel) -> list[str]:
    return [address.partition("/")[0] for address in endpoint["addresses"]]


def _shared(addresses: Mapping[str, Mapping[str, list[str]]], one: str, other: str) -> list[str]:
    return sorted(set(addresses[one]) & set(addresses[other]))


def _sample(pairs: Sequence[tuple[str, str]], limit: int) -> Sequence[tuple[str, str]]:
    if len(pairs) <= limit:
        return pairs
    return heapq.nsmallest(limit, pairs, key=lambda pair: _chance(*pair))


def _names(model: Model, sandbox: str) -> list[str]:
    return sorted({name for item in model["sandboxes"][sandbox]["endpoints"] for name in item["names"]})
