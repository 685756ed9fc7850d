# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Asks systemd by its program systemctl."""

from __future__ import annotations

import os

from .nft import RunCommand
from .programs import find_program

_SHOWN = 500


class SystemdError(Exception):
    """systemd did not do what it was asked; the message says what, and why."""


def is_running() -> bool:
    """Whether systemd is the first process, as sd_booted(3) tells; elsewhere there are no units."""
    return os.path.isdir("/run/systemd/system")


def is_active(run_command: RunCommand, unit: str) -> bool:
    """Whether a unit is active."""
    program = find_program("systemctl")
    return program is not None and run_command([program, "is-active", "--quiet", unit])[0] == 0


def systemctl(run_command: RunCommand, *arguments: str) -> str:
    """What ``systemctl`` prints.  Raises SystemdError."""
    program = find_program("systemctl")
    if program is None:
        raise SystemdError("this host has no systemctl: set cnm_boot: false")
    code, output, errors = run_command([program, *arguments])
    if code:
        raise SystemdError(f"systemctl {' '.join(arguments)[:_SHOWN]} failed: {errors.strip()[:_SHOWN]}")
    return output
