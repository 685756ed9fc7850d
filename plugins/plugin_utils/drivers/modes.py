# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Drivers host and none: a network of theirs is a ``network_mode`` of its sandboxes, and has nothing of its own."""

from __future__ import annotations

from ..declaration.driver import Traits
from ..declaration.errors import VarPath
from ..declaration.topology import Network
from .base import Driver


class ModeDriver(Driver):
    """The driver of this network_mode."""

    def __init__(self, name: str) -> None:
        self.name = name

    def traits(self, network: Network) -> Traits:
        del network
        return Traits(mode=self.name, bridged=False)

    def check(self, network: Network, path: VarPath) -> None:
        declared = (network.ipam, network.internal, network.encrypted, network.routes, not network.firewall)
        if any(declared):
            path.wrong(
                f"A network of the driver {self.name} has no settings of its own.",
                "Leave out subnet, ipam, internal, encrypted, routes and firewall.",
            )
