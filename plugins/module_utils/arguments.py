# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Options of single-object modules, checked and normalised for the plan; all errors are reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any, Optional

from .plan.constants import LARGEST_MTU, LINK_NAME, LONGEST_LINK_NAME, RESERVED_LINK_NAMES, SMALLEST_MTU
from .plan.families import family_of
from .plan.forms import mac as mac_form
from .plan.forms import namespace_name, project

_LINK = re.compile(LINK_NAME)


class Options:
    """A module's options by dotted name.  Errors are collected; an option with an error reads as empty."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.errors: list[str] = []
        if not project.fits(self["project"]):
            self.wrong(
                "project",
                f"{self['project']!r} is not a project's name: it has small letters, digits, `_` and `-`, begins with "
                "a letter, and is at most 32 characters long",
            )

    def __getitem__(self, option: str) -> Any:
        value: Any = self._values
        for name in option.split("."):
            value = value.get(name) if value is not None else None
        return value

    @property
    def absent(self) -> bool:
        """Whether the object is to be removed."""
        return bool(self["state"] == "absent")

    def wrong(self, option: str, problem: str) -> None:
        """Record an error: what is wrong with the option's value and what to write instead."""
        self.errors.append(f"{option}: {problem}")

    def namespace(self, option: str = "namespace") -> str:
        """A namespace's name; "", also the default, is the host's own namespace."""
        name = str(self[option] or "")
        if name and not namespace_name.fits(name):
            self.wrong(
                option,
                f"{name!r} is not a namespace's name: it has 1 to 63 letters, digits, `_`, `.`, `@`, `+` and `-`, and "
                "does not begin with one of the last four",
            )
        return name

    def link(self, option: str = "name") -> str:
        """The name of a link to be created."""
        name = str(self[option] or "")
        if not _LINK.fullmatch(name) or len(name) > LONGEST_LINK_NAME or name in RESERVED_LINK_NAMES:
            self.wrong(
                option,
                f"{name!r} cannot be a link's name: it has 1 to 15 letters, digits, `_`, `.` and `-`, does not begin "
                "with `.` or `-`, and is not lo, all or default",
            )
        return name

    def addresses(self, option: str = "addresses") -> Optional[tuple[str, ...]]:
        """Addresses with prefix length in the kernel's spelling, without duplicates; None if the option is omitted."""
        given = self[option]
        if given is None:
            return None
        read = [self._address(f"{option}[{index}]", str(text)) for index, text in enumerate(given)]
        return tuple(dict.fromkeys(address for address in read if address))

    def _address(self, option: str, text: str) -> str:
        try:
            address = ip_interface(text)
        except ValueError:
            self.wrong(option, f"{text!r} is not an IP address: write one like 10.0.0.1/24 or fd00::1/64")
            return ""
        if "/" not in text or "%" in text:
            length = 24 if address.version == 4 else 64
            self.wrong(option, f"{text!r} has no prefix length: write it like {text.partition('%')[0]}/{length}")
        elif not address.network.prefixlen:
            self.wrong(option, f"{text!r} has no network: its prefix length is 0, so write a longer one")
        elif address.is_multicast or address.is_unspecified or address.is_loopback:
            self.wrong(option, f"{text!r} cannot be the address of a link: choose a unicast one")
        elif isinstance(address, IPv6Interface) and (address.is_link_local or address.is_site_local):
            self.wrong(option, f"{text!r} is not of global scope, and those are the kernel's: choose one of fd00::/8")
        return address.with_prefixlen

    def mac(self, option: str = "mac_address") -> Optional[str]:
        """A MAC address in the kernel's spelling, or None."""
        return None if self[option] is None else self.read_mac(option, self[option])

    def read_mac(self, option: str, value: Any) -> str:
        """The same for a value within the option."""
        mac = str(value).strip().lower().replace("-", ":")
        if not mac_form.fits(mac) or int(mac[:2], 16) & 1 or not mac.strip("0:"):
            self.wrong(option, f"{value!r} is not a link's MAC address: write one like 02:42:0a:00:00:01")
        return mac

    def number(self, option: str, least: int, largest: int, noun: str) -> int:
        """A number within bounds."""
        number = int(self[option])
        if not least <= number <= largest:
            self.wrong(option, f"{number} is not {noun}: choose {least} to {largest}")
        return number

    def read_host(self, option: str, value: Any, noun: str) -> str:
        """A unicast address without prefix length, in the kernel's spelling."""
        try:
            address = ip_address(str(value))
        except ValueError:
            self.wrong(option, f"{str(value)!r} is not the address of {noun}: write one like 192.0.2.11 or fd00::11")
            return ""
        if address.is_multicast or address.is_unspecified or address.is_loopback or "%" in str(address):
            self.wrong(option, f"{str(value)!r} cannot be the address of {noun}: choose a unicast one")
        return str(address)

    def mtu(self, addresses: Sequence[str], option: str = "mtu") -> Optional[int]:
        """An MTU that the addresses' families permit, or None."""
        mtu: Optional[int] = self[option]
        family = max(map(family_of, addresses), default=4)
        least = SMALLEST_MTU[family]
        if mtu is not None and not least <= mtu <= LARGEST_MTU:
            why = ", as IPv6 needs" if family == 6 and mtu >= SMALLEST_MTU[4] else ""
            self.wrong(option, f"{mtu} is not an MTU for this link: choose {least} to {LARGEST_MTU}{why}")
        return mtu

    def destination(self, gateway: Optional[str], option: str = "destination") -> tuple[str, int]:
        """A route's destination in the kernel's spelling, and its family; ``default`` has its gateway's."""
        text = str(self[option])
        if text == "default":
            return text, family_of(gateway or "")
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            self.wrong(option, f"{text!r} is neither a prefix nor `default`: write one like 10.1.0.0/16")
            return "", 4
        if "/" not in text:
            self.wrong(option, f"{text!r} has no prefix length: write {network} for this one address")
        return str(network) if network.prefixlen else "default", network.version

    def gateway(self, option: str = "via") -> Optional[str]:
        """An address without prefix length in the kernel's spelling, or None."""
        if self[option] is None:
            return None
        try:
            return str(ip_address(str(self[option])))
        except ValueError:
            self.wrong(option, f"{self[option]!r} is not an IP address: write one like 10.0.0.1")
            return None
