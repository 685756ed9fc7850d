# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What all hosts of a network that spans them share: its table of endpoints and its names, written once.  Pure."""

from __future__ import annotations

from ..module_utils.plan import Mesh, content_digest
from .discovery import names_of, names_of_vips, names_text, servers_text
from .drivers.base import Digests
from .overlays import Overlay


def shared_texts(project: str, overlay: Overlay) -> tuple[Digests, dict[str, str]]:
    """A network's table as `Mesh`, its hosts file, and the lines that keep its names at home; the texts by digest."""
    name = overlay.network.name
    named = overlay.network.discovery
    called = {
        key: names_of(name, item.sandbox, item.endpoint) if named else [] for key, item in overlay.members.items()
    }
    mesh = Mesh(
        name,
        overlay.vni,
        dict(overlay.vteps),
        tuple((item.host, key, item.mac, item.addresses, tuple(called[key])) for key, item in overlay.members.items()),
    )
    virtual = names_of_vips(name, overlay.vips)
    rows = [(item.addresses, called[key]) for key, item in overlay.members.items()]
    rows += [(vip.addresses, virtual[key]) for key, vip in overlay.vips.items() if vip.addresses]
    dotted = [each for names in (*called.values(), *virtual.values()) for each in names if "." in each]
    servers = servers_text(dotted, [subnet.subnet for subnet in overlay.subnets])
    texts = (mesh.to_json(), names_text(project, rows), servers)
    digests = [content_digest(text) for text in texts]
    return Digests(*digests), dict(zip(digests, texts))
