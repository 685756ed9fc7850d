# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The same things in few words, for drawings, tables and diagrams."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from .fabric import FINE, Network, Part, Sandbox, Service


def width(text: str) -> int:
    """Columns that a text takes in a font of fixed width."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def cut(text: str, columns: int) -> str:
    """The text, or as much of it as there is room for."""
    if width(text) <= columns:
        return text
    result = ""
    for character in text:
        if width(result + character) >= columns:
            break
        result += character
    return f"{result}…"


def bare(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]


def short_ports(ports: Iterable[str]) -> list[str]:
    """Ports without what is the same for most, and what they are for: ``8080→80``, ``127.0.0.1:5300→53/udp``; all
    addresses count once.
    """
    result = []
    for noted in ports:
        port = noted.partition(" ")[0]
        published, arrow, target = port.partition("->")
        host_ip, _colon, number = published.rpartition(":")
        target = target.removesuffix("/tcp")
        if not arrow:
            result.append(port)
        elif host_ip in ("0.0.0.0", "[::]", "*", ""):
            result.append(f"{number}→{target}")
        else:
            result.append(f"{host_ip}:{number}→{target}")
    return list(dict.fromkeys(result))


def of_part(part: Part, networks: bool = True) -> str:
    """A network in a line: ``overlay · internal · VNI 4096 · 10.10.2.0/24``."""
    flags = [flag for flag in part.flags if not flag.startswith("VNI")]
    more = f" +{len(part.subnets) - 1}" if len(part.subnets) > 1 else ""
    return " · ".join([part.driver, *flags, *([part.subnets[0] + more] if networks and part.subnets else ())])


def of_network(network: Network) -> str:
    """A lane in a line; subnets only if they are the same wherever the network is."""
    same = len({part.subnets for part in network.parts}) == 1
    return of_part(network.parts[0], same) if len({part.driver for part in network.parts}) == 1 else network.drivers


def of_service(service: Service) -> str:
    """A service in a line: ``2/2 tasks · VIP 10.10.1.3 · 3000→80``."""
    there = sum(1 for task in service.tasks if task.state.key in ("fine", "differs", "left"))
    vips = ", ".join(address for _network, address in service.vips)
    words = [f"{there}/{service.wanted} tasks", f"VIP {vips}" if vips else "by name", *short_ports(service.ports)]
    return " · ".join(words)


def of_sandbox(sandbox: Sandbox) -> str:
    """All of a sandbox in a sentence or two."""
    kind = f"task of {sandbox.service}{', drained' if sandbox.drained else ''}, " if sandbox.service else ""
    words = [f"{sandbox.name} on {sandbox.host}: {kind}{sandbox.state.words}."]
    if sandbox.mode:
        words.append(f"Network mode {sandbox.mode}.")
    for end in sandbox.endpoints:
        state = "" if end.state is FINE else f" ({end.state.words})"
        words.append(f"{end.network}: {end.link} {', '.join(end.addresses)}{state}.")
    if sandbox.ports:
        words.append(f"Ports: {', '.join(sandbox.ports)}.")
    if sandbox.policies:
        words.append(f"Policies: {', '.join(sandbox.policies)}.")
    return " ".join(words)
