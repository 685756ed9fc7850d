# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Checks that compare several objects: those of one host, and a network's on all of its hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from ipaddress import ip_address
from typing import Any, Optional

from ...module_utils.plan.constants import SHARES
from ...module_utils.plan.records import dataclass
from .addresses import Subnet, gateway_in, network_of, overlap, some_host, why_not
from .control_plane import check_reflectors
from .driver import DriverError, Drivers
from .errors import ValidationError, VarPath, name_hosts, show, word
from .keys import did_you_mean
from .networks import UNKNOWN
from .published import check_ports
from .routes import check_endpoint, check_together
from .sandboxes import ENDPOINT_OPTIONS
from .schema import ENDPOINT
from .topology import PREDEFINED, Endpoint, Host, LeaseStore, Namespace, Network, Sandbox, Settings

Found = Iterator[tuple[str, ValidationError]]

Member = tuple[str, Sandbox, Endpoint]
"""An endpoint with its host and sandbox."""


@dataclass(frozen=True)
class Draft:
    """A host as read so far.  ``declared`` has the names of all its networks, ``broken`` those whose subnets can
    not be relied on."""

    host: Host
    declared: frozenset[str]
    broken: frozenset[str]

    @cached_property
    def networks(self) -> dict[str, Network]:
        """The networks that could be read, by name."""
        return {network.name: network for network in self.host.networks}

    def valid_network(self, name: str) -> Optional[Network]:
        """The network of that name if there is nothing wrong with it."""
        return None if name in self.broken else self.networks.get(name)


def check(drafts: Sequence[Draft], drivers: Drivers) -> Found:
    """All errors between the parts of hosts, and between hosts, as (host, error)."""
    spanning = {network.name for draft in drafts for network in draft.host.networks if network.traits.spans_hosts}
    owners: dict[str, list[str]] = {}
    for draft in drafts:
        for name in draft.declared:
            owners.setdefault(name, []).append(draft.host.name)
    for draft in drafts:
        errors: list[ValidationError] = []
        _check_host(draft, drivers, spanning, owners, errors)
        yield from ((draft.host.name, error) for error in errors)
    for name in sorted(spanning):
        yield from _check_spanning(name, drafts, drivers)
    yield from _distinct_vnis(drafts)
    yield from _same_store(drafts)
    yield from _same_of_all(drafts)
    overlays = [draft for draft in drafts if any(net.traits.scope == "global" for net in draft.host.networks)]
    if overlays:
        yield from _same_settings(overlays)
    yield from check_reflectors([draft.host for draft in drafts])


def _check_host(
    draft: Draft, drivers: Drivers, spanning: set[str], owners: dict[str, list[str]], errors: list[ValidationError]
) -> None:
    _distinct_subnets(draft, errors)
    _distinct_bridges(sorted(draft.host.networks, key=lambda network: network.name not in PREDEFINED), drivers, errors)
    _check_parents(draft.host.networks, drivers, errors)
    members: dict[str, list[Member]] = {}
    _distinct_namespaces(draft, errors)
    for sandbox in draft.host.sandboxes:
        _modes_stand_alone(draft, sandbox, errors)
        _shares_what_is_there(draft, sandbox, errors)
        check_links_together(draft, sandbox, errors)
        for endpoint in sandbox.endpoints:
            path = VarPath(endpoint.path, errors)
            if endpoint.network in draft.declared:
                members.setdefault(endpoint.network, []).append((draft.host.name, sandbox, endpoint))
                network = draft.valid_network(endpoint.network)
                if network is not None:
                    check_on_network(endpoint, network, path)
            elif endpoint.network not in PREDEFINED:
                _undeclared(endpoint.network, draft, owners.get(endpoint.network, []), path)
    check_ports(draft.host.sandboxes, draft.valid_network, errors)
    for name, group in members.items():
        network = draft.networks.get(name)
        if network is not None and network.driver != UNKNOWN:
            _check_members(network, [(sandbox, endpoint) for _host, sandbox, endpoint in group], drivers, errors)
        if name not in spanning:
            for _host, error in distinct_claims(group):
                errors.append(error)


def _check_members(
    network: Network, members: Sequence[tuple[Sandbox, Endpoint]], drivers: Drivers, errors: list[ValidationError]
) -> None:
    try:
        drivers.find(network.driver).check_members(network, members, errors)
    except DriverError as error:
        (VarPath(network.path, errors) / "driver").wrong(error.problem, error.remedy)


