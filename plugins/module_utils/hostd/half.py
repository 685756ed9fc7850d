# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host half kept on the host: the very files that run now, in a folder named by their digest."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, cast

from ..plan.constants import VERSION
from ..plan.kept_half import DIRECTORY, PACKAGE, PYTHON, digest, files_in, kept_of
from ..plan.plan import SCHEMA
from ..plan.records import dataclass
from ..state.files import HALF_WRITTEN, LIB, load, make_directory, remove_empty

if TYPE_CHECKING:
    from .sent import SentHalf

HALVES = Path(DIRECTORY)
"""No project's name begins with a dot."""

CLI = f"{__package__}.cli"
"""The module of the command ``cnm``; see `Host.command`."""

_HERE = Path(__file__).parents[1]
"""Where this host half runs, if it does from files."""

_USUAL = "/usr/bin/python3"

_32_BITS = 0xFFFFFFFF

_ABOUT = "version.json"
"""Beside the package: what it is, for runs of other versions."""

_version = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?", re.ASCII).fullmatch


@dataclass(frozen=True)
class About:
    """What a host half is."""

    version: str = VERSION
    """The collection's."""
    plan_format: int = SCHEMA
    """The format of the plans it reads."""

    @property
    def order(self) -> tuple[Any, ...]:
        """Greater for a later version (semver.org): a pre-release comes before its release."""
        found = _version(self.version)
        if found is None:
            return ()
        numbers = tuple(int(text) for text in found.groups()[:3])
        steps = [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in (found[4] or "").split(".")]
        return (numbers, not found[4], steps)


class BootError(Exception):
    """What brings the networks back after a boot cannot be put in place; the message says why."""


def sent() -> Optional[SentHalf]:
    """The host half that runs now if the controller has sent it; None if it runs from files."""
    loader: Any = globals().get("__loader__")
    return cast("SentHalf", loader) if hasattr(loader, "bundle") else None


@functools.cache
def running() -> dict[str, bytes]:
    """The files of the host half that runs now, by path below the package.  Raises BootError."""
    half = sent()
    if half is not None:
        return kept_of(half.files)
    try:
        found = files_in(_HERE)
    except OSError as error:
        raise BootError(f"the host half cannot be read where it runs: {error}") from error
    if not found:
        raise BootError(f"there is no host half at {_HERE}")
    return found


def folder(name: str) -> Path:
    """The folder of the host half of that digest, for Python's search path."""
    return HALVES / name


def kept(name: str) -> bool:
    """Whether the host half of that digest is kept, unharmed, and the interpreter that kept it is still there.

    What Python compiled beside the files is not looked at: root alone can write there, and Python compares it with the
    files' times and sizes.
    """
    package = folder(name) / PACKAGE
    with contextlib.suppress(OSError, ValueError):
        python = (folder(name) / PYTHON).read_text(encoding="utf-8").strip()
        return os.access(python, os.X_OK) and digest(running() if package == _HERE else files_in(package)) == name
    return False


def is_whole() -> bool:
    """Whether the host half that runs is one that the controller has sent, or a kept one that is unharmed."""
    return sent() is not None or folder(digest(running())) / PACKAGE == _HERE


def usual_python() -> str:
    """The host's own interpreter, if it has one; else the one that runs."""
    return _USUAL if os.path.exists(_USUAL) else sys.executable


def _own_python() -> str:
    """The interpreter that runs, by the name that outlives its next version if it is the host's own."""
    with contextlib.suppress(OSError):
        return _USUAL if os.path.samefile(_USUAL, sys.executable) else sys.executable
    return sys.executable


def newer() -> Optional[tuple[str, About]]:
    """The latest kept host half of a later version than the one that runs, if it is unharmed: its digest."""
    found = []
    for path in HALVES.glob(f"*/{_ABOUT}"):
        about, name = _read_about(path), path.parent.name
        if about is not None and about.order > About().order and kept(name):
            found.append((about.order, name, about))
    return max(found)[1:] if found else None


def _read_about(path: Path) -> Optional[About]:
    data = load(path)
    version, plan_format = data.get("version"), data.get("plan_format")
    return About(version, plan_format) if isinstance(version, str) and isinstance(plan_format, int) else None


def keep(files: Mapping[str, bytes], about: Optional[About] = None) -> bool:
    """Keep a host half, unless it is kept already; returns whether it was not.  Raises OSError and Unsafe.

    ``about`` is what it is, if it is not the one that runs.
    """
    name = digest(files)
    if kept(name):
        return False
    make_directory(LIB)
    with contextlib.suppress(FileExistsError):
        HALVES.mkdir(mode=0o700)
    HALVES.chmod(0o700)
    directory = folder(name)
    new = directory.with_name(directory.name + HALF_WRITTEN)
    import shutil  # noqa: PLC0415  # only here, and slow to load

    for old in (new, directory):
        shutil.rmtree(old, ignore_errors=True)
    new.mkdir(mode=0o700)
    for path, content in _with_packages(files):
        (new / path).parent.mkdir(parents=True, exist_ok=True)
        (new / path).write_bytes(content)
    (new / _ABOUT).write_text(json.dumps(asdict(about or About())), encoding="utf-8")
    (new / PYTHON).write_text(f"{_own_python()}\n", encoding="utf-8")
    half = sent()
    if half is not None and files == running():
        _write_compiled(new / PACKAGE, half.compiled)
    _compile(new, directory)
    os.sync()  # else a power cut after the renaming could leave empty files
    new.rename(directory)
    return True


def _write_compiled(package: Path, compiled: Mapping[str, bytes]) -> None:
    """Write the bytecode that this process has already into ``__pycache__``, so that nothing is compiled a second time.

    Its format is that of PEP 552: the magic number, no flags, then time and size of the file that it was made from.
    """
    import importlib.util  # noqa: PLC0415  # only here

    for path, code in compiled.items():
        source = package / path
        about = source.stat()
        target = Path(importlib.util.cache_from_source(str(source)))
        target.parent.mkdir(exist_ok=True)
        made_from = (int(about.st_mtime) & _32_BITS, about.st_size & _32_BITS)
        header = struct.pack("<4sIII", importlib.util.MAGIC_NUMBER, 0, *made_from)
        target.write_bytes(header + code)


def _compile(new: Path, directory: Path) -> None:
    """Compile what will be in ``directory`` and is not compiled yet: else each call would until one has written it."""
    import compileall  # noqa: PLC0415  # only here, and slow to load

    compileall.compile_dir(str(new), ddir=str(directory), quiet=2)


def _with_packages(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """The files below a folder of the search path, each folder made a package: installed Ansible has one of that
    name.
    """
    contents = {f"{PACKAGE}/{name}": content for name, content in files.items()}
    packages = {f"{parent}/__init__.py" for path in contents for parent in Path(path).parents if str(parent) != "."}
    yield from sorted({**dict.fromkeys(packages, b""), **contents}.items())


def remove_others(name: Optional[str]) -> None:
    """Remove every kept host half but that one."""
    if HALVES.is_dir():
        import shutil  # noqa: PLC0415

        for path in HALVES.iterdir():
            if path.name != name:
                shutil.rmtree(path, ignore_errors=True)
        remove_empty(HALVES, LIB)
