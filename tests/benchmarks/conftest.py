# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The table of all benchmarks, printed at the end of a run and written as JSON (`rows.default_path`)."""

from __future__ import annotations

import json

import pytest
from rows import Table, default_path, lines, missing

_TABLE = Table()


@pytest.fixture(scope="session")
def table() -> Table:
    """Where benchmarks put what they measured."""
    return _TABLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TABLE.measured:
        return
    path = default_path()
    path.write_text(json.dumps(_TABLE.to_json(), indent=1), encoding="utf-8")
    terminalreporter.section("benchmarks")
    for line in lines(_TABLE):
        terminalreporter.line(line)
    if left := missing(_TABLE):
        terminalreporter.line(f"\nnot measured in this run: {len(left)} rows of: {'; '.join(dict.fromkeys(left))}")
    terminalreporter.line(f"\nalso as JSON: {path}")