def _check_parents(networks: Iterable[Network], drivers: Drivers, errors: list[ValidationError]) -> None:
    """Note networks of a host whose parent is exclusive to another network."""
    seen: dict[str, Network] = {}
    for network in sorted((item for item in networks if item.traits.parent), key=lambda item: item.name):
        parent = network.traits.parent
        other = seen.setdefault(parent, network)
        reason = "" if other is network else network.traits.exclusive or other.traits.exclusive
        if reason:
            _option_path(network, parent, drivers, errors).wrong(
                f"The network `{other.name}` ({other.path}) is on that link already, and {reason}.",
                "Give each a parent of its own, such as a VLAN link (`eth0.10`), or make them one network.",
                parent,
            )


def _option_path(network: Network, value: str, drivers: Drivers, errors: list[ValidationError]) -> VarPath:
    """The path of the driver option that names this link of the host."""
    path, options = VarPath(network.path, errors) / "driver_opts", drivers.find(network.driver).options
    return next((path / key for key, text in network.driver_opts if text == value and options[key].of_host), path)


def _undeclared(name: str, draft: Draft, elsewhere: list[str], path: VarPath) -> None:
    if elsewhere:
        path.wrong(
            f"The network `{name[:63]}` is declared on {name_hosts(elsewhere)}, but not on this host.",
            "Declare it in the group_vars of a group that has all of them, or in this host's host_vars.",
        )
        return
    known = sorted(draft.declared | {"host", "none"})
    path.wrong(
        f"There is no network `{name[:63]}`.",
        did_you_mean(name, known, "Declare it in cnm_networks, or name one that is declared."),
    )


def _distinct_subnets(draft: Draft, errors: list[ValidationError]) -> None:
    """Sorted by address, a subnet that overlaps an earlier one is inside it."""
    found = [
        (network_of(config.subnet), network)
        for network in draft.host.networks
        if network.name not in draft.broken
        for config in network.ipam
    ]
    found.sort(key=lambda item: (item[0].version, int(item[0].network_address), item[0].prefixlen, item[1].name))
    outer: Optional[tuple[Subnet, Network]] = None
    for subnet, network in found:
        if outer is None or not overlap(subnet, outer[0]):
            outer = (subnet, network)
        elif network is not outer[1]:
            VarPath(network.path, errors).wrong(
                f"The subnet {subnet} overlaps {outer[0]} of the network `{outer[1].name}` ({outer[1].path}).",
                "Give one of them another subnet, or leave its subnet out to have a free one chosen.",
                str(subnet),
            )


def _distinct_bridges(networks: Iterable[Network], drivers: Drivers, errors: list[ValidationError]) -> None:
    seen: dict[str, Network] = {}
    for network in networks:
        link = network.traits.adopted_link
        if link and link in seen:
            _option_path(network, link, drivers, errors).wrong(
                f"The network `{seen[link].name}` has a bridge of that name already.", "Choose another name.", link
            )
        seen.setdefault(link, network)


def _distinct_namespaces(draft: Draft, errors: list[ValidationError]) -> None:
    """A foreign namespace is at most one sandbox."""
    seen: dict[Namespace, Sandbox] = {}
    for sandbox in draft.host.sandboxes:
        joined = sandbox.namespace
        other = seen.setdefault(joined, sandbox)
        if joined.owner and other is not sandbox:
            (VarPath(sandbox.path, errors) / "namespace" / joined.owner).wrong(
                f"The sandbox `{other.name}` is in that namespace already.",
                "Put all networks into one of them.",
                joined.reference,
            )


def _shares_what_is_there(draft: Draft, sandbox: Sandbox, errors: list[ValidationError]) -> None:
    """Whether the one whose namespace a sandbox shares is there, and has one."""
    if sandbox.shared_with in ("", sandbox.name):
        return
    path = VarPath(sandbox.path, errors) / "network_mode"
    others = {other.name: other for other in draft.host.sandboxes if other.name != sandbox.name}
    other = others.get(sandbox.shared_with)
    if other is None:
        remedy = did_you_mean(sandbox.shared_with, others, "Name a sandbox of this host.")
        path.wrong(f"This host has no sandbox `{sandbox.shared_with[:63]}`.", remedy, sandbox.network_mode)
    elif other.shared_with:
        remedy = f"Write `{SHARES}{other.shared_with}`."
        path.wrong(f"{other.name} is itself in the namespace of another one.", remedy, sandbox.network_mode)
    elif other.network_mode == "host" or any(
        (network := draft.networks.get(endpoint.network)) and network.traits.mode == "host"
        for endpoint in other.endpoints
    ):
        path.wrong(f"{other.name} has the host's own network.", "Write `host`.", sandbox.network_mode)


