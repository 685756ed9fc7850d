# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Gratuitous ARP and neighbour advertisements after an address or a MAC address has changed.

On an overlay each host announces remote sandboxes to its own ones, as broadcasts of other hosts do not arrive.  Like
Docker, it announces three times, a second apart.  A separate process does so, and the run does not wait for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_interface
from itertools import groupby
from typing import Any

from ..kernel import namespaces
from ..plan.addresses import Address
from ..plan.base import Resource
from ..plan.links import Link
from ..plan.records import dataclass
from ..resources.base import Operation

_ARP, _IPV6, _ANY_MAC = 0x0806, 0x86DD, b"\xff" * 6
_ICMPV6 = 58
_ALL_NODES, _ALL_NODES_MAC = ip_address("ff02::1").packed, b"\x33\x33\0\0\0\1"
_OVERRIDE = 0x20000000
_TIMES, _MILLISECONDS = 3, 1000


@dataclass(frozen=True)
class Announcement:
    """An address of a link, and how often to announce it."""

    namespace: str
    link: str
    mac: str
    address: str
    times: int
    milliseconds: int


def due(operations: Iterable[Operation[Any]], wanted: Iterable[Resource]) -> list[Announcement]:
    """The announcements to make after a run: for new addresses and links, and for links with a new MAC address."""
    operations, wanted = list(operations), list(wanted)
    changed = {_link_of(item.resource) for item in operations if _is_new(item)}
    links = {_link_of(item): item for item in wanted if isinstance(item, Link) and item.announcements}
    own = [
        Announcement(item.namespace, link.name, link.mac or "", item.address, link.announcements, link.announcement_ms)
        for item in wanted
        if isinstance(item, Address) and (link := links.get(_link_of(item))) is not None and _link_of(item) in changed
    ]
    return own + [announcement for item in operations for announcement in _remote(item)]


def _remote(operation: Operation[Any]) -> list[Announcement]:
    """Entries of an existing neighbour table that are new or have another MAC address now."""
    table, before = operation.resource, operation.found
    if table.kind != "neighbour" or operation.action != "change" or before is None:
        return []
    return [
        Announcement(table.namespace, table.link, mac, address, _TIMES, _MILLISECONDS)
        for address, mac in sorted(table.entries.items())
        if before.entries.get(address) != mac
    ]


def _link_of(resource: Any) -> tuple[str, str]:
    return (resource.namespace, resource.link if isinstance(resource, Address) else resource.name)


def _is_new(operation: Operation[Any]) -> bool:
    if operation.resource.kind not in ("link", "address") or operation.action == "delete":
        return False
    return operation.action != "change" or any(item.attribute == "mac" for item in operation.differences)


def announce(announcements: Sequence[Announcement]) -> None:
    """Announce from a separate process, so that the run need not wait: closing a packet socket takes 10 ms."""
    due_now = [item for item in announcements if item.times]
    child = os.fork() if due_now else -1
    if child == 0:
        # Fork twice: init adopts and reaps the second child.
        if os.fork() == 0:
            _announce_all(due_now)
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)


def _announce_all(announcements: Sequence[Announcement]) -> None:
    """The separate process.  It closes the inherited descriptors, or Ansible's connection would wait for it to end."""
    try:
        os.setsid()
        os.closerange(0, 1024)
        started = time.monotonic()
        for turn in range(max(item.times for item in announcements)):
            for (milliseconds, namespace, link), group in groupby(sorted(announcements, key=_when), key=_when):
                chosen = [item for item in group if turn < item.times]
                time.sleep(max(0.0, started + turn * milliseconds / 1000 - time.monotonic()) if chosen else 0)
                with contextlib.suppress(OSError):
                    namespaces.run(namespace, _send, link, chosen)
    finally:
        os._exit(0)


def _when(item: Announcement) -> tuple[int, str, str]:
    return item.milliseconds, item.namespace, item.link


def _send(link: str, announcements: Sequence[Announcement]) -> None:
    if not announcements:
        return
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
        opened.bind((link, 0))
        for item in announcements:
            address = ip_interface(item.address).ip
            mac = bytes.fromhex(item.mac.replace(":", "")) or opened.getsockname()[4]
            opened.send((_arp if address.version == 4 else _advertisement)(mac, address.packed))


def _arp(mac: bytes, address: bytes) -> bytes:
    """An ARP announcement (RFC 5227 §2.3): a request for an address, sent by its owner."""
    fixed = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return _ANY_MAC + mac + struct.pack("!H", _ARP) + fixed + mac + address + bytes(6) + address


def _advertisement(mac: bytes, address: bytes) -> bytes:
    """An unsolicited neighbour advertisement (RFC 4861 §7.2.6)."""
    rest = struct.pack("!I", _OVERRIDE) + address + bytes((2, 1)) + mac
    ends = address + _ALL_NODES
    checksum = _checksum(ends + struct.pack("!II", len(rest) + 4, _ICMPV6) + bytes((136, 0, 0, 0)) + rest)
    head = struct.pack("!IHBB", 6 << 28, len(rest) + 4, _ICMPV6, 255)
    return _ALL_NODES_MAC + mac + struct.pack("!H", _IPV6) + head + ends + struct.pack("!BBH", 136, 0, checksum) + rest


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of octets."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)
