# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The file with the host's tables, which nft loads at boot and whenever nftables.service flushes the ruleset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..plan.nftables import Nftables
from ..state.files import write_atomically
from ..state.kept import State
from .nftables import script, table_reference


def path(project: str) -> Path:
    """Where it is."""
    return State(project).lib / "rules.nft"


def write(project: str, tables: Sequence[Nftables]) -> None:
    """Write it, unless it is as it should be.  Loading it replaces the tables."""
    text = "".join(
        f"table {table_reference(table)}\ndelete table {table_reference(table)}\n{script(table, project)}"
        for table in tables
    )
    place = path(project)
    if not place.is_file() or place.read_text(encoding="utf-8") != text:
        write_atomically(place, text, 0o600, lasting=True)
