# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The address family of text that is known to be an address or a prefix."""

from __future__ import annotations


def family_of(text: str) -> int:
    """4 or 6, of an address or a prefix of the topology."""
    return 6 if ":" in text else 4
