# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host's programs, looked for in the system's directories whatever the caller's PATH is."""

from __future__ import annotations

import shutil
from typing import Optional

SEARCH_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"


def find_program(name: str) -> Optional[str]:
    """The path of a program, or None if the host has none of that name."""
    return shutil.which(name, path=SEARCH_PATH)
