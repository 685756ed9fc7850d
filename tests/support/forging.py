# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Packets forged in sandboxes and on hosts, and who hears them.  Scripts run with the hosts' own Python."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import count

from fleet import Fleet

FORGE = r"""
import socket, struct, sys

def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def octets(mac):
    return bytes.fromhex(mac.replace(":", ""))

def made(mac, own, source, target, body, protocol=17, place=6, tags=0, extension=b""):
    # body with its checksum, which stands at ``place`` in it, in IP, behind VLAN tags
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    total = checksum(ends + struct.pack("!II", len(body), protocol) + body)
    body = body[:place] + struct.pack("!H", total) + body[place + 2 :]
    if family == socket.AF_INET6:
        first = 60 if extension else protocol
        packet = struct.pack("!IHBB", 6 << 28, len(extension + body), first, 255) + ends + extension + body
    else:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 255, protocol, 0) + ends
        packet = head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body
    kind = b"\x86\xdd" if family == socket.AF_INET6 else b"\x08\x00"
    return octets(mac) + octets(own) + b"\x81\0\0\0" * tags + kind + packet

def mac_of(link):
    return open(f"/sys/class/net/{link}/address").read().strip()

def send(data, link):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
        opened.bind((link, 0))
        opened.send(data)

def frame(mac, *packet, link="eth0", own="", **more):
    send(made(mac, own or mac_of(link), *packet, **more), link)

def udp(source_port, port):
    return struct.pack("!HHHH", source_port, port, 11, 0) + b"who"
"""

FORGED = (
    FORGE
    + r"""
mac, source, target, port, tags, own = sys.argv[1:]
frame(mac, source, target, udp(9, int(port)), tags=int(tags), own=own)
"""
)
"""A UDP packet: to a MAC address, from and to addresses, to a port, behind VLAN tags, from a MAC address or its own."""

ADVERTISED = (
    FORGE
    + r"""
mac, source, target, claimed = sys.argv[1:]
body = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + socket.inet_pton(socket.AF_INET6, claimed)
body += b"\2\1" + octets(mac_of("eth0"))
frame(mac, source, target, body, 58, 2, extension=bytes((58, 0, 1, 4, 0, 0, 0, 0)))
"""
)
"""A neighbour advertisement behind a destination options header."""

CLAIMED = (
    FORGE
    + r"""
mac, target, claimed, tags = sys.argv[1:]
own = octets(mac_of("eth0"))
for operation in (1, 2):
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + own + socket.inet_aton(claimed)
    body += octets(mac) + socket.inet_aton(target)
    send(octets(mac) + own + b"\x81\0\0\0" * int(tags) + b"\x08\x06" + body, "eth0")
"""
)
"""ARP, asking and answering, in which the own MAC address has the claimed address."""

TUNNELLED = (
    FORGE
    + r"""
vtep, vni, mac, own, source, target, port = sys.argv[1:]
inner = made(mac, own, source, target, udp(9, int(port)))
with socket.socket(socket.AF_INET6 if ":" in vtep else socket.AF_INET, socket.SOCK_DGRAM) as opened:
    opened.sendto(struct.pack("!II", 8 << 24, int(vni) << 8) + inner, (vtep, 4789))
"""
)
"""A UDP packet in well-formed VXLAN, from a socket as anybody may have one."""

SPOOFED = (
    FORGE
    + r"""
vni, gateway, link, outer, vtep, mac, own, source, target, port = sys.argv[1:]
inner = struct.pack("!II", 8 << 24, int(vni) << 8) + made(mac, own, source, target, udp(9, int(port)))
frame(gateway, outer, vtep, struct.pack("!HHHH", 9, 4789, 8 + len(inner), 0) + inner, link=link)
"""
)
"""The same from another host's address, by way of a gateway's MAC address on a link."""

_HEARD = r"""
import socket, sys
address, port = sys.argv[1:]
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as opened:
    opened.bind((address, int(port)))
    opened.settimeout(0.4)
    print("ready", flush=True)
    sys.stdin.read()
    try:
        print(opened.recvfrom(100)[1][0])
    except TimeoutError:
        print("nobody")
"""

_PORTS = count(6101)


def python(sandbox: str, script: str, *arguments: object) -> list[str]:
    """The command that runs a script in a sandbox, "" for the host itself."""
    inside = ["ip", "netns", "exec", sandbox] if sandbox else []
    return [*inside, "/usr/bin/python3", "-c", script, *map(str, arguments)]


def heard(fleet: Fleet, where: tuple[str, str], address: str, forge: Callable[[int], object]) -> str:
    """In whose name a packet that ``forge`` sends to a port of the address gets to a node or one of its sandboxes."""
    port = next(_PORTS)
    node, sandbox = where
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    listening = fleet.lab.popen(node, python(sandbox, _HEARD, address, port), **pipes)
    assert listening.stdout is not None
    assert listening.stdout.readline() == "ready\n"
    forge(port)
    # The end of its input tells it that the packet was sent, however long that took.
    return listening.communicate()[0].strip()
