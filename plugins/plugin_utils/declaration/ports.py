# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The ports that one sandbox publishes: Docker's short text and Compose's mapping → `Port`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any, Optional

from ...module_utils.plan.constants import LARGEST_PORT
from .addresses import Address, read_address, why_unusable
from .errors import VarPath
from .keys import did_you_mean
from .policies import prefix_of
from .topology import Port
from .values import at, texts

Range = tuple[int, int]

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]:(.*)", re.DOTALL)
_PROTOCOLS = ("tcp", "udp", "sctp")
_LONGEST_NOTE = 60
_EPHEMERAL = "There is no published port, and one chosen at run time could not be in an inventory."


def read_ports(value: Any, path: VarPath, service: bool = False) -> Iterator[Port]:
    """The ports that are right; every error is noted at its place.

    Those of a service are published on all hosts (mode ingress) unless they say otherwise.
    """
    for index, item in enumerate(value or ()):
        if item is None:
            continue
        spot = path / index
        if isinstance(item, int):
            _unquoted(item, spot)
            continue
        mode = "" if isinstance(item, str) else str(item.get("mode") or "")
        if not service and mode == "ingress":
            (spot / "mode").wrong(
                "Only a service is published on all hosts; a sandbox is on this one.", "Leave it out.", "ingress"
            )
        port = _short(item, spot) if isinstance(item, str) else _long(item, spot)
        if port is not None and not isinstance(item, str) and item.get("allow_from") is not None:
            port = replace(port, allow_from=tuple(_callers(item["allow_from"], spot / "allow_from")))
        if port is not None and not isinstance(item, str):
            port = replace(port, note=", ".join(_notes(item, spot)))
        if port is not None and service and is_choice(port):
            spot.wrong(
                "A service has its port on every host, so it cannot be any of a range.",
                f"Publish one port of it, like {port.published[0]}, or make the target a range too.",
                item if isinstance(item, str) else None,
            )
        elif port is not None:
            yield replace(port, mode="ingress") if service and mode != "host" else port


def read_exposed(value: Any, path: VarPath) -> Iterator[str]:
    """``expose``: ports and ranges, as ``80/tcp`` and ``3000-3010/udp``; every error is noted at its place."""
    for index, item in enumerate(value or ()):
        body, slash, protocol = str(item if item is not None else "").partition("/")
        spot = path / index
        if slash and protocol.lower() not in _PROTOCOLS:
            spot.wrong("There is no such protocol.", "Write /tcp, /udp or /sctp behind the port.", item)
            continue
        found = _range(body, "exposed", spot, str(item))
        if found is not None:
            first, last = found
            yield f"{first if first == last else f'{first}-{last}'}/{protocol.lower() or 'tcp'}"


def _notes(item: Mapping[str, Any], path: VarPath) -> Iterator[str]:
    for key in ("name", "app_protocol"):
        text = str(item.get(key) or "").strip()
        if len(text) > _LONGEST_NOTE or not text.isprintable():
            (path / key).wrong(
                f"This is not one line of at most {_LONGEST_NOTE} characters.", "Write a short word, like `web`.", text
            )
        elif text:
            yield text


def _callers(value: Any, path: VarPath) -> Iterator[str]:
    """Prefixes in canonical form, and references to address sets as they are."""
    if not value:
        path.wrong("The list is empty.", "Leave it out for everybody, or the port.")
    for index, text in texts(value):
        prefix = text if text.startswith("@") else prefix_of(text, at(path, index))
        if prefix is not None:
            yield prefix


def with_address_sets(ports: Iterable[Port], sets: Mapping[str, Sequence[str]], errors: list[Any]) -> tuple[Port, ...]:
    """The ports with prefixes in place of the address sets that they name; note those that there are not."""
    found = []
    for port in ports:
        prefixes: list[str] = []
        for text in port.allow_from or ():
            name = text.removeprefix("@")
            if text == name or name in sets:
                prefixes += [text] if text == name else sets[name]
            else:
                (VarPath(port.path, errors) / "allow_from").wrong(
                    f"There is no address set `{name[:63]}`.",
                    did_you_mean(name, sets, "Declare it in cnm_address_sets."),
                    text,
                )
        found.append(port if port.allow_from is None else replace(port, allow_from=tuple(dict.fromkeys(prefixes))))
    return tuple(found)


def _unquoted(number: int, path: VarPath) -> None:
    """To YAML 1.1 an unquoted ``22:22`` is a number of base 60."""
    example = f"{number // 60}:{number % 60:02}" if number >= 600 else "8080:80"
    path.wrong(
        "This is one number, so there is no published port, and one chosen at run time could not be in an inventory.",
        f'Write both ports in quotes, like "{example}" (to YAML an unquoted 22:22 is the number 1342).',
        number,
    )


