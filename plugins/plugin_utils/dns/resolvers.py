# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The resolver of each sandbox, and its files in ``/etc``.

A sandbox's dnsmasq reads three kinds of files:

- its configuration: a change needs a restart, so nothing in it depends on records, and of the upstream servers only
  whether there are several
- a hosts file for each of its networks, with the records
- a servers file: which dotted names are never forwarded, and which upstream servers resolve the rest

It rereads the last two on a signal, between two queries, so no query is lost.  Sandboxes on the same networks share all
files but the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from types import MappingProxyType

from ...module_utils.plan import forms
from ...module_utils.plan.codec import content_digest
from ...module_utils.plan.constants import RESOLVER_FAILURES
from ...module_utils.plan.families import family_of
from ...module_utils.plan.links import Namespace
from ...module_utils.plan.marks import mark
from ...module_utils.plan.records import dataclass
from ...module_utils.plan.settings import File, LoadedNames, Resolver
from ..declaration.topology import HOST_GATEWAY, Sandbox
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..drivers.registry import driver_of
from ..facts import Facts
from ..firewall.sandbox_tables import RESOLVER_ADDRESS, RESOLVER_PORT
from ..ipam.addresses import network_of
from .records import ROLE, header, is_dns_name, names_of_endpoint, names_of_vips, names_text, own_servers_text, record

_LOCALHOST = (
    "127.0.0.1 localhost\n",
    "::1 localhost ip6-localhost ip6-loopback\n",
    "ff02::1 ip6-allnodes\n",
    "ff02::2 ip6-allrouters\n",
)

_SERVERS = "@"
"""Prefix of the names of servers files, which no network's name can have."""

_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}

_OWN_LOOPBACK = ("127.0.0.0/8", "::1/128")

_NAMED = 5

_WITH_FILES = ("docker", "podman")
"""Owners that report the paths of their resolv.conf and hosts on the host."""

_IN_PLACE = ("resolv.conf", "hosts")

_FAILURES = dict(
    zip(RESOLVER_FAILURES, ("answers REFUSED", "answers SERVFAIL", "is unreachable", "does not answer"), strict=True)
)

_CONFINED = (
    "AppArmor's profile of dnsmasq keeps the resolvers of sandboxes from their files. As root on this host: "
    "echo '@{run}/cnm/*/{resolvers,names}/* r,' >>/etc/apparmor.d/local/usr.sbin.dnsmasq && "
    "apparmor_parser --replace /etc/apparmor.d/usr.sbin.dnsmasq"
)

_QUESTIONS = 1024
"""The largest number of concurrent queries of a resolver, as in Docker."""


def names_directory(project: str) -> str:
    """Where a host keeps the records of its networks and the servers files."""
    return f"/run/cnm/{project}/names"


def _networks(endpoints: Iterable[PlannedEndpoint]) -> list[PlannedNetwork]:
    return sorted({item.network.name: item.network for item in endpoints}.values(), key=lambda network: network.name)


