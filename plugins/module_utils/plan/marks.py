# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What both halves call things of ours: ownership marks, roles, tables, and the numbers that are reserved for us."""

from __future__ import annotations

import hashlib
from typing import Optional


def mark(project: str, role: str) -> str:
    """The ownership mark of an object, as a link alias or table comment shows it: ``cnm:default:sandbox/c1``."""
    return f"cnm:{project}:{role}"


def role_of(text: str, project: str) -> Optional[str]:
    """What a mark says the object is, or None if it is not a mark of this project."""
    prefix = mark(project, "")
    return text[len(prefix) :] if text.startswith(prefix) else None


def project_of(text: str) -> Optional[str]:
    """Whose mark the text is, or None if it is none of ours."""
    parts = text.split(":", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "cnm" else None


ALONE = "alone/"
"""Roles that begin so are of objects a module made by itself: ours to change, and no plan prunes them."""

USED = "used/"
"""Begins the mark of a bridge that somebody else made and a network uses: it is given back, never removed."""

PORT = "port:"
"""Begins the mark of a veth pair's far end, before the pair's role."""


def pruned(role: Optional[str]) -> bool:
    """Whether an object of that role goes when no plan wants it; None is an object that is not ours."""
    return role is not None and not role.startswith((ALONE, PORT + ALONE))


def table_name(project: str) -> str:
    """The nftables table of a project: ``cnm`` for the project named default, ``cnm_<project>`` for another."""
    return "cnm" if project == "default" else "cnm_" + project.replace("-", "_")


def request_id(project: str) -> int:
    """The reqid of a project's ESP states and policies, which says whose they are; key daemons count from below."""
    return 0x80000000 | int.from_bytes(hashlib.sha256(f"cnm:{project}".encode()).digest()[:4], "big")


LINK_GROUP = 0x636E6E
"""Group of the bridges of all projects on a host: what one project's rules must know of another's."""

OPEN_GROUP = 0x636E6F
"""Group of the bridges of all projects on a host that nobody's rules guard (`firewall: none`)."""

LAN_GROUP = 0x636E70
"""Group of what all projects make on a host for their macvlan and ipvlan networks: ours even before it is marked."""

FORWARDED = 0x80
"""Bit of the packet mark that says that our rules let it by, for the rule in Docker's chain (`cnm_docker_user`).

One that is not kube-proxy's (0x4000, 0x8000), netavark's (0x3000), Cilium's (0xf00), Tailscale's or Calico's (above).
"""

OTHERS = "forward_unmanaged"
"""Chain of the host's table for what is not ours: it drops where the host did not forward before us."""

RESOLVER_USER = "cnm-resolver"
"""The system user, and the group, that resolvers run as: nothing else does."""

ROUTE_PROTOCOL = 137

ROUTE_PROTOCOL_ALONE = 138

MAIN_TABLE = 254


def rule_priority(project: str) -> int:
    """The first of the two priorities of a project's rules, which say whose they are: a rule has no room for a mark.

    From 1000 to 4999: after the kernel's own table of local addresses (0), before whatever others put there.
    """
    digest = hashlib.sha256(f"cnm:{project}".encode()).digest()
    return 1000 + 2 * (int.from_bytes(digest[:4], "big") % 2000)


ENCRYPTED_PORT = 50
"""The UDP port from which the VXLAN links of encrypted overlays send, numbered after ESP.

By it the kernel tells what is to be encrypted.  No user can send from it, for it is below 1024; so what a host's users
send to a peer's port themselves goes in clear text, and is not heard there.  A mark that nftables sets would tell what
is to be encrypted, too, but whoever flushes the ruleset would send it all in clear text.
"""

DATA_PATH_PORT = 4789
"""The UDP port by which overlays travel, unless told otherwise (RFC 7348)."""

LARGEST_DATA_PATH_PORT = 55535


def encrypted_data_path_port(port: int) -> int:
    """The UDP port by which encrypted overlays travel, inside ESP, for that by which the others do.

    One of their own, for the kernel cannot tell VNIs apart when it asks whether a packet had to come encrypted.  Far
    from the other, so that it is not what the next project chooses, and 4790 is VXLAN-GPE's.
    """
    return port + 10000
