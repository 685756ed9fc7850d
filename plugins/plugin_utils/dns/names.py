# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names: the records of each network, and the resolver and files of each sandbox.

A sandbox's dnsmasq reads three things.  Its configuration, where a change means a restart, says nothing that changes
with records or with the host's own resolvers.  The records of each of its networks are hosts files.  And a servers file
says of each dotted name among them that it is answered here in every type, or not at all, and who is asked for the
rest.  The last two it reads again when it is told to, between two questions: nothing is lost.  Sandboxes on the same
networks share all files but the first.

Records have no time to live (dnsmasq's own choice, where Docker says 600 s): asking again costs a tenth of a
millisecond and leaves the sandbox only if the answer is not here, and an endpoint that is replaced is found at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_network

from ...module_utils.plan import forms
from ...module_utils.plan.codec import content_digest
from ...module_utils.plan.links import Namespace
from ...module_utils.plan.marks import mark
from ...module_utils.plan.settings import File, Resolver
from ..declaration.topology import HOST_GATEWAY, Endpoint, Sandbox
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..drivers.registry import DRIVERS
from ..facts import Facts
from ..firewall.tables import RESOLVER_ADDRESS, RESOLVER_PORT
from ..ipam.addresses import network_of
from ..ipam.vips import Vip

_LOCALHOST = (
    "127.0.0.1 localhost\n",
    "::1 localhost ip6-localhost ip6-loopback\n",
    "ff02::1 ip6-allnodes\n",
    "ff02::2 ip6-allrouters\n",
)
_ROLE = "names"
_SERVERS = "@"
"""What names of servers files begin with, as no network's name can."""
_LABEL = "[A-Za-z0-9_-]{1,63}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LONGEST_NAME = 253
_DIGITS = {4: 8, 6: 4}
"""How many bits of an address a label of a reverse name stands for."""
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_OWN_LOOPBACK = ("127.0.0.0/8", "::1/128")
_NAMED = 5
_WITH_FILES = ("docker", "podman")
"""Owners who tell the host where resolv.conf and hosts of theirs are."""
_IN_PLACE = ("resolv.conf", "hosts")
_QUESTIONS = 1024
"""How many questions a resolver has open at a time before it refuses more; Docker's number."""


def names_directory(project: str) -> str:
    """Where a host keeps the records of its networks and the servers files."""
    return f"/run/cnm/{project}/names"


def _is_name(text: str) -> bool:
    """Whether it can be a name in DNS; one that cannot would end a line or spoil the next."""
    return len(text) <= _LONGEST_NAME and _NAME.fullmatch(text) is not None


def names_of(network: str, sandbox: Sandbox, endpoint: Endpoint) -> list[str]:
    """An endpoint's names, the first being what its addresses resolve to."""
    short = [sandbox.name, *endpoint.aliases]
    if sandbox.hostname and sandbox.hostname not in short:
        short.append(sandbox.hostname)
    names = [f"{short[0]}.{network}", *short, *(f"{name}.{network}" for name in short[1:])]
    return [name for name in dict.fromkeys(names) if _is_name(name)]


def _names_of(item: PlannedEndpoint) -> list[str]:
    return names_of(item.network.name, item.sandbox, item.endpoint)


def record(addresses: Iterable[str], names: Iterable[str]) -> str:
    """An endpoint's lines, one an address: the address, then its names."""
    said = " ".join(map(forms.dns_name, names))
    return "".join(f"{forms.address(address)} {said}\n" for address in addresses if said)


def names_text(project: str, rows: Iterable[tuple[Sequence[str], Sequence[str]]]) -> str:
    """A network's file of records, from the addresses and names of each of its endpoints."""
    ordered = sorted(rows, key=lambda row: (ip_address(row[0][0]).packed, row[1]))
    return _header(project) + "".join(record(*row) for row in ordered)


def servers_text(names: Iterable[str], subnets: Iterable[str] = ()) -> str:
    """Lines of a servers file that keep names here, and the reverse names of subnets."""
    own = sorted({*names, *(zone for subnet in subnets for zone in reverse_zones(subnet))})
    return "".join(f"server=/{forms.dns_name(name)}/\n" for name in own)


def _header(project: str) -> str:
    return f"# {mark(project, _ROLE)}\n"


def reverse_zones(subnet: str) -> list[str]:
    """The zones of in-addr.arpa or ip6.arpa that hold exactly the subnet's addresses."""
    network = ip_network(subnet)
    digits = _DIGITS[network.version]
    length = -(-network.prefixlen // digits) * digits or digits
    parts = network.subnets(new_prefix=length) if length > network.prefixlen else [network]
    return [".".join(part[0].reverse_pointer.split(".")[-(length // digits + 2) :]) for part in parts]


def names_of_vips(network: str, vips: Mapping[str, Vip]) -> dict[str, list[str]]:
    """The names of services with virtual addresses on a network, by service."""
    return {
        name: names_of(network, Sandbox(name, ""), Endpoint(network, aliases=vip.aliases)) for name, vip in vips.items()
    }


def _own_text(endpoints: Sequence[PlannedEndpoint]) -> str:
    """What of a network of local scope is answered here in every type: dotted names, and those of its addresses."""
    network = endpoints[0].network
    virtual = names_of_vips(network.name, network.vips)
    every = (*map(_names_of, endpoints), *virtual.values())
    names = [name for group in every for name in group if "." in name]
    if DRIVERS[network.network.driver].bridge(network) is not None:
        return servers_text(names, [subnet.subnet for subnet in network.subnets])
    # others have addresses of the subnet too
    addresses = (ip_address(address) for endpoint in endpoints for address in endpoint.addresses)
    return servers_text([*names, *(address.reverse_pointer for address in addresses)])


def _networks(endpoints: Iterable[PlannedEndpoint]) -> list[PlannedNetwork]:
    return sorted({item.network.name: item.network for item in endpoints}.values(), key=lambda network: network.name)


def _reach(endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """Prefixes of the addresses that a sandbox's questions may go to: none if all of its networks are internal."""
    if all(item.network.network.internal for item in endpoints):
        return []
    prefixes = set(_OWN_LOOPBACK)
    for item in endpoints:
        prefixes.update(_EVERYWHERE[6 if ":" in gateway else 4] for gateway in item.gateways)
        prefixes.update(route.destination for route in (*item.network.network.routes, *item.endpoint.routes))
        prefixes.update(subnet.subnet for subnet in item.network.subnets)
    return sorted(prefixes)


def _usable(server: str, reach: Iterable[str]) -> bool:
    """Whether questions can go to the server.  A link-local one would need a link, and ours are not the host's."""
    try:
        address = ip_address(server)
    except ValueError:
        return False
    if address.is_unspecified or address.is_multicast or server == RESOLVER_ADDRESS or "%" in server:
        return False
    link_local = address.version == 6 and address.is_link_local
    return not link_local and any(address in network_of(prefix) for prefix in reach)


def upstreams(facts: Facts, endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """Who is asked for dotted names that are not ours: one after the other until one answers, or nobody."""
    reach = _reach(endpoints)
    declared = endpoints[0].sandbox.dns
    servers = declared or [server for server in facts.resolvers if not _usable(server, _OWN_LOOPBACK)]
    return [str(ip_address(server)) for server in dict.fromkeys(servers) if _usable(server, reach)]


def unreachable_resolver_warnings(facts: Facts, sandboxes: Mapping[str, Sequence[PlannedEndpoint]]) -> list[str]:
    """A sentence that names the sandboxes that have resolvers to ask, their own or the host's, but no way to them."""
    lost: dict[str, list[str]] = {}
    for name, endpoints in sorted(sandboxes.items()):
        servers = (endpoints[0].sandbox.dns or facts.resolvers) if endpoints else ()
        if servers and _reach(endpoints) and not upstreams(facts, endpoints):
            lost.setdefault(", ".join(servers), []).append(name)
    return [
        f"names of the outside will not resolve in {_few(names)}: no way leads from there to {servers}; say in `dns` "
        "which resolver to ask"
        for servers, names in lost.items()
    ]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _servers_name(endpoints: Sequence[PlannedEndpoint]) -> str:
    """One name for all sandboxes whose servers files say the same, whatever the records and the host's resolvers."""
    networks = [network.name for network in _networks(endpoints)]
    said = "\n".join([*networks, "", *endpoints[0].sandbox.dns, "", *_reach(endpoints)])
    return _SERVERS + content_digest(said)[:12]


@dataclass(frozen=True)
class Names:
    """The records of all networks of a host, a file a network, and the servers files of its sandboxes."""

    file: File
    servers: Mapping[str, str]
    """Which servers file each sandbox reads."""

    @cached_property
    def digests(self) -> dict[str, str]:
        """What is in each file; of one that is composed on the host that is not known here."""
        files, shared = self.file.files, self.file.shared
        whole = {name: digests[0] for name, digests in shared.items() if len(digests) == 1 and name not in files}
        own = {name: content_digest(text) for name, text in files.items() if name not in shared}
        return {**dict.fromkeys(shared, ""), **whole, **own}


def names_of_host(project: str, facts: Facts, endpoints: Iterable[PlannedEndpoint]) -> Names:
    """What is written for the resolvers of a host's sandboxes."""
    by_network: dict[str, list[PlannedEndpoint]] = {}
    by_sandbox: dict[str, list[PlannedEndpoint]] = {}
    for endpoint in endpoints:
        if endpoint.network.network.discovery:
            by_network.setdefault(endpoint.network.name, []).append(endpoint)
        by_sandbox.setdefault(endpoint.sandbox.name, []).append(endpoint)
    files: dict[str, str] = {}
    shared: dict[str, tuple[str, ...]] = {}
    own: dict[str, str] = {}
    servers: dict[str, str] = {}
    for name, group in sorted(by_network.items()):
        texts = group[0].network.shared
        if texts is not None:
            shared[name] = (texts.names,)
        else:
            vips = group[0].network.vips
            rows = [(item.addresses, _names_of(item)) for item in group]
            rows += [(vips[key].addresses, names) for key, names in names_of_vips(name, vips).items()]
            files[name] = names_text(project, rows)
            own[name] = _own_text(group)
    for sandbox, group in sorted(by_sandbox.items()):
        name = servers[sandbox] = _servers_name(group)
        if name not in files:
            networks = _networks(group)
            upstream = [f"server={forms.address(server)}\n" for server in upstreams(facts, group)] or ["server=/#/\n"]
            local = (own[network.name] for network in networks if network.name in own)
            files[name] = "".join((_header(project), *upstream, *local))
            texts_of = tuple(network.shared.servers for network in networks if network.shared is not None)
            shared.update({name: texts_of} if texts_of else {})
    return Names(File(names_directory(project), _ROLE, files, shared=shared), servers)


@dataclass(frozen=True)
class Naming:
    """What the names of one sandbox are made from."""

    project: str
    facts: Facts
    names: Names
    sandbox: Sandbox
    endpoints: Sequence[PlannedEndpoint]

    def resolver(self) -> Resolver:
        """The sandbox's dnsmasq."""
        records = [network.name for network in _networks(self.endpoints) if network.network.discovery]
        servers = self.names.servers[self.sandbox.name]
        paths = {name: f"{self.names.file.directory}/{name}" for name in (*records, servers)}
        config = [
            f"port={RESOLVER_PORT}",
            f"listen-address={RESOLVER_ADDRESS}",
            "bind-interfaces",
            "no-hosts",
            "no-resolv",
            "strict-order",
            f"dns-forward-max={_QUESTIONS}",
            "local=//",  # a name without a dot is ours or nobody's
            *(f"addn-hosts={paths[name]}" for name in records),
            f"servers-file={paths[servers]}",
        ]
        return Resolver(
            self.sandbox.name,
            tuple(config),
            {path: self.names.digests[name] for name, path in paths.items()},
        )

    def namespace(self) -> Namespace:
        """The sandbox's namespace; of a container its own files of names, too."""
        whose = self.sandbox.namespace
        in_place = self.endpoints and whose.owner in _WITH_FILES
        files = {name: text for name, text in self.files().files.items() if name in _IN_PLACE} if in_place else {}
        name = self.sandbox.name
        return Namespace(name, f"sandbox/{name}", owner=whose.owner, reference=whose.reference, files=files)

    def files(self) -> File:
        """``/etc/netns/<sandbox>``: what ``ip netns exec`` shows in place of the files in /etc."""
        role = f"sandbox/{self.sandbox.name}"
        header = f"# {mark(self.project, role)}\n"
        hostname = self.sandbox.hostname or self.sandbox.name
        own = (record(item.addresses, [hostname]) for item in self.endpoints if _is_name(hostname))
        extra = (
            record(self._host_addresses() if said == HOST_GATEWAY else (said,), [name])
            for name, said in self.sandbox.extra_hosts
        )
        files = {
            "resolv.conf": header + self._resolv_conf(),
            "hosts": "".join((header, *_LOCALHOST, *extra, *own)),
            "nsswitch.conf": header + "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
            "hostname": f"{hostname if forms.dns_name.fits(hostname) else forms.object_name(hostname)}\n",
        }
        return File(f"/etc/netns/{self.sandbox.name}", role, files)

    def _host_addresses(self) -> list[str]:
        """The host's own addresses on the first network that leads out by it, of the families the sandbox has there."""
        for item in self.endpoints:
            found = DRIVERS[item.network.network.driver].host_addresses(item.network) if item.gateways else []
            bare = [ip_address(address.partition("/")[0]) for address in found]
            families = {ip_address(address).version for address in item.addresses}
            usable = [str(address) for address in bare if address.version in families]
            if usable:
                return usable
        return []

    def _resolv_conf(self) -> str:
        if not self.endpoints:
            return ""
        # The host's own are what somebody else wrote: words that are none are passed over.
        search = self.sandbox.dns_search or tuple(filter(forms.search_domain.fits, self.facts.search))
        options = [*(self.sandbox.dns_opt or filter(forms.resolver_option.fits, self.facts.options))]
        if not any(option.startswith("ndots:") for option in options):
            options.append("ndots:0")
        lines = [f"nameserver {RESOLVER_ADDRESS}"]
        if search and search != (".",):
            lines.append("search " + " ".join(map(forms.search_domain, search)))
        lines.append("options " + " ".join(map(forms.resolver_option, options)))
        return "".join(f"{line}\n" for line in lines)
