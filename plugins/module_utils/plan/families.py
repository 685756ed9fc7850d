# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""IP versions, which plans and messages call families: 4 or 6."""

from __future__ import annotations

import socket

LENGTH = {4: 32, 6: 128}
"""The bits of an address."""
NFT_PROTOCOL = {4: "ip", 6: "ip6"}
NFT_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


def family_of(address: str) -> int:
    """The family of an address or a prefix."""
    return 6 if ":" in address else 4


def socket_family(address: str) -> int:
    """The family as the kernel numbers it: AF_INET or AF_INET6."""
    return socket.AF_INET6 if family_of(address) == 6 else socket.AF_INET


def packed(address: str) -> bytes:
    """An address in network form.  Raises OSError."""
    return socket.inet_pton(socket_family(address), address)


FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
"""Forwarding of all links; writing it sets that of every link (ip-sysctl)."""
