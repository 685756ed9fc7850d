# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host's programs, looked for in the system's directories whatever the caller's PATH is."""

from __future__ import annotations

import shutil
from typing import Optional

from ..plan.constants import SEARCH_PATH


def find_program(name: str) -> Optional[str]:
    """The path of a program, or None if the host has none of that name."""
    return shutil.which(name, path=SEARCH_PATH)
