# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One entry of ``cnm_networks``: plain data of the right structure → `Network`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Optional

from .addresses import Address, Subnet, gateway_of, read_address, read_prefix, read_subnet, some_host, why_not
from .mistakes import Place
from .names import LINK, LINK_PREFIX, OBJECT, name
from .structure import did_you_mean
from .topology import LOCAL_DRIVERS, PREDEFINED, IpamConfig, Network, Pairs
from .values import at, flag, pairs, scalar, texts

DRIVERS = (*LOCAL_DRIVERS, "overlay")
OF_A_COLLECTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){2,}", re.ASCII)
"""A third party's driver: namespace.collection.name."""

_PLAIN = ("host", "none")
_SMALLEST_MTU, _LARGEST_MTU = 68, 65535
_TRUE, _FALSE = ("1", "t", "true", "yes"), ("0", "f", "false", "no")


def read_network(key: str, value: Mapping[str, Any], place: Place) -> Network:
    """Read what a network says; every mistake is noted at its place."""
    if key in PREDEFINED:
        place.wrong(
            f"The network `{key}` is always there and can not be declared.",
            f"Give yours another name; a sandbox may use `{key}` without a declaration.",
        )
    else:
        name(key, OBJECT, place)
    driver = _driver(value.get("driver"), place / "driver")
    network = Network(
        name=key,
        driver=driver,
        ipam_driver=(value.get("ipam") or {}).get("driver") or "default",
        ipam=_ipam(value, driver, place),
        internal=flag(value.get("internal"), False),
        enable_ipv4=flag(value.get("enable_ipv4"), True),
        enable_ipv6=flag(value.get("enable_ipv6"), False),
        attachable=flag(value.get("attachable"), True),
        encrypted=flag(value.get("encrypted"), False),
        driver_opts=_driver_opts(value.get("driver_opts") or {}, driver, place / "driver_opts"),
        labels=pairs(value.get("labels"), place / "labels"),
        path=place.path,
    )
    if network.encrypted and driver in LOCAL_DRIVERS:
        (place / "encrypted").wrong(
            f"Only networks of the driver overlay are encrypted; this one is of the driver {driver}.", "Leave it out."
        )
    if driver in _PLAIN and (network.ipam or network.internal or network.driver_opts):
        place.wrong(
            f"A network of the driver {driver} has no settings of its own.",
            "Leave out subnet, ipam, internal and driver_opts.",
        )
    return network


def _driver(value: Optional[str], place: Place) -> str:
    """The driver; ``?`` stands for one that nobody knows, of which nothing more can be said."""
    if value is None or value in DRIVERS or OF_A_COLLECTION.fullmatch(value):
        return value or "bridge"
    near = did_you_mean(value, DRIVERS, f"The drivers are {', '.join(DRIVERS)}.")
    place.wrong("There is no such driver.", near, value)
    return "?"


def _ipam(value: Mapping[str, Any], driver: str, place: Place) -> tuple[IpamConfig, ...]:
    short = value.get("subnet")
    long = (value.get("ipam") or {}).get("config")
    if short is not None and long is not None:
        (place / "subnet").wrong("Both subnet and ipam.config are given.", "Keep one of them.", short)
        return ()
    if short is not None:
        entries = [({"subnet": text}, at(place / "subnet", index)) for index, text in texts(short)]
    else:
        entries = [
            (entry, place / "ipam" / "config" / index) for index, entry in enumerate(long or ()) if entry is not None
        ]
    subnets: list[tuple[Subnet, Place]] = []
    configs = []
    for entry, spot in entries:
        where = spot if short is not None else spot / "subnet"
        if entry.get("subnet") is None:
            spot.wrong("There is no subnet in this entry.", "Write for example `subnet: 10.0.0.0/24`.")
            continue
        subnet = read_subnet(entry["subnet"], where)
        if subnet is not None:
            _apart(subnet, subnets, where)
            subnets.append((subnet, where))
            configs.append(_config(entry, subnet, spot))
    if driver == "bridge":
        _one_each(subnets)
    return tuple(configs)


def _apart(subnet: Subnet, others: list[tuple[Subnet, Place]], place: Place) -> None:
    for other, where in others:
        if overlap(subnet, other):
            place.wrong(f"The subnet overlaps {other} ({where.path}).", "Make them distinct.", str(subnet))
            return


def overlap(one: Subnet, other: Subnet) -> bool:
    """Whether two subnets have addresses in common."""
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.overlaps(other)


def _one_each(subnets: list[tuple[Subnet, Place]]) -> None:
    seen: set[int] = set()
    for subnet, place in subnets:
        if subnet.version in seen:
            place.wrong(
                f"A bridge network has one IPv{subnet.version} subnet; this is another one.",
                "Declare a network for each, and connect the sandbox to both.",
                str(subnet),
            )
        seen.add(subnet.version)


