# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One entry of ``cnm_networks``: plain data of the right structure → `Network`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

from ...module_utils.plan.constants import SMALLEST_MTU
from ...module_utils.plan.families import family_of
from .addresses import (
    LONGEST_PREFIX,
    Address,
    Subnet,
    gateway_of,
    overlap,
    read_address,
    read_prefix,
    read_subnet,
    some_host,
    why_not,
    within,
)
from .driver import DeclaredDriver, DriverError, Drivers
from .errors import VarPath
from .names import OBJECT, name
from .options import ENABLE, enabled, read_options
from .policies import read_names
from .routes import check_routes, read_routes
from .topology import MTU, PREDEFINED, IpamConfig, Network, Pairs
from .values import at, flag, pairs, texts

_DEFAULT = "bridge"
Sizes = tuple[tuple[int, int], ...]
_SIZE = re.compile(r"(0\.0\.0\.0|::)?/([0-9]{1,3})")
"""A subnet of that size from the pools, as Docker 29 has it."""
UNKNOWN = "?"
"""The driver of a network whose own cannot be used, which has been noted."""
_PREDEFINED_BRIDGE = Network(
    "bridge", driver_opts=(("com.docker.network.bridge.name", "cnm0"),), path="the predefined network bridge"
)


def predefined_bridge(drivers: Drivers) -> Network:
    """The network that is on a host while a sandbox there is on no network that is declared."""
    return with_traits(_PREDEFINED_BRIDGE, drivers)


_DEFAULT_GATEWAYS = ("DefaultGatewayIPv4", "DefaultGatewayIPv6")
"""Docker's names of aux addresses that are the sandboxes' gateways instead of the bridge's own address."""


def with_traits(network: Network, drivers: Drivers) -> Network:
    """A predefined network, with the traits that its driver states."""
    return replace(network, traits=drivers.find(network.driver).traits(network))


def read_network(key: str, value: Mapping[str, Any], drivers: Drivers, path: VarPath) -> Network:
    """Read what a network says; every error is noted at its place."""
    if key == _DEFAULT:
        value = _of_predefined_bridge(value, path)
    elif key in PREDEFINED:
        path.wrong(
            f"The network `{key}` is always there and can not be declared.",
            f"Give yours another name; a sandbox may use `{key}` without a declaration.",
        )
    else:
        name(key, OBJECT, path)
    driver = _driver(value.get("driver") or _DEFAULT, drivers, path / "driver")
    ipam_driver = (value.get("ipam") or {}).get("driver") or "default"
    if ipam_driver == "dhcp":
        (path / "ipam" / "driver").wrong(
            "Addresses do not come from a DHCP server: which a sandbox has would be known only once it runs, and its "
            "names, routes and services are planned before.",
            "Leave it out, and set ip_range to a part of the subnet that the DHCP server does not lease.",
            "dhcp",
        )
    elif ipam_driver != "default":
        (path / "ipam" / "driver").wrong(
            "There is no IPAM driver but `default`.", "Leave it out: addresses come from the subnet.", ipam_driver
        )
    options = _options(value.get("driver_opts") or {}, driver, drivers, path)
    ipam, sizes = _ipam(value, driver, path)
    ipv4, ipv6 = _families(value, options, ipam, sizes, path)
    network = Network(
        name=key,
        driver=driver.name if driver else UNKNOWN,
        ipam_driver=ipam_driver,
        ipam=ipam,
        ipam_options=pairs((value.get("ipam") or {}).get("options"), path / "ipam" / "options"),
        sizes=sizes,
        internal=flag(value.get("internal"), False),
        enable_ipv4=ipv4,
        enable_ipv6=ipv6,
        attachable=flag(value.get("attachable"), True),
        encrypted=flag(value.get("encrypted"), False),
        driver_opts=options,
        labels=pairs(value.get("labels"), path / "labels"),
        routes=read_routes(value.get("routes"), path / "routes"),
        firewall=value.get("firewall") != "none",
        policies=read_names(value.get("policies"), path / "policies"),
        path=path.path,
    )
    if driver is None:
        return network
    try:
        network = replace(network, traits=driver.traits(network))
        driver.check(network, path)
    except DriverError as error:
        (path / "driver").wrong(error.problem, error.remedy)
        return network
    if not network.traits.mode:
        _check_any(network, driver, path)
    return network


def _of_predefined_bridge(value: Mapping[str, Any], path: VarPath) -> Mapping[str, Any]:
    """What the predefined bridge is declared with, and the name of its link unless that is declared, too."""
    if value.get("driver") not in (None, _DEFAULT):
        problem = f"The predefined network `{_DEFAULT}` is of the driver {_DEFAULT}."
        (path / "driver").wrong(problem, "Leave it out, or give the network another name.", value["driver"])
    driver_opts = value.get("driver_opts") or {}
    return {**value, "driver": _DEFAULT, "driver_opts": {**dict(_PREDEFINED_BRIDGE.driver_opts), **driver_opts}}


