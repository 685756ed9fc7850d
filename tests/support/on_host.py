# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A function of this process, called on a lab host: a fork that enters the host's namespaces, without a new Python."""

from __future__ import annotations

import json
import os
import subprocess
import traceback
from collections.abc import Callable, Sequence
from typing import Optional, TypeVar

from lab import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, SEARCH, Lab, _die_with_parent, _setns

T = TypeVar("T")

# The mount namespace last, as the others are found in its /proc.
_NAMESPACES = {"net": CLONE_NEWNET, "uts": CLONE_NEWUTS, "pid": CLONE_NEWPID, "mnt": CLONE_NEWNS}


def call_on_host(lab: Lab, node: str, work: Callable[[], T]) -> T:
    """What ``work`` returns on a lab host, as JSON has it.  AssertionError with the traceback if it raises.

    What it needs should be imported before, or each call imports it again.
    """
    pid = lab.pid(node)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _enter(pid, writing, work)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    answer = json.loads(said or '{"error": "it died without a word"}')
    assert "error" not in answer, f"on {node}: {answer['error']}"
    result: T = answer["result"]
    return result


def _enter(pid: int, report: int, work: Callable[[], object]) -> None:
    """Never returns.  A process is in a namespace of process ids only if it is born into it: so fork once more."""
    try:
        _die_with_parent(True)
        for name, kind in _NAMESPACES.items():
            _setns(f"/proc/{pid}/ns/{name}", kind)
        child = os.fork()
        if child:
            os.close(report)
            os.waitpid(child, 0)
            os._exit(0)
        _die_with_parent(True)
        os.environ["PATH"] = ":".join(SEARCH)
        answer = {"result": work()}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    os.write(report, json.dumps(answer).encode())
    os._exit(0)


def run_command(arguments: Sequence[str], data: Optional[str] = None) -> tuple[int, str, str]:
    """What AnsibleModule.run_command does."""
    done = subprocess.run(arguments, input=data, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
