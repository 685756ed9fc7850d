# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Kernel parameters of a sandbox, and of one of its links."""

from __future__ import annotations

import re
from typing import Any, Optional

from .errors import VarPath
from .topology import Pairs
from .values import at, pairs, texts

_NAME = re.compile(r"[a-zA-Z0-9_-]+(?:[./][a-zA-Z0-9_-]+)+")
_OF_A_LINK = re.compile(r"net[./](?:ipv4|ipv6|mpls)[./](?:conf|neigh)[./](?!(?:all|default)[./])(.+)[./][a-zA-Z0-9_-]+")
_TEMPLATE = re.compile(r"(net\.(?:ipv4|ipv6|mpls)\.[a-z0-9_]+\.)(?:IFNAME|ifname)(\.[a-zA-Z0-9_-]+)")
_EVERY_LINK = "net.ipv6.conf.all.disable_ipv6"
_OURS = ("net.ipv6.conf.IFNAME.disable_ipv6", "net.ipv6.conf.IFNAME.accept_ra")
OPTION = "com.docker.network.endpoint.sysctls"
"""The driver option of an endpoint that has sysctls of its link."""


def read_sysctls(value: Any, path: VarPath) -> Pairs:
    """Parameters of the sandbox's namespace as sorted (dotted name, value); every error is noted at its place."""
    in_list = texts(value) if isinstance(value, list) else []
    spots = {text.partition("=")[0]: at(path, index) for index, text in in_list}
    found: dict[str, str] = {}
    for key, text in pairs(value, path):
        spot = spots.get(key, path / key)
        name, content = _name(key, spot), _value(text, spot)
        if name in found:
            spot.wrong(f"The list has {name} already.", "Leave one of them out.", key)
        if name is not None and content is not None:
            found.setdefault(name, content)
    return tuple(sorted(found.items()))


def _name(text: str, path: VarPath) -> Optional[str]:
    if not _NAME.fullmatch(text):
        path.wrong(
            "The name of a sysctl has letters, digits, `_` and `-` with dots between them.",
            "Write a name like `net.ipv4.ip_forward`.",
            text,
        )
        return None
    if re.split("[./]", text)[0] != "net":
        path.wrong(
            "Only sysctls whose names begin with net. belong to a network namespace; this one is the whole host's.",
            "Set it on the host, by other means, or leave it out.",
            text,
        )
        return None
    if _OF_A_LINK.fullmatch(text):
        path.wrong(
            "This sysctl is that of a link, which belongs to an endpoint.",
            f"Write it with IFNAME for the link in the option {OPTION} of the endpoint's driver_opts.",
            text,
        )
        return None
    name = text.replace("/", ".")
    if name == _EVERY_LINK:
        path.wrong("Which links have IPv6 follows from their networks.", "Leave it out.", text)
        return None
    return name


def _value(text: str, path: VarPath) -> Optional[str]:
    """The value with single spaces, as it is compared with the kernel's."""
    if text in ("true", "false"):
        path.wrong("A sysctl is a number or text.", f"Write {int(text == 'true')}.", text)
        return None
    if not text.strip() or not text.replace("\t", " ").isprintable() or len(text) > 1000:
        path.wrong("There is no value in one line.", "Write a value like `1`.", text)
        return None
    return " ".join(text.split())


def read_link_sysctls(text: str, path: VarPath) -> Pairs:
    """Docker's comma list of ``net.ipv4.conf.IFNAME.log_martians=1`` as sorted (name with IFNAME, value)."""
    found: dict[str, str] = {}
    for part in text.split(","):
        key, _equals, setting = part.strip().partition("=")
        match = _TEMPLATE.fullmatch(key)
        if not match:
            path.wrong(
                f"`{key[:60]}` is not a sysctl of a link.",
                "Write it like `net.ipv4.conf.IFNAME.log_martians=1`, with IFNAME for the link, and commas between "
                "several.",
                text,
            )
            continue
        name, value = f"{match[1]}IFNAME{match[2]}", _value(setting, path)
        if name in _OURS:
            path.wrong(
                f"The collection sets {name.rpartition('.')[2]} of its links itself: it follows from the network's "
                "IPv6.",
                "Leave it out.",
                text,
            )
        elif name in found:
            path.wrong(f"`{name}` is there twice.", "Leave one of them out.", text)
        elif value is not None:
            found[name] = value
    return tuple(sorted(found.items()))
