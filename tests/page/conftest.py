# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A real browser, without a screen, and the programs in JavaScript that `run` fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, of the system."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "there is no Chromium: sudo ./run test page installs it"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program)
        yield started
        started.close()


@pytest.fixture(scope="session")
def scripts() -> Path:
    """The folder with axe.min.js and mermaid.min.js."""
    folder = Path(os.environ.get("CNM_SCRIPTS", "/nowhere"))
    assert (folder / "complete").exists(), "axe-core and mermaid are not there: sudo ./run test page fetches them"
    return folder
