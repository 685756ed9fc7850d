# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Needs a library that is not installed."""

from __future__ import annotations

import library_that_nobody_has

DRIVER = library_that_nobody_has.DRIVER
