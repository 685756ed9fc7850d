# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: derives a host's checks from its plan, and explains what failed."""

from __future__ import annotations

import json
from typing import Any, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    PlannedHosts,
    show_verdict,
    without_work,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.calling import ask
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.findings import findings_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.verification import checks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import UnknownLevel, read_shown


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.verify)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host = variables["inventory_hostname"]
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                **{key: {"type": "str"} for key in ("checks", "digest", "project")},
                "explain": {"type": "bool", "default": True},
                "pairs": {"type": "int", "default": 100},
                "planned": {"type": "str", "default": "fabric_plan"},
            }
        )
        decided = without_work(variables, self._templar.template, (arguments["planned"],))
        if decided is not None:
            return {**result, **decided}
        try:
            shown = read_shown(variables, self._templar.template)
        except UnknownLevel as error:
            return {**result, "failed": True, "msg": str(error)}
        planned = PlannedHosts(variables.get(arguments["planned"]) or {})
        problem = planned.problem(host)
        if problem:
            return {**result, "failed": True, "msg": f"there is no plan to verify this host against: {problem}"}
        model, peers, pairs = planned.model(host), planned.peers(host), arguments["pairs"]
        checks = checks_of(model, pairs, [index.table for index in peers], host)
        arguments.update({key: planned.of(host)[key] for key in ("digest", "project")}, checks=json.dumps(checks))
        answer = ask(self, "cnm.fabric.verify", arguments, variables)
        result.update({**answer, "pairs": pairs})
        if not arguments["explain"] or "misses" not in answer:
            return result
        findings = {host: findings_of(host, model, peers, pairs, answer)}
        return {**result, **show_verdict(self._display, findings, {}, shown)}
