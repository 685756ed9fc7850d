# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whether mounts that are made here reach the rest of the host, as names of network namespaces are mounts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

REFUSAL = (
    "cannot be done from a unit with mounts of its own: nobody else would see its namespaces. Take PrivateTmp=, "
    "PrivateMounts=, ProtectSystem=, ProtectHome=, ReadOnlyPaths= and the like out of the unit that runs this"
)
"""The end of a sentence for the user that begins with what cannot be done."""

_WHERE = "/run/netns"


def are_private() -> bool:
    """Whether this process has mounts of its own that the host's other processes do not see.

    A service with PrivateTmp=, ProtectSystem= and the like has (systemd.exec(5), mount_namespaces(7)).  A process in
    another network namespace than the first one is another host, with mounts of its own by right.
    """
    try:
        net, mounts = (_is_as_of_the_first(kind) for kind in ("net", "mnt"))
    except OSError:
        return False
    if not net or mounts:
        return False
    own = _peers(Path("/proc/self/mountinfo"))
    return own is None or own != _peers(Path("/proc/1/mountinfo"))


def _is_as_of_the_first(kind: str) -> bool:
    return os.stat(f"/proc/self/ns/{kind}").st_ino == os.stat(f"/proc/1/ns/{kind}").st_ino


def _peers(mountinfo: Path) -> Optional[str]:
    """The group with which the mount with the names of namespaces shares its mounts; None for none."""
    best, found = "", None
    for line in mountinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        place = fields[4]
        if len(place) >= len(best) and f"{_WHERE}/".startswith("/" if place == "/" else f"{place}/"):
            best = place
            options = fields[6 : fields.index("-")]
            found = next((option for option in options if option.startswith("shared:")), None)
    return found
