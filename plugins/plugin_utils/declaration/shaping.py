# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``limits`` and ``netem`` of an endpoint: rates, times and shares in the words of tc(8) → `Shape`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Optional

from ...module_utils.plan.shaping import RATES, TIMES
from .errors import VarPath
from .topology import Shape

_LEAST_RATE, _LARGEST_RATE = 8 * 10**3, 8 * 10**12
_LARGEST_TIME = 3600 * 10**6
_NUMBER = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([a-z%]+)", re.ASCII)


def read_shape(options: Mapping[str, Any], path: VarPath) -> Optional[Shape]:
    """What an endpoint's options say; None if nothing.  Every error is noted at its place."""
    limits, netem = options.get("limits") or {}, options.get("netem") or {}
    to = _rate(limits.get("ingress"), path / "limits" / "ingress")
    out = _rate(limits.get("egress"), path / "limits" / "egress")
    spot = path / "netem"
    delay, jitter = (_time(netem.get(key), spot / key) for key in ("delay", "jitter"))
    loss, rate = _share(netem.get("loss"), spot / "loss"), _rate(netem.get("rate"), spot / "rate")
    if jitter and not delay and not (spot / "delay").is_wrong:
        (spot / "jitter").wrong("Only a delay can vary.", "Write `delay` too.", netem["jitter"])
    elif jitter > delay:
        (spot / "jitter").wrong(
            "The delay would vary by more than itself.", "Write at most the delay.", netem["jitter"]
        )
    found = Shape(to, out, delay, jitter, loss, rate)
    return found if found != Shape() else None


def _rate(value: Any, path: VarPath) -> int:
    """Octets a second; 0 for none."""
    found = _quantity(value, RATES, _LEAST_RATE, _LARGEST_RATE, "a rate", "100mbit", path)
    return found // 8


def _time(value: Any, path: VarPath) -> int:
    """Microseconds; 0 for none."""
    return _quantity(value, TIMES, 0, _LARGEST_TIME, "a time", "20ms", path)


def _share(value: Any, path: VarPath) -> int:
    """Millionths; 0 for none."""
    return _quantity(value, {"%": 10**4}, 0, 10**6, "a share", "1%", path)


def _quantity(
    value: Any, units: Mapping[str, int], least: int, largest: int, noun: str, example: str, path: VarPath
) -> int:
    if value is None:
        return 0
    match = _NUMBER.fullmatch(str(value).strip().lower().replace(" ", ""))
    words = ", ".join(units)
    if match is None or match[2] not in units:
        path.wrong(f"This is not {noun}.", f"Write a number with one of {words}, like {example}.", value)
        return 0
    found = int(Decimal(match[1]) * units[match[2]])
    if not least <= found <= largest:
        unit = next(iter(units))
        scale = units[unit]
        path.wrong(
            f"{noun[:1].upper()}{noun[1:]} is from {least // scale} to {largest // scale} {unit}.",
            f"Write one like {example}.",
            value,
        )
        return 0
    return found