def _options(value: Mapping[str, Any], driver: Optional[DeclaredDriver], drivers: Drivers, path: VarPath) -> Pairs:
    if driver is None:
        return ()
    try:
        return read_options(value, driver, drivers, path / "driver_opts")
    except DriverError as error:
        (path / "driver").wrong(error.problem, error.remedy)
        return ()


def _check_any(network: Network, driver: DeclaredDriver, path: VarPath) -> None:
    """Note what does not go together, whatever the driver."""
    if network.encrypted and not driver.encrypts:
        problem = f"Only networks of the driver overlay are encrypted; this one is of the driver {driver.name}."
        (path / "encrypted").wrong(problem, "Leave it out.")
    check_routes(network, path / "routes")
    if network.enable_ipv6 and 0 < network.mtu < SMALLEST_MTU[6]:
        problem = f"IPv6 takes an MTU of at least {SMALLEST_MTU[6]} (RFC 8200): Linux has none on a link with less."
        (path / "driver_opts" / MTU).wrong(problem, "Write a larger one, or leave IPv6 out.", network.mtu)
    for config in network.ipam:
        if network.traits.chooses_gateway and gateway_of(config) is None:
            problem, remedy = (
                "No address is left for the gateway.",
                "Take one out of aux_addresses, or set the gateway.",
            )
            VarPath(config.path, path.errors).wrong(problem, remedy)
    if network.internal and not network.firewall:
        (path / "firewall").wrong(
            "It is the firewall that keeps an internal network closed.",
            "Leave out one of `internal: true` and `firewall: none`.",
            "none",
        )


def _families(
    value: Mapping[str, Any], options: Pairs, ipam: tuple[IpamConfig, ...], sizes: Sizes, path: VarPath
) -> tuple[bool, bool]:
    """Whether the network has IPv4 and IPv6; an IPv6 subnet implies the latter."""
    found = {}
    for family in (4, 6):
        key = f"enable_ipv{family}"
        declared: Optional[bool] = flag(value[key], True) if value.get(key) is not None else None
        declared = enabled(family, options, declared, path)
        given = [config.subnet for config in ipam if family_of(config.subnet) == family]
        given += [f"of the size /{size}" for of, size in sizes if of == family]
        subnet = next(iter(given), None)
        found[family] = declared if declared is not None else family == 4 or subnet is not None
        if subnet is not None and not found[family]:
            where = path / key if value.get(key) is not None else path / "driver_opts" / ENABLE[family]
            remedy = f"Leave out the one or the other; `{key}: true` is what a subnet of IPv{family} needs."
            where.wrong(f"The network has the IPv{family} subnet {subnet}, but IPv{family} is turned off.", remedy)
    if not any(found.values()) and not ipam:
        (path / "enable_ipv4").wrong(
            "A network has IPv4, IPv6 or both; this one has both turned off.", "Write `enable_ipv6: true`."
        )
    return found[4], found[6]


def _driver(value: str, drivers: Drivers, path: VarPath) -> Optional[DeclaredDriver]:
    """The driver; None for one that cannot be used, of whose networks nothing more can be said."""
    try:
        return drivers.find(value)
    except DriverError as error:
        path.wrong(error.problem, error.remedy, value)
        return None


def _ipam(
    value: Mapping[str, Any], driver: Optional[DeclaredDriver], path: VarPath
) -> tuple[tuple[IpamConfig, ...], Sizes]:
    """The subnets that are given, and the sizes of those to be chosen."""
    short = value.get("subnet")
    long = (value.get("ipam") or {}).get("config")
    if short is not None and long is not None:
        (path / "subnet").wrong("Both subnet and ipam.config are given.", "Keep one of them.", short)
        return (), ()
    if short is not None:
        entries = [({"subnet": text}, at(path / "subnet", index)) for index, text in texts(short)]
    else:
        entries = [
            (entry, path / "ipam" / "config" / index) for index, entry in enumerate(long or ()) if entry is not None
        ]
    subnets: list[tuple[Subnet, VarPath]] = []
    configs = []
    sizes: dict[int, int] = {}
    for entry, spot in entries:
        where = spot if short is not None else spot / "subnet"
        if entry.get("subnet") is None:
            spot.wrong("There is no subnet in this entry.", "Write for example `subnet: 10.0.0.0/24`.")
            continue
        size = _SIZE.fullmatch(entry["subnet"])
        if size is not None:
            _read_size(size, entry, sizes, where)
            continue
        subnet = read_subnet(entry["subnet"], where)
        if subnet is not None:
            _apart(subnet, subnets, where)
            subnets.append((subnet, where))
            configs.append(_config(entry, subnet, spot))
    if driver is not None and driver.subnets_per_family:
        _check_number(subnets, driver)
    for family in sizes:
        if any(subnet.version == family for subnet, _where in subnets):
            (path / "subnet" if short is not None else path / "ipam").wrong(
                f"The network has a subnet of IPv{family} already; another one cannot be chosen.", "Keep one of them."
            )
    return tuple(configs), tuple(sorted(sizes.items()))


