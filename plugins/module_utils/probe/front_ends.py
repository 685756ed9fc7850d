# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""ufw and firewalld: which of them is active, and what it has been told to let by.  Reads files, runs nothing."""

from __future__ import annotations

import re
from pathlib import Path

from ..kernel.files import read_text
from ..kernel.host import Host
from ..kernel.netfilter import has_iptables_chain

_UFW_CHAIN, _FIREWALLD = "ufw-user-forward", "firewalld"
_UFW_RULES = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules")
_ZONES = Path("/etc/firewalld/zones")
_ANYWHERE = r"(?:0\.0\.0\.0/0|::/0)"
_UFW_ROUTE = re.compile(
    rf"^### tuple ### route:allow any any {_ANYWHERE} any {_ANYWHERE} (in|out)_(\S{{1,15}})(?: comment=\S+)?$",
    re.MULTILINE,
)
_UFW_PEER = re.compile(
    rf"^### tuple ### allow (udp|esp) (\d{{1,5}}|any) {_ANYWHERE} any ([0-9a-f.:]+) in(?: comment=\S+)?$", re.MULTILINE
)
_INTERFACE = re.compile(r'<interface name="([^"\s]{1,15})"/>')
_RICH = re.compile(
    r'<source address="([0-9a-f.:]+)"/>\s*'
    r'(?:<port port="(\d{1,5})" protocol="udp"/>|<port protocol="udp" port="(\d{1,5})"/>|<protocol value="(esp)"/>)'
    r"\s*<accept/>"
)


def active(host: Host) -> list[str]:
    """Those whose rules are in the kernel."""
    tables = host.tables("")
    found = ["firewalld"] if ("inet", _FIREWALLD) in tables else []
    return [*found, "ufw"] if _has_ufw(host) else found


def _has_ufw(host: Host) -> bool:
    return ("ip", "filter") in host.tables("") and has_iptables_chain(4, _UFW_CHAIN)


def let_by(names: list[str], ufw: tuple[str, ...] = _UFW_RULES, zones: Path = _ZONES) -> list[str]:
    """What they let by: ``in LINK`` and ``out LINK`` of forwarded traffic, ``PROTOCOL ADDRESS PORT`` to the host."""
    found: set[str] = set()
    if "ufw" in names:
        for path in ufw:
            text = read_text(path) or ""
            found.update(f"{way} {link}" for way, link in _UFW_ROUTE.findall(text))
            for protocol, port, peer in _UFW_PEER.findall(text):
                found.add(f"{protocol} {peer} {int(port) if port != 'any' else 0}")
    if "firewalld" in names:
        for zone in zones.glob("*.xml") if zones.is_dir() else ():
            text = read_text(str(zone)) or ""
            if zone.name == "trusted.xml":
                found.update(f"{way} {link}" for link in _INTERFACE.findall(text) for way in ("in", "out"))
            for peer, port, other, esp in _RICH.findall(text):
                found.add(f"esp {peer} 0" if esp else f"udp {peer} {int(port or other)}")
    return sorted(found)
