# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The calls that the controller makes of a host: what each does between its arguments and its result.

A result is what the module of that name returns, and ``failed`` if the call has.
"""

from __future__ import annotations

import json
import locale
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from . import entrypoints
from .hostd import half
from .kernel.nft import RunCommand
from .kernel.programs import run_command
from .plan.calls import BEGIN, END, NOT_KEPT, SPECS, secrets_of, without
from .probe.obstacles import Obstacles

Arguments = Mapping[str, Any]
Result = dict[str, Any]


def probe(asked: Arguments, _check: bool, run: RunCommand) -> Result:
    """The result of M(cnm.fabric.probe)."""
    obstacles = Obstacles(asked["owners"], asked["staying"], asked["shaping"]) if asked["obstacles"] else None
    wanted = (asked["live"], asked["declared"], run, asked["encryption"], asked["ask_resolvers"])
    try:
        return {"changed": False, **entrypoints.probe(asked["project"], *wanted, obstacles)}
    except entrypoints.Refused as refusal:
        return _failed(refusal)


def converge(asked: Arguments, check: bool, run: RunCommand) -> Result:
    """The result of M(cnm.fabric.converge)."""
    try:
        return entrypoints.converge(
            entrypoints.Request(
                project=asked["project"],
                plan=asked["plan"],
                shared=asked["shared"],
                pair_keys=asked["pair_keys"],
                bgp_password=asked["bgp_password"],
                digest=asked["digest"],
                revision=asked["revision"],
                signature=asked["signature"],
                based_on=asked["based_on"],
                seen=asked["seen"],
                strict=asked["strict"],
                absent=asked["state"] == "absent",
                check=check,
                force=asked["force"],
                lock_timeout=asked["lock_timeout"],
                leaving=asked["leaving"],
                ending=asked["ending"],
                coming=asked["coming"],
                tried=asked["tried"],
            ),
            run,
        )
    except entrypoints.Partly as refusal:
        return {**_failed(refusal), **refusal.result}
    except entrypoints.Refused as refusal:
        return {**_failed(refusal), "overtaken": isinstance(refusal, entrypoints.Overtaken)}


def verify(asked: Arguments, _check: bool, run: RunCommand) -> Result:
    """The result of M(cnm.fabric.verify)."""
    from . import verification  # noqa: PLC0415  # no other call needs what it imports

    checks = json.loads(asked["checks"] or "[]")
    try:
        return {"changed": False, **verification.verify(asked["project"], asked["digest"], checks, run)}
    except entrypoints.Refused as refusal:
        return _failed(refusal)


def _failed(refusal: entrypoints.Refused) -> Result:
    return {"failed": True, "msg": str(refusal)}


_CALLS: Mapping[str, Callable[[Arguments, bool, RunCommand], Result]] = {
    "probe": probe,
    "converge": converge,
    "verify": verify,
}


def main(name: str) -> None:
    """Carry out a call: ``{"arguments": …, "check": …}`` by standard input → the answer.

    The first line says that this host half is there and whole, so that nothing is called twice.
    """
    if not half.is_whole():
        raise SystemExit(NOT_KEPT)
    _write(BEGIN)
    try:
        # As AnsibleModule has it: programs are run with a locale that is there.
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        os.environ.update(dict.fromkeys(("LANG", "LC_ALL", "LC_MESSAGES"), "C"))
    asked = json.load(sys.stdin)
    secrets = secrets_of(SPECS[name], asked["arguments"])
    try:
        result = _CALLS[name](asked["arguments"], asked["check"], run_command)
    except Exception as error:
        import traceback  # noqa: PLC0415

        result = {
            "failed": True,
            "msg": f"{type(error).__name__}: {error}",
            "exception": traceback.format_exc(),
        }
    _write(f"{json.dumps(without(secrets, result))}\n{END}")
    os._exit(0)  # Python would take a tenth of the time that it ran to take itself apart


def _write(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()
