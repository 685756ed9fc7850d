# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""DNS as bytes: a question, and what an answer says."""

from __future__ import annotations

import struct
from ipaddress import ip_address

TYPES = {"A": 1, "PTR": 12, "AAAA": 28}
CODES = {0: "nothing", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


def question(name: str, kind: str) -> str:
    """A query in hex; for a PTR the name is an address."""
    if kind == "PTR":
        name = ip_address(name).reverse_pointer
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    header = struct.pack(">6H", 4242, 0x0100, 1, 0, 0, 0)
    return (header + labels + struct.pack(">xHH", TYPES[kind], 1)).hex()


def answers(reply: str) -> list[str]:
    """The addresses or names in a reply in hex, sorted; where there are none, the word for why."""
    data = bytes.fromhex(reply)
    _number, flags, _questions, count = struct.unpack(">4H", data[:8])
    _name, place = _read_name(data, 12)
    place += 4
    found = []
    for _record in range(count):
        _name, place = _read_name(data, place)
        kind, _class, _ttl, length = struct.unpack(">HHIH", data[place : place + 10])
        place += 10
        if kind == TYPES["PTR"]:
            found.append(_read_name(data, place)[0])
        elif kind in TYPES.values():
            found.append(str(ip_address(data[place : place + length])))
        place += length
    return sorted(found) or [CODES.get(flags & 15, str(flags & 15))]


def _read_name(data: bytes, place: int) -> tuple[str, int]:
    labels: list[str] = []
    end = 0
    while data[place]:
        if data[place] >= 0xC0:
            end = end or place + 2
            place = struct.unpack(">H", data[place : place + 2])[0] & 0x3FFF
        else:
            labels.append(data[place + 1 : place + 1 + data[place]].decode())
            place += 1 + data[place]
    return ".".join(labels), end or place + 1
