# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How much is tried of what has no end: the same sample every time, or with ``./run test --all`` the whole."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

T = TypeVar("T")

WHOLE = bool(os.environ.get("CNM_ALL"))
"""Set by ``./run test --all``."""


def sampled(quick: int, whole: int) -> Callable[..., Any]:
    """Settings of a property that is tried so often: the same examples every time, in the whole others each time."""
    return settings(
        max_examples=whole if WHOLE else quick,
        derandomize=not WHOLE,
        deadline=None,
        database=None,
        # Who looks for faults wants a small example; who is told of one in CI gets it by looking.
        phases=[Phase.generate, Phase.shrink] if WHOLE else [Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


def some_of(items: Iterable[T], quick: int, seed: str) -> list[T]:
    """All of them in the whole, else so many, in their order and the same every time."""
    every = list(items)
    if WHOLE or len(every) <= quick:
        return every
    return [every[place] for place in sorted(random.Random(seed).sample(range(len(every)), quick))]


def each(items: Iterable[T], quick: int, seed: str) -> list[Any]:
    """All of them as a test's parameters, those that are not in the sample marked as part of the whole."""
    every = list(items)
    sample = random.Random(seed).sample(range(len(every)), min(quick, len(every)))
    return [pytest.param(item, marks=[] if at in sample else pytest.mark.whole) for at, item in enumerate(every)]
