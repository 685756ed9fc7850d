# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Labs that the tests of several files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Lab, LabError
from overlaying import lab_of


@pytest.fixture(scope="session")
def trio() -> Iterator[Lab]:
    """Three hosts, node1 to node3; each test leaves them as it found them."""
    try:
        with lab_of(3, "trio") as lab:
            yield lab
    except LabError as problem:
        pytest.fail(f"no lab: {problem}")
