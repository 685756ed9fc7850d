# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who listens on which port of the host, as /proc shows it (proc(5), /proc/net/tcp)."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TCP_LISTEN, _UDP_UNCONNECTED = "0A", "07"
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def listeners() -> list[dict[str, Any]]:
    """``{"protocol": "tcp", "address": "0.0.0.0", "port": 22, "process": "sshd (pid 7)"}`` of each, sorted.

    Sockets of udp on a port the kernel chose for them are somebody's questions, not services.
    """
    found = [entry for protocol in ("tcp", "udp") for entry in _sockets(protocol)]
    processes = _processes({inode for _protocol, _address, _port, inode in found})
    result = [
        {"protocol": protocol, "address": address, "port": port, "process": processes.get(inode, "a process")}
        for protocol, address, port, inode in found
    ]
    unique = {tuple(item.values()): item for item in result}
    return [unique[key] for key in sorted(unique)]


def _sockets(protocol: str) -> Iterator[tuple[str, str, int, str]]:
    """(protocol, address, port, inode)."""
    low, high = _ephemeral() if protocol == "udp" else (1, 0)
    for suffix in ("", "6"):
        try:
            lines = Path(f"/proc/net/{protocol}{suffix}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            address, _colon, port = words[1].partition(":")
            number = int(port, 16)
            if words[3] in (_TCP_LISTEN, _UDP_UNCONNECTED) and not low <= number <= high:
                yield protocol, _address(address), number, words[9]


def _ephemeral() -> tuple[int, int]:
    try:
        low, high = _EPHEMERAL.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 32768, 60999
    return int(low), int(high)


def _address(text: str) -> str:
    """Four bytes at a time in the machine's own order."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _processes(inodes: set[str]) -> dict[str, str]:
    """``sshd (pid 7)`` by the inode of a socket it has open."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    result: dict[str, str] = {}
    for entry in os.scandir("/proc") if wanted else ():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            for descriptor in os.scandir(f"/proc/{entry.name}/fd"):
                inode = wanted.get(os.readlink(descriptor.path))
                if inode is not None:
                    name = Path(f"/proc/{entry.name}/comm").read_text(encoding="utf-8", errors="replace").strip()
                    result.setdefault(inode, f"{name} (pid {entry.name})")
    return result
