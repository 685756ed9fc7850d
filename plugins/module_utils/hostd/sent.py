# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Imports the host half as the controller has sent it, from memory.

`plan.sending` has this file run first, when nothing else of the host half can be imported.
"""

from __future__ import annotations

import json
import zlib
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, Optional


class SentHalf:
    """Finds and loads its modules, as Python's import system asks for them (``importlib.abc``)."""

    def __init__(self, package: str, bundle: bytes, packed: bytes) -> None:
        self.bundle = bundle
        """What starts this host half once more: see `plan.sending`."""
        self.files: dict[str, bytes] = {
            path: text.encode() for path, text in json.loads(zlib.decompress(packed)).items()
        }
        """By path below the package."""
        self.compiled: dict[str, CodeType] = {}
        """Of what was imported so far."""
        self._package = package
        parts = [f"{package}/{path}".split("/") for path in self.files]
        self._packages = {"/".join(names[:count]) for names in parts for count in range(1, len(names))}

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Optional[ModuleSpec]:
        """Where the module is; None if it is none of the host half."""
        place = name.replace(".", "/")
        is_package = place in self._packages
        path = f"{place}/__init__.py" if is_package else f"{place}.py"
        known = path[len(self._package) + 1 :] in self.files
        if not is_package and not known:
            return None
        spec = ModuleSpec(name, self, origin=path, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = known
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """As Python does."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; a package that only has others in it has nothing to run."""
        spec = module.__spec__
        if spec is None or not spec.has_location or spec.origin is None:
            return
        path = spec.origin[len(self._package) + 1 :]
        code = self.compiled[path] = compile(self.files[path], spec.origin, "exec", dont_inherit=True)
        exec(code, module.__dict__)
