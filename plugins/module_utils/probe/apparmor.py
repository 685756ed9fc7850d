# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whether AppArmor keeps a dnsmasq from the files of our resolvers, asked of the policy that the kernel has loaded."""

from __future__ import annotations

import os
import re

from ..kernel.files import read_text

_POLICY = "/sys/kernel/security/apparmor"
_MAY_READ, _CLASS_FILE = 0x4, b"\x02"
"""AA_MAY_READ and AA_CLASS_FILE of the kernel."""
_enforced = re.compile(r"((?:\S*/)?dnsmasq) \((?:enforce|kill)\)", re.ASCII).fullmatch
"""Of 2.x by its path, such as ``/usr/sbin/dnsmasq``; a child profile has ``//`` and another name at its end."""


def keeps_dnsmasq_from(paths: tuple[str, ...], policy: str = _POLICY) -> bool:
    """Whether an enforced profile of dnsmasq forbids it to read one of the paths; they need not exist.

    Raises OSError if the kernel cannot be asked.
    """
    lines = (read_text(f"{policy}/profiles") or "").splitlines()
    profiles = [found[1] for line in lines if (found := _enforced(line))]
    return not all(_may_read(policy, profile, path) for profile in profiles for path in paths)


def _may_read(policy: str, profile: str, path: str) -> bool:
    """As aa_query_file_path(3) of libapparmor asks."""
    descriptor = os.open(f"{policy}/.access", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"\0".join((b"label", profile.encode(), _CLASS_FILE + path.encode())))
        answer = os.pread(descriptor, 512, 0).decode("ascii").split()
    finally:
        os.close(descriptor)
    granted = dict(zip(answer[::2], answer[1::2]))
    return bool(int(granted["allow"], 16) & ~int(granted["deny"], 16) & _MAY_READ)
