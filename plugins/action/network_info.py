# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: the networks of one host, as ``docker network inspect`` shows them."""

from __future__ import annotations

from typing import Any, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import forged_facts, project_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.calling import ask
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_runner import network_documents


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.network_info)."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            argument_spec={"name": {"type": "str"}, "project": {"type": "str"}}
        )
        problem = forged_facts(variables)
        if problem:
            return {**result, "failed": True, "msg": problem}
        project = project_of({"cnm_project": self._templar.template(variables.get("cnm_project"))}, arguments)
        probe = ask(self, "cnm.fabric.probe", {"project": project, "live": True}, variables)
        if "kept" not in probe:
            return {**result, **probe, "failed": True}
        documents = network_documents(probe, str(variables["inventory_hostname"]), project)
        name = arguments["name"]
        networks = [document for document in documents if name in (None, document["Name"])]
        passed_on: dict[str, Any] = {"warnings": probe["warnings"]} if "warnings" in probe else {}
        return {**result, **passed_on, "changed": False, "exists": bool(networks), "networks": networks}
