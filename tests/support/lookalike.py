# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""An unprivileged user's process that writes over its own name and command line, to be taken for a resolver."""

from __future__ import annotations

from typing import Final

SCRIPT: Final = """
import ctypes, os, sys, time
start, end = map(int, open("/proc/self/stat").read().rpartition(") ")[2].split()[45:47])
said = b"x\\0--conf-file=" + os.fsencode(sys.argv[1]) + b"\\0"
ctypes.memmove(start, said + bytes(end - start - len(said)), end - start)
ctypes.CDLL(None).prctl(15, b"dnsmasq", 0, 0, 0)
print("ready", flush=True)
time.sleep(600)
"""

PLACES: Final = """
mkdir -p /etc/cron.d /etc/wireguard; umask 077; echo secret > /etc/wireguard/wg0.conf
mkdir -p /var/tmp/evil/e.pid/full; ln -s /etc/cron.d/pwned /var/tmp/evil/e.conf.new
echo '* * * * * root id' > /var/tmp/evil/e.conf; chown -hR 65534:65534 /var/tmp/evil
"""
"""What the attacker has laid out, and a secret of root's."""

_UP: Final = "/run/cnm/default/resolvers/../../../.."
TARGETS: Final = [f"{_UP}/var/tmp/evil/e.conf"] * 2 + [f"{_UP}/etc/wireguard/wg0.conf"] * 2
"""Configurations the processes claim to have: two each, as two for one sandbox were stopped and made anew."""

UNHARMED: Final = (
    "[ ! -e /etc/cron.d/pwned ] && grep -qx secret /etc/wireguard/wg0.conf && [ -L /var/tmp/evil/e.conf.new ]"
)
"""Succeeds if root has written, removed and followed nothing of that."""


def command(target: str, uid: int = 65534) -> list[str]:
    """The process; it says ``ready``, and does nothing for ten minutes."""
    who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*who, "/usr/bin/python3", "-c", SCRIPT, target, "-" * 200]
