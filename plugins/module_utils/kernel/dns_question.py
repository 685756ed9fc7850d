# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The one DNS message that this collection writes: a question (RFC 1035 §4.1)."""

from __future__ import annotations

import struct

_RECURSION_DESIRED, _INTERNET = 0x0100, 1


def question(identifier: int, name: str, kind: int) -> bytes:
    """A query for records of a type; the name "" is the root."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    header = struct.pack("!6H", identifier, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!2H", kind, _INTERNET)
