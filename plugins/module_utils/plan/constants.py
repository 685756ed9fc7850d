# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Numbers, patterns and words that both halves know; those of address families are in `families`."""

from __future__ import annotations

from typing import Optional

VERSION = "0.1.0"
"""The collection's, as in ``galaxy.yml``."""

DEFAULT_MTU = 1500
SMALLEST_MTU = {4: 68, 6: 1280}
"""By address family (RFC 791, RFC 8200)."""
LARGEST_MTU = 65535

VXLAN_OVERHEAD = {4: 50, 6: 70}
"""Octets VXLAN adds to a frame's payload: Ethernet 14, VXLAN 8, UDP 8, and IPv4 20 or IPv6 40 (RFC 7348)."""
ESP_OVERHEAD = 34
"""Octets ESP adds with AES-GCM (RFC 4106): header 8, IV 8, trailer 2, ICV 16; no padding where the MTU is 4 × n."""

LARGEST_PORT = 65535
LARGEST_VNI = 2**24 - 1

OWN_LINKS = "cnm-"
"""What the names of the host's links begin with that we name: nobody else's do, so that link managers can be told."""
LINK_MANAGERS = ("NetworkManager", "networkd", "udev")
"""Programs that configure links, and can be told to leave some alone."""
RESOLVER_FAILURES = ("REFUSED", "SERVFAIL", "unreachable", "silent")
"""Why an upstream resolver resolves nothing: its answer, an error of the network, or no answer in time."""
LINK_PREFIX = "eth"
"""What the names of a sandbox's links begin with: eth0, eth1, …"""
LINK_NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
"""The names a user may give a link, of at most `LONGEST_LINK_NAME` characters and not of `RESERVED_LINK_NAMES`."""
LONGEST_LINK_NAME = 15
RESERVED_LINK_NAMES = ("lo", "all", "default", ".", "..")
MAC = "[0-9a-f]{2}(?::[0-9a-f]{2}){5}"

FRR = "frr"
"""The program, its user and its package; what the probe calls it if it is missing."""

MODULES_PACKAGE = "it may be in the package linux-modules-extra or kernel-modules-extra"
"""What to say of a kernel's module that a host lacks."""

SEARCH_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"
"""Where a host's programs are, whatever the caller's PATH is."""

SHARES = "sandbox:"
"""What a sandbox's network_mode begins with if it is in the namespace of the one whose name follows."""


def shared_with(mode: Optional[str]) -> str:
    """The sandbox whose namespace one of that network_mode is in; "" for one with its own."""
    return (mode or "").partition(SHARES)[2]


STEPS = ("leaving", "ending", "coming", "tried")
"""What a host is told of a step in which a service is rolled out: arguments of ``converge``."""