def _modes_stand_alone(draft: Draft, sandbox: Sandbox, errors: list[ValidationError]) -> None:
    """``host`` and ``none`` exclude all other networks, and have nothing to set."""
    for endpoint in sandbox.endpoints:
        network = draft.networks.get(endpoint.network)
        kind = network.traits.mode if network else endpoint.network if endpoint.network in ("host", "none") else ""
        if not kind:
            continue
        path = VarPath(endpoint.path, errors)
        if len(sandbox.endpoints) > 1:
            path.wrong(
                f"A sandbox on the network {kind} can be on no other network.",
                "Leave out this one, or all others.",
                endpoint.network,
            )
        if endpoint != Endpoint(endpoint.network):
            path.wrong(f"An endpoint on the network {kind} has no options.", "Leave them out.")


def check_links_together(draft: Draft, sandbox: Sandbox, errors: list[ValidationError]) -> None:
    """Note what endpoints of a sandbox, or of a service's task, take from each other: names of links, and routes."""
    _distinct_links(sandbox, errors)
    _distinct_routes(draft, sandbox, errors)


def check_on_network(endpoint: Endpoint, network: Network, path: VarPath) -> None:
    """Note what an endpoint, of a sandbox or of a service's task, cannot have on its network."""
    _fits(endpoint, network, path)
    _options(endpoint, network, path / "driver_opts")
    check_endpoint(endpoint, network, path / "routes")


def _distinct_links(sandbox: Sandbox, errors: list[ValidationError]) -> None:
    seen: dict[str, str] = {}
    for endpoint in sandbox.endpoints:
        link = endpoint.interface_name
        if link and link in seen:
            (VarPath(endpoint.path, errors) / "interface_name").wrong(
                f"The sandbox's link to `{seen[link]}` has that name already.", "Choose another name.", link
            )
        elif link:
            seen[link] = endpoint.network


def _distinct_routes(draft: Draft, sandbox: Sandbox, errors: list[ValidationError]) -> None:
    found = [(endpoint, draft.valid_network(endpoint.network)) for endpoint in sandbox.endpoints]
    known = [(endpoint, network) for endpoint, network in found if network]
    if any(endpoint.routes or network.routes for endpoint, network in known):
        check_together(known, errors)


def _options(endpoint: Endpoint, network: Network, path: VarPath) -> None:
    """What is left of an endpoint's driver options is an error: drivers have none of their own."""
    if network.traits.mode:
        return
    for key, _value in endpoint.driver_opts:
        last = key.rpartition(".")[2]
        remedy = did_you_mean(key, ENDPOINT_OPTIONS, f"The options are {' and '.join(ENDPOINT_OPTIONS)}.")
        if last in ENDPOINT["properties"]:
            remedy = f"Write `{last}` as a key of the endpoint itself."
        (path / key).wrong("An endpoint has no such option.", remedy)


