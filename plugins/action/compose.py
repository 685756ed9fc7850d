# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: writes out what hosts' Compose files declare.  Runs once per play."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.cnm.fabric.plugins.action.plan import PROBES
from ansible_collections.cnm.fabric.plugins.action.plan import ActionModule as Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import content_digest
from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import forged_facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.importing import Imported
from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.writing import declarations, override
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.origins import written
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import read_shown

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class ActionModule(Plan):
    """The action behind M(cnm.fabric.compose)."""

    ARGUMENTS: Mapping[str, Any] = {"directory": {"type": "path", "default": "cnm_declarations"}}

    def _work(self, variables: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        problem = forged_facts(variables)
        if problem:
            return {"failed": True, "msg": problem}
        about, hosts = self._topology(variables, PROBES)
        own = self._declared(hosts, about)
        read_topology(own, variables["groups"])
        directory = Path(arguments["directory"]).absolute()
        texts: dict[Path, str] = {}
        for host in hosts:
            texts.update(_texts(directory, host, self._imported[host]))
        if not texts:
            return {"failed": True, "msg": "no host of the topology has cnm_compose: set it to a Compose file"}
        self._tell_of_compose(read_shown(variables, self._templar.template))
        try:
            changed = [str(path) for path, text in texts.items() if _write(path, text, self._task.check_mode)]
        except OSError as error:
            message = f"{directory}: {error.strerror}. Name a place that this user can write to (cnm_declarations)"
            return {"failed": True, "msg": message}
        for path in texts:
            self._display.display(f"{path}{'' if str(path) in changed else ' (as it was)'}")
        return {"changed": bool(changed), "files": [str(path) for path in texts]}


def _texts(directory: Path, host: str, imported: Mapping[str, Imported]) -> dict[Path, str]:
    """The files of one host: its declarations, and for each project a Compose file beside them."""
    if not imported:
        return {}
    base = host if _FILE_NAME.fullmatch(host) else content_digest(host)[:32]
    files = sorted({name for item in imported.values() for name in item.files})
    variables = {name: value for item in imported.values() for name, value in item.variables.items()}
    found = {directory / f"{base}.yml": declarations(variables, list(imported), files)}
    for name, item in imported.items():
        if item.taken_over:
            path = directory / f"{base}.{name.removeprefix('cnm_')}.override.yml"
            found[path] = override(item.taken_over, item.files, written((str(path), 0)))
    return found


def _write(path: Path, text: str, dry: bool) -> bool:
    """Write a file unless it is as it should be already; returns whether it differs."""
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
        return False
    if not dry:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return True
