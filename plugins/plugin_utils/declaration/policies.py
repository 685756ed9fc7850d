# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Entries of ``cnm_policies`` and ``cnm_address_sets``: plain data of the right structure → `Policy`, `AddressSet`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Optional

from ...module_utils.plan.constants import LARGEST_PORT
from .addresses import read_prefix
from .errors import VarPath
from .keys import did_you_mean
from .names import OBJECT, name
from .schema import PEERS
from .topology import (
    DIRECTIONS,
    ICMP,
    INGRESS_RULES,
    PORTS,
    PROTOCOL,
    AddressSet,
    Match,
    Peer,
    Policy,
    PolicyRule,
)
from .values import at, flag, texts

_PORT = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?(?:/([a-zA-Z]+))?")

TCP, UDP, SCTP, ICMP4, ICMP6 = 6, 17, 132, 1, 58
WITH_PORTS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
PROTOCOLS: dict[str, tuple[int, ...]] = {
    **{word: (number,) for word, number in WITH_PORTS.items()},
    "icmp": (ICMP4, ICMP6),
    "igmp": (2,),
    "gre": (47,),
    "esp": (50,),
    "ah": (51,),
}
"""Numbers by name.  ``icmp`` is that of IPv4 and that of IPv6: which one a packet is of follows from its addresses."""

ICMP_TYPES: dict[str, tuple[tuple[int, int], ...]] = {
    "echo-request": ((ICMP4, 8), (ICMP6, 128)),
    "echo-reply": ((ICMP4, 0), (ICMP6, 129)),
    "destination-unreachable": ((ICMP4, 3), (ICMP6, 1)),
    "packet-too-big": ((ICMP6, 2),),
    "time-exceeded": ((ICMP4, 11), (ICMP6, 3)),
    "parameter-problem": ((ICMP4, 12), (ICMP6, 4)),
    "timestamp-request": ((ICMP4, 13),),
    "timestamp-reply": ((ICMP4, 14),),
}
"""(protocol, type) by name, in both families where both have it."""


def read_names(value: Any, path: VarPath) -> tuple[str, ...]:
    """``policies:`` of a network, sandbox or service: names, each once; whether they exist is checked later."""
    names = [name(text, OBJECT, at(path, index)) for index, text in texts(value)]
    return tuple(dict.fromkeys(text for text in names if text is not None))


def read_address_set(key: str, value: Any, path: VarPath) -> AddressSet:
    """Read an address set; every error is noted at its place."""
    name(key, OBJECT, path)
    prefixes = [prefix_of(text, at(path, index)) for index, text in texts(value or [])]
    return AddressSet(key, tuple(dict.fromkeys(item for item in prefixes if item is not None)), path=path.path)


def read_policy(key: str, value: Mapping[str, Any], path: VarPath) -> Policy:
    """Read a policy; every error is noted at its place.

    Once it has rules of a direction, what none of them allows is dropped, unless its default says otherwise.
    """
    name(key, OBJECT, path)
    rules = {direction: tuple(_rules(value.get(direction), direction, path / direction)) for direction in DIRECTIONS}
    given = value.get("default") or {}
    defaults = {direction: given.get(direction) or ("drop" if value.get(direction) else "") for direction in DIRECTIONS}
    ingress, egress = DIRECTIONS
    return Policy(key, rules[ingress], rules[egress], (defaults[ingress], defaults[egress]), path=path.path)


def _rules(value: Any, direction: str, path: VarPath) -> Iterator[PolicyRule]:
    for index, item in enumerate(value or ()):
        if item is not None:
            yield _rule(item, "from" if direction == INGRESS_RULES else "to", path / index)


def _rule(item: Mapping[str, Any], peers_key: str, path: VarPath) -> PolicyRule:
    action = item.get("action")
    if action is None and not (path / "action").is_wrong:
        path.wrong("The rule says no action.", "Write `action: allow`, or drop or reject.")
    peers: list[Peer] = []
    for index, entry in enumerate(item.get(peers_key) or ()):
        if entry is not None:
            peers += _peer(entry, path / peers_key / index)
    if item.get(peers_key) == []:
        (path / peers_key).wrong("The list is empty.", "Leave it out for everybody, or leave the rule out.")
    return PolicyRule(
        action or "drop", tuple(peers), _matches(item, path), flag(item.get("log"), False), path=path.path
    )


