# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The settings of one host: ``cnm_project``, ``cnm_leases``, address pools and so on → `Settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from .addresses import Subnet, read_address, read_subnet
from .mistakes import Place
from .names import PROJECT, name
from .networks import overlap
from .structure import did_you_mean
from .topology import Settings

LEASE_STORES = ("sqlite", "etcd", "zookeeper", "consul")
_URL = re.compile(r"([a-z]+)://(.*)", re.DOTALL)
_LARGEST_VNI = 2**24 - 1
_VNIS = re.compile(r"([0-9]{1,8})(?:\s*-\s*([0-9]{1,8}))?")
_LARGEST_POOL_PREFIX = 30


def read_settings(value: Mapping[str, Any], place: Place) -> Settings:
    """Read the settings; every mistake is noted at its variable.

    What later parts alone need is only checked.
    """
    defaults = Settings()
    project, underlay = value.get("cnm_project"), value.get("cnm_underlay_address")
    address = read_address(underlay, place / "cnm_underlay_address", 0) if underlay is not None else None
    pools = _pools(value.get("cnm_default_address_pools"), place / "cnm_default_address_pools")
    overlay = value.get("cnm_overlay_address_pool")
    if isinstance(overlay, str):
        read_subnet(overlay, place / "cnm_overlay_address_pool")
    else:
        _pools(overlay, place / "cnm_overlay_address_pool")
    _vnis(value.get("cnm_vni_range"), place / "cnm_vni_range")
    _port(value.get("cnm_data_path_port"), place / "cnm_data_path_port")
    leases = value.get("cnm_leases")
    return Settings(
        project=(name(project, PROJECT, place / "cnm_project") if project is not None else None) or defaults.project,
        underlay_address=str(address) if address else None,
        default_address_pools=pools,
        leases=_leases(leases, place / "cnm_leases") if leases is not None else "",
    )


def _pools(value: Any, place: Place) -> tuple[tuple[str, int], ...]:
    """Docker's ``default-address-pools``: (base, size) pairs in the order written."""
    found: list[tuple[Subnet, int]] = []
    for index, pool in enumerate(value or ()):
        if pool is None:
            continue
        spot = place / index
        for key in ("base", "size"):
            if pool.get(key) is None:
                spot.wrong(f"The pool has no {key}.", "Write for example `{base: 172.30.0.0/16, size: 24}`.")
        if pool.get("base") is None or pool.get("size") is None:
            continue
        base, size = read_subnet(pool["base"], spot / "base"), int(pool["size"])
        if base is None:
            continue
        longest = _LARGEST_POOL_PREFIX if isinstance(base, IPv4Network) else 128
        if not base.prefixlen <= size <= longest:
            (spot / "size").wrong(
                "The size is the prefix length of the subnets that are cut from the base.",
                f"Write a number from {base.prefixlen} to {longest}.",
                size,
            )
            continue
        other = next((other for other, _size in found if overlap(base, other)), None)
        if other is not None:
            (spot / "base").wrong(f"The pool overlaps the pool {other}.", "Make them distinct.", str(base))
            continue
        found.append((base, size))
    return tuple((str(base), size) for base, size in found)


def _leases(url: str, place: Place) -> str:
    match = _URL.fullmatch(url)
    if not match:
        place.wrong("This is not the URL of a lease store.", "Write `sqlite:///` and a path.", url)
        return ""
    store, rest = match.groups()
    if store not in LEASE_STORES:
        near = did_you_mean(store, LEASE_STORES, "Write `sqlite:///` and a path.")
        place.wrong("There is no such lease store.", near, url)
    elif store == "sqlite" and not rest.startswith("/"):
        place.wrong(
            "A SQLite store is a file here: three slashes stand before its path, four if the path is absolute.",
            f"Write `sqlite:///{rest[:60]}`.",
            url,
        )
    elif store == "sqlite" and not url.isprintable():
        place.wrong("The path has characters that can not be printed.", "Choose a plain path.", url)
    return url


def _vnis(value: Any, place: Place) -> None:
    """The first VNI, ``first-last``, or a list of both."""
    if value is None:
        return
    if isinstance(value, list):
        numbers = value if len(value) == 2 else []
    else:
        match = _VNIS.fullmatch(str(value))
        numbers = [int(number) for number in match.groups() if number] if match else []
    right = bool(numbers) and all(
        isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= _LARGEST_VNI for number in numbers
    )
    if not right or numbers != sorted(numbers):
        place.wrong(
            f"A range of VNIs is two numbers from 1 to {_LARGEST_VNI}, the smaller one first.",
            "Write for example `4096-65535`.",
            value,
        )


def _port(value: Any, place: Place) -> None:
    if value is None:
        return
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 65535):
        place.wrong("A port is a number from 1 to 65535.", "Write for example 4789.", value)
