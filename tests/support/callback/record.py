# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Writes every task's result to the file CNM_RECORD names, for the tests to read."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: notification
short_description: Record results as JSON lines
description: Appends a line of JSON for every result.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """One JSON line a result: task, host, status, result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, status: str, result: Any, **_more: Any) -> None:
        task, host = (getattr(result, name, None) or getattr(result, f"_{name}") for name in ("task", "host"))
        data = getattr(result, "result", None) or result._result
        line = {"task": task.get_name(), "action": task.action, "host": host.get_name(), "status": status}
        with open(os.environ["CNM_RECORD"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps({**line, "result": data}, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write("failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write("unreachable", result)
