# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Finds the host's programs in the system's directories, regardless of the caller's PATH, and runs them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Optional

from ..plan.constants import SEARCH_PATH


def find_program(name: str) -> Optional[str]:
    """The path of a program, or None if the host has none of that name."""
    # As shutil.which does it, whose import costs more than all these looks.
    paths = (os.path.join(folder, name) for folder in SEARCH_PATH.split(":"))
    return next((path for path in paths if os.access(path, os.X_OK) and os.path.isfile(path)), None)


def run_command(arguments: Sequence[str], data: Optional[str] = None) -> tuple[int, str, str]:
    """Run a program; its exit status, output and errors, as Ansible's modules do it."""
    done = subprocess.run(
        arguments,
        input=data if data is not None else "",
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
