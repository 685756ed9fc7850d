# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host half that a host keeps: where, of which files, and by which digest the controller finds it.  Pure but for
reading these files.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

DIRECTORY = "/var/lib/cnm/.half"
"""The directory with a folder of each kept host half, named by its digest, for Python's search path.  Root's alone."""

PACKAGE = __name__.rpartition(".plan.")[0].replace(".", "/")
"""The folder of the host half, below a folder of Python's search path."""

PYTHON = "python"
"""In that folder: a file with the path of the interpreter that kept it."""

_OF_SINGLE_OBJECTS = ("arguments.py", "single_object.py", "vxlan_peers.py")
"""Files that only modules for single objects need."""


def files_in(folder: Path) -> dict[str, bytes]:
    """The files of a host half by path below that folder.  Raises OSError."""
    found = {}
    for at, _folders, names in os.walk(folder):
        for path in (f"{at}/{name}" for name in names if name.endswith(".py")):
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as stream:
                    found[path[len(str(folder)) + 1 :]] = stream.read()
    return kept_of(found)


def kept_of(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """Without packages' empty files, and without what only modules for single objects need."""
    return {
        name: content
        for name, content in sorted(found.items())
        if name not in _OF_SINGLE_OBJECTS and (content.strip() or not name.endswith("__init__.py"))
    }


def digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 of the files' names and contents, in hex."""
    result = hashlib.sha256()
    for name, content in sorted(files.items()):
        result.update(f"{name}\0{len(content)}\0".encode() + content)
    return result.hexdigest()
