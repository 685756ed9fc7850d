# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The outside of `agent`: one on each host, asked in JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import Lab

SOURCE = Path(__file__).with_name("agent.py")

Call = tuple[str, str, str, int, str]
"""Namespace, protocol, address, port and payload in hex."""


class Agent:
    """A process on a lab host that listens and calls in the host's namespaces; it ends with the lab."""

    def __init__(self, lab: Lab, node: str) -> None:
        command = ["/usr/bin/python3", "-c", SOURCE.read_text(encoding="utf-8")]
        self._process = lab.popen(node, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def listen(self, listeners: Sequence[tuple[str, str, str, str, int]]) -> list[str]:
        """Listen at each (namespace, name, protocol, address, port); what could not be, in words."""
        self._say({"listen": listeners})
        return [problem for problem in self._answer() if problem]

    def begin(self, calls: Sequence[Call]) -> None:
        """Start calling; several agents do so at once."""
        self._expected = len(calls)
        if calls:
            self._say({"call": calls})

    def results(self) -> list[str]:
        """What came back of each call, in hex, or one of refused, closed, unreachable and silent."""
        return self._answer() if self._expected else []

    def end(self) -> None:
        """End the process and close what leads to it."""
        self._process.kill()
        self._process.communicate()

    def _say(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> list[str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the agent died: see its words on standard error"
        answer: list[str] = json.loads(line)
        return answer
