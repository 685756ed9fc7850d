# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The bytecode of what a module that Ansible has sent imports, for the host half that the module keeps: Python has
compiled these files once, and would take as long again to do so for `half.keep`.
"""

from __future__ import annotations

import importlib.util
import marshal
import struct
import sys
import zipimport
from collections.abc import Iterable
from pathlib import Path
from types import CodeType

_HEADER = struct.Struct("<4sIII")
"""PEP 552: the magic number, no flags, then time and size of the file that it was made from."""

_32_BITS = 0xFFFFFFFF

_compiled: dict[str, CodeType] = {}
"""By path in the archive."""


class _Importer(zipimport.zipimporter):
    """Python 3.9 imports without `get_code`, so nothing is remembered there."""

    def get_code(self, fullname: str) -> CodeType:
        code = super().get_code(fullname)
        _compiled[code.co_filename[len(self.archive) + 1 :]] = code
        return code


def remember() -> None:
    """Remember the bytecode of what is imported from now on, if the host half runs as Ansible has sent it."""
    sys.path_hooks.insert(0, _Importer)
    cache = sys.path_importer_cache
    for path in [path for path, importer in cache.items() if isinstance(importer, zipimport.zipimporter)]:
        del cache[path]


def write(folder: Path, paths: Iterable[str]) -> None:
    """Put what is remembered of files below the folder where Python looks for it.  Raises OSError.

    It names files of the archive: Python puts the right names there as it loads it.
    """
    for path in _compiled.keys() & set(paths):
        source = folder / path
        about = source.stat()
        header = _HEADER.pack(importlib.util.MAGIC_NUMBER, 0, int(about.st_mtime) & _32_BITS, about.st_size & _32_BITS)
        target = Path(importlib.util.cache_from_source(str(source)))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(header + marshal.dumps(_compiled[path]))
