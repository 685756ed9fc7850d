# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Constants of both halves: ownership marks, roles, table names and reserved numbers."""

from __future__ import annotations

import hashlib
from typing import Optional


def mark(project: str, role: str) -> str:
    """The ownership mark of an object, as a link alias or table comment shows it: ``cnm:default:sandbox/c1``."""
    return f"cnm:{project}:{role}"


def role_of(text: str, project: str) -> Optional[str]:
    """The role that a mark names, or None if it is not a mark of this project."""
    prefix = mark(project, "")
    return text[len(prefix) :] if text.startswith(prefix) else None


def project_of(text: str) -> Optional[str]:
    """The project whose mark the text is, or None if it is not a mark of this collection."""
    parts = text.split(":", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "cnm" else None


SINGLE_OBJECT = "single_object/"
"""Role prefix of objects that a single-object module made: ours to change, never pruned by a plan."""

ADOPTED = "adopted/"
"""Role prefix of a bridge of others that a network adopts: it is released, never removed."""

PORT = "port:"
"""Prefix of the role of a veth pair's far end; the pair's own role follows."""


def is_pruned(role: Optional[str]) -> bool:
    """Whether a plan that does not want an object of this role removes it; None is an object that is not ours."""
    return role is not None and not role.startswith((SINGLE_OBJECT, PORT + SINGLE_OBJECT))


def identifier(*parts: str) -> str:
    """A 64 digit hex id, as Docker's networks, containers and endpoints have."""
    return hashlib.sha256("\0".join(("cnm", *parts)).encode()).hexdigest()


def table_name(project: str) -> str:
    """The nftables table of a project: ``cnm`` for the project named default, ``cnm_<project>`` for another."""
    return "cnm" if project == "default" else "cnm_" + project.replace("-", "_")


def request_id(project: str) -> int:
    """The reqid that marks a project's ESP states and policies; key daemons use small numbers."""
    return 0x80000000 | int.from_bytes(hashlib.sha256(f"cnm:{project}".encode()).digest()[:4], "big")


LINK_GROUP = 0x636E6E
"""Link group of the bridges of all projects on a host, by which one project's rules recognise another's."""

OPEN_GROUP = 0x636E6F
"""Link group of bridges without firewall rules (`firewall: none`), of all projects on a host."""

LAN_GROUP = 0x636E70
"""Link group of the links of macvlan and ipvlan networks of all projects; makes a link ours before it is marked."""

TRUNK_GROUP = 0x636E71
"""Link group of tunnels that are ports of a bridge among the host's own links."""

EVPN_NAMESPACE = "ov-evpn-"
"""What the name of the namespace begins with that has a project's overlays, of which BGP EVPN tells the hosts."""

FORWARDED = 0x80
"""Bit of the packet mark that says our rules accepted the packet, for the rule in Docker's chain (`cnm_docker_user`).

Not used by kube-proxy (0x4000, 0x8000), netavark (0x3000), Cilium (0xf00), Tailscale or Calico (higher bits).
"""

OTHERS = "forward_unmanaged"
"""Chain of the host's table for packets that are not ours: drops them if the host did not forward before."""

RESOLVER_USER = "cnm-resolver"
"""The system user and group of resolvers, used by nothing else."""

ROUTE_PROTOCOL = 137

ROUTE_PROTOCOL_SINGLE_OBJECT = 138

MAIN_TABLE = 254


def rule_priority(project: str) -> int:
    """The first of the two rule priorities that mark a project's rules, as a rule cannot carry a text.

    From 1000 to 4999: after the kernel's rule for local addresses (0), before those that other programs usually add.
    """
    digest = hashlib.sha256(f"cnm:{project}".encode()).digest()
    return 1000 + 2 * (int.from_bytes(digest[:4], "big") % 2000)


ENCRYPTED_PORT = 50
"""The UDP source port of the VXLAN links of encrypted overlays, numbered after ESP.

IPsec policies select packets by it.  It is below 1024, so unprivileged users cannot send from it: what they send to a
peer's port is not encrypted, and the peer drops it.  A packet mark set by nftables would select the packets too, but
flushing the ruleset would then send everything in clear text.
"""

DATA_PATH_PORT = 4789
"""The default UDP port of overlays (RFC 7348)."""

LARGEST_DATA_PATH_PORT = 55535


def encrypted_data_path_port(port: int) -> int:
    """The UDP port of encrypted overlays, inside ESP; ``port`` is that of the other overlays.

    It differs from ``port`` because inbound IPsec policies cannot distinguish VNIs.  It is far from ``port`` so that
    other projects are unlikely to choose it; 4790 is VXLAN-GPE's.
    """
    return port + 10000
