# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Hostile texts, and a sample of every kind of resource in which each field is said, to put them in."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

TEXTS = (
    '"; add table ip pwned;',
    '"; }; add table ip pwned; #',
    '" }\nadd table ip pwned\n#',
    "x }; add table ip pwned; add set ip pwned s { type ipv4_addr;",
    "accept; add table ip pwned",
    "accept\nadd table ip pwned",
    "accept\r\nadd table ip pwned",
    "accept\\\nadd table ip pwned",
    'accept; include "/etc/passwd"',
    'jump { include "/etc/passwd"; }',
    "\nport=53\ndhcp-script=/tmp/x",
    "\n",
    "trailing\n",
    "a\0b",
    "..",
    ".",
    "../../../etc/cron.d/pwned",
    "/etc/netns/../cron.d",
    "/run/cnm/default/names/../../../x",
    "a/b",
    "$(id)",
    "`id`",
    "-rf",
    "--help",
    "a" * 300,
    "a" * 100_000,
    "é",
    "\u202egnp",
    "\x1b[2J",
    "\x9b2J",
    "a\udcffb",
    '"',
    "'",
    "\\",
    "#",
    "%s%n",
    "*",
    "eth*",
    "a b",
    "",
    "٣",
    "example.com",
    "0.0.0.0/0",
    "default",
    "all",
)
"""What ends a statement, a line, a quotation or a path, is an option, a pattern or no text at all."""

_DIGEST = "0123456789abcdef" * 4