def _short(text: str, path: VarPath) -> Optional[Port]:
    """``[hostIP:][hostPort|range:]ctrPort[-range][/protocol]``."""
    body, slash, protocol = text.partition("/")
    if slash and protocol.lower() not in _PROTOCOLS:
        path.wrong("There is no such protocol.", "Write /tcp, /udp or /sctp behind the port.", text)
        return None
    match = _BRACKETS.fullmatch(body)
    parts = (match[2] if match else body).split(":")
    target, published = parts[-1], parts[-2] if len(parts) > 1 else ""
    host_ip = ":".join(parts[:-2])
    if match and host_ip:
        path.wrong("This is not a port.", 'Write it like "[fd00::1]:8080:80".', text)
        return None
    return _port(target, published, protocol.lower() or "tcp", match[1] if match else host_ip, path, path, text)


def _long(item: Mapping[str, Any], path: VarPath) -> Optional[Port]:
    if item.get("target") is None:
        path.wrong("There is no target.", "Write for example `{target: 80, published: 8080}`.")
        return None
    target, published = (str(item.get(key) if item.get(key) is not None else "") for key in ("target", "published"))
    host_ip = (item.get("host_ip") or "").removeprefix("[").removesuffix("]")
    return _port(target, published, item.get("protocol") or "tcp", host_ip, path, path / "host_ip", None)


def _port(
    target: str, published: str, protocol: str, host_ip: str, path: VarPath, where: VarPath, text: Optional[str]
) -> Optional[Port]:
    """``path`` is the port's own, ``where`` that of its address; ``text`` is what to show of it."""
    inner = _range(target, "target", path, text)
    if inner is not None and not published:
        path.wrong(_EPHEMERAL, f"Write one, {_example(target, protocol, text)}.", text)
        inner = None
    outer = _range(published, "published", path, text) if published else None
    address = _binding(host_ip, where, text) if host_ip else None
    if inner is None or outer is None or (host_ip and address is None) or not _equal(inner, outer, path, text):
        return None
    return Port(inner, outer, protocol, address, path=path.path)


def _example(target: str, protocol: str, text: Optional[str]) -> str:
    published = target if "-" in target or int(target) >= 1024 else "8080"
    if text is None:
        return f"like `published: {published}`"
    return f'like "{published}:{target}{"" if protocol == "tcp" else "/" + protocol}"'


def _range(text: str, noun: str, path: VarPath, complete: Optional[str]) -> Optional[Range]:
    match = _RANGE.fullmatch(text)
    value = text if complete is None else complete
    if not match:
        example = "Write `target: 80`." if complete is None else 'Write for example "8080:80".'
        path.wrong(f"The {noun} port is not a port or a range of ports.", example, value)
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    if not (1 <= first <= LARGEST_PORT and 1 <= last <= LARGEST_PORT):
        path.wrong(f"Ports are numbers from 1 to {LARGEST_PORT}.", "Choose another one.", value)
        return None
    if first > last:
        path.wrong("The range ends before it begins.", f"Write `{last}-{first}`.", value)
        return None
    return first, last


def _equal(target: Range, published: Range, path: VarPath, text: Optional[str]) -> bool:
    target_span, published_span = target[1] - target[0], published[1] - published[0]
    if target_span in (published_span, 0):
        return True
    ports = f"{published_span + 1} published port{'s' if published_span else ''}"
    problem = f"{ports} cannot lead to {target_span + 1} targets: each port leads to one."
    remedy = f"Publish {published[0]}-{published[0] + target_span}."
    path.wrong(problem, remedy, text)
    return False


def is_choice(port: Port) -> bool:
    """Whether one of the port's published ports is still to be chosen."""
    return port.target[0] == port.target[1] and port.published[0] != port.published[1]


def _binding(text: str, path: VarPath, complete: Optional[str]) -> Optional[str]:
    """The address of the host that a port is published at."""
    address = _parse(text, path, complete)
    if address is None:
        return None
    reason = why_no_binding(address)
    if reason:
        path.wrong(reason, "Write an address of the host, `127.0.0.1`, or none for all addresses.", complete or text)
        return None
    return str(address)


def _parse(text: str, path: VarPath, complete: Optional[str]) -> Optional[Address]:
    errors: list[Any] = []
    address = read_address(text, VarPath("", errors), 0)
    if address is None:
        path.wrong(
            f"`{text[:45]}` is not an address of the host.",
            'Write it like "10.1.1.1:8080:80" or "[fd00::1]:8080:80".' if complete else "Write it like `10.1.1.1`.",
            complete or text,
        )
    return address


def why_no_binding(address: Address) -> str:
    """Why no port can be published at an address, as a sentence; empty if one can."""
    if address.is_unspecified or (address.version == 4 and address.is_loopback):
        return ""
    if address.is_loopback:
        return "The kernel cannot translate what comes from ::1."
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return "This is an IPv4 address in an IPv6 one."
    reason = why_unusable(address)
    return f"No port can be published at this address: {reason}." if reason else ""