def _fits(endpoint: Endpoint, network: Network, path: VarPath) -> None:
    """A fixed address has to be one the network can give."""
    for index, extra in enumerate(endpoint.link_local_ips):
        family = ip_address(extra).version
        if not network.has(family) and not network.traits.mode:
            problem = f"The network `{network.name}` has no IPv{family}."
            (path / "link_local_ips" / index).wrong(problem, "Leave the address out.", extra)
    for key, text, family in (
        ("ipv4_address", endpoint.ipv4_address, 4),
        ("ipv6_address", endpoint.ipv6_address, 6),
    ):
        configs = [config for config in network.ipam if config.family == family]
        if text is None or network.traits.mode:
            continue
        if not network.has(family):
            (path / key).wrong(
                f"The network `{network.name}` has no IPv{family}.",
                f"Leave the address out, or give the network `enable_ipv{family}: true` and a subnet that contains it.",
                text,
            )
            continue
        if not configs:
            (path / key).wrong(
                f"The network `{network.name}` has no IPv{family} subnet of its own choosing, so no address of it can "
                "be fixed.",
                f"Give the network a subnet that contains {text}, or leave the address out.",
                text,
            )
            continue
        address = ip_address(text)
        containing = [config for config in configs if address in network_of(config.subnet)]
        config = (containing or configs)[0]
        subnet, gateway = network_of(config.subnet), gateway_in(network, config)
        aux = {value: name for name, value in config.aux_addresses}
        problem = why_not(address, subnet)
        if text == gateway:
            problem = f"The address is the gateway of the network `{network.name}`."
        elif text in aux:
            problem = f"The address is the aux address `{aux[text]}` of the network `{network.name}`."
        if problem:
            free = some_host(subnet, (gateway, *aux))
            (path / key).wrong(problem, f"Write an address of {subnet} that is free, like `{free}`.", text)


def distinct_claims(members: Sequence[Member]) -> Found:
    """Nothing that is fixed may be fixed twice on a network."""
    for key, noun in (("ipv4_address", "address"), ("ipv6_address", "address"), ("mac_address", "MAC address")):
        seen: dict[str, Member] = {}
        for member in members:
            host, _sandbox, endpoint = member
            value = getattr(endpoint, key)
            if value is None:
                continue
            if value in seen:
                other, sandbox, _endpoint = seen[value]
                where = f"{sandbox.path} on {other}" if other != host else sandbox.path
                errors: list[ValidationError] = []
                (VarPath(endpoint.path, errors) / key).wrong(
                    f"The sandbox `{sandbox.name}` ({where}) has that {noun} on the network `{endpoint.network}`.",
                    f"Choose another {noun}, or leave it out.",
                    value,
                )
                yield from ((host, error) for error in errors)
            seen.setdefault(value, member)


def endpoints_on(name: str, drafts: Sequence[Draft]) -> list[Member]:
    """Who is on a network, on all of its hosts."""
    return [
        (draft.host.name, sandbox, endpoint)
        for draft in drafts
        for sandbox in draft.host.sandboxes
        for endpoint in sandbox.endpoints
        if endpoint.network == name
    ]


def _check_spanning(name: str, drafts: Sequence[Draft], drivers: Drivers) -> Found:
    """A network of more than one host: the same everywhere, its sandboxes' names and fixed addresses unique."""
    seeing = [draft for draft in drafts if draft.valid_network(name)]
    yield from _same_everywhere(name, seeing, drivers)
    members = endpoints_on(name, drafts)
    yield from _check_hosts(name, seeing, sorted({host for host, _sandbox, _endpoint in members}), drivers)
    yield from distinct_claims(members)
    first: dict[str, Member] = {}
    for member in members:
        host, sandbox, _endpoint = member
        other = first.setdefault(sandbox.key, member)
        if other is not member:
            problem = f"The network `{name}` spans hosts, and has a sandbox `{sandbox.name}` on {other[0]} too."
            yield host, ValidationError(sandbox.path, problem, "Give one of them another name.")


def _distinct_vnis(drafts: Sequence[Draft]) -> Found:
    """A VNI that is declared is that of one network of the project, on all hosts."""
    owners: dict[tuple[str, int], Network] = {}
    for draft in drafts:
        for network in draft.host.networks:
            vni = network.traits.tunnel.vni if network.traits.tunnel else 0
            other = owners.setdefault((draft.host.settings.project, vni), network) if vni else network
            if other.name != network.name:
                problem = f"The VNI {vni} is that of the network `{other.name}` ({other.path}), too."
                path = f"{network.path}.driver_opts"
                yield draft.host.name, ValidationError(path, problem, "Choose another, or leave the option out.")


def _check_hosts(name: str, drafts: Sequence[Draft], hosts: Sequence[str], drivers: Drivers) -> Found:
    for draft in drafts:
        network, errors = draft.networks[name], list[ValidationError]()
        path = VarPath(network.path, errors)
        try:
            drivers.find(network.driver).check_hosts(network, hosts, path)
        except DriverError as error:
            (path / "driver").wrong(error.problem, error.remedy)
        yield from ((draft.host.name, error) for error in errors)


