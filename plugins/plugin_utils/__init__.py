# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The controller half, imported as Python imports any package: compiled once, and then read from ``__pycache__``.

Ansible's loader of collections compiles every file at every start, which takes as long as all else of these imports.
The folders below have an empty ``__init__.py``, as import-linter looks for packages below a package.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from typing import Any, Optional

_PLUGINS = __name__.rpartition(".")[0] + "."


class _Finder:
    """Finds this collection's plugins.  Folders without an ``__init__.py`` are left to Ansible's loader."""

    @staticmethod
    def find_spec(name: str, path: Optional[Sequence[str]] = None, _target: Any = None) -> Optional[ModuleSpec]:
        """The module's file, if it is one of ours (``importlib.abc.MetaPathFinder``)."""
        if not name.startswith(_PLUGINS):
            return None
        for folder in path or ():
            spec = _folder(folder).find_spec(name)
            if spec is not None and spec.loader is not None:
                return spec
        return None


@functools.cache
def _folder(path: str) -> FileFinder:
    return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))


if type(sys.meta_path[0]).__name__ == "_AnsibleCollectionFinder":  # elsewhere, Python's own finder is asked
    sys.meta_path.insert(0, _Finder())
