# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Leases as controllers plan them, in small: what is free is given, and nothing that is there is moved."""

from __future__ import annotations

from typing import Any

from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases


def with_box(leases: Leases, key: str) -> Leases:
    """The leases with an address more, the lowest one that is free on its network; none if it is there."""
    host, network, _box = key.split("/")
    taken = {
        entry["ipv4"]
        for other, entry in leases["endpoints"].items()
        if other.split("/")[1] == network and (network in leases["overlays"] or other.split("/")[0] == host)
    }
    free = next(address for address in (f"10.0.0.{number}" for number in range(2, 250)) if address not in taken)
    return {**leases, "endpoints": {key: {"ipv4": free}, **leases["endpoints"]}}


def with_network(leases: Leases, name: str) -> Leases:
    """The leases with a network more, of the lowest free VNI."""
    taken = {entry["vni"] for entry in leases["overlays"].values()}
    found: Any = {name: {"vni": next(number for number in range(4096, 9999) if number not in taken)}}
    return {**leases, "overlays": {**found, **leases["overlays"]}}


def check(leases: Leases) -> None:
    """No address of a network that spans hosts is there twice, and no VNI."""
    given_out = [
        (key.split("/")[1] if key.split("/")[1] in leases["overlays"] else key.rpartition("/")[0], entry["ipv4"])
        for key, entry in leases["endpoints"].items()
    ]
    assert len(given_out) == len(set(given_out)), leases
    vnis = [entry["vni"] for entry in leases["overlays"].values()]
    assert len(vnis) == len(set(vnis)), leases
