# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names, ids and MAC addresses derived from the declaration: the same inventory always gives the same ones."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from ...module_utils.plan.constants import OWN_LINKS
from ...module_utils.plan.families import packed
from ...module_utils.plan.marks import EVPN_NAMESPACE, identifier


def _own_link(what: str, whose: str) -> str:
    # 40 bits: among 1000 links two have the same name in one of two million plans, which `compose` then refuses.
    return f"{OWN_LINKS}{what}{whose[:10]}"


def bridge_name(network_id: str) -> str:
    """The link of a bridge network that names none: ``cnm-b<10 hex>``."""
    return _own_link("b", network_id)


def port_name(endpoint_id: str) -> str:
    """The host's end of an endpoint's veth pair: ``cnm-p<10 hex>``."""
    return _own_link("p", endpoint_id)


def shim_name(network_id: str) -> str:
    """The host's own link on a macvlan or ipvlan network: ``cnm-s<10 hex>``."""
    return _own_link("s", network_id)


def lan_name(network_id: str) -> str:
    """The link that replaces the parent of a macvlan or ipvlan network without one: ``cnm-l<10 hex>``."""
    return _own_link("l", network_id)


def vxlan_name(network_id: str) -> str:
    """The VXLAN link of an overlay whose bridge is among the host's own links: ``cnm-v<10 hex>``."""
    return _own_link("v", network_id)


def evpn_namespace(project: str) -> str:
    """The namespace of a project's overlays and their zebra with the control plane EVPN: ``ov-evpn-<5 hex>``."""
    return f"{EVPN_NAMESPACE}{identifier('evpn', project)[:5]}"


def port_group(network_id: str) -> int:
    """The link group of a network's bridge ports: what a rule can know them by."""
    return int(network_id[:7], 16) | 1


@lru_cache(maxsize=65536)
def mac_of(address: str) -> str:
    """``02:42:`` and the four bytes of an IPv4 address, as Docker derived them; of IPv6, four of the address's hash."""
    data = packed(address)
    return "02:42:" + (data if len(data) == 4 else hashlib.sha256(data).digest()[:4]).hex(":")
