# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Writes to the journal of systemd, by its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping
from typing import Union

from ..plan.forms import printable

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "cnm"
"""What all our entries have as ``SYSLOG_IDENTIFIER``."""
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
"""Priorities of syslog(3)."""

_is_field = re.compile("[A-Z][A-Z0-9_]{0,63}").fullmatch


def encode(fields: Mapping[str, Union[str, int]]) -> bytes:
    """An entry as a datagram.  A value becomes one printable line, so that none can end early and begin a field."""
    return b"".join(_field(name, printable(value)) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    if not _is_field(name):
        raise ValueError(f"{name!r} is no name of a field")
    content = value.encode("utf-8", "backslashreplace")
    return name.encode("ascii") + b"\n" + struct.pack("<Q", len(content)) + content + b"\n"


def write(message: str, priority: int = INFO, **fields: str) -> bool:
    """Write an entry; returns whether there is a journal that took it.  Fields without a value are left out."""
    named = {name: value for name, value in fields.items() if value}
    entry = encode({"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": IDENTIFIER, **named})
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stream:
            stream.settimeout(1.0)  # a journal that does not read must not stop a run
            stream.connect(SOCKET)
            stream.send(entry)
    except OSError:
        return False
    return True
