# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Defines no driver."""

from __future__ import annotations

DRIVERS = ()
