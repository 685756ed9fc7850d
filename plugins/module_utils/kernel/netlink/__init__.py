# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A lean rtnetlink codec for links, addresses, routes, rules, neighbours and forwarding entries.

Functions such as `new_link` return a `Message`; `Netlink` sends many of them at once and reads the kernel's tables as
plain dicts.  The tests compare every message with pyroute2, byte for byte.

Families are 4 or 6, links are named by ifindex, MAC addresses are lower case with colons, addresses are text.
"""

from __future__ import annotations

from .bulk import Alike, address_texts
from .decode import attributes
from .encode import (
    del_address,
    del_fdb,
    del_group,
    del_link,
    del_neighbour,
    del_route,
    del_rule,
    new_address,
    new_fdb,
    new_link,
    new_neighbour,
    new_route,
    new_rule,
    set_link,
)
from .format import NUD_NOARP, NUD_PERMANENT, Message, NetlinkError, pack_attribute, pack_message, text_of
from .socket import Netlink

__all__ = [
    "NUD_NOARP",
    "NUD_PERMANENT",
    "Alike",
    "Message",
    "Netlink",
    "NetlinkError",
    "address_texts",
    "attributes",
    "del_address",
    "del_fdb",
    "del_group",
    "del_link",
    "del_neighbour",
    "del_route",
    "del_rule",
    "new_address",
    "new_fdb",
    "new_link",
    "new_neighbour",
    "new_route",
    "new_rule",
    "pack_attribute",
    "pack_message",
    "set_link",
    "text_of",
]
