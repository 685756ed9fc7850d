# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""These tests boot guests of their own: they are skipped inside the virtual machine of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what boots a guest where this is one."""
    for item in items:
        if HERE in item.path.parents and "CNM_VM" in os.environ:
            item.add_marker(pytest.mark.skip(reason="boots a guest of its own: ./run test tests/vm/systemd"))
