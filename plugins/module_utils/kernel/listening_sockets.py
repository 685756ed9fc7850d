# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Listening sockets and their processes, as /proc shows them (proc(5), /proc/net/tcp)."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Optional

_TCP_LISTEN, _UDP_UNCONNECTED = b"0A", b"07"
_TCP_OPEN = (b"01", b"03", b"04", b"08", b"09")
"""Established, half open, or with data that the other end has not confirmed; include/net/tcp_states.h."""
_INODE = 9
_LINES_AT_MOST = 1_000_000
_FILES_AT_MOST = 100_000
_LOOKING_S = 5.0
"""How long to search for the processes, as any user may have many files open."""
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ALL = ("tcp", "tcp6", "udp", "udp6")
_ANY = ("0.0.0.0", "::")


def listeners() -> list[dict[str, Any]]:
    """``{"protocol": "tcp", "address": "0.0.0.0", "port": 22, "process": "sshd (pid 7)"}`` for each, sorted.

    UDP sockets on ephemeral ports are left out: they belong to clients, not services.
    """
    low, high = _ephemeral()
    found = [
        (table[:3], address, port, inode)
        for table in _ALL
        for address, port, inode in _sockets(f"/proc/net/{table}")
        if table.startswith("tcp") or not low <= port <= high
    ]
    processes = _processes({inode for _protocol, _address, _port, inode in found})
    result = [
        {"protocol": protocol, "address": address, "port": port, "process": processes.get(inode, "a process")}
        for protocol, address, port, inode in found
    ]
    unique = {tuple(item.values()): item for item in result}
    return [unique[key] for key in sorted(unique)]


def holders(address: str, port: int, but: Container[int] = (), tables: Sequence[str] = _ALL) -> list[str]:
    """Other processes with a socket at the address and port in the thread's namespace: ``python3 (pid 7)`` for each.

    ``but`` are the inodes of sockets to ignore.  Reading each of the ``tables`` can take milliseconds.
    """
    inodes = {
        inode
        for table in tables
        for where, number, inode in _sockets(f"/proc/thread-self/net/{table}", port)
        if number == port and where in (address, *_ANY) and int(inode) not in but
    }
    known = _processes(inodes)
    return sorted({known.get(inode, "a process") for inode in inodes})


def served_ports() -> set[int]:
    """The ports at which something in the thread's namespace listens for others."""
    low, high = _ephemeral()
    return {
        port
        for table in _ALL
        for address, port, _inode in _sockets(f"/proc/thread-self/net/{table}")
        if not _is_loopback(address) and (table.startswith("tcp") or not low <= port <= high)
    }


def has_callers(ports: Container[int]) -> bool:
    """Whether connections to these TCP ports of the thread's namespace are open, or have data on the way."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/thread-self/net/{table}", "rb") as lines:
            for words in (line.split() for line in islice(lines, 1, _LINES_AT_MOST)):
                if len(words) > _INODE and words[3] in _TCP_OPEN and int(words[1].rpartition(b":")[2], 16) in ports:
                    return True
    return False


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


def _sockets(table: str, port: Optional[int] = None) -> Iterator[tuple[str, int, str]]:
    """(address, port, inode) of each socket, or of those with the given port."""
    of_port = f":{port:04X} ".encode() if port is not None else b""
    with contextlib.suppress(OSError), open(table, "rb") as lines:
        for words in (line.split() for line in islice(lines, 1, _LINES_AT_MOST) if of_port in line):
            if len(words) <= _INODE or words[3] not in (_TCP_LISTEN, _UDP_UNCONNECTED):
                continue
            address, _colon, number = words[1].decode("ascii", "replace").partition(":")
            with contextlib.suppress(ValueError, struct.error):
                yield _address(address), int(number, 16), words[_INODE].decode("ascii", "replace")


def _ephemeral() -> tuple[int, int]:
    try:
        low, high = _EPHEMERAL.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 32768, 60999
    return int(low), int(high)


def _address(text: str) -> str:
    """The address, which /proc shows as 32-bit words in the machine's byte order."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _processes(inodes: set[str]) -> dict[str, str]:
    """``sshd (pid 7)`` by the inode of each open socket."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    result: dict[str, str] = {}
    deadline = time.monotonic() + _LOOKING_S
    for entry in os.scandir("/proc") if wanted else ():
        if len(result) == len(wanted) or time.monotonic() > deadline:
            break
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            for descriptor in islice(os.scandir(f"/proc/{entry.name}/fd"), _FILES_AT_MOST):
                inode = wanted.get(os.readlink(descriptor.path))
                if inode is not None:
                    name = Path(f"/proc/{entry.name}/comm").read_text(encoding="utf-8", errors="replace").strip()
                    result.setdefault(inode, f"{name} (pid {entry.name})")
    return result
