# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Imports the host half as the controller has sent it, from memory.

`plan.sending` has this file run first, when nothing else of the host half can be imported.
"""

from __future__ import annotations

import json
import marshal
import zlib
from importlib.machinery import ModuleSpec
from importlib.util import MAGIC_NUMBER
from types import CodeType, ModuleType
from typing import Any, Optional


class SentHalf:
    """Finds and loads its modules, as Python's import system asks for them (``importlib.abc``)."""

    def __init__(self, folder: str, package: str, bundle: bytes, packed: bytes, bytecode: bytes) -> None:
        """``bytecode`` begins with the magic number of the Python that made it; another one compiles the files."""
        self.bundle = bundle
        """What starts this host half once more: see `plan.sending`."""
        self.files: dict[str, bytes] = {
            path: text.encode() for path, text in json.loads(zlib.decompress(packed)).items()
        }
        """By path below the package."""
        self.compiled: dict[str, bytes] = {}
        """Code objects as `marshal` writes them: what was sent, and what was compiled here since."""
        if bytecode.startswith(MAGIC_NUMBER):
            self.compiled = marshal.loads(zlib.decompress(bytecode[len(MAGIC_NUMBER) :]))
        self._folder = folder
        self._package = package
        parts = [f"{package}/{path}".split("/") for path in self.files]
        self._packages = {"/".join(names[:count]) for names in parts for count in range(1, len(names))}

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Optional[ModuleSpec]:
        """Where the module is; None if it is none of the host half."""
        is_package, path = self._place(name)
        if not is_package and path not in self.files:
            return None
        origin = f"{self._folder}/{self._package}/{path}"
        spec = ModuleSpec(name, self, origin=origin, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = path in self.files
        return spec

    def _place(self, name: str) -> tuple[bool, str]:
        """Whether a module is a package, and the path of its file below the package of all."""
        place = name.replace(".", "/")
        is_package = place in self._packages
        return is_package, (f"{place}/__init__" if is_package else place)[len(self._package) + 1 :] + ".py"

    def create_module(self, _spec: ModuleSpec) -> None:
        """As Python does."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; a package that only has others in it has nothing to run."""
        _is_package, path = self._place(module.__name__)
        if path in self.files:
            exec(self._code(path), module.__dict__)

    def _code(self, path: str) -> CodeType:
        if path in self.compiled:
            code: CodeType = marshal.loads(self.compiled[path])
            return code
        code = compile(self.files[path], f"{self._folder}/{self._package}/{path}", "exec", dont_inherit=True)
        self.compiled[path] = marshal.dumps(code)
        return code

    def get_source(self, name: str) -> Optional[str]:
        """The text of a module, for what Python shows of errors."""
        _is_package, path = self._place(name)
        return self.files[path].decode() if path in self.files else None
