# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Cannot be loaded."""

from __future__ import annotations

raise OSError("no such file: topology.yml")
