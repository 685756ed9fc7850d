# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whose an address is that a check of `verify` was about.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from ...module_utils.plan.peers import PeerTable
from .model import Model

OVERLAY = "overlay"
SANDBOX, GATEWAY, SERVICE, HOST = "sandbox", "gateway", "service", "host"


class End(NamedTuple):
    """A sandbox, a network's gateway on a host, a service (its host is ""), or a host itself (its network is "")."""

    kind: str
    name: str
    host: str
    network: str


class PeerIndex:
    """A peer table, looked up by address; the same for all hosts that have it."""

    def __init__(self, table: PeerTable) -> None:
        self.table = table
        self.ends = {
            address: End(SANDBOX, row.sandbox, row.host, table.network)
            for row in table.endpoints
            for address in row.addresses
        }
        self.marks = {row.sandbox: {*row.addresses, row.mac} for row in table.endpoints}
        self.hosts = {address: name for name, address in table.vteps.items() if address}


class Ends:
    """Who is where, as the sandboxes of one host see it."""

    def __init__(self, host: str, model: Model, peers: Sequence[PeerIndex] = ()) -> None:
        self._host = host
        self._peers = peers
        self._own: dict[str, dict[str, End]] = {}
        """By network and address."""
        self._networks: dict[str, list[str]] = {}
        """Of each sandbox."""
        self._drivers = {document["Name"]: document["Driver"] for document in model["networks"]}
        for name, service in model.get("services", {}).items():
            for network, vip in service["networks"].items():
                self._own.setdefault(network, {}).update(dict.fromkeys(vip["vips"], End(SERVICE, name, "", network)))
        for name, sandbox in model["sandboxes"].items():
            self._networks[name] = [item["network"] for item in sandbox["endpoints"]]
            for item in sandbox["endpoints"]:
                network, place = item["network"], self._own.setdefault(item["network"], {})
                place.update(dict.fromkeys(item["gateways"], End(GATEWAY, network, host, network)))
                bare = [address.partition("/")[0] for address in item["addresses"]]
                place.update(dict.fromkeys(bare, End(SANDBOX, name, host, network)))

    def at(self, sandbox: str, address: str) -> Optional[End]:
        """Whose the address is for the sandbox: on its own networks first."""
        own = self._networks.get(sandbox, [])
        peers = {index.table.network: index.ends for index in self._peers}
        for network in (*own, *sorted(self._own.keys() - own)):
            found = self._own.get(network, {}).get(address) or peers.get(network, {}).get(address)
            if found is not None:
                return found
        return None

    def networks_of(self, sandbox: str) -> Sequence[str]:
        """The networks of a sandbox of this host."""
        return self._networks.get(sandbox, ())

    def host_at(self, address: str) -> End:
        """The host that has an address; this one for its loopback."""
        name = next((index.hosts[address] for index in self._peers if address in index.hosts), self._host)
        return End(HOST, name, name, "")

    def tunnel(self, network: str) -> str:
        """What carries a network's packets between hosts: ``VXLAN``, or another collection's driver; "" for none."""
        if not any(index.hosts for index in self._peers if index.table.network == network):
            return ""
        driver: str = self._drivers.get(network, OVERLAY)
        return "VXLAN" if driver == OVERLAY else driver

    def marks(self, sandbox: str, network: str) -> set[str]:
        """Texts by which a sandbox is known in tables of links: its addresses and its MAC address."""
        found = (index.marks.get(sandbox, set()) for index in self._peers if index.table.network == network)
        return set().union(*found)

    def owners(self, network: str, marks: set[str]) -> list[str]:
        """The sandboxes on a network that are known by any of these texts."""
        tables = (index.marks for index in self._peers if index.table.network == network)
        return [name for table in tables for name, known in table.items() if known & marks]

    def vtep_of(self, host: str) -> str:
        """The VTEP of a host; "" if it has none."""
        return next((index.table.vteps[host] for index in self._peers if index.table.vteps.get(host)), "")
