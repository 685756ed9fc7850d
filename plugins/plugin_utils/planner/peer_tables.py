# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Texts that all hosts of a spanning network share, written once: its peer table and its names.  Pure."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from ...module_utils.plan.codec import content_digest
from ...module_utils.plan.forms import address, mac
from ...module_utils.plan.peers import PeerEndpoint, PeerTable
from ..dns.records import names_of, names_of_vips, names_text, servers_text
from ..drivers.base import Digests
from ..networks.spanning import Spanning


def shared_texts(project: str, network: Spanning) -> tuple[Digests, dict[str, str]]:
    """A network's `PeerTable`, its hosts file, and the lines that answer its names locally; the texts by digest."""
    name, members, tunnel = network.network.name, network.sandboxes, network.tunnel
    named = network.network.discovery
    called = {key: names_of(name, item.sandbox, item.endpoint) if named else [] for key, item in members.items()}
    vteps = tunnel.vteps if tunnel is not None else {}
    everyone = PeerTable(
        name,
        tunnel.vni if tunnel is not None else 0,
        {host: address(vteps[host]) if tunnel is not None else "" for host in network.hosts},
        tuple(
            PeerEndpoint(
                item.host,
                key,
                mac(item.mac) if item.mac else "",
                tuple(map(address, item.addresses)),
                tuple(called[key]),
            )
            for key, item in members.items()
        ),
    )
    table = everyone
    if tunnel is not None and tunnel.fabric:
        # Where endpoints are, BGP tells; who may send is any host that it could name.
        table = replace(everyone, vteps={host: address(vtep) for host, vtep in tunnel.fabric.items()}, endpoints=())
    virtual = names_of_vips(name, network.vips)
    rows = [(item.addresses, called[key]) for key, item in members.items()]
    rows += [(vip.addresses, virtual[key]) for key, vip in network.vips.items() if vip.addresses]
    dotted = [each for names in (*called.values(), *virtual.values()) for each in names if "." in each]
    if network.network.traits.on_parent:
        # On a LAN others have names and addresses, too.
        reverse = [ip_address(each).reverse_pointer for item in members.values() for each in item.addresses]
        servers = servers_text([*dotted, *reverse])
    else:
        servers = servers_text(dotted, [subnet.subnet for subnet in network.subnets])
    texts = (table.to_json(), names_text(project, rows), servers, everyone.to_json())
    digests = [content_digest(text) for text in texts]
    return Digests(*digests), dict(zip(digests, texts))
