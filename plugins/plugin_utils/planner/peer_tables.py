# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Texts that all hosts of a spanning network share, written once: its peer table and its names.  Pure."""

from __future__ import annotations

from ipaddress import ip_address

from ...module_utils.plan.codec import content_digest
from ...module_utils.plan.forms import address, mac
from ...module_utils.plan.peers import PeerTable
from ..dns.records import names_of, names_of_vips, names_text, servers_text
from ..drivers.base import Digests
from ..networks.spanning import Lan, Overlay


def shared_texts_of_lan(project: str, lan: Lan) -> tuple[Digests, dict[str, str]]:
    """As `shared_texts`, for a LAN, which has no tunnels and where foreign hosts have names and addresses too."""
    name, members = lan.network.name, lan.sandboxes
    called = {key: names_of(name, item.sandbox, item.endpoint) for key, item in members.items()}
    rows = tuple((item.host, key, item.mac, item.addresses, tuple(called[key])) for key, item in members.items())
    peers = PeerTable(name, 0, dict.fromkeys(lan.hosts, ""), rows)
    dotted = [each for names in called.values() for each in names if "." in each]
    reverse = [ip_address(address).reverse_pointer for item in members.values() for address in item.addresses]
    texts = (
        peers.to_json(),
        names_text(project, [(item.addresses, called[key]) for key, item in members.items()]),
        servers_text([*dotted, *reverse]),
    )
    digests = [content_digest(text) for text in texts]
    return Digests(*digests), dict(zip(digests, texts))


def shared_texts(project: str, overlay: Overlay) -> tuple[Digests, dict[str, str]]:
    """A network's `PeerTable`, its hosts file, and the lines that keep its names at home; the texts by digest."""
    name = overlay.network.name
    named = overlay.network.discovery
    called = {
        key: names_of(name, item.sandbox, item.endpoint) if named else [] for key, item in overlay.members.items()
    }
    peers = PeerTable(
        name,
        overlay.vni,
        {host: address(vtep) for host, vtep in overlay.vteps.items()},
        tuple(
            (item.host, key, mac(item.mac), tuple(map(address, item.addresses)), tuple(called[key]))
            for key, item in overlay.members.items()
        ),
    )
    virtual = names_of_vips(name, overlay.vips)
    rows = [(item.addresses, called[key]) for key, item in overlay.members.items()]
    rows += [(vip.addresses, virtual[key]) for key, vip in overlay.vips.items() if vip.addresses]
    dotted = [each for names in (*called.values(), *virtual.values()) for each in names if "." in each]
    servers = servers_text(dotted, [subnet.subnet for subnet in overlay.subnets])
    texts = (peers.to_json(), names_text(project, rows), servers)
    digests = [content_digest(text) for text in texts]
    return Digests(*digests), dict(zip(digests, texts))
