# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Tables as nft 1.1.7 writes them, for machines that have no such program: libnftables 1.0.6 crashes on their sets."""

from __future__ import annotations

import os
import struct

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import netfilter
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink import Message, pack_attribute

USERDATA = bytes.fromhex("00040200000003080004040000000100")
"""What it notes of ``set a { type ipv4_addr; }``: the byte order and the type of the key."""

_SEND = "import socket; s = socket.socket(16, 3, 12); s.bind((0, 0)); s.send(bytes.fromhex('{}')); s.recv(9999)"


def messages(family: str, table: str) -> list[Message]:
    """Make a table with that set in it, or add the set to a table that is there."""
    name, kind, length, number = b"a\0", b"\0\0\0\x07", b"\0\0\0\x04", b"\0\0\0\x01"
    values = ((2, name), (4, kind), (5, length), (9, b""), (10, number), (13, USERDATA))
    part = 9, 0x400, b"".join(pack_attribute(key, value) for key, value in values)
    return netfilter.as_messages(netfilter.Copy(family, b"", (part,)), table, "", False)


def script(family: str, table: str) -> str:
    """The same as a shell's command, for where nothing but Python is.

    CNM_NEWER_NFT names the program itself, which is then asked.
    """
    program = os.environ.get("CNM_NEWER_NFT")
    if program:
        declared = f"add table {family} {table}; add set {family} {table} a {{ type ipv4_addr; }}"
        return f"{program} '{declared}'"
    return _sending(messages(family, table))


def removal(family: str, table: str) -> str:
    """A shell's command that removes such a table, at which an older nft would crash."""
    return _sending([netfilter.del_table(family, table)])


def _sending(requests: list[Message]) -> str:
    requests[-1] = Message(_flagged(requests[-1].payload), "")
    bounds = [struct.pack("=IHHIIBBH", 20, kind, 1, 0, 0, 0, 0, 0x0A00) for kind in (16, 17)]
    payload = b"".join([bounds[0], *(message.payload for message in requests), bounds[1]])
    return f'/usr/bin/python3 -c "{_SEND.format(payload.hex())}"'


def _flagged(payload: bytes) -> bytes:
    """Asking to be acknowledged."""
    return payload[:6] + struct.pack("=H", struct.unpack_from("=H", payload, 6)[0] | 4) + payload[8:]
