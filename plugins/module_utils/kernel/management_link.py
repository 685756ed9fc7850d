# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The links by which Ansible reaches the host: a network that took one would cut the host off."""

from __future__ import annotations

import os
from pathlib import Path

from .host import Host

_WORDS = 4
"""SSH_CONNECTION: the client's address and port, the host's address and port."""


def reached_by(host: Host) -> list[str]:
    """Links with the address that the ssh connection came to."""
    snapshot = host.snapshot("")
    address = _connection()
    found = [entry["index"] for entry in snapshot.addresses if entry["address"].partition("/")[0] == address]
    return sorted({link["name"] for index in found if (link := snapshot.link_by_index(index)) is not None})


def _connection() -> str:
    """The host's address in the ssh connection, from a parent's environment (sudo clears our own); or ""."""
    process = os.getpid()
    while process > 1:
        try:
            words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            status = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return ""
        for word in words:
            if word.startswith(b"SSH_CONNECTION=") and len(word.split()) == _WORDS:
                return word.split()[2].decode(errors="replace").partition("%")[0]
        process = int(status.rpartition(")")[2].split()[1])
    return ""
