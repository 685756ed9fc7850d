# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A call of the host half that a host keeps: the shell command, and the answer in what the host printed.  Pure.

It saves what Ansible does to send a module: to pack, unpack and compile the same files, and its own library.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ..module_utils.plan import calls
from ..module_utils.plan.kept_half import DIRECTORY, PACKAGE, PYTHON, digest, files_in
from .forms import printable

DIGEST = digest(files_in(Path(calls.__file__).parents[1]))
"""Of this collection's host half.  Read once, in the process that Ansible forks for each host."""

_LARGEST = 2**26
"""Characters of an answer; that of a host with 1000 sandboxes has a fiftieth of it."""

# A process this short has no garbage to look for.
_START = (
    "import gc, sys; gc.disable(); sys.path.insert(0, sys.argv[1]); "
    f"from {PACKAGE.replace('/', '.')}.calls import main; main(sys.argv[2])"
)


def command(name: str, environment: str, python: Optional[str]) -> str:
    """The command for a POSIX shell.  ``environment`` are its assignments, ``python`` is the user's interpreter.

    Without the latter it is the one that kept the host half.  The arguments are in its standard input (`request`).
    """
    folder = f"{DIRECTORY}/{DIGEST}"
    there = f"read -r python <{folder}/{PYTHON} || exit {calls.NOT_KEPT}"
    start = f"-I -S -c {shlex.quote(_START)} {folder} {shlex.quote(name)}"
    # The user's is not quoted: as for modules, it may be a command with arguments.
    return f"{there}; {environment} {python or chr(34) + '$python' + chr(34)} {start}".replace(";  ", "; ")


def request(name: str, arguments: Mapping[str, Any], check: bool) -> Optional[bytes]:
    """The standard input of the command; None if the module has to read these arguments (`calls.filled`)."""
    given = calls.filled(calls.SPECS[name], arguments)
    return None if given is None else json.dumps({"arguments": given, "check": check}).encode()


def answer(name: str, code: int, output: str, errors: str) -> Optional[Any]:
    """What the host answered, not yet checked; None if it keeps no such host half, or cannot start it.

    Around the answer a login shell may print what it likes.  If there is no answer, the result is a failure.
    """
    if len(output) > _LARGEST:
        return {"failed": True, "msg": f"the host answered cnm.fabric.{name} with more than {_LARGEST >> 20} MB"}
    _before, begun, rest = output.partition(f"{calls.BEGIN}\n")
    if not begun:
        return None
    text, ended, _after = rest.partition(f"\n{calls.END}")
    if ended:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return {"failed": True, "msg": f"what the host answered cnm.fabric.{name} is not JSON"}
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "it printed nothing")
    message = f"cnm.fabric.{name} ended on the host without an answer: {printable(last, 1000)}"
    return {"failed": True, "msg": message, "rc": code, "module_stdout": rest, "module_stderr": errors}