def _config(entry: Mapping[str, Any], subnet: Subnet, place: Place) -> IpamConfig:
    gateway = None
    if entry.get("gateway") is not None:
        gateway = _host_of(entry["gateway"], subnet, place / "gateway")
    ip_range = None
    if entry.get("ip_range") is not None:
        ip_range = _range(entry["ip_range"], subnet, place / "ip_range")
    aux = _aux(entry.get("aux_addresses") or {}, subnet, gateway, place / "aux_addresses")
    config = IpamConfig(str(subnet), str(gateway) if gateway else None, str(ip_range) if ip_range else None, aux)
    if gateway_of(config) is None:
        place.wrong("No address is left for the gateway.", "Take one out of aux_addresses, or set the gateway.")
    return config


def _host_of(text: str, subnet: Subnet, place: Place) -> Optional[Address]:
    address = read_address(text, place, subnet.version)
    problem = why_not(address, subnet) if address else ""
    if problem:
        place.wrong(problem, f"Write an address like `{subnet[1]}`.", text)
        return None
    return address


def _range(text: str, subnet: Subnet, place: Place) -> Optional[Subnet]:
    prefix = read_prefix(text, place)
    if prefix is None:
        return None
    inside = prefix.version == subnet.version and prefix.prefixlen >= subnet.prefixlen and overlap(prefix, subnet)
    if not inside:
        place.wrong(f"The range is not in the subnet {subnet}.", f"Write a part of {subnet}, or leave it out.", text)
        return None
    return prefix


def _aux(entries: Mapping[str, Any], subnet: Subnet, gateway: Optional[Address], place: Place) -> Pairs:
    found: dict[Address, str] = {}
    for key, text in sorted(entries.items()):
        address = _host_of(text, subnet, place / key) if text is not None else None
        if address is None:
            continue
        taken = "the gateway" if address == gateway else found.get(address)
        if taken:
            used = [str(item) for item in (*found, gateway)]
            (place / key).wrong(
                f"The address is that of {taken} already.",
                f"Choose another one, like `{some_host(subnet, used)}`.",
                text,
            )
        else:
            found[address] = f"`{key[:60]}`"
    return tuple(sorted((name.strip("`"), str(address)) for address, name in found.items()))


def _boolean(text: str, place: Place) -> str:
    if text.lower() in _TRUE:
        return "true"
    if text.lower() not in _FALSE:
        place.wrong("This must be true or false.", "Write true or false.", text)
    return "false"


def _mtu(text: str, place: Place) -> str:
    if text.isascii() and text.isdigit() and len(text) < 9:
        number = int(text)
        if number == 0 or _SMALLEST_MTU <= number <= _LARGEST_MTU:
            return str(number)
    place.wrong(
        f"An MTU is a number from {_SMALLEST_MTU} to {_LARGEST_MTU}, or 0 for the default.", "Write 1500.", text
    )
    return "0"


def _link(text: str, place: Place) -> str:
    return name(text, LINK, place) or ""


def _prefix(text: str, place: Place) -> str:
    return name(text, LINK_PREFIX, place) or ""


_B = "com.docker.network.bridge."
BRIDGE_OPTIONS: dict[str, Callable[[str, Place], str]] = {
    _B + "name": _link,
    _B + "enable_ip_masquerade": _boolean,
    _B + "enable_icc": _boolean,
    "com.docker.network.driver.mtu": _mtu,
    "com.docker.network.container_iface_prefix": _prefix,
}
"""What a bridge network understands, and how its text is checked and put in one form."""

BRIDGE_OPTIONS_LATER = (
    *(_B + key for key in ("host_binding_ipv4", "gateway_mode_ipv4", "gateway_mode_ipv6", "inhibit_ipv4")),
    _B + "trusted_host_interfaces",
    *("com.docker.network." + key for key in ("host_ipv4", "host_ipv6", "enable_ipv4", "enable_ipv6")),
    *("com.docker.network." + key for key in ("advertise_addr_nmsgs", "advertise_addr_ms")),
)
"""Docker's other options of a bridge network."""


def _driver_opts(options: Mapping[str, Any], driver: str, place: Place) -> Pairs:
    """Options as sorted pairs; those of a bridge are checked, those of the other drivers are their drivers' matter."""
    found: dict[str, str] = {}
    for key, value in options.items():
        if value is None:
            continue
        text = scalar(value)
        if driver == "bridge" and key in BRIDGE_OPTIONS:
            text = BRIDGE_OPTIONS[key](text, place / key)
        elif driver == "bridge" and key not in BRIDGE_OPTIONS_LATER:
            known = (*BRIDGE_OPTIONS, *BRIDGE_OPTIONS_LATER)
            remedy = did_you_mean(key, known, f"The options are {', '.join(sorted(BRIDGE_OPTIONS))}.")
            (place / key).wrong("A bridge network has no such option.", remedy)
        found[key] = text
    return tuple(sorted(found.items()))
