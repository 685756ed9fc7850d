# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""IP versions, which plans and messages call families: 4 or 6."""

from __future__ import annotations


def family_of(address: str) -> int:
    """The family of an address or a prefix."""
    return 6 if ":" in address else 4
