# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names: the records of each network, and the resolver and files of each sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address

from ..module_utils.plan import File, Resolver, content_digest, mark
from .declaration.topology import Sandbox
from .drivers.base import PlannedEndpoint, PlannedNetwork
from .facts import Facts
from .firewall import RESOLVER_ADDRESS, RESOLVER_PORT

_LOCALHOST = (
    "127.0.0.1 localhost",
    "::1 localhost ip6-localhost ip6-loopback",
    "ff02::1 ip6-allnodes",
    "ff02::2 ip6-allrouters",
)


def names_directory(project: str) -> str:
    """Where a host keeps the records of its networks, a file each."""
    return f"/run/cnm/{project}/names"


def record(endpoint: PlannedEndpoint) -> str:
    """The endpoint's line: its address, then its names, the first being what the address resolves to."""
    network, sandbox = endpoint.network.name, endpoint.sandbox
    short = [sandbox.name, *endpoint.endpoint.aliases]
    if sandbox.hostname and sandbox.hostname not in short:
        short.append(sandbox.hostname)
    names = [f"{short[0]}.{network}", *short, *(f"{name}.{network}" for name in short[1:])]
    return " ".join([endpoint.address.partition("/")[0], *dict.fromkeys(names)])


def names_file(project: str, endpoints: Iterable[PlannedEndpoint]) -> File:
    """The records of all networks of a host, a file a network."""
    lines: dict[str, list[tuple[bytes, str, str]]] = {}
    for endpoint in endpoints:
        address = endpoint.address.partition("/")[0]
        entry = (ip_address(address).packed, endpoint.sandbox.name, record(endpoint))
        lines.setdefault(endpoint.network.name, []).append(entry)
    role = "names"
    header = f"# {mark(project, role)}\n"
    files = {
        network: header + "".join(f"{text}\n" for _packed, _name, text in sorted(entries))
        for network, entries in sorted(lines.items())
    }
    return File(names_directory(project), role, files)


def reverse_zones(subnet: str) -> list[str]:
    """The in-addr.arpa zones that hold exactly the subnet's addresses, on octet boundaries."""
    network = IPv4Network(subnet)
    length = -(-network.prefixlen // 8) * 8 or 8
    zones = []
    for part in network.subnets(new_prefix=length) if length > network.prefixlen else [network]:
        octets = str(part.network_address).split(".")[: length // 8]
        zones.append(".".join(reversed(octets)) + ".in-addr.arpa")
    return zones


@dataclass(frozen=True)
class Naming:
    """What the names of one sandbox are made from."""

    project: str
    facts: Facts
    names: File
    sandbox: Sandbox
    endpoints: Sequence[PlannedEndpoint]

    @property
    def _networks(self) -> list[PlannedNetwork]:
        return sorted({item.network.name: item.network for item in self.endpoints}.values(), key=lambda n: n.name)

    @property
    def upstreams(self) -> list[str]:
        """Where dotted names that are not ours go: nowhere for a sandbox with internal networks alone."""
        if all(network.network.internal for network in self._networks):
            return []
        return [server for server in (self.sandbox.dns or self.facts.resolvers) if ":" not in server]

    def _dotted_names(self, networks: Iterable[str]) -> list[str]:
        """Names with dots among the records, other than those of the networks themselves: ours too, in every type."""
        words = {
            word
            for network in networks
            for line in self.names.files[network].splitlines()[1:]
            for word in line.split()[1:]
        }
        return sorted(
            word for word in words if "." in word and not word.endswith(tuple(f".{name}" for name in networks))
        )

    def resolver(self) -> Resolver:
        """The sandbox's dnsmasq."""
        directory = names_directory(self.project)
        paths = {network.name: f"{directory}/{network.name}" for network in self._networks}
        zones = [zone for n in self._networks for subnet in n.subnets for zone in reverse_zones(subnet.subnet)]
        upstreams = self.upstreams
        config = [
            f"port={RESOLVER_PORT}",
            f"listen-address={RESOLVER_ADDRESS}",
            "bind-interfaces",
            "no-hosts",
            "no-resolv",
            *(f"addn-hosts={path}" for path in paths.values()),
            # Undotted names and those of our networks are answered here or nowhere.
            "local=//",
            *(f"local=/{name}/" for name in [*paths, *dict.fromkeys(zones), *self._dotted_names(paths)]),
            *(f"server={server}" for server in upstreams),
            *([] if upstreams else ["local=/#/"]),
        ]
        digests = {path: content_digest(self.names.files[name]) for name, path in paths.items()}
        return Resolver(self.sandbox.name, tuple(config), digests)

    def files(self) -> File:
        """``/etc/netns/<sandbox>``: what ``ip netns exec`` shows in place of the files in /etc."""
        role = f"sandbox/{self.sandbox.name}"
        header = f"# {mark(self.project, role)}\n"
        hostname = self.sandbox.hostname or self.sandbox.name
        own = [f"{item.address.partition('/')[0]} {hostname}" for item in self.endpoints]
        extra = [f"{address} {name}" for name, address in self.sandbox.extra_hosts]
        files = {
            "resolv.conf": header + self._resolv_conf(),
            "hosts": header + "".join(f"{line}\n" for line in (*_LOCALHOST, *extra, *own)),
            "nsswitch.conf": header + "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
            "hostname": f"{hostname}\n",
        }
        return File(f"/etc/netns/{self.sandbox.name}", role, files)

    def _resolv_conf(self) -> str:
        if not self.endpoints:
            return ""
        search = self.sandbox.dns_search or self.facts.search
        options = list(self.sandbox.dns_opt or self.facts.options)
        if not any(option.startswith("ndots:") for option in options):
            options.append("ndots:0")
        lines = [f"nameserver {RESOLVER_ADDRESS}"]
        if search and search != (".",):
            lines.append("search " + " ".join(search))
        lines.append("options " + " ".join(options))
        return "".join(f"{line}\n" for line in lines)
