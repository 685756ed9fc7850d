# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""These tests need the kernel of the virtual machine: anywhere else they are skipped, and there some have to run."""

from __future__ import annotations

import os
import subprocess

import pytest

IN_THE_VM = "CNM_VM" in os.environ


def pytest_sessionstart() -> None:
    """Load what gives every namespace parameters of its own: else they appear while a test beside compares them."""
    if IN_THE_VM:
        subprocess.run(["modprobe", "ip_vs"], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the virtual machine where this is not one."""
    for item in items:
        if item.get_closest_marker("vm") and not IN_THE_VM:
            item.add_marker(pytest.mark.skip(reason="needs the virtual machine: ./run test vm"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tests of which each was skipped prove nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if IN_THE_VM and exitstatus == pytest.ExitCode.OK and reporter and not reporter.stats.get("passed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
