# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The drivers there are.  ``host`` and ``none`` make no resources: they are a sandbox's network_mode."""

from __future__ import annotations

from .base import Driver
from .bridge import BridgeDriver
from .lan import LanDriver
from .overlay import OverlayDriver

DRIVERS: dict[str, Driver] = {
    "bridge": BridgeDriver(),
    "overlay": OverlayDriver(),
    "macvlan": LanDriver("macvlan"),
    "ipvlan": LanDriver("ipvlan"),
}
