# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Finds the host's programs in the system's directories, regardless of the caller's PATH."""

from __future__ import annotations

import shutil
from typing import Optional

from ..plan.constants import SEARCH_PATH


def find_program(name: str) -> Optional[str]:
    """The path of a program, or None if the host has none of that name."""
    return shutil.which(name, path=SEARCH_PATH)
