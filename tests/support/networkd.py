# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Systems (`systems.py`) whose links systemd-networkd configures, by files that match more than was thought of."""

from __future__ import annotations

from systems import BOOT_S, System, Systems

CARELESS = {"every name": "Name=*", "every Ethernet": "Type=ether"}
"""Whom the files that cloud images have match."""

FILES = "find /etc/systemd -name '05-cnm-*'"
SEEN = "ip -o link | sed 's/qlen.*//'; ip -br address; ip route; ip rule; ip -6 rule; bridge link"
ANSWERS = "ip route | grep -q ^default && ip -6 address show dev lan0 scope link | grep fe80 | grep -vq tentative"
"""lan0 is configured, which networkd itself is not sure of for minutes."""
STRANGER = "203.0.113.1/32"
"""An address that networkd removes once it configures the link again, which it does after its command has returned."""
MANAGED = "networkctl --no-legend --no-pager list | awk '$NF != \"unmanaged\" { print $2 }'"


def on_networkd(lan: Systems, name: str, suite: str, careless: str) -> System:
    """A system whose own link networkd configures, and any other by DHCP."""
    system = lan.new(name, suite, interfaces="\nauto lo\niface lo inet loopback\n")
    system.write(
        "/etc/systemd/network/10-lan.network",
        f"[Match]\nName=lan0\n\n[Network]\nAddress={system.address}/24\nGateway=192.168.77.254\n",
    )
    system.write("/etc/systemd/network/80-all.network", f"[Match]\n{CARELESS[careless]}\n\n[Network]\nDHCP=yes\n")
    system.sh("systemctl enable -q --now systemd-networkd")
    system.until(f"ip -br address show dev lan0 | grep {system.address}", BOOT_S)
    return system
