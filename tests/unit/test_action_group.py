# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""group/cnm.fabric.fabric of module_defaults: whatever takes a project, for a default it does not know fails a task."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def _documentation(path: Path) -> dict[str, Any]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            found: dict[str, Any] = yaml.safe_load(ast.literal_eval(node.value))
            return found
    raise AssertionError(f"{path} has no DOCUMENTATION")


def _takes_project(path: Path) -> bool:
    """Whether a module has the option, itself or by a fragment."""
    document = _documentation(path)
    names = document.get("extends_documentation_fragment", [])
    names = [names] if isinstance(names, str) else names
    ours = [name.split(".")[2] for name in names if name.startswith("cnm.fabric.")]
    texts = [(ROOT / "plugins" / "doc_fragments" / f"{name}.py").read_text(encoding="utf-8") for name in ours]
    return "project" in document.get("options", {}) or any("\n  project:" in text for text in texts)


def test_the_group_has_every_module_that_takes_a_project_and_no_other() -> None:
    group = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))["action_groups"]["fabric"]
    assert group == sorted(group)
    modules = {path.stem: _takes_project(path) for path in (ROOT / "plugins" / "modules").glob("[a-z]*.py")}
    assert {name for name, takes in modules.items() if takes} <= set(group)
    assert [name for name in group if modules.get(name) is False] == []