def _reach(endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """Prefixes of the addresses to which a sandbox's queries can go: none if all of its networks are internal."""
    if all(item.network.network.internal for item in endpoints):
        return []
    prefixes = set(_OWN_LOOPBACK)
    for item in endpoints:
        prefixes.update(_EVERYWHERE[family_of(gateway)] for gateway in item.gateways)
        prefixes.update(route.destination for route in (*item.network.network.routes, *item.endpoint.routes))
        prefixes.update(subnet.subnet for subnet in item.network.subnets)
    return sorted(prefixes)


def _usable(server: str, reach: Iterable[str]) -> bool:
    """Whether queries can go to the server.  A link-local address is valid only on a link of the host."""
    try:
        address = ip_address(server)
    except ValueError:
        return False
    if address.is_unspecified or address.is_multicast or server == RESOLVER_ADDRESS or "%" in server:
        return False
    link_local = address.version == 6 and address.is_link_local
    return not link_local and any(address in network_of(prefix) for prefix in reach)


def upstreams(facts: Facts, endpoints: Sequence[PlannedEndpoint]) -> list[str]:
    """The upstream servers for dotted names that are not local, in the order in which they are tried; may be empty."""
    reach = _reach(endpoints)
    declared = endpoints[0].sandbox.dns
    servers = declared or [server for server in facts.resolvers if not _usable(server, _OWN_LOOPBACK)]
    return [str(ip_address(server)) for server in dict.fromkeys(servers) if _usable(server, reach)]


def confined_resolver_errors(facts: Facts, sandboxes: Mapping[str, Sequence[PlannedEndpoint]]) -> list[str]:
    """Errors of a host on which resolvers could not read their files."""
    return [_CONFINED] if facts.dnsmasq_confined and any(sandboxes.values()) else []


def unreachable_resolver_warnings(facts: Facts, sandboxes: Mapping[str, Sequence[PlannedEndpoint]]) -> list[str]:
    """Warnings of sandboxes that have upstream resolvers (their own or the host's) but no route to any."""
    lost: dict[str, list[str]] = {}
    for name, endpoints in sorted(sandboxes.items()):
        servers = (endpoints[0].sandbox.dns or facts.resolvers) if endpoints else ()
        if servers and _reach(endpoints) and not upstreams(facts, endpoints):
            lost.setdefault(", ".join(servers), []).append(name)
    return [
        f"external names will not resolve in {_list_names(names)}: no route to resolver {servers}. Set `dns` to a "
        "reachable one"
        for servers, names in lost.items()
    ]


def failing_resolver_warnings(facts: Facts, sandboxes: Mapping[str, Sequence[PlannedEndpoint]]) -> list[str]:
    """Warnings of sandboxes none of whose upstream resolvers answers the host."""
    lost: dict[tuple[str, ...], list[str]] = {}
    for name, endpoints in sorted(sandboxes.items()):
        servers = tuple(upstreams(facts, endpoints)) if endpoints else ()
        if servers and all(server in facts.failing_resolvers for server in servers):
            lost.setdefault(servers, []).append(name)
    why = {server: f"{server} {_FAILURES[word]}" for server, word in facts.failing_resolvers.items()}
    return [
        f"external names will not resolve in {_list_names(names)}: resolver "
        f"{', '.join(why[server] for server in servers)}. Set `dns` to one that resolves names for this host"
        for servers, names in lost.items()
    ]


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _servers_name(endpoints: Sequence[PlannedEndpoint]) -> str:
    """The name of the servers file.  All sandboxes with the same content share it; records do not change the name."""
    networks = [network.name for network in _networks(endpoints)]
    text = "\n".join([*networks, "", *endpoints[0].sandbox.dns, "", *_reach(endpoints)])
    return _SERVERS + content_digest(text)[:12]


@dataclass(frozen=True)
class Names:
    """The records of all networks of a host, one file per network, and the servers files of its sandboxes."""

    file: File
    servers: Mapping[str, str]
    """Which servers file each sandbox reads."""

    @property
    def loaded(self) -> LoadedNames:
        """What the resolvers must have loaded."""
        files, shared = self.file.files, self.file.shared
        digests = {
            # The host appends shared texts, which their digests stand for.
            name: content_digest("".join((files.get(name, ""), *shared.get(name, ()))))
            for name in {**files, **shared}
        }
        return LoadedNames(self.file.directory, digests)


def names_of_host(
    project: str,
    facts: Facts,
    endpoints: Iterable[PlannedEndpoint],
    own_files: Mapping[str, str] = MappingProxyType({}),
) -> Names:
    """The files that the resolvers of a host's sandboxes read, and ``own_files``, which the host's own does."""
    by_network: dict[str, list[PlannedEndpoint]] = {}
    by_sandbox: dict[str, list[PlannedEndpoint]] = {}
    for endpoint in endpoints:
        if endpoint.network.network.discovery:
            by_network.setdefault(endpoint.network.name, []).append(endpoint)
        by_sandbox.setdefault(endpoint.sandbox.name, []).append(endpoint)
    files: dict[str, str] = dict(own_files)
    shared: dict[str, tuple[str, ...]] = {}
    own: dict[str, str] = {}
    servers: dict[str, str] = {}
    for name, group in sorted(by_network.items()):
        texts = group[0].network.shared
        if texts is not None:
            shared[name] = (texts.names,)
        else:
            vips = group[0].network.vips
            rows = [(item.addresses, names_of_endpoint(item)) for item in group]
            rows += [(vips[key].addresses, names) for key, names in names_of_vips(name, vips).items()]
            files[name] = names_text(project, rows)
            own[name] = own_servers_text(group)
    for sandbox, group in sorted(by_sandbox.items()):
        name = servers[sandbox] = _servers_name(group)
        if name not in files:
            networks = _networks(group)
            upstream = [f"server={forms.address(server)}\n" for server in upstreams(facts, group)] or ["server=/#/\n"]
            local = (own[network.name] for network in networks if network.name in own)
            files[name] = "".join((header(project), *upstream, *local))
            texts_of = tuple(network.shared.servers for network in networks if network.shared is not None)
            shared.update({name: texts_of} if texts_of else {})
    return Names(File(names_directory(project), ROLE, files, shared=shared), servers)


@dataclass(frozen=True)
class Naming:
    """Everything that determines one sandbox's resolver and its files."""

    project: str
    facts: Facts
    names: Names
    sandbox: Sandbox
    endpoints: Sequence[PlannedEndpoint]

    def resolver(self) -> Resolver:
        """The sandbox's dnsmasq."""
        records = [network.name for network in _networks(self.endpoints) if network.network.discovery]
        directory = self.names.file.directory
        config = [
            f"port={RESOLVER_PORT}",
            f"listen-address={RESOLVER_ADDRESS}",
            "bind-interfaces",
            "no-hosts",
            "no-resolv",
            # One server after the other, as Docker asks.  dnsmasq 2.90 and 2.91 then keep silent when the last one says
            # SERVFAIL or REFUSED; a single server needs no order, and its errors are passed on.
            *(["strict-order"] if len(upstreams(self.facts, self.endpoints)) > 1 else []),
            f"dns-forward-max={_QUESTIONS}",
            "local=//",  # never forward a name without a dot
            *(f"addn-hosts={directory}/{name}" for name in records),
            f"servers-file={directory}/{self.names.servers[self.sandbox.name]}",
        ]
        return Resolver(self.sandbox.name, tuple(config))

    def namespace(self) -> Namespace:
        """The sandbox's namespace; for a container also the texts for its resolv.conf and hosts."""
        joined = self.sandbox.namespace
        in_place = self.endpoints and joined.owner in _WITH_FILES
        files = {name: text for name, text in self.files().files.items() if name in _IN_PLACE} if in_place else {}
        name = self.sandbox.name
        return Namespace(name, f"sandbox/{name}", owner=joined.owner, reference=joined.reference, files=files)

    def files(self) -> File:
        """``/etc/netns/<sandbox>``: the files that ``ip netns exec`` mounts over those in /etc."""
        role = f"sandbox/{self.sandbox.name}"
        header = f"# {mark(self.project, role)}\n"
        hostname = self.sandbox.hostname or self.sandbox.name
        # As in Docker, the full name stands first: hostname --fqdn takes that.
        full = [f"{hostname}.{self.sandbox.domainname}"] if self.sandbox.domainname else []
        own = (record(item.addresses, [*full, hostname]) for item in self.endpoints if is_dns_name(hostname))
        extra = (
            record(self._host_addresses() if address == HOST_GATEWAY else (address,), [name])
            for name, address in self.sandbox.extra_hosts
        )
        files = {
            "resolv.conf": header + self._resolv_conf(),
            "hosts": "".join((header, *_LOCALHOST, *extra, *own)),
            "nsswitch.conf": header + "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
            "hostname": f"{hostname if forms.dns_name.fits(hostname) else forms.object_name(hostname)}\n",
        }
        return File(f"/etc/netns/{self.sandbox.name}", role, files)

    def _host_addresses(self) -> list[str]:
        """The host's own addresses on the first network with a default route by the host, in the sandbox's families."""
        for item in self.endpoints:
            found = driver_of(item.network).host_addresses(item.network) if item.gateways else []
            bare = [ip_address(address.partition("/")[0]) for address in found]
            families = {ip_address(address).version for address in item.addresses}
            usable = [str(address) for address in bare if address.version in families]
            if usable:
                return usable
        return []

    def _resolv_conf(self) -> str:
        if not self.endpoints:
            return ""
        # The host's own settings are untrusted: invalid domains and options are skipped.
        search = self.sandbox.dns_search or tuple(filter(forms.search_domain.fits, self.facts.search))
        options = [*(self.sandbox.dns_opt or filter(forms.resolver_option.fits, self.facts.options))]
        if not any(option.startswith("ndots:") for option in options):
            options.append("ndots:0")
        lines = [f"nameserver {RESOLVER_ADDRESS}"]
        if search and search != (".",):
            lines.append("search " + " ".join(map(forms.search_domain, search)))
        lines.append("options " + " ".join(map(forms.resolver_option, options)))
        return "".join(f"{line}\n" for line in lines)