def _read_size(match: re.Match[str], entry: Mapping[str, Any], sizes: dict[int, int], path: VarPath) -> None:
    """Note the size of a subnet that is to be chosen: ``/24``, ``0.0.0.0/24``, ``::/64``."""
    family, length = 6 if match[1] == "::" else 4, int(match[2])
    others = [key for key in ("gateway", "ip_range", "aux_addresses") if entry.get(key)]
    if not 1 <= length <= LONGEST_PREFIX[family]:
        problem = f"A chosen subnet has a prefix length from 1 to {LONGEST_PREFIX[family]}."
        path.wrong(problem, "Write for example `/24`.", match[0])
    elif family in sizes:
        path.wrong(f"One subnet of IPv{family} is chosen.", "Keep one of them.", match[0])
    elif others:
        path.wrong(f"The subnet is chosen from a pool, so its {others[0]} cannot be known.", "Leave it out.", match[0])
    else:
        sizes[family] = length


def _apart(subnet: Subnet, others: list[tuple[Subnet, VarPath]], path: VarPath) -> None:
    for other, where in others:
        if overlap(subnet, other):
            path.wrong(f"The subnet overlaps {other} ({where.path}).", "Make them distinct.", str(subnet))
            return


def _check_number(subnets: list[tuple[Subnet, VarPath]], driver: DeclaredDriver) -> None:
    seen: dict[int, int] = {}
    for subnet, path in subnets:
        seen[subnet.version] = seen.get(subnet.version, 0) + 1
        if seen[subnet.version] > driver.subnets_per_family:
            most = "one" if driver.subnets_per_family == 1 else driver.subnets_per_family
            path.wrong(
                f"A {driver.name} network has {most} IPv{subnet.version} subnet; this is another one.",
                "Declare a network for each, and connect the sandbox to both.",
                str(subnet),
            )


def _config(entry: Mapping[str, Any], subnet: Subnet, path: VarPath) -> IpamConfig:
    gateway = None
    if entry.get("gateway") is not None:
        gateway = _host_of(entry["gateway"], subnet, path / "gateway")
    ip_range = None
    if entry.get("ip_range") is not None:
        ip_range = _range(entry["ip_range"], subnet, path / "ip_range")
    aux = _aux(entry.get("aux_addresses") or {}, subnet, gateway, path / "aux_addresses")
    return IpamConfig(
        str(subnet), str(gateway) if gateway else None, str(ip_range) if ip_range else None, aux, path=path.path
    )


def _host_of(text: str, subnet: Subnet, path: VarPath) -> Optional[Address]:
    address = read_address(text, path, subnet.version)
    problem = why_not(address, subnet) if address else ""
    if problem:
        path.wrong(problem, f"Write an address like `{subnet[1]}`.", text)
        return None
    return address


def _range(text: str, subnet: Subnet, path: VarPath) -> Optional[Subnet]:
    prefix = read_prefix(text, path)
    if prefix is None:
        return None
    if not within(prefix, subnet):
        path.wrong(f"The range is not in the subnet {subnet}.", f"Write a part of {subnet}, or leave it out.", text)
        return None
    return prefix


def _aux(entries: Mapping[str, Any], subnet: Subnet, gateway: Optional[Address], path: VarPath) -> Pairs:
    found: dict[Address, str] = {}
    for key, text in sorted(entries.items()):
        address = _host_of(text, subnet, path / key) if text is not None else None
        if address is None:
            continue
        if key in _DEFAULT_GATEWAYS and key != _DEFAULT_GATEWAYS[subnet.version == 6]:
            (path / key).wrong(
                f"This is the name of an IPv{key[-1]} gateway, and the subnet is one of IPv{subnet.version}.",
                f"Call it `{key[:-1]}{subnet.version}`, or put it with a subnet of IPv{key[-1]}.",
                text,
            )
        used_by = "the gateway" if address == gateway else found.get(address)
        if used_by:
            used = [str(item) for item in (*found, gateway)]
            (path / key).wrong(
                f"The address is that of {used_by} already.",
                f"Choose another one, like `{some_host(subnet, used)}`.",
                text,
            )
        else:
            found[address] = f"`{key[:60]}`"
    return tuple(sorted((name.strip("`"), str(address)) for address, name in found.items()))