def _same_everywhere(name: str, drafts: Sequence[Draft], drivers: Drivers) -> Found:
    found = [(draft.host.name, network) for draft in drafts if (network := draft.networks.get(name))]
    for key in (item.name for item in fields(Network) if item.compare and item.name != "name"):
        hosts: dict[Any, list[str]] = {}
        for host, network in found:
            hosts.setdefault(_declared_value(network, key, drivers), []).append(host)
        if len(hosts) > 1:
            differing = "; ".join(
                sorted(f"{_shown(key, value)} on {name_hosts(names)}" for value, names in hosts.items())
            )
            error = ValidationError(
                f"{found[0][1].path}.{key}",
                f"A network that spans hosts must say the same on every host; this one says {differing}.",
                "Declare it once, in the group_vars of a group that has all these hosts.",
            )
            yield from ((host, error) for host, _network in found)


def _declared_value(network: Network, key: str, drivers: Drivers) -> Any:
    """What a network says under a key, without what may differ by host."""
    value = getattr(network, key)
    if key != "driver_opts" or not value:
        return value
    options = drivers.find(network.driver).options
    return tuple(pair for pair in value if not options[pair[0]].of_host)


def _shown(key: str, value: Any) -> str:
    """The same for people; of options and labels only the names."""
    if key == "ipam":
        return ", ".join(config.subnet for config in value) or "no subnet"
    if key == "routes":
        return ", ".join(f"{route.destination} by {route.gateway}" for route in value) or "no routes"
    if isinstance(value, tuple):
        return ", ".join(word(pair[0]) for pair in value) or "nothing"
    return show(value)


_OF_ALL = {
    "overlay_pools": "cnm_overlay_address_pool",
    "vni_range": "cnm_vni_range",
    "data_path_port": "cnm_data_path_port",
    "flood": "cnm_flood",
    "overlay_secret": "cnm_overlay_secret",
    "evpn": "cnm_control_plane and cnm_evpn",
}
"""Settings that hosts with overlays have in common; epochs of keys may differ while a rotation is under way."""


def _same_settings(drafts: Sequence[Draft]) -> Found:
    for key, variable in _OF_ALL.items():
        hosts: dict[Any, list[str]] = {}
        for draft in drafts:
            hosts.setdefault((draft.host.settings.project, getattr(draft.host.settings, key)), []).append(
                draft.host.name
            )
        if len(hosts) > len({project for project, _value in hosts}):
            groups = "; ".join(sorted(f"one value on {name_hosts(names)}" for names in hosts.values()))
            error = ValidationError(
                variable,
                f"Hosts that have overlays in common must have it in common; there is {groups}.",
                "Set it once, in the group_vars of a group that has all these hosts.",
            )
            yield from ((draft.host.name, error) for draft in drafts)


def _same_of_all(drafts: Sequence[Draft]) -> Found:
    """Whether all hosts are changed or none is decided once, for all."""
    deciding = [draft.host.name for draft in drafts if draft.host.settings.all_or_nothing]
    if deciding and len(deciding) < len(drafts):
        error = ValidationError(
            "cnm_all_or_nothing",
            f"It is for all hosts of the topology or for none; this says true on {name_hosts(deciding)} alone.",
            "Set it once, in the group_vars of all hosts of the topology.",
        )
        yield from ((draft.host.name, error) for draft in drafts)


def _same_store(drafts: Sequence[Draft]) -> Found:
    return same_store({draft.host.name: draft.host.settings for draft in drafts})


def same_store(settings: Mapping[str, Settings]) -> Found:
    """There is one lease store for all hosts."""
    hosts: dict[LeaseStore, list[str]] = {}
    for host, own in settings.items():
        hosts.setdefault(own.leases, []).append(host)
    stores = {store.url for store in hosts}
    if len(hosts) > 1:
        differing = "; ".join(
            f"{'another one' if store.url else 'the default'} on {name_hosts(names)}"
            for store, names in sorted(hosts.items(), key=lambda item: (item[0].url, item[1]))
        )
        error = ValidationError(
            "cnm_leases" if len(stores) > 1 else "cnm_leases_options",
            f"All hosts of the topology share one lease store; this says {differing}."
            if len(stores) > 1
            else "All hosts of the topology share one lease store, and speak to it alike; this differs between them.",
            "Set it once, in the group_vars of all hosts of the topology.",
        )
        yield from ((host, error) for host in settings)
