# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Commands that leave nothing behind: how their command lines begin."""

from __future__ import annotations

from pathlib import Path

FOLLOW = ["setpriv", "--pdeathsig", "KILL"]
"""A process that ends with this one, however this one ends."""


def apart() -> list[str]:
    """A process that follows, and with it what it starts and what it mounts.

    unshare(1) makes `/` private, and fails where that is no mount point, as in a plain chroot; there it has to leave
    mounts as they are, and in a host that shares them they stay.
    """
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    propagation = [] if "/" in points else ["--propagation", "unchanged"]
    return [*FOLLOW, "unshare", "--mount", *propagation, "--pid", "--fork", "--kill-child", "--mount-proc"]
