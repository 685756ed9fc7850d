# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The files of a Compose project on the controller: those that its user names, and those they name."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from .document import Unreadable
from .located import Origin

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""What Compose looks for in a directory, in its order."""
_OVERRIDES = tuple(name.replace(".y", ".override.y") for name in NAMES)
_LARGEST = 2**20


def in_directory(directory: Path) -> list[Path]:
    """The Compose file of a directory, and the one that overrides it if there is one; empty if there is none."""
    found = [
        next((path for name in names if (path := directory / name).is_file()), None) for names in (NAMES, _OVERRIDES)
    ]
    return [path for path in found if path is not None] if found[0] else []


def find(name: str, directories: Sequence[str], origin: Origin) -> list[Path]:
    """The files that a name in the variables stands for.  Raises `Unreadable`."""
    tried = [Path(os.path.normpath(Path(directory) / name)) for directory in directories]
    for path in dict.fromkeys(tried):
        if path.is_dir():
            found = in_directory(path)
            if not found:
                raise Unreadable(
                    f"There is no Compose file in {path}.", f"Name the file, or call it {NAMES[0]}.", origin
                )
            return found
        if path.exists():
            return [path]
    places = ", ".join(str(path.parent) for path in dict.fromkeys(tried))
    raise Unreadable(
        f"There is no file {name[:200]!r}.", f"A relative path is looked for in {places}: write one from there.", origin
    )


def read(path: Path, origin: Origin) -> str:
    """The text of a file; ``origin`` is what names it.  Raises `Unreadable`."""
    try:
        # Not blocking: a FIFO would wait for somebody to write.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{path} is not a file.", "Name a Compose file.", origin)
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise Unreadable(
            f"{path} cannot be read: {error.strerror}.", "Name a file that can be read.", origin
        ) from error
    if len(data) > _LARGEST:
        raise Unreadable(f"{path} has more than 1 MiB.", "Is it a Compose file?", origin)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable("This file is not UTF-8.", "Save it as UTF-8.", (str(path), line)) from error
