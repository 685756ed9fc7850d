# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: skips hosts outside the topology, and passes the project's name to the module."""

from __future__ import annotations

from typing import Any, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    ask,
    project_of,
    without_work,
)

_FORWARDING = ("cnm_sandboxes", "cnm_services", "cnm_compose")
"""Variables without which a host has no resolver that forwards names."""


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.probe)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        decided = without_work(variables, self._templar.template)
        if decided is not None:
            return {**result, **decided}
        arguments = {**self._task.args, "project": self._project(variables)}
        arguments.setdefault("encryption", "cnm_overlay_secret" in variables)
        if not any(name.startswith(_FORWARDING) for name in variables):
            arguments.pop("ask_resolvers", None)
        answer = ask(self, "cnm.fabric.probe", arguments, variables)
        return {**result, **answer}

    def _project(self, variables: dict[str, Any]) -> str:
        templated = {"cnm_project": self._templar.template(variables.get("cnm_project"))}
        return project_of(templated, self._task.args)
