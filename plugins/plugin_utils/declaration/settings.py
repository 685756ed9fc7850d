# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The settings of one host: ``cnm_project``, ``cnm_leases``, address pools and so on → `Settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

from ...module_utils.plan import forms
from ...module_utils.plan.constants import LARGEST_VNI
from ...module_utils.plan.marks import DATA_PATH_PORT, LARGEST_DATA_PATH_PORT
from .addresses import LONGEST_PREFIX, Subnet, overlap, read_address, read_subnet
from .control_plane import read_evpn
from .errors import VarPath
from .lease_store import read_lease_store
from .names import PROJECT, name
from .topology import Settings
from .values import SHORTEST_SECRET, flag, pairs

OVERLAY_SIZE = {4: 24, 6: 64}
"""Prefix length of the subnets overlays get."""
_NO_DOMAINS = ("arpa", "local", "localhost")
_VNIS = re.compile(r"([0-9]{1,8})(?:\s*-\s*([0-9]{1,8}))?")


def read_settings(value: Mapping[str, Any], path: VarPath) -> Settings:
    """Read the settings; every error is noted at its variable."""
    defaults = Settings()
    project, underlay = value.get("cnm_project"), value.get("cnm_underlay_address")
    address = read_address(underlay, path / "cnm_underlay_address", 0) if underlay is not None else None
    pools = _pools(value.get("cnm_default_address_pools"), path / "cnm_default_address_pools")
    return Settings(
        project=(name(project, PROJECT, path / "cnm_project") if project is not None else None) or defaults.project,
        underlay_address=str(address) if address else None,
        default_address_pools=pools,
        overlay_pools=_overlay_pools(value.get("cnm_overlay_address_pool"), path / "cnm_overlay_address_pool"),
        vni_range=_vnis(value.get("cnm_vni_range"), path / "cnm_vni_range") or defaults.vni_range,
        data_path_port=_port(value.get("cnm_data_path_port"), path / "cnm_data_path_port") or defaults.data_path_port,
        load_balancer=value.get("cnm_load_balancer") or defaults.load_balancer,
        ingress_mode=value.get("cnm_ingress_mode") or defaults.ingress_mode,
        flood=flag(value.get("cnm_flood"), False),
        overlay_secret=_secret(value.get("cnm_overlay_secret"), path / "cnm_overlay_secret"),
        key_epoch=int(value.get("cnm_overlay_key_epoch") or defaults.key_epoch),
        evpn=read_evpn(value, path),
        leases=read_lease_store(
            value.get("cnm_leases"),
            value.get("cnm_leases_options"),
            path / "cnm_leases",
            path / "cnm_leases_options",
        ),
        node_labels=pairs(value.get("cnm_node_labels"), path / "cnm_node_labels"),
        all_or_nothing=flag(value.get("cnm_all_or_nothing"), False),
        docker_user=flag(value.get("cnm_docker_user"), True),
        domain=_domain(value.get("cnm_domain"), path / "cnm_domain") or defaults.domain,
        host_names=flag(value.get("cnm_host_names"), False),
        lan_names=_lan_names(value.get("cnm_lan_names"), path / "cnm_lan_names"),
        boot=flag(value.get("cnm_boot"), True),
        keep_keys=flag(value.get("cnm_keep_keys"), True),
    )


def _pools(value: Any, path: VarPath) -> tuple[tuple[str, int], ...]:
    """Docker's ``default-address-pools``: (base, size) pairs in the order written."""
    found: list[tuple[Subnet, int]] = []
    for index, pool in enumerate(value or ()):
        if pool is None:
            continue
        spot = path / index
        for key in ("base", "size"):
            if pool.get(key) is None:
                spot.wrong(f"The pool has no {key}.", "Write for example `{base: 172.30.0.0/16, size: 24}`.")
        if pool.get("base") is None or pool.get("size") is None:
            continue
        base, size = read_subnet(pool["base"], spot / "base"), int(pool["size"])
        if base is None:
            continue
        longest = LONGEST_PREFIX[base.version]
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


def _overlay_pools(value: Any, path: VarPath) -> tuple[tuple[str, int], ...]:
    """As `_pools`; a text is one base, of which subnets of the usual size are cut."""
    if not isinstance(value, str):
        return _pools(value, path)
    base = read_subnet(value, path)
    return ((str(base), max(OVERLAY_SIZE[base.version], base.prefixlen)),) if base else ()


def _vnis(value: Any, path: VarPath) -> Optional[tuple[int, int]]:
    """The first VNI, ``first-last``, or a list of both."""
    if value is None:
        return None
    if isinstance(value, list):
        numbers = value if len(value) == 2 else []
    else:
        match = _VNIS.fullmatch(str(value))
        numbers = [int(number) for number in match.groups() if number] if match else []
    right = bool(numbers) and all(
        isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= LARGEST_VNI for number in numbers
    )
    if right and numbers == sorted(numbers):
        return numbers[0], numbers[1] if len(numbers) == 2 else LARGEST_VNI
    path.wrong(
        f"A range of VNIs is two numbers from 1 to {LARGEST_VNI}, the smaller one first.",
        "Write for example `4096-65535`.",
        value,
    )
    return None


def _port(value: Any, path: VarPath) -> Optional[int]:
    if value is None:
        return None
    text = str(value)
    if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= LARGEST_DATA_PATH_PORT:
        return int(text)
    path.wrong(
        f"This port is a number from 1 to {LARGEST_DATA_PATH_PORT}: encrypted networks take the one 10000 above it.",
        f"Write for example {DATA_PATH_PORT}.",
        value,
    )
    return None


def _domain(value: Any, path: VarPath) -> Optional[str]:
    """A domain that hosts ask our resolvers for, and nobody else: so none that all the world uses."""
    if value is None:
        return None
    text = str(value).rstrip(".").lower()
    labels = text.split(".")
    if forms.dns_name.fits(text) and len(labels) > 1 and labels[-1] not in _NO_DOMAINS:
        return text
    path.wrong(
        "This is a DNS domain of at least two labels that is nobody else's, and not below arpa, local or localhost.",
        "Write for example `cnm.internal`, or a domain of your own such as `lab.example.com`.",
        value,
    )
    return None


def _lan_names(value: Any, path: VarPath) -> Optional[str]:
    """The address at which a LAN asks for names."""
    address = read_address(value, path, 0) if value is not None else None
    if address is None:
        return None
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        path.wrong(
            "This is one address of the host that the LAN reaches.",
            "Write for example 192.0.2.1; for the host itself there is `cnm_host_names: true`.",
            value,
        )
        return None
    return str(address)


def _secret(value: Any, path: VarPath) -> Optional[str]:
    """The secret, which is never shown."""
    if value is not None and len(str(value)) < SHORTEST_SECRET:
        path.wrong(
            f"The secret is too short to keep anything secret: {SHORTEST_SECRET} characters are the least.",
            "Make one, for example with `openssl rand -base64 32`, and keep it in a vault.",
        )
    return None if value is None else str(value)