SAMPLES: dict[str, dict[str, Any]] = {
    "namespace": {
        "name": "c1",
        "role": "sandbox/c1",
        "loopback_up": True,
        "owner": "docker",
        "reference": "box",
        "attached": True,
        "files": {"resolv.conf": "nameserver 127.0.0.11\n", "hosts": "10.0.0.2 c1\n"},
        "no_forwarding": [4, 6],
    },
    "link": {
        "namespace": "c1",
        "name": "eth0",
        "type": "veth",
        "role": "endpoint/front/c1",
        "mac": "02:42:0a:00:00:02",
        "mtu": 1500,
        "up": True,
        "disable_ipv6": True,
        "accept_ra": 0,
        "peer": {
            "namespace": "x",
            "name": "veth1",
            "master": "br0",
            "isolated": True,
            "up": True,
            "group": 7,
            "hairpin": True,
            "learning": False,
        },
        "group": 7,
        "route_localnet": True,
        "announcements": 3,
        "announcement_ms": 10,
        "port": {
            "master": "br0",
            "neigh_suppress": True,
            "learning": False,
            "flood": False,
            "mcast_flood": False,
            "bcast_flood": False,
        },
        "vxlan": {
            "id": 4096,
            "local": "192.0.2.1",
            "port": 4789,
            "learning": False,
            "outside": True,
            "source_port": 50,
            "proxy": True,
        },
        "geneve": {"id": 5, "remote": "198.51.100.8", "port": 6081},
        "parent": {"link": "eth9", "mode": "bridge", "flag": "private", "vlan": 10},
        "adopts_existing": True,
        "rp_filter": 1,
        "addr_gen_mode": "none",
        "learns_from_reserved": False,
    },
    "address": {"namespace": "c1", "link": "eth0", "address": "10.0.0.2/24", "connected": True},
    "route": {
        "namespace": "c1",
        "destination": "10.1.0.0/16",
        "family": 4,
        "via": "10.0.0.1",
        "link": "eth0",
        "single_object": True,
    },
    "rule": {
        "namespace": "c1",
        "family": 4,
        "priority": 1000,
        "incoming": "eth0",
        "destination": "10.0.0.0/24",
        "table": 254,
    },
    "fdb": {
        "namespace": "ov",
        "link": "vx0",
        "entries": {"02:42:0a:00:00:02": "192.0.2.2"},
        "flood": ["192.0.2.2"],
        "table": _DIGEST,
        "flooded": True,
        "static": ["02:42:0a:00:00:03"],
        "sandbox": "c1",
        "routed": True,
    },
    "shaping": {
        "namespace": "ov-001000-0a1b2",
        "link": "vh0123456789ab",
        "sandbox": "c1",
        "end": "eth0",
        "ingress": 12_500_000,
        "egress": 6_250_000,
        "delay_us": 20_000,
        "jitter_us": 5_000,
        "loss_ppm": 10_000,
        "rate": 1_250_000,
    },
    "neighbour": {
        "namespace": "ov",
        "link": "br0",
        "entries": {"10.0.0.2": "02:42:0a:00:00:02"},
        "table": _DIGEST,
    },
    "sysctl": {
        "namespace": "c1",
        "name": "net.ipv4.ip_forward",
        "value": "1",
        "held": True,
        "former": "0",
        "links": ["eth0"],
        "optional": True,
    },
    "nftables": {
        "namespace": "c1",
        "family": "inet",
        "name": "cnm",
        "role": "resolver/c1",
        "sets": [
            {"name": "bridges", "declaration": "type ifname;", "elements": ['"br0"'], "tracks": "udp"},
            {
                "name": "subnet_interfaces4",
                "declaration": "type ipv4_addr . ifname; flags interval;",
                "elements": ['10.0.0.0/24 . "br0"'],
                "tracks": "",
                "family": 4,
                "tables": [_DIGEST],
            },
        ],
        "chains": [
            {
                "name": "forward",
                "hook": "type filter hook forward priority 0; policy accept",
                "rules": ["oifname @bridges drop", "accept"],
                "user": False,
            }
        ],
    },
    "docker_user": {"family": 4},
    "xfrm": {
        "local": "192.0.2.1",
        "port": 4789,
        "epoch": 1,
        "fingerprint": "ab12",
        "peers": ["192.0.2.2"],
        "tables": [_DIGEST],
    },
    "ipvs": {
        "namespace": "c1",
        "family": 4,
        "mark": 7,
        "protocol": "tcp",
        "address": "10.0.0.9",
        "port": 80,
        "scheduler": "sh",
        "flags": ["fallback"],
        "persistence": 60,
        "prefix": 24,
        "servers": [
            {"address": "10.0.0.3", "weight": 1, "port": 80, "method": "masquerade", "upper": 0, "lower": 0},
        ],
    },
    "ipvs_timeouts": {"namespace": "c1", "tcp": 900, "tcp_fin": 120, "udp": 300},
    "file": {
        "directory": "/etc/netns/c1",
        "role": "sandbox/c1",
        "files": {"hosts": "# cnm:default:sandbox/c1\n10.0.0.2 c1\n"},
        "shared": {"front": [_DIGEST]},
    },
    "resolver": {
        "namespace": "c1",
        "config": ["port=20053", "no-hosts"],
        "running": True,
        "supervised": True,
        "lan": False,
    },
    "resolved": {"link": "cnm-b0", "server": "127.0.0.12", "domain": "cnm.internal"},
    "names": {"directory": "/run/cnm/default/names", "loaded": {"front": _DIGEST}},
    "link_manager": {"manager": "networkd", "links": ["cnm0", "eth0.10"], "rules": True},
    "frr": {
        "asn": 65000,
        "local": "192.0.2.1",
        "reflectors": ["192.0.2.2"],
        "clients": ["192.0.2.0/24"],
        "fingerprint": "ab12",
        "namespace": "ov",
    },
    "boot": {"keep_keys": True, "awaited": ["eth1"], "owners": ["docker", "/run/netns"]},
    "target": {"namespace": "c1", "active": True},
}
"""By kind, as a plan has it but for ``kind``."""

FOUND_ONLY = {
    ("nftables", "flags"),
    ("nftables", "users"),
    ("file", "hidden"),
    ("xfrm", "flaws"),
    ("frr", "flaws"),
    ("boot", "flaws"),
    ("resolver", "outdated"),
    ("link_manager", "edited"),
}
"""Fields that no plan says: they are for what a host finds."""

Path = tuple[Any, ...]


def positions(data: Any, path: Path = ()) -> Iterator[Path]:
    """Where there is text in some data: paths of keys and indices; one that ends with None is that of a key."""
    if isinstance(data, str):
        yield path
    elif isinstance(data, dict):
        for key, value in data.items():
            if path:
                yield (*path, key, None)
            yield from positions(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from positions(value, (*path, index))


def replaced(data: Any, path: Path, text: str) -> Any:
    """The data with a text at a position."""
    made = copy.deepcopy(data)
    place, steps = made, list(path)
    is_key = steps[-1] is None
    steps = steps[:-1] if is_key else steps
    for step in steps[:-1]:
        place = place[step]
    if is_key:
        place[text] = place.pop(steps[-1])
    else:
        place[steps[-1]] = text
    return made


def every() -> Iterator[tuple[str, Path]]:
    """Every position of every kind."""
    for kind, data in SAMPLES.items():
        for path in positions(data):
            yield kind, path
