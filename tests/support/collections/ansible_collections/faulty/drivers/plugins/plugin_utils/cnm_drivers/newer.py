# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Is written against another version of the interface."""

from __future__ import annotations

from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers.api import INTERFACE, Driver


class Newer(Driver):
    interface = INTERFACE + 1


DRIVER = Newer()