def _peer(entry: Mapping[str, Any], path: VarPath) -> Iterator[Peer]:
    given = [(key, text) for key, text in entry.items() if text is not None]
    if len(given) != 1:
        if not path.is_wrong:
            path.wrong(f"This must have one of {', '.join(PEERS)}.", "Write for example `{network: front}`.")
        return
    key, text = given[0]
    if key != "cidr":
        yield Peer(key, text)
        return
    prefix = prefix_of(text, path / key)
    if prefix is not None:
        yield Peer(key, prefix)


def prefix_of(text: str, path: VarPath) -> Optional[str]:
    """A prefix in canonical form; an address is one of full length."""
    try:
        address = ip_address(text if "%" not in text else "")
    except ValueError:
        prefix = read_prefix(text, path)
        return str(prefix) if prefix is not None else None
    return f"{address}/{address.max_prefixlen}"


def _matches(item: Mapping[str, Any], path: VarPath) -> tuple[Match, ...]:
    """What a rule is about: any of its ports, protocols and ICMP types; everything if it names none."""
    found: list[Match] = []
    readers: tuple[tuple[str, Callable[[Any, VarPath], Iterator[Match]]], ...] = (
        ("ports", _port),
        ("protocols", _protocol),
        ("icmp_types", _icmp_type),
    )
    named = False
    for key, read in readers:
        values = item.get(key)
        named = named or values is not None
        if values == []:
            (path / key).wrong("The list is empty.", "Leave the key out for all, or leave the rule out.")
        for index, value in enumerate(values or ()):
            if value is not None:
                found += read(value, path / key / index)
    return tuple(dict.fromkeys(found)) if named else (Match(),)


def _port(value: Any, path: VarPath) -> Iterator[Match]:
    match = _PORT.fullmatch(str(value))
    if match is None:
        path.wrong("This is not a port or a range of ports.", "Write it like `80/tcp` or `9000-9010/udp`.", value)
        return
    first, last = int(match[1]), int(match[2] or match[1])
    protocol = WITH_PORTS.get((match[3] or "tcp").lower())
    if protocol is None:
        path.wrong("No such protocol has ports.", "Write /tcp, /udp or /sctp behind the port.", value)
    elif not 1 <= first <= last <= LARGEST_PORT:
        path.wrong(f"Ports are numbers from 1 to {LARGEST_PORT}, the smaller one first.", "Choose another one.", value)
    else:
        yield Match(PORTS, protocol, first, last)


def _protocol(value: Any, path: VarPath) -> Iterator[Match]:
    text = str(value).lower()
    numbers = PROTOCOLS.get(text)
    if numbers is None and text.isascii() and text.isdigit() and int(text) < 256:
        numbers = (int(text),)
    if numbers is None:
        remedy = did_you_mean(text, PROTOCOLS, f"Write one of {', '.join(PROTOCOLS)}, or a number up to 255.")
        path.wrong("There is no such protocol.", remedy, value)
        return
    for number in numbers:
        yield Match(PROTOCOL, number)


def _icmp_type(value: str, path: VarPath) -> Iterator[Match]:
    """A name, or ``icmp/TYPE`` and ``icmpv6/TYPE`` by number."""
    known = ICMP_TYPES.get(value)
    word, _slash, text = value.partition("/")
    if known is None and word in ("icmp", "icmpv6") and text.isascii() and text.isdigit() and int(text) < 256:
        known = ((ICMP4 if word == "icmp" else ICMP6, int(text)),)
    if known is None:
        remedy = did_you_mean(value, ICMP_TYPES, f"Write one of {', '.join(ICMP_TYPES)}, or a number like `icmp/8`.")
        path.wrong("There is no such ICMP type.", remedy, value)
        return
    for protocol, number in known:
        yield Match(ICMP, protocol, number, number)
