# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: ships one host its slice of what was planned, or only its digest if the host has it already."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.topology_action import plan_file, project_of, reason_to_skip


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.converge)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        reason = reason_to_skip(variables, self._templar.template)
        if reason:
            return {**result, "skipped": True, "skip_reason": reason}
        arguments = dict(self._task.args)
        templated = {"cnm_project": self._templar.template(variables.get("cnm_project"))}
        arguments["project"] = project_of(templated, arguments)
        if arguments.get("state", "present") == "present" and "plan" not in arguments:
            problem = self._add_plan(arguments, variables)
            if problem:
                return {**result, "failed": True, "msg": problem}
        answer: dict[str, Any] = self._execute_module("cnm.fabric.converge", module_args=arguments, task_vars=variables)
        answer.pop("invocation", None)
        if "diff" in answer:
            header = f"networks of {variables['inventory_hostname']}"
            answer["diff"].update(before_header=header, after_header=header)
        return {**result, **answer}

    @staticmethod
    def _add_plan(arguments: dict[str, Any], variables: dict[str, Any]) -> Optional[str]:
        host = variables["inventory_hostname"]
        planned = variables.get(arguments.pop("planned", "fabric_plan")) or {}
        mine = planned.get("hosts", {}).get(host)
        if mine is None:
            return "there is no plan for this host: run cnm.fabric.probe and cnm.fabric.plan before, in the same play"
        if "refused" in mine:
            return " ".join(mine["refused"])
        arguments.update(digest=mine["digest"], revision=mine["revision"], project=mine["project"])
        if not mine["kept"]:
            arguments["plan"] = (Path(planned["directory"]) / plan_file(host)).read_text(encoding="utf-8")
        return None
