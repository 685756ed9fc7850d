# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The controller half is compiled once, although Ansible's loader of collections compiles at each start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ansible_collections.cnm.fabric as collection

PROGRAM = """
import sys
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder
_AnsibleCollectionFinder([sys.argv[1]])._install()
import ansible_collections.cnm.fabric.plugins.plugin_utils.forms as forms
import ansible_collections.cnm.fabric.plugins.module_utils.plan.forms as shared
import ansible_collections.cnm.fabric.plugins.action.summary as action
for module in (forms, shared, action):
    print(module.__file__, module.__cached__)
"""


def test_what_has_been_compiled_is_read(tmp_path: Path) -> None:
    plugins = Path(next(iter(collection.__path__))) / "plugins"
    root = plugins.parents[3]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for time in ("first", "second"):
        command = [sys.executable, "-v", "-c", PROGRAM, str(root)]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        lines = [line.split() for line in told.stdout.splitlines()]
        assert [Path(file).relative_to(plugins).parts[0] for file, _cached in lines] == [
            "plugin_utils",
            "module_utils",
            "action",
        ]
        for _file, cached in lines:
            assert Path(cached).is_relative_to(tmp_path)
            assert (f"# {cached} matches " in told.stderr) == (time == "second")
