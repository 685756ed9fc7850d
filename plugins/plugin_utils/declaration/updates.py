# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``deploy.update_config`` of a service: how a change is rolled out, in Docker's words and with its defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

from .errors import VarPath
from .topology import Update

_UNITS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(us|ms|s|m|h)"
_TIME = re.compile(rf"(?:{_PART}){{1,5}}", re.ASCII)
_LONGEST = 24 * _UNITS["h"]
_NOT_FAILED = ("0", "0.0")


def read_update(
    value: Optional[Mapping[str, Any]], grace: Any, ports: Any, path: VarPath, grace_path: VarPath
) -> Optional[Update]:
    """Read ``update_config`` with ``stop_grace_period`` beside it; None without the first.  Errors are noted.

    ``ports`` are those of the service, as declared.
    """
    patience = _time(grace, Update.grace, grace_path)
    if value is None:
        return None
    if value.get("failure_action") == "rollback":
        (path / "failure_action").wrong(
            "A run cannot go back to a declaration that is no longer in the inventory.",
            "Write pause: the run stops, and the next one goes on, with the former declaration if you restore it.",
            "rollback",
        )
    if (ratio := value.get("max_failure_ratio")) is not None and str(ratio).strip() not in _NOT_FAILED:
        (path / "max_failure_ratio").wrong(
            "A roll-out either stops at the first task in which nothing listens, or at none.",
            "Leave it out, or write `failure_action: continue`.",
            ratio,
        )
    starts_first = value.get("order") == "start-first"
    if starts_first and any(isinstance(port, Mapping) and port.get("mode") == "host" for port in ports or ()):
        (path / "order").wrong(
            "A port published with mode host leads to one task of a host, and start-first needs a second one there.",
            "Write stop-first, or publish the port on every host.",
            "start-first",
        )
    parallelism = value.get("parallelism")
    return Update(
        parallelism=Update.parallelism if parallelism is None else int(parallelism),
        delay=_time(value.get("delay"), Update.delay, path / "delay"),
        start_first=starts_first,
        goes_on=value.get("failure_action") == "continue",
        monitor=_time(value.get("monitor"), Update.monitor, path / "monitor"),
        grace=patience,
    )


def _time(value: Any, default: int, path: VarPath) -> int:
    """Milliseconds of a time like ``1m30s``."""
    if value is None:
        return default
    text = str(value).strip().replace(" ", "")
    if text == "0":
        return 0
    if not _TIME.fullmatch(text):
        path.wrong("This is not a time.", "Write numbers with h, m, s or ms, like 10s or 1m30s.", value)
        return default
    found = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    if found > _LONGEST:
        path.wrong("A run would wait for more than a day.", "Write at most 24h.", value)
        return default
    return round(found)
