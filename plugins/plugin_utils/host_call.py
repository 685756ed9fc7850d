# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A call of the host half: the shell command, what it reads, and the answer in what the host printed.

The host half that the host keeps is called first; if it keeps none of this version, all of it is sent.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, Optional, cast

from ..module_utils.plan import calls, sending
from ..module_utils.plan.kept_half import DIRECTORY, PACKAGE, PYTHON, digest, files_in
from .forms import printable

_ROOT = Path(calls.__file__).parents[1]
_FILES = files_in(_ROOT)

DIGEST = digest(_FILES)
"""Of this collection's host half.  Read once, in the process that Ansible forks for each host."""

_LARGEST = 2**26
"""Characters of an answer; that of a host with 1000 sandboxes has a fiftieth of it."""

_CLOSED = re.compile(r"(Shared connection|Connection) to .* closed\.").fullmatch
_PYTHON_2 = re.compile("Unknown option: -I").fullmatch
_NO_PYTHON = "it has no Python: install the package python3, or set ansible_python_interpreter"

# A process this short has no garbage to look for.
_QUICK = "import gc; gc.disable(); "
_START_KEPT = (
    f"{_QUICK}import sys; sys.path.insert(0, sys.argv[1]); "
    f"from {PACKAGE.replace('/', '.')}.calls import main; main(sys.argv[2])"
)


def kept_command(name: str, environment: str, python: Optional[str]) -> str:
    """The command that calls the host half that the host keeps, for a POSIX shell.

    ``environment`` are its assignments, ``python`` is the user's interpreter; without one it is that which kept the
    host half.  It reads the arguments (`request`).
    """
    folder = f"{DIRECTORY}/{DIGEST}"
    there = f"read -r python <{folder}/{PYTHON} || exit {calls.NOT_KEPT}"
    return _command(there, environment, python, f"{shlex.quote(_START_KEPT)} {folder} {shlex.quote(name)}")


def sent_command(name: str, environment: str, python: Optional[str], pythons: Sequence[str]) -> str:
    """The command that calls the host half that it reads first (`sent`).

    Without an interpreter of the user's it is the first of these that the host has.
    """
    several = " ".join(map(shlex.quote, pythons))
    # With its path, as the assignments may set another PATH.
    found = f'python=; for name in {several}; do python=$(command -v "$name") && break; done'
    missing = f'[ -n "$python" ] || {{ echo {shlex.quote(_NO_PYTHON)} >&2; exit 1; }}'
    # In one line, as a login shell may be one that has no others between quotes.
    start = f"{shlex.quote(f'{_QUICK}exec({sending.START!r})')} calls {shlex.quote(name)}"
    return _command("" if python else f"{found}; {missing}", environment, python, start)


def _command(before: str, environment: str, python: Optional[str], start: str) -> str:
    # The user's is not quoted: as for modules, it may be a command with arguments.
    words = [environment.strip(), python or '"$python"', "-I -S -c", start]
    return "; ".join(filter(None, [before, " ".join(filter(None, words))]))


def request(arguments: Mapping[str, Any], check: bool) -> bytes:
    """What a call reads.  What JSON has no form for goes as text, as it would to a module."""
    return json.dumps({"arguments": arguments, "check": check}, default=str).encode()


def sent(folder: Path) -> bytes:
    """The host half, which precedes the request if the host does not keep it.

    One process of a run makes it; the others find it in the folder that they share.
    """
    path = folder / f"cnm-{DIGEST}"
    with contextlib.suppress(OSError), open(f"{path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        made = _bundle()
        with contextlib.suppress(OSError):
            new = Path(f"{path}.new")
            new.write_bytes(made)
            new.replace(path)
        return made
    return _bundle()


def _bundle() -> bytes:
    return sending.bundle(_FILES, {name: _compiled(name) for name in _FILES})


def _compiled(name: str) -> CodeType:
    """A file as this controller's Python compiles it, which it does once: it keeps that in ``__pycache__``."""
    path, placed = _ROOT / name, f"{sending.FOLDER}/{PACKAGE}/{name}"
    with contextlib.suppress(OSError):
        if path.read_bytes() == _FILES[name]:  # else another version was installed since this run began
            return _placed(cast("CodeType", SourceFileLoader(name, str(path)).get_code(name)), placed)
    return compile(_FILES[name], placed, "exec", dont_inherit=True)


def _placed(code: CodeType, path: str) -> CodeType:
    """The code as if it had been compiled from a file of that path."""
    constants = tuple(_placed(item, path) if isinstance(item, CodeType) else item for item in code.co_consts)
    return code.replace(co_filename=path, co_consts=constants)


def answer(name: str, code: int, output: str, errors: str) -> Optional[Any]:
    """What the host answered, not yet checked; None if the host half did not start.

    Around the answer a login shell may print what it likes.  If there is no answer, the result is a failure.
    """
    if len(output) > _LARGEST:
        return {"failed": True, "msg": f"the host answered cnm.fabric.{name} with more than {_LARGEST >> 20} MB"}
    # Without pipelining ssh has a terminal, which ends lines in its own way.
    _before, begun, rest = output.replace("\r\n", "\n").partition(f"{calls.BEGIN}\n")
    if not begun:
        return None
    text, ended, _after = rest.partition(f"\n{calls.END}")
    if ended:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return {"failed": True, "msg": f"what the host answered cnm.fabric.{name} is not JSON"}
    return failure(f"cnm.fabric.{name} ended on the host without an answer", code, rest, errors)


def failure(what: str, code: int, output: str, errors: str) -> dict[str, Any]:
    """The result of a call that gave no answer, with the last that the host said."""
    # On a terminal errors are among the output, and ssh adds a line of its own.
    lines = [line for line in (*output.splitlines(), *errors.splitlines()) if line.strip() and not _CLOSED(line)]
    last = lines[-1] if lines else "it printed nothing"
    if any(map(_PYTHON_2, lines)):
        last = sending.OLD_PYTHON
    message = f"{what}: {printable(last, 1000)}"
    return {"failed": True, "msg": message, "rc": code, "module_stdout": output, "module_stderr": errors}
