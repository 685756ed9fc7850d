# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How the host half is started on a host that has no file of it: the program reads it from standard input.  Pure."""

from __future__ import annotations

import importlib.util
import json
import marshal
import zlib
from collections.abc import Mapping
from types import CodeType
from typing import Optional

from .kept_half import DIRECTORY, PACKAGE

_FIRST = "hostd/sent.py"
"""The file that imports the others, by its class `SentHalf`."""

FOLDER = f"{DIRECTORY}/sent"
"""Where its files seem to be: only root can make this folder, so nobody else's lines are shown in tracebacks."""

OLD_PYTHON = "cnm.fabric needs Python 3.9 or newer on the host: set ansible_python_interpreter to a newer one"

# No bytes are read but those of the bundle: what follows is for the program.
START = f"""
import os, sys
if sys.version_info < (3, 9):
    sys.exit("{OLD_PYTHON} (%s is %s)" % (sys.executable, sys.version.split()[0]))
bundle = b""
def read(size):
    global bundle
    had = len(bundle)
    while len(bundle) < had + size:
        more = os.read(0, had + size - len(bundle))
        if not more:
            sys.exit("the host half did not arrive as a whole")
        bundle += more
    return bundle[had:]
first, packed, bytecode = [read(int(size)) for size in read(30).split()]
names = dict(__name__="sent")
exec(first, names)
sys.meta_path.insert(0, names["SentHalf"]("{FOLDER}", "{PACKAGE}", bundle, packed, bytecode))
from importlib import import_module
import_module("{PACKAGE.replace("/", ".")}." + sys.argv[1]).main(*sys.argv[2:])
"""
"""The program, for ``python -c``: its arguments are a module of the host half, and those of its function ``main``."""


def bundle(files: Mapping[str, bytes], compiled: Optional[Mapping[str, CodeType]] = None) -> bytes:
    """What the program reads first: a host half, its files by path below the package.

    ``compiled`` are files that this Python has compiled: a host that has the same version need not.
    """
    packed = zlib.compress(json.dumps({path: content.decode() for path, content in files.items()}).encode(), 1)
    codes = {path: marshal.dumps(code) for path, code in (compiled or {}).items()}
    bytecode = importlib.util.MAGIC_NUMBER + zlib.compress(marshal.dumps(codes), 1)
    first = files[_FIRST]
    return b"%9d %9d %9d\n" % (len(first), len(packed), len(bytecode)) + first + packed + bytecode
